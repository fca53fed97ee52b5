"""Differentiable siamese augmentation (DSA): Zhao & Bilen 2021 (arXiv 2102.08259), batched.

`color_crop_cutout_flip_scale_rotate`: of every image one of six operations, drawn evenly; each image its own, or all
alike (`siamese`), as gradient matching needs it for real and synthetic images. Parameters are drawn first, from one
explicit generator, then applied: the same parameters act alike on whatever batch they are given, and gradients pass to
the images. Images come normalised; what moves in from outside is 0, the mean colour.
Shapes: n images (1: for all), c channels, h = w pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from stages.classify.sending import sent

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


class Strength(NamedTuple):
    """How far each operation may go; the defaults are the paper's. Zero (of `scale`, one) leaves images as they are."""

    brightness: float = 1.0
    """Width of the range of what is added to all channels, in standard deviations of the pixels."""
    saturation: float = 2.0
    """Width of the range, around 1, of the factor on the difference from the mean of the channels."""
    contrast: float = 1.0
    """Width of the range, around 1, of the factor on the difference from the image's mean."""
    crop: float = 0.125
    """Largest shift along each axis, as a share of the side."""
    cutout: float = 0.5
    """Side of the square that is set to 0, as a share of the side."""
    flip: float = 0.5
    """How often columns are mirrored."""
    scale: float = 1.2
    """Largest factor on each axis; the least is its inverse."""
    rotate: float = 15.0
    """Largest angle, in degrees."""


class Parameters(NamedTuple):
    """What happens to every image; what its operation does not touch says so by 0, 1 or False."""

    brightness_n: Tensor
    saturation_n: Tensor
    contrast_n: Tensor
    shift_n2: Tensor
    """Where between the largest shift up and left (0) and down and right (1)."""
    reach_n: Tensor
    """The largest shift, in shares of the side; 0: none."""
    cut_n2: Tensor
    """Middle of the square, in shares of the side."""
    cut_side_n: Tensor
    """Its side, in shares of the side; 0: none."""
    flip_n: Tensor
    affine_n22: Tensor
    """From places in the new image to places in the old one, both counted from the middle."""
    warped_n: Tensor
    """Whether that is more than the identity."""


def draw(n: int, generator: Generator, strength: Strength | None = None, siamese: bool = False) -> Parameters:
    """Parameters of `n` images, or with `siamese` of one that stand for any number.

    Args:
        n: how many images.
        generator: on the CPU.
        strength: how far the operations go.
        siamese: whether one operation with one set of numbers serves all images.
    """
    s = strength or Strength()
    n = 1 if siamese else n
    operation_n = torch.randint(len(OPERATIONS), (n,), generator=generator)
    unit_n8 = torch.rand(n, 8, generator=generator)
    centred_n8 = unit_n8 - 0.5
    color, crop, cutout, flip, scale, rotate = (operation_n == place for place in range(len(OPERATIONS)))
    angle_n = 2 * centred_n8[:, 0] * math.radians(s.rotate) * rotate
    factor_n2 = torch.where(scale[:, None], 1 / s.scale + (s.scale - 1 / s.scale) * unit_n8[:, :2], 1.0)
    turn_n22 = torch.stack([angle_n.cos(), -angle_n.sin(), angle_n.sin(), angle_n.cos()], 1).view(n, 2, 2)
    return Parameters(
        brightness_n=s.brightness * centred_n8[:, 0] * color,
        saturation_n=1 + s.saturation * centred_n8[:, 1] * color,
        contrast_n=1 + s.contrast * centred_n8[:, 2] * color,
        shift_n2=unit_n8[:, 3:5],
        reach_n=s.crop * crop,
        cut_n2=unit_n8[:, 5:7],
        cut_side_n=s.cutout * cutout,
        flip_n=(unit_n8[:, 7] < s.flip) & flip,
        affine_n22=turn_n22 * factor_n2[:, None, :],
        warped_n=(angle_n != 0) | (factor_n2 != 1).any(1),
    )


def apply(img_nchw: Tensor, parameters: Parameters) -> Tensor:
    """The augmented images, n × c × h × w; differentiable in the images.

    Args:
        img_nchw: normalised images.
        parameters: as many, or one for all.

    Raises:
        ValueError: another number of parameters.
    """
    if len(parameters.flip_n) not in (1, len(img_nchw)):
        raise ValueError(f"{len(img_nchw)} images need as many parameters or one, not {len(parameters.flip_n)}")
    moved = parameters if img_nchw.device.type == "cpu" else _moved(parameters, img_nchw.device)
    p = Parameters(*(value.expand(len(img_nchw), *value.shape[1:]) for value in moved))
    # what no image has drawn would leave all as they are; it is asked where it was drawn, not on a GPU
    if bool(((parameters.saturation_n != 1) | (parameters.contrast_n != 1) | (parameters.brightness_n != 0)).any()):
        img_nchw = _color(img_nchw, p)
    if bool(parameters.flip_n.any()):
        img_nchw = torch.where(p.flip_n.view(-1, 1, 1, 1), img_nchw.flip(3), img_nchw)
    if bool(parameters.reach_n.any()):
        img_nchw = _crop(img_nchw, p.shift_n2, p.reach_n)
    if bool(parameters.cut_side_n.any()):
        img_nchw = _cutout(img_nchw, p.cut_n2, p.cut_side_n)
    return _warp(img_nchw, p) if bool(parameters.warped_n.any()) else img_nchw


def _moved(parameters: Parameters, device: torch.device) -> Parameters:
    """Parameters on another device, in one copy: each would have to wait for the one before."""
    columns = [value.reshape(len(value), -1).float() for value in parameters]
    parts = torch.split(sent(torch.cat(columns, 1), device), [column.shape[1] for column in columns], 1)
    return Parameters(*(part.reshape(old.shape).to(old.dtype) for part, old in zip(parts, parameters, strict=True)))


def _color(img_nchw: Tensor, p: Parameters) -> Tensor:
    """Brightness, then saturation, then contrast; images of one channel have no saturation."""
    brightness, saturation, contrast = (
        value.view(-1, 1, 1, 1).to(img_nchw.dtype) for value in (p.brightness_n, p.saturation_n, p.contrast_n)
    )
    grey_nchw = img_nchw.mean(1, keepdim=True)
    coloured_nchw = (img_nchw - grey_nchw) * saturation + grey_nchw + brightness
    mean_n = coloured_nchw.mean((1, 2, 3), keepdim=True)
    coloured_nchw = (coloured_nchw - mean_n) * contrast + mean_n
    touched_n = (brightness != 0) | (saturation != 1) | (contrast != 1)
    return torch.where(touched_n, coloured_nchw, img_nchw)


def _crop(img_nchw: Tensor, shift_n2: Tensor, reach_n: Tensor) -> Tensor:
    """Images moved by whole pixels; zeros come in."""
    n, c, h, w = img_nchw.shape
    reach_n1 = (reach_n * h).round()[:, None]
    offset_n2 = ((shift_n2 * (2 * reach_n1 + 1)).floor() - reach_n1).long()
    rows_nh = torch.arange(h, device=img_nchw.device) - offset_n2[:, :1]
    columns_nw = torch.arange(w, device=img_nchw.device) - offset_n2[:, 1:]
    moved_nchw = img_nchw.gather(2, rows_nh.clamp(0, h - 1)[:, None, :, None].expand(n, c, h, w))
    moved_nchw = moved_nchw.gather(3, columns_nw.clamp(0, w - 1)[:, None, None, :].expand(n, c, h, w))
    inside_nhw = ((rows_nh >= 0) & (rows_nh < h))[:, :, None] & ((columns_nw >= 0) & (columns_nw < w))[:, None, :]
    return moved_nchw * inside_nhw[:, None]


def _cutout(img_nchw: Tensor, cut_n2: Tensor, side_n: Tensor) -> Tensor:
    """Images with a square of zeros; its middle may lie anywhere, what is outside is not cut."""
    h, w = img_nchw.shape[2:]
    side_n1 = (side_n * h).round()[:, None]
    first_n2 = (cut_n2 * (h + 1 - side_n1 % 2)).floor() - (side_n1 / 2).floor()
    rows_nh = torch.arange(h, device=img_nchw.device) - first_n2[:, :1]
    columns_nw = torch.arange(w, device=img_nchw.device) - first_n2[:, 1:]
    cut_nh = (rows_nh >= 0) & (rows_nh < side_n1)
    cut_nw = (columns_nw >= 0) & (columns_nw < side_n1)
    return img_nchw * ~(cut_nh[:, None, :, None] & cut_nw[:, None, None, :])


def _warp(img_nchw: Tensor, p: Parameters) -> Tensor:
    """Images scaled and turned about their middle, bilinear; those that are not stay as they are, bit for bit."""
    theta_n23 = F.pad(p.affine_n22.to(img_nchw.dtype), (0, 1))
    grid_nhw2 = F.affine_grid(theta_n23, list(img_nchw.shape), align_corners=False)
    warped_nchw = F.grid_sample(img_nchw, grid_nhw2, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.where(p.warped_n.view(-1, 1, 1, 1), warped_nchw, img_nchw)
