"""What a training is given, and what one protocol does otherwise than another: the words all of them share.

Shapes: n images, b of a batch, k classes, c = 3 channels, h × w pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from stages.classify import augment

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Draw = Callable[[str, int], Generator]
"""From the name of a stream and a number, such as ("step", 7), to its generator: the same one whenever it is asked."""


class Sample(NamedTuple):
    """Images with their class numbers."""

    pixels_nhwc: Pixels
    labels_n: npt.NDArray[np.int64]
    soft_nk: npt.NDArray[np.float64] | None = None
    """Class probabilities to train on in place of the labels, where there are some."""


class Plan(NamedTuple):
    """The fixed settings of one training."""

    steps: int
    batch: int
    learning_rate: float
    """At its peak."""
    weight_decay: float
    evaluations: int
    """How many times val is looked at: at equal distances, the last time after the last step."""
    strength: augment.Strength
    """Of the augmentation of the protocol `plain`."""
    mean: Sequence[float]
    """Of each channel of pixels / 255; the same for training and testing."""
    std: Sequence[float]
    bf16: bool
    """Whether the forward pass is in bfloat16 (weights and optimiser stay float32)."""
    hed: float = 0.0
    """Of the augmentation of stain in the protocol `plain` (`stages.classify.hed`); 0: none."""

    def evaluates(self, step: int) -> bool:
        """Whether val is looked at after this step (counted from 0)."""
        at = self.evaluations * (step + 1) // self.steps
        return at > self.evaluations * step // self.steps


class Protocol(NamedTuple):
    """How one way to train differs from another; all of it pure, so that step k hangs on k alone."""

    rows: Callable[[Sequence[Rows], int, int, Draw, Generator], Rows]
    """From the rows of every class, the batch size, the step and its generator to the rows of its batch."""
    augment: Callable[[Tensor, Plan, Generator], Tensor]
    """A newly augmented batch of normalised images, b × c × h × w."""
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """From logits b × k, labels b, and soft labels b × k where there are some, to the loss."""
    factor: Callable[[int, int], float]
    """On the learning rate, from the step and how many there are."""
    optimizer: Callable[[Iterable[nn.Parameter], Plan], torch.optim.Optimizer]
    """What moves the weights."""
    decay: float | None
    """The longest decay of the moving average of the weights, which is what is then evaluated; None: no average."""
    epoch: Callable[[int, int], int]
    """From the number of images and the batch size to the steps of an epoch; after each the average moves."""
