"""What distilled images are before their first step: noise, or images that are given.

Images are normalised, so noise of deviation 1 has the pixels' own spread. Images that start from real tiles may keep
patients' tissue (Carlini et al. 2022, arXiv 2209.14987): noise or synthetic candidates are the safe starts.
Shapes: k classes, m images of each, c channels, h = w pixels; p = m f² images given.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from stages.distill import formation


def noise(classes: int, per_class: int, channels: int, size_px: int, generator: Generator) -> Tensor:
    """Standard normal pixels, k × m × c × h × w."""
    return torch.randn(classes, per_class, channels, size_px, size_px, generator=generator)


def from_images(given: Sequence[Tensor], per_class: int, factor: int = 1) -> Tensor:
    """The first images of every class, k × m × c × h × w; with `factor` f > 1, m · f² of them in f × f cells.

    Args:
        given: of every class p × c × h × w, in the order they are to be taken.
        per_class: images to store of each class.
        factor: cells along each side of a stored image.

    Raises:
        ValueError: a class has fewer than m · f² images, or `factor` does not divide their sides.
    """
    wanted = per_class * factor**2
    for place, img_pchw in enumerate(given):
        if len(img_pchw) < wanted:
            raise ValueError(
                f"class {place} needs {wanted} images to start {per_class} of {factor}² cells, and has "
                f"{len(img_pchw)}; give more, or ask for fewer per class"
            )
    return torch.stack([formation.pack(img_pchw[:wanted], factor) for img_pchw in given]).clone()


def targets(classes: int, per_class: int) -> Tensor:
    """One-hot targets of images in order of class, k × m × k."""
    return torch.eye(classes)[:, None].repeat(1, per_class, 1)
