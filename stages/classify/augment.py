"""Augmentation of batches of normalised tiles: dihedral, small shift, small colour jitter; each image its own draw.

Every draw comes from one explicit CPU generator, so any device sees the same augmentation.
Shapes: b images, c channels, h = w pixels.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Strength(NamedTuple):
    """How far an augmentation may go; zero switches a part off."""

    dihedral: bool
    """Whether tiles are flipped and turned by multiples of 90°: tissue has no upright."""
    shift_px: int
    """Largest shift along each axis, in pixels; what comes in is reflected at the border."""
    jitter: float
    """Largest change of contrast (a factor) and of each channel's level, in standard deviations of the pixels."""


def augment(img_bchw: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """A newly augmented batch, b × c × h × w; the input stays as it is."""
    if strength.dihedral:
        img_bchw = dihedral(img_bchw, torch.randint(8, (len(img_bchw),), generator=generator))
    if strength.shift_px:
        reach = strength.shift_px
        offset_b2 = torch.randint(-reach, reach + 1, (len(img_bchw), 2), generator=generator)
        img_bchw = shift(img_bchw, offset_b2)
    if strength.jitter:
        draw_b4 = 2 * torch.rand(len(img_bchw), 4, generator=generator) - 1
        img_bchw = jitter(img_bchw, strength.jitter * draw_b4)
    return img_bchw


def dihedral(img_bchw: Tensor, element_b: Tensor) -> Tensor:
    """Image i under element i (0 … 7) of the square's symmetries: bit 0 flips columns, 1 rows, 2 transposes (first)."""
    bits_b3 = torch.stack([(element_b >> bit) & 1 for bit in range(3)], 1).bool().to(img_bchw.device)
    flip_columns, flip_rows, transpose = (bits_b3[:, bit].view(-1, 1, 1, 1) for bit in range(3))
    img_bchw = torch.where(transpose, img_bchw.transpose(2, 3), img_bchw)
    img_bchw = torch.where(flip_rows, img_bchw.flip(2), img_bchw)
    return torch.where(flip_columns, img_bchw.flip(3), img_bchw)


def shift(img_bchw: Tensor, offset_b2: Tensor) -> Tensor:
    """Image i moved up and left by `offset_b2[i]` pixels, reflected at the border (the edge pixel is not repeated)."""
    b, c, h, w = img_bchw.shape
    rows_bh = _reflect(torch.arange(h) + offset_b2[:, :1], h).to(img_bchw.device)
    columns_bw = _reflect(torch.arange(w) + offset_b2[:, 1:], w).to(img_bchw.device)
    img_bchw = img_bchw.gather(2, rows_bh[:, None, :, None].expand(b, c, h, w))
    return img_bchw.gather(3, columns_bw[:, None, None, :].expand(b, c, h, w))


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices folded back into 0 … size − 1."""
    return (size - 1) - ((size - 1) - index.abs()).abs()


def jitter(img_bchw: Tensor, change_b4: Tensor) -> Tensor:
    """Contrast times 1 + `change_b4[:, 0]`, then each of three channels plus its own of the other three changes."""
    change_b4 = change_b4.to(img_bchw)
    return img_bchw * (1 + change_b4[:, :1, None, None]) + change_b4[:, 1:, None, None]
