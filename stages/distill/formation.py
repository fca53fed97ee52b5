"""Several images in one: multi-formation of Kim et al. 2022 (IDC, arXiv 2205.14959, section 4.1).

A stored image is a grid of f × f cells. Each cell, enlarged to the whole size, is an image to train on: f² images for
the bytes of one, of less detail. Decoding is linear, so gradients pass to what is stored.
Shapes: n stored images, p = n f² images seen, c channels, h × w pixels of both, k classes.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Decode = Callable[[Tensor], Tensor]
"""Stored images, n × c × h × w, to those that are seen, a whole number of each in order; differentiable."""


def as_stored(img_nchw: Tensor) -> Tensor:
    """What is stored is what is seen."""
    return img_nchw


def decoder(factor: int) -> Decode:
    """What decodes images of `factor` × `factor` cells."""
    return as_stored if factor == 1 else lambda img_nchw: decode(img_nchw, factor)


def decode(img_nchw: Tensor, factor: int) -> Tensor:
    """The cells of every image, row by row, each enlarged bilinearly to the whole size: p × c × h × w.

    Raises:
        ValueError: `factor` is no divisor of the height and the width.
    """
    height, width = _cell(img_nchw, factor)
    if factor == 1:
        return img_nchw
    n, c = img_nchw.shape[:2]
    cells = img_nchw.reshape(n, c, factor, height, factor, width).permute(0, 2, 4, 1, 3, 5)
    cells_pchw = cells.reshape(n * factor**2, c, height, width)
    return F.interpolate(cells_pchw, scale_factor=float(factor), mode="bilinear", align_corners=False)


def decode_targets(target_nk: Tensor, seen: int) -> Tensor:
    """The target of every stored image, once for each of the images seen of it: p × k, of `seen` = p in all."""
    return target_nk.repeat_interleave(seen // len(target_nk), 0)


def pack(img_pchw: Tensor, factor: int) -> Tensor:
    """Images to store, n × c × h × w, each of f² of those given, shrunk by the mean of f × f pixels.

    Raises:
        ValueError: `factor` is no divisor of the height and the width, or f² none of the number of images.
    """
    height, width = _cell(img_pchw, factor)
    if factor == 1:
        return img_pchw
    p, c = img_pchw.shape[:2]
    if p % factor**2:
        raise ValueError(f"{factor}² images go into one; give a multiple of {factor**2} images, not {p}")
    cells_pchw = F.avg_pool2d(img_pchw, factor)
    cells = cells_pchw.reshape(p // factor**2, factor, factor, c, height, width).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(p // factor**2, c, factor * height, factor * width)


def _cell(img_nchw: Tensor, factor: int) -> tuple[int, int]:
    """Height and width of a cell, in pixels."""
    h, w = img_nchw.shape[2:]
    if factor < 1 or h % factor or w % factor:
        raise ValueError(f"images of {h} × {w} px cannot be cut in {factor} × {factor} equal cells; take a divisor")
    return h // factor, w // factor
