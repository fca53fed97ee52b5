"""Any vision network of transformers, from a local folder as `save_pretrained` writes it; nothing is downloaded or run.

Shapes: b tiles, t tokens (class token and registers first, then the patches), d features.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field

from stages import compute, models, store
from stages.contracts import UserError
from stages.encoders.contract import About, Encode, Source
from stages.features.licences import terms
from stages.images import Pixels
from stages.settings import InputPath, Settings

if TYPE_CHECKING:
    import torch

FORWARD = 32
"""Tiles that pass the network together."""
RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for ways to resize."""


class TransformersSettings(Settings):
    """A folder with a vision network of transformers."""

    folder: InputPath
    """Holds config.json, preprocessor_config.json and *.safetensors, as `save_pretrained` writes them or the hub gives
    them."""
    name: str | None = Field(None, min_length=1, max_length=100, pattern=r"^[^\n/\\]+$")
    """What the card calls the encoder; the heading of the folder's README.md where nothing is said."""
    licence: str | None = Field(None, min_length=2, max_length=200, pattern=r"^[^\n]+$")
    """Licence of the weights; that at the head of the folder's README.md where nothing is said."""
    pooling: Literal["cls", "mean", "pooler"] = "cls"
    """A vector from the tokens: the class token, the mean over the patches, or what the network's own pooler gives."""


def about(settings: TransformersSettings) -> About:
    """Name, licence and digest; the network is not built."""
    folder = settings.folder
    config = _config(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        told = f"only {', '.join(pickled)}, which may hold code and are not read" if pickled else "no weights"
        raise UserError(f"{folder} holds {told}. Write it anew with save_pretrained(…, safe_serialization=True).")
    if not (folder / "preprocessor_config.json").is_file():
        raise UserError(
            f"{folder} holds no preprocessor_config.json; it tells how tiles are normalised: copy it there."
        )
    digests = {path.name: store.digest_file(path) for path in weights}
    digest = store.digest_bytes(json.dumps(digests).encode()) if len(digests) > 1 else digests[weights[0].name]
    head, title = _model_card(folder)
    name = settings.name or title or str(config["model_type"])
    named = head.get("license_name") if head.get("license") == "other" else None
    licence = str(settings.licence or named or head.get("license") or "")
    found = terms(licence, (name, title), str(head.get("extra_gated_prompt", "")))
    source = Source("transformers", folder, digest, settings.model_dump_json())
    return About(source, f"transformers: {name} ({config['model_type']}, {settings.pooling})", found)


def _config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, of a kind that transformers knows by itself."""
    from transformers import CONFIG_MAPPING

    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no config.json. Give a folder as transformers' save_pretrained writes it.")
    config: dict[str, Any] = store.read_json(path)
    if config.get("model_type") not in CONFIG_MAPPING:
        own = "it wants code of its own to be run, which is never done" if "auto_map" in config else "unknown here"
        raise UserError(
            f"{folder} holds a model of the type {config.get('model_type')!r}: {own}. Take one that transformers has "
            "itself, or give its weights to embedding.timm."
        )
    return config


def _model_card(folder: Path) -> tuple[dict[str, Any], str]:
    """The YAML head and the first heading of README.md; empty where there is none."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    match = re.match(r"---\s*\n(.*?)\n---\s*\n", text, re.DOTALL)
    try:
        head = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError:
        head = {}
    heading = re.search(r"^#\s+([^\n/\\]{1,100})$", text, re.MULTILINE)
    return head if isinstance(head, dict) else {}, heading[1].strip() if heading else ""


def read(source: Source) -> Encode:
    """One vector per tile, by the pooling asked for."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor

    from stages.features.preparation import normalise, square

    settings = TransformersSettings.model_validate_json(source.options)
    try:
        with models.quiet("transformers"):
            network = _network(settings)
            processor = AutoImageProcessor.from_pretrained(
                settings.folder, local_files_only=True, trust_remote_code=False, backend="torchvision"
            )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"transformers cannot read {settings.folder} without running code of it: {first}") from error
    size_px = _side(processor, network.config)
    normalises = getattr(processor, "do_normalize", True)
    mean, std = (processor.image_mean, processor.image_std) if normalises else ((0.0,) * 3, (1.0,) * 3)
    interpolation = RESAMPLE.get(int(processor.resample), "bicubic")
    device = compute.device()
    network = network.to(device)

    def encode(pixels_nhwc: Pixels) -> "dict[str, torch.Tensor]":
        parts = []
        for start in range(0, len(pixels_nhwc), FORWARD):
            img_bchw = normalise(square(pixels_nhwc[start : start + FORWARD], size_px, interpolation), mean, std)
            parts.append(_pool(network(pixel_values=img_bchw.to(device)), settings.pooling, network.config, size_px))
        return {"features": torch.cat(parts)}

    with torch.inference_mode():
        try:
            encode(torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8).numpy())
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{settings.folder} gives no vector for tiles of {size_px} px: {error}") from error
    return encode


def _network(settings: TransformersSettings) -> Any:
    """The network in evaluation mode, float32; of a network for pictures and text, the half for pictures."""
    import torch
    from transformers import AutoModel

    _config(settings.folder)
    with torch.random.fork_rng(devices=[]):  # weights that are missing are drawn, and refused below
        network, told = AutoModel.from_pretrained(
            settings.folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    spare = () if settings.pooling == "pooler" else ("pooler.",)
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(spare))
    if missing or told["mismatched_keys"]:
        raise UserError(
            f"{settings.folder}: {len(missing)} weights are missing ({', '.join(missing[:4])}) and "
            f"{len(told['mismatched_keys'])} have another shape than config.json says. If only the pooler's are "
            "missing, take pooling cls or mean."
        )
    network = getattr(network, "vision_model", network)
    return network.eval().requires_grad_(False)


def _side(processor: Any, config: Any) -> int:
    """Side of the square that the network sees: that of the crop where the card asks for one, else of the picture."""
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    for size in (crop, getattr(processor, "size", None), {"height": getattr(config, "image_size", None)}):
        for key in ("height", "shortest_edge"):
            if size and dict(size).get(key):
                return int(dict(size)[key])
    raise UserError("preprocessor_config.json names no size: it should have `size`, such as {height: 224, width: 224}.")


def _pool(out: Any, pooling: str, config: Any, size_px: int) -> "torch.Tensor":
    """b × d from what the network gives; a map (b × d × h × w) has no class token.

    Raises:
        UserError: the network has no class token, or no pooler.
    """
    x_btd = out.last_hidden_state
    if pooling == "pooler":
        if out.get("pooler_output") is None:
            raise UserError("This network has no pooler: set embedding.transformers.pooling to cls or mean.")
        pooled_bd: torch.Tensor = out.pooler_output.flatten(1)
        return pooled_bd
    if x_btd.ndim == 4:
        x_btd, leading = x_btd.flatten(2).transpose(1, 2), 0
    else:
        patch_px = getattr(config, "patch_size", None)
        leading = max(0, x_btd.shape[1] - (size_px // patch_px) ** 2) if isinstance(patch_px, int) else 0
    if pooling == "cls" and not leading:
        raise UserError("This network has no class token: set embedding.transformers.pooling to mean.")
    token_bd: torch.Tensor = x_btd[:, 0] if pooling == "cls" else x_btd[:, leading:].mean(dim=1)
    return token_bd
