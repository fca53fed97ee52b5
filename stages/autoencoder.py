"""The stage that turns tiles into latents: take a given autoencoder, train one, or fine-tune one; cache all latents.

Shapes: `latents_vnchw` v dihedral views of n train tiles, normalised; `tiles_nchw` uint8 RGB.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from stages import compute, hub, images, models, progress, scale_bar, store
from stages.contracts import Engine, Inputs, UserError
from stages.settings import InputPath, Settings

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

log = logging.getLogger(__name__)

MEASURED = 64  # tiles behind a PSNR
SHOWN = 10


class AutoencoderSettings(Settings):
    """Which autoencoder, and how its latents are scaled."""

    mode: Literal["folder", "train", "finetune"] = "folder"
    """`folder` takes a given one as it is, `finetune` goes on from it, `train` starts afresh. Only `folder` lets a
    private denoiser stand on an autoencoder that never saw a private tile."""
    folder: InputPath | None = None
    """A diffusers folder (AutoencoderDC, AutoencoderTiny or AutoencoderKL); for `folder` and `finetune`."""
    hub: str | None = Field(None, pattern=r"^[^/@\s]+/[^/@\s]+(@[^@\s]+)?$")
    """Instead of a folder, the name of one on the Hugging Face hub, such as stabilityai/sd-vae-ft-mse, with @ and a
    revision if one is meant. Taken from this machine's cache, or fetched; nothing else here ever goes online."""
    scale: Literal["folder", "own"] = "folder"
    """Mean and spread of the latents: `folder` as the given folder's latents.json says (public data), `own` as this
    run's train tiles say. `train`, `finetune` and a model from the hub without latents.json always measure their own:
    two numbers for each latent channel that come from private tiles."""
    views: Literal[1, 2, 4, 8] = 8
    """Turns and mirrors of each tile that are cached."""
    multiple: int = Field(4, ge=1, le=64)
    """Tiles are mirrored at the border until the latent's side is a multiple of this; 4 lets a denoiser halve twice."""
    downsampling: Literal[2, 4, 8] = 4
    """Side of a tile over side of its latent; 2 suits tiles of 28 px; for `train`."""
    latent_channels: int = Field(4, ge=1, le=64)
    """Channels of a latent; for `train`."""
    width: int = Field(128, ge=64, le=1024, multiple_of=16)
    """Channels of the hidden layers at a quarter of the tile's side and below; for `train`."""
    blocks: tuple[int, ...] = (1, 3)
    """Residual blocks at each halving of the side, the finest first, for encoder and decoder alike; for `train`."""
    pca_tiles: int = Field(400, ge=0, le=100_000)
    """Tiles on which a block PCA is fitted that the network starts from; 0 for a random start; for `train`."""
    steps: int = Field(4000, ge=1, le=1_000_000)
    """Training steps; for `train` and `finetune`."""
    batch: int = Field(8, ge=1, le=4096)
    """Tiles per training step, drawn so that every class has the same share."""
    learning_rate: float = Field(6e-4, gt=0, le=1)
    """Highest learning rate of Adam."""
    warmup: int = Field(100, ge=0, le=100_000)
    """Training steps over which the learning rate rises."""
    perceptual: float = Field(0.0, ge=0, le=100)
    """Weight of the SqueezeNet distance beside the mean absolute error of pixels."""
    unlabelled: bool = True
    """Whether to train also on the train groups' tiles that have no class, where the tiles stage leaves some; together
    they are drawn as often as those of one class; for `train`."""
    precision: Literal["no", "bf16"] = "bf16"
    """bf16: training and encoding in bfloat16 where the processor has it, otherwise as "no", in float32."""

    @model_validator(mode="after")
    def _fit_together(self) -> "AutoencoderSettings":
        given = [value for value in (self.folder, self.hub) if value is not None]
        if self.mode != "train" and len(given) != 1:
            raise ValueError(
                f"mode {self.mode!r} needs either `folder`, a diffusers autoencoder, or `hub`, the name of one; "
                "or set mode to 'train'"
            )
        if self.mode == "train" and given:
            raise ValueError(
                "mode 'train' starts afresh and takes no `folder` or `hub`; set mode to 'finetune' to go on from one"
            )
        if self.width % self.latent_channels:
            raise ValueError(f"latent_channels {self.latent_channels} must divide width {self.width}")
        return self


def run(settings: AutoencoderSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Make or take the autoencoder, measure or take its scale, cache the latents, draw reconstructions."""
    import torch

    train = images.read(inputs["tiles"] / "images", role="train")
    if not len(train.table):
        raise UserError("The tiles hold no train tile, and the autoencoder works on those. Look at `tiles.roles`.")
    given = None if settings.mode == "train" else _given(settings)
    unlabelled = _unlabelled(settings, inputs["tiles"], train)
    curves = None
    if given is not None and settings.mode == "folder":
        vae = models.read_vae(given.folder)
    else:
        pool = train if unlabelled is None else _together(train, unlabelled)
        vae, curves = _train(settings, given, pool, out, seed)
    device = compute.device()
    vae = vae.to(device)
    side = _padded(settings, vae, train.pixels_nhwc)
    bf16 = settings.precision == "bf16" and compute.fast_bf16()
    raw_vnchw = torch.stack([_encode(vae, train.pixels_nhwc, side, number, bf16) for number in range(settings.views)])
    mean_c, std_c, measured_on = _scale(settings, given, raw_vnchw)
    shape = (1, 1, -1, 1, 1)
    latents_vnchw = ((raw_vnchw - mean_c.view(shape)) / std_c.view(shape)).half()
    models.write_autoencoder(out / "vae", models.Autoencoder(vae.cpu(), mean_c, std_c, measured_on))
    store.write_tensors(out / "latents.safetensors", {"latents_vnchw": latents_vnchw})
    if curves is not None:
        curves.to_parquet(out / "curves.parquet", index=False)
    mpp = scale_bar.known_mpp(inputs["tiles"])
    quality = _reconstruct(vae, train, inputs["tiles"], side, mpp, out)
    store.write_json(
        out / "facts.json",
        {
            "mode": settings.mode,
            "scale_measured_on": measured_on,
            "class": type(vae).__name__,
            **({"origin": given.origin} if given is not None and given.origin else {}),
            "parameters": sum(weight.numel() for weight in vae.parameters()),
            "latent_shape": list(latents_vnchw.shape[2:]),
            "views": settings.views,
            "size_px": int(train.pixels_nhwc.shape[1]),
            "padded_px": side,
            "latent_mean_std": [float(latents_vnchw.float().mean()), float(latents_vnchw.float().std())],
            "psnr_db": quality,
            **({} if mpp is None else {"mpp": mpp}),
            **_trained_on(settings, train, unlabelled),
        },
    )


def _unlabelled(settings: AutoencoderSettings, tiles: Path, train: images.ImageSet) -> images.ImageSet | None:
    """The tiles without a class that `train` learns from too; None where there are none, or none are wanted."""
    folder = tiles / "unlabelled"
    if settings.mode != "train" or not settings.unlabelled or not folder.is_dir():
        return None
    found = images.read(folder)
    if found.pixels_nhwc.shape[1:] != train.pixels_nhwc.shape[1:]:
        raise UserError(
            f"The tiles without a class are of {found.pixels_nhwc.shape[1]} px, the others of "
            f"{train.pixels_nhwc.shape[1]} px. Set tiles.size_px, or autoencoder.unlabelled to false."
        )
    return found


def _together(train: images.ImageSet, unlabelled: images.ImageSet) -> images.ImageSet:
    """Both sets as one; what has no class is a class of its own, behind the others."""
    labels_n = np.concatenate([train.labels_n, np.full(len(unlabelled.table), len(train.classes))])
    pixels_nhwc = np.concatenate([train.pixels_nhwc, unlabelled.pixels_nhwc])
    return images.make(pixels_nhwc, labels_n, (*train.classes, *unlabelled.classes))


def _trained_on(
    settings: AutoencoderSettings, train: images.ImageSet, unlabelled: images.ImageSet | None
) -> dict[str, Any]:
    """For the facts: how many tiles with and without a class `train` learned from."""
    if settings.mode != "train":
        return {}
    return {"trained_on": {"train": len(train.table), "unlabelled": 0 if unlabelled is None else len(unlabelled.table)}}


class _Given(NamedTuple):
    """The autoencoder the settings name."""

    folder: Path
    origin: str
    """Its name and commit on the hub; empty for a folder, which has no name that may be told."""


def _given(settings: AutoencoderSettings) -> _Given:
    """The folder the settings name, or the one behind a name on the hub; their validator has seen to it that one is."""
    if settings.hub is not None:
        folder, commit = hub.folder_of(settings.hub)
        return _Given(folder, f"{settings.hub.partition('@')[0]}, commit {commit}")
    assert settings.folder is not None
    return _Given(settings.folder, "")


def _factor(vae: Any) -> int:
    """Side of a tile over side of its latent, from the model's configuration."""
    channels = vae.config.get("encoder_block_out_channels") or vae.config["block_out_channels"]
    return int(2 ** (len(channels) - 1))


def _padded(settings: AutoencoderSettings, vae: Any, pixels_nhwc: images.Pixels) -> int:
    """Side in px to which tiles are padded."""
    from stages.diffusion.views import padded_side

    height, width = pixels_nhwc.shape[1:3]
    if height != width:
        raise UserError(f"Tiles must be square; these are {height} × {width} px. Cut them to squares first.")
    return padded_side(height, _factor(vae) * settings.multiple)


def _tensor(pixels_nhwc: images.Pixels) -> "Tensor":
    """Pixels as a tensor, colour first."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels_nhwc.transpose(0, 3, 1, 2)))


def _encode(vae: Any, pixels_nhwc: images.Pixels, side: int, number: int, bf16: bool) -> "Tensor":
    """Raw latents of view `number` of all tiles, on the CPU, float32."""
    import torch

    from stages.diffusion import autoencoder as science
    from stages.diffusion.views import at_once, pad, view

    batch = at_once(side)
    starts = range(0, len(pixels_nhwc), batch)
    parts = []
    for start in progress.track(starts, f"latents, view {number + 1}", unit="batch"):
        img_bchw = science.to_float(_tensor(pixels_nhwc[start : start + batch])).to(vae.device)
        with torch.autocast(vae.device.type, torch.bfloat16, enabled=bf16):
            parts.append(science.encode(vae, view(pad(img_bchw, side), number)).float().cpu())
    return torch.cat(parts)


def _scale(settings: AutoencoderSettings, given: _Given | None, raw_vnchw: "Tensor") -> "tuple[Tensor, Tensor, str]":
    """Mean and spread of each latent channel, and on what they were measured."""
    from stages.diffusion.autoencoder import latent_scale

    if given is not None and settings.mode == "folder" and settings.scale == "folder":
        if (given.folder / "latents.json").exists():
            told = models.read_autoencoder(given.folder)
            return told.mean_c, told.std_c, told.measured_on
        if not given.origin:
            raise UserError(
                f"{given.folder} holds no latents.json with the scale of its latents. Set autoencoder.scale to own, "
                "and it is measured on this run's train tiles."
            )
        log.info("%s tells no scale of its latents; it is measured on this run's train tiles", settings.hub)
    mean_c, std_c = latent_scale(raw_vnchw.flatten(0, 1))
    return mean_c, std_c, "the run's own train tiles"


def _train(
    settings: AutoencoderSettings, given: _Given | None, train: images.ImageSet, out: Path, seed: int
) -> "tuple[Any, pd.DataFrame]":
    """Train or fine-tune on the train tiles, classes weighted equally; returns the model and its curves."""
    import torch

    from stages import training
    from stages.diffusion import autoencoder as science
    from stages.diffusion.pca_start import start_as_pca
    from stages.diffusion.views import pad
    from stages.streams import torch_stream

    vae = models.read_vae(given.folder).requires_grad_(True) if given is not None else _untrained(settings, seed)
    if type(vae).__name__ == "AutoencoderKL":
        raise UserError(
            "An AutoencoderKL cannot be fine-tuned here; set autoencoder.mode to folder and take it as it is."
        )
    recipe = science.Recipe(
        steps=settings.steps,
        batch=settings.batch,
        lr=settings.learning_rate,
        warmup=settings.warmup,
        perceptual=settings.perceptual,
        bf16=settings.precision == "bf16" and compute.fast_bf16(),
    )
    net = models.read_squeezenet() if settings.perceptual > 0 else None
    side = _padded(settings, vae, train.pixels_nhwc)
    tiles_nchw = pad(_tensor(train.pixels_nhwc).float(), side).to(torch.uint8)
    odds_n = torch.tensor(1.0 / np.bincount(train.labels_n)[train.labels_n], dtype=torch.float32)
    if settings.mode == "train" and settings.pca_tiles:
        pick_m = torch.multinomial(odds_n, settings.pca_tiles, replacement=True, generator=torch_stream(seed, "pca"))
        start_as_pca(vae, science.to_float(tiles_nchw[pick_m]))
    vae = vae.to(compute.device(), memory_format=torch.channels_last)
    state = science.start(vae.train(), recipe)

    def step(k: int) -> dict[str, float]:
        state.step = k
        img_bchw = science.draw_batch(tiles_nchw, odds_n, recipe, torch_stream(seed, "autoencoder", "batch", k))
        return science.train_step(state, net, img_bchw.to(vae.device), recipe, seed)

    curves = training.train(out, "autoencoder", settings.steps, step, {"vae": vae}, {"vae": state.optimiser})
    return vae.eval().requires_grad_(False), curves


def _untrained(settings: AutoencoderSettings, seed: int) -> Any:
    """The network that `train` begins with."""
    from stages.diffusion import autoencoder as science
    from stages.streams import torch_stream

    weights = torch_stream(seed, "weights")
    return science.build(
        settings.latent_channels, settings.downsampling, settings.width, settings.blocks, settings.blocks, weights
    )


def _reconstruct(
    vae: Any, train: images.ImageSet, tiles: Path, side: int, mpp: float | None, out: Path
) -> dict[str, float]:
    """Draw real tiles above their reconstructions; mean PSNR in dB on train and on val tiles."""
    import torch

    from stages.diffusion import autoencoder as science
    from stages.diffusion.views import at_once, crop, pad, sheet

    batch = at_once(side)

    def through(pixels_nhwc: images.Pixels) -> "tuple[Tensor, Tensor]":
        img_bchw = science.to_float(_tensor(pixels_nhwc))
        parts = [science.decode(vae, science.encode(vae, pad(part, side))) for part in torch.split(img_bchw, batch)]
        return img_bchw, crop(torch.cat(parts), img_bchw.shape[2])

    quality: dict[str, float] = {}
    for role, some in (("train", train), ("val", images.read(tiles / "images", role="val"))):
        if not len(some.table):
            continue
        few = some.take(np.linspace(0, len(some.table) - 1, min(MEASURED, len(some.table))).astype(np.int64))
        real_bchw, again_bchw = through(few.pixels_nhwc)
        quality[role] = float(science.psnr(real_bchw, again_bchw.clamp(-1, 1)).mean())
    shown = few.take(np.linspace(0, len(few.table) - 1, min(SHOWN, len(few.table))).astype(np.int64))
    again_nhwc = science.to_uint8(through(shown.pixels_nhwc)[1]).permute(0, 2, 3, 1).numpy()
    page = sheet(np.concatenate([shown.pixels_nhwc, again_nhwc]), columns=len(shown.table))
    page = scale_bar.under(page, mpp, shown.pixels_nhwc.shape[1])
    store.write_bytes(out / "reconstruction.png", images.png(page, level=6))
    return quality
