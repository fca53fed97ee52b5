"""Slightly altered train tiles, planted to see whether the audit finds what it looks for.

Shapes: `img_nchw` RGB in [0, 1], square tiles.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Alteration = Callable[[Tensor, torch.Generator], Tensor]


def uniform(shape: tuple[int, ...], reach: float, generator: torch.Generator) -> Tensor:
    """Numbers between −reach and reach."""
    return (2.0 * torch.rand(shape, generator=generator) - 1.0) * reach


def turn(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """One of the 8 orientations each, nothing else."""
    choice = torch.randint(0, 8, (len(img_nchw),), generator=generator).tolist()
    turned = [torch.rot90(tile, k % 4, (1, 2)) for tile, k in zip(img_nchw, choice, strict=True)]
    return torch.stack([tile.flip(2) if k >= 4 else tile for tile, k in zip(turned, choice, strict=True)])


def blur(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """What an autoencoder does to a tile: detail below 2.7 px lost, faint noise."""
    side = img_nchw.shape[-1]
    small = F.interpolate(img_nchw, size=max(8, round(0.375 * side)), mode="bilinear", antialias=True)
    back = F.interpolate(small, size=side, mode="bicubic")
    return (back + 0.02 * torch.randn(back.shape, generator=generator)).clamp(0, 1)


def recolour(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """Every channel stretched by up to 15 % and shifted by up to 7 % of the range."""
    shape = (len(img_nchw), 3, 1, 1)
    return (img_nchw * (1 + uniform(shape, 0.15, generator)) + uniform(shape, 0.07, generator)).clamp(0, 1)


def noise(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of 5 % of the range."""
    return (img_nchw + 0.05 * torch.randn(img_nchw.shape, generator=generator)).clamp(0, 1)


def crop(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """A window of 93 % of the side, anywhere, enlarged to the full side."""
    return _warp(img_nchw, uniform((len(img_nchw), 2), 0.07, generator), zoom=0.93)


def tilt(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """Turned by up to 8 degrees either way, edges mirrored."""
    return _warp(img_nchw, angle_n=uniform((len(img_nchw),), 0.14, generator))


def bend(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """A smooth elastic deformation of up to 2.5 % of the side."""
    knots = uniform((len(img_nchw), 2, 5, 5), 0.05, generator)
    field_nhw2 = F.interpolate(knots, size=img_nchw.shape[-1], mode="bicubic").permute(0, 2, 3, 1)
    still = torch.eye(2, 3).repeat(len(img_nchw), 1, 1)
    grid = F.affine_grid(still, list(img_nchw.shape), align_corners=False) + field_nhw2
    return F.grid_sample(img_nchw, grid, padding_mode="reflection", align_corners=False)


def several(img_nchw: Tensor, generator: torch.Generator) -> Tensor:
    """Turned, cropped, recoloured and blurred at once."""
    for alteration in (turn, crop, recolour, blur):
        img_nchw = alteration(img_nchw, generator)
    return img_nchw


ALTERATIONS: dict[str, Alteration] = {
    "turned": turn,
    "blurred": blur,
    "recoloured": recolour,
    "noisy": noise,
    "cropped": crop,
    "tilted": tilt,
    "bent": bend,
    "several at once": several,
}


def _warp(img_nchw: Tensor, shift_n2: Tensor | None = None, angle_n: Tensor | None = None, zoom: float = 1.0) -> Tensor:
    """Rotate by `angle_n` radians, then show a window of `zoom` of the side, moved by `shift_n2` half sides."""
    angle_n = torch.zeros(len(img_nchw)) if angle_n is None else angle_n
    shift_n2 = torch.zeros(len(img_nchw), 2) if shift_n2 is None else shift_n2
    cos_n, sin_n = angle_n.cos() * zoom, angle_n.sin() * zoom
    rows = [torch.stack([cos_n, -sin_n, shift_n2[:, 0]], 1), torch.stack([sin_n, cos_n, shift_n2[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(img_nchw.shape), align_corners=False)
    return F.grid_sample(img_nchw, grid, padding_mode="reflection", align_corners=False)
