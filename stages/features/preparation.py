"""Tiles as a pretrained network wants them: its size, its normalisation.

Shapes: b tiles, h × w pixels, c = 3 channels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

MODES = {"bilinear": InterpolationMode.BILINEAR, "nearest": InterpolationMode.NEAREST}
"""Every other way is taken as bicubic."""


def square(pixels_nhwc: npt.NDArray[np.uint8], size_px: int, interpolation: str = "bicubic") -> Tensor:
    """The whole of every tile at `size_px` × `size_px`, uint8, b × 3 × h × w; antialiased where it shrinks.

    Nothing is cropped, though a model's card may ask for it: a tile is small, and its border is tissue too.
    """
    img_bchw = torch.from_numpy(np.ascontiguousarray(pixels_nhwc)).permute(0, 3, 1, 2).contiguous()
    mode = MODES.get(interpolation, InterpolationMode.BICUBIC)
    resized: Tensor = F.resize(img_bchw, [size_px, size_px], mode, antialias=True)
    return resized


def normalise(img_bchw: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(pixels / 255 − mean) / std of uint8 tiles, float32."""
    centre = torch.tensor(mean).view(1, 3, 1, 1)
    return (img_bchw.float().div(255) - centre) / torch.tensor(std).view(1, 3, 1, 1)
