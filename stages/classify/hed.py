"""Augmentation of stain: hematoxylin, eosin and DAB of every image a little stronger or weaker, each its own draw.

Tellez et al., IEEE TMI 37:2126 (2018): optical densities times the inverse of Ruifrok & Johnston's matrix are amounts
of three stains; each is multiplied by α of [1 − s, 1 + s] and moved by β of [−s, s]. "HED-light" has s = 0.05.
Amounts are in natural optical density, −ln(level): a β of 0.05 of eosin takes 5 % of the green. scikit-image's are
these over 13.8 (the density of its least level, 1e-6); there the same β would take half of it.
Shapes: b images, c = 3 channels (RGB or stains), h × w pixels.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

RGB_FROM_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Densities of R, G and B of one unit of hematoxylin, eosin and DAB: Ruifrok & Johnston 2001, as in scikit-image."""
DARKEST = 1e-6
"""Least level whose density is taken."""


def to_stains(img_bchw: Tensor) -> Tensor:
    """Amounts of hematoxylin, eosin and DAB of images of levels 0 to 1; below 0 where a colour is none of theirs."""
    hed_from_rgb = torch.linalg.inv(torch.tensor(RGB_FROM_HED, dtype=torch.float64)).to(img_bchw)
    return torch.einsum("bchw,cs->bshw", -img_bchw.clamp(min=DARKEST).log(), hed_from_rgb)


def to_rgb(stain_bshw: Tensor) -> Tensor:
    """Levels 0 to 1 of amounts of stain; what would be brighter than white is white."""
    rgb_from_hed = torch.tensor(RGB_FROM_HED).to(stain_bshw)
    return (-torch.einsum("bshw,sc->bchw", stain_bshw, rgb_from_hed)).exp().clamp(0, 1)


def shifted(img_bchw: Tensor, factor_b3: Tensor, offset_b3: Tensor) -> Tensor:
    """Images of levels 0 to 1 with each of their three stains times its factor, plus its offset."""
    factor_b311, offset_b311 = (draw.to(img_bchw)[:, :, None, None] for draw in (factor_b3, offset_b3))
    return to_rgb(to_stains(img_bchw) * factor_b311 + offset_b311)


def augment(
    img_bchw: Tensor, strength: float, mean: Sequence[float], std: Sequence[float], generator: Generator
) -> Tensor:
    """Normalised images with stains shifted by up to `strength`, normalised again; the same where it is 0.

    Args:
        img_bchw: (levels − mean) / std; the input stays as it is.
        strength: the s of the paper.
        mean: of each channel.
        std: of each channel.
        generator: of the draws, on the CPU.
    """
    if not strength:
        return img_bchw
    draw_b23 = strength * (2 * torch.rand(len(img_bchw), 2, 3, generator=generator) - 1)
    mean_c11, std_c11 = (torch.tensor(values).to(img_bchw).view(3, 1, 1) for values in (mean, std))
    levels_bchw = shifted(img_bchw * std_c11 + mean_c11, 1 + draw_b23[:, 0], draw_b23[:, 1])
    return (levels_bchw - mean_c11) / std_c11
