"""The protocol `infodist`: how Li & Kainz (MICCAI 2024, arXiv 2406.13536) train their classifiers.

SGD with momentum, a learning rate that rises over the first half and falls as a cosine over the second, DSA, cross
entropy with the contrastive boundary loss, and evaluation of a moving average that moves once an epoch. An epoch shows
every image once. Departures: softmax is applied once; the average is warmed up (its decay grows from 0.1 to 0.995),
because a flat 0.995 keeps 86 % of the first weights after 30 epochs; a training has a number of steps, not of epochs.
Shapes: n images, b images of a batch, k classes.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn

from stages.classify import dsa, plain
from stages.classify.boundary import boundary_loss
from stages.classify.plan import Draw, Plan, Protocol, Rows

MOMENTUM = 0.9
DECAY = 0.995
"""The longest decay of the average of the weights, per epoch."""
LEAST = 1e-7
"""Factor on the learning rate before the first step."""


def steps_per_epoch(images: int, batch: int) -> int:
    """⌈images / batch⌉."""
    return math.ceil(images / batch)


def epoch_rows(rows_by_class: Sequence[Rows], batch: int, k: int, draw: Draw) -> Rows:
    """The rows of step k: its part of the epoch's shuffle, which is cut as evenly as possible into its steps.

    Evenly, because a last batch of one image would have no variance for batch norm.
    """
    rows_n: Rows = np.concatenate(list(rows_by_class))
    steps = steps_per_epoch(len(rows_n), batch)
    order_n = torch.randperm(len(rows_n), generator=draw("epoch", k // steps)).numpy()
    chosen: Rows = rows_n[np.array_split(order_n, steps)[k % steps]]
    return chosen


def rise_and_fall(k: int, steps: int) -> float:
    """Factor on the learning rate in step k: linear from `LEAST` to 1 over the first half, then half a cosine to 0."""
    half = max(1, steps // 2)
    if k < half:
        return LEAST + (1 - LEAST) * (k + 1) / half
    return 0.5 * (1 + math.cos(math.pi * (k + 1 - half) / (steps + 1 - half)))


def loss(logits_bk: Tensor, labels_b: Tensor, soft_bk: Tensor | None) -> Tensor:
    """Cross entropy (with the soft labels where they are given) plus the boundary loss (always with the hard ones)."""
    return plain.loss(logits_bk, labels_b, soft_bk) + boundary_loss(logits_bk, labels_b)


def _rows(rows_by_class: Sequence[Rows], batch: int, k: int, draw: Draw, generator: Generator) -> Rows:
    return epoch_rows(rows_by_class, batch, k, draw)


def _augment(img_bchw: Tensor, plan: Plan, generator: Generator) -> Tensor:
    return dsa.apply(img_bchw, dsa.draw(len(img_bchw), generator))


def _optimizer(parameters: Iterable[nn.Parameter], plan: Plan) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, plan.learning_rate, momentum=MOMENTUM, weight_decay=plan.weight_decay)


INFODIST = Protocol(_rows, _augment, loss, rise_and_fall, _optimizer, DECAY, steps_per_epoch)
