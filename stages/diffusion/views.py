"""The eight views of a square tile (turns and mirrors), padding, and sheets of many tiles.

Shapes: `img_bchw` images; `pixels_nhwc` n pictures of h × w pixels and 3 colours.
"""

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

VIEWS = ((0, False), (0, True), (2, False), (2, True), (1, False), (1, True), (3, False), (3, True))
"""Quarter turns and then a mirror. The first 1, 2, 4 and 8 of them are each a group."""


def view(img_bchw: Tensor, number: int) -> Tensor:
    """View `number` (0 to 7) of square images; view 0 is the image itself."""
    turns, mirror = VIEWS[number]
    turned_bchw = img_bchw.rot90(turns, dims=(2, 3))
    return turned_bchw.flip(3) if mirror else turned_bchw


def padded_side(side: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `side`, both in px."""
    return -(-side // multiple) * multiple


def at_once(side: int, most: int = 64) -> int:
    """How many images of `side` px go through an autoencoder together: `most` up to 64 px, as many pixels beyond."""
    return max(1, min(most, most * 64**2 // side**2))


def pad(img_bchw: Tensor, side: int) -> Tensor:
    """Mirror the borders until images are `side` × `side`, the odd pixel at right and bottom; `crop` undoes it."""
    extra_h, extra_w = side - img_bchw.shape[2], side - img_bchw.shape[3]
    if not (extra_h or extra_w):
        return img_bchw
    sides = (extra_w // 2, extra_w - extra_w // 2, extra_h // 2, extra_h - extra_h // 2)
    return F.pad(img_bchw, sides, mode="reflect")


def crop(img_bchw: Tensor, side: int) -> Tensor:
    """The middle `side` × `side` of images, as `pad` placed it."""
    top, left = (img_bchw.shape[2] - side) // 2, (img_bchw.shape[3] - side) // 2
    return img_bchw[:, :, top : top + side, left : left + side]


def sheet(pixels_nhwc: npt.NDArray[np.uint8], columns: int, gap: int = 2) -> npt.NDArray[np.uint8]:
    """Pictures in rows of `columns`, `gap` white pixels apart; the last row is filled with white."""
    n, h, w, _ = pixels_nhwc.shape
    rows = -(-n // columns)
    page = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, 3), 255, np.uint8)
    for i, picture_hwc in enumerate(pixels_nhwc):
        top, left = gap + (i // columns) * (h + gap), gap + (i % columns) * (w + gap)
        page[top : top + h, left : left + w] = picture_hwc
    return page
