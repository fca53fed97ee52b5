"""The three networks a denoiser may be: their settings, how one is built, how one is read back."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from stages import store
from stages.contracts import UserError
from stages.settings import Settings

if TYPE_CHECKING:
    import torch

NAMES = {"unet": "UNet", "dit": "DiT", "uvit": "U-ViT"}
"""What people call them."""


class UNetSettings(Settings):
    """Convolutions at several scales (diffusers' UNet2DModel)."""

    widths: tuple[int, ...] = (64, 128, 192)
    """Channels of each level, from the latent's resolution downwards; each level halves the side."""
    layers: int = Field(1, ge=1, le=8)
    """Residual blocks per level."""
    attention: tuple[bool, ...] = (False, False, False)
    """For each level, whether self-attention follows its blocks."""
    middle_attention: bool = True
    """Whether self-attention stands between the way down and the way up."""
    norm_groups: int = Field(8, ge=1, le=64)
    """Groups of every group normalisation; divides every width."""
    head_width: int = Field(32, ge=1, le=512)
    """Channels per attention head."""

    @model_validator(mode="after")
    def _levels_agree(self) -> "UNetSettings":
        if len(self.attention) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths need {len(self.widths)} attention flags: {self.attention}")
        if any(width % self.norm_groups for width in self.widths):
            raise ValueError(f"widths {self.widths} must be multiples of norm_groups {self.norm_groups}")
        return self


class DiTSettings(Settings):
    """A transformer on patches, modulated by time and class (diffusers' DiTTransformer2DModel)."""

    width: int = Field(192, ge=4, le=8192, multiple_of=4)
    """Features of a token."""
    depth: int = Field(6, ge=1, le=100)
    """Blocks."""
    heads: int = Field(6, ge=1, le=128)
    """Heads of each attention; divides `width`."""
    patch: int = Field(2, ge=1, le=64)
    """Side of a patch, in latent pixels; divides the latent's side."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "DiTSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class UViTSettings(Settings):
    """A transformer on tokens of time, class and patches, with long skips (Bao et al. 2023)."""

    width: int = Field(192, ge=2, le=8192, multiple_of=2)
    """Features of a token."""
    depth: int = Field(5, ge=1, le=101)
    """Blocks in all; odd, half before the middle one and half behind it."""
    heads: int = Field(6, ge=1, le=128)
    """Heads of each attention; divides `width`."""
    patch: int = Field(2, ge=1, le=64)
    """Side of a patch, in latent pixels; divides the latent's side."""
    mlp_ratio: float = Field(4.0, gt=0, le=16)
    """Width of the hidden layer of each block over `width`."""

    @model_validator(mode="after")
    def _fit_together(self) -> "UViTSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.depth % 2 == 0:
            raise ValueError(f"depth must be odd, half of the blocks on either side of the middle one: {self.depth}")
        return self


def build(
    settings: UNetSettings | DiTSettings | UViTSettings,
    latent_shape: tuple[int, int, int],
    classes: int,
    generator: "torch.Generator",
) -> Any:
    """The untrained network the settings describe, for latents of (channels, height, width) and K + 1 classes.

    Raises:
        UserError: the latent does not go into the network's levels or patches.
    """
    from stages.diffusion import dit, unet, uvit

    s = settings
    try:
        if isinstance(s, DiTSettings):
            return dit.build(latent_shape, classes, s.width, s.depth, s.heads, s.patch, generator)
        if isinstance(s, UViTSettings):
            return uvit.build(latent_shape, classes, s.width, s.depth, s.heads, s.patch, s.mlp_ratio, generator)
        sizes = (s.middle_attention, s.norm_groups, s.head_width)
        return unet.build(latent_shape, classes, s.widths, s.layers, s.attention, generator, *sizes)
    except ValueError as error:
        raise UserError(f"The denoiser does not fit the latent: {error}.") from error


def read(folder: Path) -> Any:
    """The network in `folder`, as the stages denoiser and candidates write it, in evaluation mode."""
    import diffusers

    name = store.read_json(folder / "config.json")["_class_name"]
    if name == "UViT":
        from stages.diffusion import uvit

    kind = uvit.UViT if name == "UViT" else getattr(diffusers, name)
    return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()


def write_code(pipeline: Path, part: str) -> None:
    """Beside the weights of a network that diffusers lacks, in a saved pipeline, lay the code that it needs."""
    if store.read_json(pipeline / part / "config.json")["_class_name"] != "UViT":
        return
    from stages.diffusion import uvit

    store.write_bytes(pipeline / part / "uvit.py", Path(uvit.__file__).read_bytes())
    index = store.read_json(pipeline / "model_index.json")
    store.write_json(pipeline / "model_index.json", index | {part: ["uvit", "UViT"]})
