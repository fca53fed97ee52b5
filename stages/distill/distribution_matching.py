"""Distribution matching (DM): Zhao & Bilen 2023 (arXiv 2110.04181).

Images are moved so that the mean feature of a random network is that of the real ones, class by class: no gradient of a
gradient, and no network to train, so that it is by far the cheapest. Targets have no part in it.
Shapes: k classes, m stored images of each, b real images, p images seen, d features, c channels, h = w pixels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.nn import functional as F

from stages.classify import dsa
from stages.distill import compiled, formation, student

CHUNK = {"cpu": 16}
"""Real images to look at at a time, by device: what fits a cache is several times as fast."""


class Embeddings(NamedTuple):
    """The functions that take the time, compiled once; `embeddings` makes them."""

    features: Callable[[student.Parameters, Tensor], Tensor]
    """`student.features`."""
    matching: Callable[[student.Parameters, Tensor, Tensor], tuple[Tensor, Tensor]]
    """`matching`."""
    chunk: int
    """Real images at a time."""


class Matched(NamedTuple):
    """How far the stored images are from the real ones, and where to."""

    loss: Tensor
    """The squared distance of mean features, summed over classes."""
    img_kmchw: Tensor
    """Its gradient with respect to the stored images."""


def embeddings(mode: compiled.Mode, device: str = "cpu", chunk: int | None = None) -> Embeddings:
    """Both functions, prepared; `chunk` is 16 on a CPU and 256 elsewhere unless it is told."""
    ready = compiled.prepare(student.features, mode, device), compiled.prepare(matching, mode, device)
    return Embeddings(*ready, chunk or CHUNK.get(device, 256))


def matching(parameters: student.Parameters, wanted_d: Tensor, img_pchw: Tensor) -> tuple[Tensor, Tensor]:
    """‖wanted − mean feature‖² of some images, equation 4 of arXiv 2110.04181, and its gradient by the images."""

    def loss(img_pchw: Tensor) -> Tensor:
        return (student.features(parameters, img_pchw).mean(0) - wanted_d).square().sum()

    d_img_pchw, value = grad_and_value(loss)(img_pchw)
    return value, d_img_pchw


def mean_features(ready: Embeddings, parameters: student.Parameters, img_bchw: Tensor) -> Tensor:
    """The mean feature of any number of images, d; a chunk at a time, the last one padded."""
    sums = []
    for part_bchw in torch.split(img_bchw, ready.chunk):
        n = len(part_bchw)
        if n < ready.chunk:
            part_bchw = F.pad(part_bchw, (0, 0, 0, 0, 0, 0, 0, ready.chunk - n))
        x_bd = ready.features(parameters, part_bchw)
        sums.append(x_bd[:n].sum(0))
    return torch.stack(sums).sum(0) / len(img_bchw)


def step(
    ready: Embeddings,
    parameters: student.Parameters,
    real: Sequence[Tensor],
    img_kmchw: Tensor,
    augmentation: Sequence[dsa.Parameters] | None = None,
    decode: formation.Decode = formation.as_stored,
) -> Matched:
    """One iteration over all classes; the caller moves the images against the gradient.

    Args:
        ready: from `embeddings`.
        parameters: of the network.
        real: normalised images of every class, any number.
        img_kmchw: the stored images.
        augmentation: of every class siamese parameters, for its real and its synthetic images; none: as they are.
        decode: from stored images to those seen; before the augmentation.
    """
    losses, d_images = [], []
    for place, img_bchw in enumerate(real):
        img_mchw = img_kmchw[place].detach().requires_grad_()
        img_pchw = decode(img_mchw)
        if augmentation is not None:
            img_bchw, img_pchw = (dsa.apply(img, augmentation[place]) for img in (img_bchw, img_pchw))
        wanted_d = mean_features(ready, parameters, img_bchw)
        loss, d_seen = ready.matching(parameters, wanted_d, img_pchw.detach())
        losses.append(loss)
        d_images.append(torch.autograd.grad(img_pchw, img_mchw, d_seen)[0])
    return Matched(torch.stack(losses).sum(), torch.stack(d_images))
