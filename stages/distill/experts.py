"""Expert trajectories: networks trained on real images, their parameters kept after every epoch.

As in trajectory matching (Cazenavette et al. 2022, arXiv 2203.11932, section 3.1): SGD without momentum or weight
decay, every image once an epoch in a new order, augmented (DSA; each image has its own operation here, where the public
code draws one for a batch). The last batch of an epoch is used though it is smaller, as the public code does; it is
filled up with blank images whose targets are 0, so that a compiler meets one size only. Blank images change nothing:
every image is normalised on its own, and the targets of the others are scaled so that the mean is over them alone.
Shapes: p parameters, b images of a batch, c channels, h = w pixels, k classes.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from stages.classify import dsa
from stages.distill.trajectory_matching import Batch

Descent = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(θ_p, img_bchw, target_bk) -> gradient of the mean cross entropy by θ (`trajectory_matching.Gradients.descent`)."""
Shown = Callable[[Tensor], Batch]
"""Numbers of images, on the CPU -> those images, normalised, and their class probabilities."""


def epoch(
    descent: Descent,
    theta_p: Tensor,
    shown: Shown,
    count: int,
    rate: float,
    batch: int,
    generator: Generator,
    strength: dsa.Strength | None,
) -> Tensor:
    """The expert after one more epoch: a new vector, which shares no memory with another.

    Args:
        descent: the gradient, prepared.
        theta_p: its parameters before; at first random (`student.draw`, `flat.flatten`).
        shown: the images.
        count: how many there are.
        rate: step size.
        batch: images of a step.
        generator: on the CPU, of order and augmentation.
        strength: how far the augmentation goes; None: no augmentation.
    """
    theta_p = theta_p.clone()
    batch = min(batch, count)
    for rows_b in torch.split(torch.randperm(count, generator=generator), batch):
        img_bchw, target_bk = shown(rows_b)
        if strength is not None:
            img_bchw = dsa.apply(img_bchw, dsa.draw(len(rows_b), generator, strength))
        theta_p -= rate * descent(theta_p, *filled(Batch(img_bchw, target_bk), batch))
    return theta_p


def filled(seen: Batch, batch: int) -> Batch:
    """The batch with blank images to make it `batch` large, and targets such that its mean loss is as it was."""
    missing = batch - len(seen.img_bchw)
    if not missing:
        return seen
    target_bk = seen.target_bk * (batch / len(seen.img_bchw))
    return Batch(F.pad(seen.img_bchw, (0, 0) * 3 + (0, missing)), F.pad(target_bk, (0, 0, 0, missing)))
