"""Models as folders: safetensors and JSON, never pickle; read only from local folders."""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stages import store
from stages.contracts import UserError

if TYPE_CHECKING:
    import torch

WEIGHTS = "diffusion_pytorch_model.safetensors"


class Autoencoder(NamedTuple):
    """An autoencoder and the scale of its latents."""

    model: Any
    """A diffusers AutoencoderTiny, AutoencoderKL or AutoencoderDC, in evaluation mode."""
    mean_c: "torch.Tensor"
    """Mean of each latent channel."""
    std_c: "torch.Tensor"
    """Standard deviation of each latent channel."""
    measured_on: str
    """What the scale was measured on, in words: public data, or the run's own latents."""


def write_autoencoder(folder: Path, autoencoder: Autoencoder) -> None:
    """Write the diffusers folder and, beside the weights, `latents.json` with the scale."""
    write_pretrained(folder, autoencoder.model)
    scale = {"mean": autoencoder.mean_c.tolist(), "std": autoencoder.std_c.tolist()}
    store.write_json(folder / "latents.json", scale | {"measured_on": autoencoder.measured_on})


@contextlib.contextmanager
def quiet(library: Literal["diffusers", "transformers"]) -> Iterator[None]:
    """Within: no progress bars of the library, and none of its warnings about what it wrote itself or does not need."""
    logging = importlib.import_module(f"{library}.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def write_pretrained(folder: Path, model: Any) -> None:
    """Write a diffusers model or pipeline, and take out where its parts were once read from.

    diffusers keeps that path as `_name_or_path`; it tells names of the machine, and would make equal models differ.
    """
    model.save_pretrained(folder, safe_serialization=True)
    for path in folder.rglob("*.json"):
        value = store.read_json(path)
        if isinstance(value, dict) and value.pop("_name_or_path", None) is not None:
            store.write_json(path, value)


def read_vae(folder: Path) -> Any:
    """The diffusers autoencoder in `folder`, in evaluation mode, without gradients.

    Raises:
        UserError: no diffusers autoencoder there, or one of a class that is not supported.
    """
    import diffusers

    config = folder / "config.json"
    if not config.exists():
        raise UserError(f"{folder} holds no config.json. Give a folder as diffusers' save_pretrained writes it.")
    if not (folder / WEIGHTS).exists():
        raise UserError(
            f"{folder} holds no {WEIGHTS}. Pickled weights (.bin, .pt, .ckpt) run code when they are read, so they are "
            "never read here. Where you trust them, convert them once: from_pretrained(folder, use_safetensors=False) "
            "and then save_pretrained(new_folder), of the diffusers class that config.json names."
        )
    name = store.read_json(config).get("_class_name")
    if name not in ("AutoencoderTiny", "AutoencoderKL", "AutoencoderDC"):
        raise UserError(f"{folder} holds a {name}; an AutoencoderTiny, AutoencoderKL or AutoencoderDC is wanted.")
    with quiet("diffusers"):
        vae = getattr(diffusers, name).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return vae.eval().requires_grad_(False)


def read_autoencoder(folder: Path) -> Autoencoder:
    """The autoencoder in `folder` with its scale (`latents.json` must be there)."""
    import torch

    scale = store.read_json(folder / "latents.json")
    return Autoencoder(
        read_vae(folder), torch.tensor(scale["mean"]), torch.tensor(scale["std"]), str(scale["measured_on"])
    )


def squeezenet_file() -> Path:
    """Where the weights of the SqueezeNet that ships lie."""
    return Path(__file__).parent / "features" / "squeezenet1_1.safetensors"


def read_squeezenet() -> "torch.nn.Sequential":
    """The frozen SqueezeNet 1.1 features that ship with the package: a perceptual distance, and KID."""
    from stages.features import squeezenet

    return squeezenet.build(store.read_tensors(squeezenet_file()))


def write_network(folder: Path, network: "torch.nn.Module", facts: Mapping[str, Any]) -> None:
    """Write weights and the JSON `facts` from which the network can be built again."""
    folder.mkdir(parents=True, exist_ok=True)
    store.write_tensors(folder / "weights.safetensors", network.state_dict())
    store.write_json(folder / "network.json", dict(facts))


def read_network(
    folder: Path, build: "Callable[[Mapping[str, Any]], torch.nn.Module]"
) -> "tuple[torch.nn.Module, dict[str, Any]]":
    """Build the network its facts describe, load its weights; evaluation mode, no gradients."""
    facts: dict[str, Any] = store.read_json(folder / "network.json")
    network = build(facts)
    network.load_state_dict(store.read_tensors(folder / "weights.safetensors"))
    return network.eval().requires_grad_(False), facts
