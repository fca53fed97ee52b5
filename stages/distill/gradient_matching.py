"""Gradient matching (DC): Zhao et al. 2021 (arXiv 2006.05929), with siamese augmentation (DSA, arXiv 2102.08259).

Images are moved so that the gradient they give a network is that of the real ones, class by class. Only weights of two
axes and more count, so nothing else is differentiated. Gradients of many images are summed over chunks that fit a
processor's cache, the last one padded with images of no target: one shape for the compiler, however many there are.
Shapes: k classes, m stored images of each, b real images, p images seen, c channels, h = w pixels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.func import grad, grad_and_value
from torch.nn import functional as F

from stages.classify import dsa
from stages.classify.sending import sent
from stages.distill import compiled, formation, student

EPSILON = 1e-6
"""What is added to the product of two rows' norms."""
CHUNK = {"cpu": 16}
"""Images to differentiate at a time, by device: at 32 px and width 128 their largest map is then 8 MB."""

Gradient = Callable[[student.Parameters, Tensor, Tensor], list[Tensor]]
Matching = Callable[[student.Parameters, list[Tensor], Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Batch(NamedTuple):
    """Some images of one class."""

    img_bchw: Tensor
    """Normalised."""
    target_bk: Tensor
    """Class probabilities."""


class Gradients(NamedTuple):
    """The functions that take the time, compiled once; `gradients` makes them."""

    of_class: Gradient
    """`class_gradient`."""
    of_parameters: Gradient
    """`parameter_gradient`."""
    matching: Matching
    """`matching`."""
    chunk: int
    """Images at a time, of the first two."""


class Matched(NamedTuple):
    """How far the stored images are from the real ones, and where to."""

    loss: Tensor
    """The distance, summed over classes."""
    img_kmchw: Tensor
    """Its gradient with respect to the stored images."""
    target_kmk: Tensor
    """And to their targets."""


def gradients(mode: compiled.Mode, device: str = "cpu", chunk: int | None = None) -> Gradients:
    """The three functions, prepared; `chunk` is 16 on a CPU and 256 elsewhere unless it is told."""
    return Gradients(
        compiled.prepare(class_gradient, mode, device),
        compiled.prepare(parameter_gradient, mode, device),
        compiled.prepare(matching, mode, device),
        chunk or CHUNK.get(device, 256),
    )


def distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Σ over layers and rows of 1 − ⟨r, s⟩ / (‖r‖ ‖s‖ + 1e-6); equation 6 and appendix A of arXiv 2006.05929.

    Args:
        real: gradients, one a parameter; a row is what belongs to one output. Those of one axis count 0.
        synthetic: the same of the synthetic images.

    Returns:
        Between 0 and twice the number of rows. A row of zeros contributes 1.
    """
    rows = [(r.flatten(1), s.flatten(1)) for r, s in zip(real, synthetic, strict=True) if r.ndim > 1]
    return torch.stack([_of_rows(r_or, s_or) for r_or, s_or in rows]).sum()


def _of_rows(r_or: Tensor, s_or: Tensor) -> Tensor:
    norms_o = torch.linalg.vector_norm(r_or, dim=1) * torch.linalg.vector_norm(s_or, dim=1)
    cosine_o = (r_or * s_or).sum(1) / (norms_o + EPSILON)
    return torch.sum(1 - cosine_o)


def class_gradient(parameters: student.Parameters, img_bchw: Tensor, target_bk: Tensor) -> list[Tensor]:
    """Gradient of the mean cross entropy with respect to the parameters of two axes and more, in their order."""

    def loss(weights: list[Tensor]) -> Tensor:
        rest = iter(weights)
        return student.cross_entropy([next(rest) if p.ndim > 1 else p for p in parameters], img_bchw, target_bk)

    found: list[Tensor] = grad(loss)([p for p in parameters if p.ndim > 1])
    return found


def parameter_gradient(parameters: student.Parameters, img_bchw: Tensor, target_bk: Tensor) -> list[Tensor]:
    """Gradient of the mean cross entropy with respect to all parameters."""
    found: list[Tensor] = grad(student.cross_entropy)(parameters, img_bchw, target_bk)
    return found


def matching(
    parameters: student.Parameters, real: list[Tensor], img_pchw: Tensor, target_pk: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of the synthetic images' gradient from the `real` one, and its gradient by images and targets."""

    def loss(img_pchw: Tensor, target_pk: Tensor) -> Tensor:
        return distance(real, class_gradient(parameters, img_pchw, target_pk))

    (d_img_pchw, d_target_pk), value = grad_and_value(loss, argnums=(0, 1))(img_pchw, target_pk)
    return value, d_img_pchw, d_target_pk


def in_chunks(gradient: Gradient, parameters: student.Parameters, batch: Batch, chunk: int) -> list[Tensor]:
    """`gradient` of the mean over a batch of any size, `chunk` images at a time.

    An image whose target is 0 for every class has no cross entropy, so it pads the last chunk.
    """
    n = len(batch.img_bchw)
    total: list[Tensor] | None = None
    for img_bchw, target_bk in zip(*(torch.split(x, chunk) for x in batch), strict=True):
        missing = chunk - len(img_bchw)
        if missing:
            img_bchw = F.pad(img_bchw, (0, 0, 0, 0, 0, 0, 0, missing))
            target_bk = F.pad(target_bk, (0, 0, 0, missing))
        parts = [part * (chunk / n) for part in gradient(parameters, img_bchw, target_bk)]
        total = parts if total is None else [a.add_(b) for a, b in zip(total, parts, strict=True)]
    assert total is not None, "a batch has images"
    return total


def step(
    ready: Gradients,
    parameters: student.Parameters,
    real: Sequence[Batch],
    img_kmchw: Tensor,
    target_kmk: Tensor,
    augmentation: Sequence[dsa.Parameters] | None = None,
    decode: formation.Decode = formation.as_stored,
) -> Matched:
    """One outer step over all classes; the caller moves the images against the gradient.

    Args:
        ready: from `gradients`.
        parameters: of the network.
        real: of every class, any number of images.
        img_kmchw: the stored images.
        target_kmk: their class probabilities.
        augmentation: of every class siamese parameters, for its real and its synthetic images; none: as they are.
        decode: from stored images to those seen; before the augmentation.
    """
    losses, d_images, d_targets = [], [], []
    for place, batch in enumerate(real):
        alike = None if augmentation is None else augmentation[place]
        seen = batch if alike is None else batch._replace(img_bchw=dsa.apply(batch.img_bchw, alike))
        wanted = in_chunks(ready.of_class, parameters, seen, ready.chunk)
        img_mchw, target_mk = (x[place].detach().requires_grad_() for x in (img_kmchw, target_kmk))
        img_pchw = decode(img_mchw)
        target_pk = formation.decode_targets(target_mk, len(img_pchw))
        if alike is not None:
            img_pchw = dsa.apply(img_pchw, alike)
        loss, *d_seen = ready.matching(parameters, wanted, img_pchw.detach(), target_pk.detach())
        d_img, d_target = torch.autograd.grad((img_pchw, target_pk), (img_mchw, target_mk), d_seen)
        losses.append(loss)
        d_images.append(d_img)
        d_targets.append(d_target)
    return Matched(torch.stack(losses).sum(), torch.stack(d_images), torch.stack(d_targets))


def train_on(
    ready: Gradients,
    parameters: student.Parameters,
    images: Batch,
    epochs: int,
    rate: float,
    batch: int,
    generator: Generator,
    strength: dsa.Strength | None = None,
) -> student.Parameters:
    """New parameters after `epochs` of plain gradient descent on the images: the inner loop.

    Args:
        ready: from `gradients`.
        parameters: where to start; they stay as they are.
        images: decoded.
        epochs: passes, each in an order of its own; the last batch of a pass may be smaller.
        rate: of learning, without momentum.
        batch: images a step.
        generator: on the CPU, for orders and augmentation.
        strength: of the augmentation, every image its own; none: as they are.
    """
    parameters = list(parameters)
    for _ in range(epochs):
        order_n = sent(torch.randperm(len(images.img_bchw), generator=generator), images.img_bchw.device)
        for rows in torch.split(order_n, batch):
            img_bchw, target_bk = images.img_bchw[rows], images.target_bk[rows]
            if strength is not None:
                img_bchw = dsa.apply(img_bchw, dsa.draw(len(rows), generator, strength))
            found = in_chunks(ready.of_parameters, parameters, Batch(img_bchw, target_bk), ready.chunk)
            parameters = [p - rate * g for p, g in zip(parameters, found, strict=True)]
    return parameters
