"""Any network of timm, with weights from a local file; nothing is downloaded."""

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from stages import compute, store
from stages.contracts import UserError
from stages.encoders.contract import About, Encode, Source
from stages.features.licences import terms
from stages.images import Pixels
from stages.settings import InputPath, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
RESERVED = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "num_classes"}
FORWARD = 32
"""Tiles that pass the network together."""
TOLD = 4
"""Names of weights that an error lists, of each kind."""


class TimmSettings(Settings):
    """A network of timm and the file of its weights."""

    model: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[A-Za-z0-9_-]+)?$")
    """Its name in timm, such as `vit_small_patch16_224.dino`; the part behind the point tells the usual size and
    normalisation."""
    weights: InputPath
    """A safetensors file, or a PyTorch file (.pt, .pth, .bin) that holds tensors alone: its code is never run."""
    name: str | None = Field(None, min_length=1, max_length=100, pattern=r"^[^\n/\\]+$")
    """What the card calls the encoder; the name in timm where nothing is said."""
    licence: str | None = Field(None, min_length=2, max_length=200, pattern=r"^[^\n]+$")
    """Licence of the weights, such as CC-BY-NC-4.0; goes onto the card. Unknown licences warn."""
    image_px: int | None = Field(None, ge=8, le=2048)
    """Side to which tiles are resized, in pixels; the network's own where nothing is said."""
    mean: tuple[float, float, float] | None = None
    """Mean of red, green and blue (of pixels / 255) that is taken off; timm's for this model where nothing is said."""
    std: tuple[float, float, float] | None = None
    """Their standard deviation, divided by."""
    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Further arguments of `timm.create_model`, as the card of the weights gives them, such as `init_values: 1e-5`."""

    @field_validator("arguments")
    @classmethod
    def _keep_to_the_network(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(RESERVED & value.keys())
        if taken:
            raise ValueError(f"{taken} are set here and cannot be given")
        return value


def about(settings: TimmSettings) -> About:
    """Name, licence and digest; the network is not built."""
    if settings.weights.suffix not in SUFFIXES or not settings.weights.is_file():
        raise UserError(f"embedding.timm.weights should be a file ending in {', '.join(SUFFIXES)}: {settings.weights}")
    source = Source("timm", settings.weights, store.digest_file(settings.weights), settings.model_dump_json())
    name = settings.name or settings.model
    return About(source, f"timm: {name}", terms(settings.licence, (settings.model, name)))


def read(source: Source) -> Encode:
    """The pooled features of the network, whatever its pooling is."""
    import torch

    from stages.features.preparation import normalise, square

    settings = TimmSettings.model_validate_json(source.options)
    network, usual = _build(settings)
    _load(network, settings)
    size_px = settings.image_px or int(usual["input_size"][-1])
    mean, std = settings.mean or usual["mean"], settings.std or usual["std"]
    device = compute.device()
    network = network.to(device)

    def encode(pixels_nhwc: Pixels) -> "dict[str, torch.Tensor]":
        parts = []
        for start in range(0, len(pixels_nhwc), FORWARD):
            img_bchw = square(pixels_nhwc[start : start + FORWARD], size_px, str(usual["interpolation"]))
            parts.append(network(normalise(img_bchw, mean, std).to(device)))
        return {"features": torch.cat(parts)}

    with torch.inference_mode():
        _probe(network, size_px, device, settings.model)
    return encode


def _build(settings: TimmSettings) -> "tuple[nn.Module, dict[str, Any]]":
    """The network without its classifier, with random weights, and how timm says its input is made."""
    import difflib

    import timm
    import torch
    from timm.data import resolve_data_config

    bare = settings.model.partition(".")[0]
    if not timm.is_model(bare):
        near = difflib.get_close_matches(bare, timm.list_models(), n=3)
        raise UserError(f"timm {timm.__version__} knows no model {bare!r}; near are {', '.join(near) or 'none'}.")
    try:
        with torch.random.fork_rng(devices=[]):  # its random start is not used and shall not disturb others
            network = timm.create_model(settings.model, pretrained=False, num_classes=0, **settings.arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UserError(f"timm cannot build {settings.model} with {settings.arguments}: {error}") from error
    usual = resolve_data_config(model=network)
    return network.eval().requires_grad_(False), usual


def _load(network: "nn.Module", settings: TimmSettings) -> None:
    """Put the weights in, all of them and no others; a classifier among them is left out."""
    import pickle

    from safetensors import SafetensorError
    from timm.models import load_state_dict

    try:
        found = load_state_dict(str(settings.weights), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, SafetensorError, EOFError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"{settings.weights} cannot be read as weights ({first}). A PyTorch file must hold tensors alone; "
            "safetensors is the safest."
        ) from error
    wanted = network.state_dict()
    heads = _classifiers(network)
    found = {key: value for key, value in found.items() if key in wanted or not key.startswith(heads)}
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": sorted(k for k in wanted.keys() & found.keys() if wanted[k].shape != found[k].shape),
    }
    if any(faults.values()):
        told = "; ".join(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in faults.items() if keys)
        raise UserError(
            f"{settings.weights} does not fit timm's {settings.model}. Weights: {told}. Give the model that the file "
            "was made for, and in embedding.timm.arguments what its card passes to create_model."
        )
    network.load_state_dict(found)


def _classifiers(network: "nn.Module") -> tuple[str, ...]:
    """How the names of classifier weights begin."""
    told = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([told] if isinstance(told, str) else told)) or ("head.", "fc.", "classifier.")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:TOLD]) + (", …" if len(keys) > TOLD else "")


def _probe(network: "nn.Module", size_px: int, device: "torch.device", model: str) -> None:
    """Refuse a network that cannot see tiles of this size, or does not give one vector for each."""
    import torch

    try:
        shape = tuple(network(torch.zeros(1, 3, size_px, size_px, device=device)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"timm's {model} cannot see tiles of {size_px} px ({error}). Leave out embedding.timm.image_px, or let the "
            "network be made for it: arguments: {img_size: ...} or {dynamic_img_size: true}."
        ) from error
    if len(shape) != 2:
        raise UserError(f"timm's {model} gives {shape} for a tile, not a vector: leave its pooling on in `arguments`.")
