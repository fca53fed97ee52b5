"""The protocol `plain`: class-balanced batches, AdamW, a short warm-up and a cosine, cross entropy.

The number of steps does not depend on how many images there are: contestants of unequal size get equal work.
Shapes: b images of a batch, k classes.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from stages.classify import augment, hed
from stages.classify.plan import Draw, Plan, Protocol, Rows

WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""


def balanced_rows(rows_by_class: Sequence[Rows], batch: int, generator: Generator) -> Rows:
    """`batch` rows drawn with replacement, as many of each class as possible (who gets the remainder is drawn)."""
    turn_k = torch.randperm(len(rows_by_class), generator=generator)
    draw_b = torch.rand(batch, generator=generator, dtype=torch.float64)
    chosen = [rows_by_class[int(turn_k[i % len(turn_k)])] for i in range(batch)]
    return np.array([rows[int(draw * len(rows))] for rows, draw in zip(chosen, draw_b.tolist(), strict=True)])


def cycle(k: int, steps: int) -> float:
    """Factor on the learning rate in step k: linear warm-up, then half a cosine down to zero after the last step."""
    warm = max(1, round(WARM_UP * steps))
    if k < warm:
        return (k + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (k + 1 - warm) / (steps + 1 - warm)))


def loss(logits_bk: Tensor, labels_b: Tensor, soft_bk: Tensor | None) -> Tensor:
    """Cross entropy with the labels, or with the soft ones where they are given."""
    return F.cross_entropy(logits_bk, labels_b if soft_bk is None else soft_bk)


def _rows(rows_by_class: Sequence[Rows], batch: int, k: int, draw: Draw, generator: Generator) -> Rows:
    return balanced_rows(rows_by_class, batch, generator)


def _augment(img_bchw: Tensor, plan: Plan, generator: Generator) -> Tensor:
    # stains first, while levels are those of light; turns and shifts would change nothing of it, jitter would
    img_bchw = hed.augment(img_bchw, plan.hed, plan.mean, plan.std, generator)
    return augment.augment(img_bchw, plan.strength, generator)


def _optimizer(parameters: Iterable[nn.Parameter], plan: Plan) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, plan.learning_rate, weight_decay=plan.weight_decay)


PLAIN = Protocol(_rows, _augment, loss, cycle, _optimizer, None, lambda images, batch: 1)
