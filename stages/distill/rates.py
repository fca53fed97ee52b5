"""A learned step size that cannot turn negative, and the guard against numbers that are none.

Trajectory matching learns the student's rate η along with the images. Moved directly it turns negative or blows up, the
most reported faults of the public code; here log η moves, so η = exp(log η) stays positive: d/d(log η) = η · d/dη.
"""

import math

import torch
from torch import Tensor


def rate(log_rate: Tensor) -> Tensor:
    """η = exp(log η) > 0, of `rate`'s shape."""
    return log_rate.exp()


def in_log(d_rate: Tensor, log_rate: Tensor) -> Tensor:
    """The derivative by log η, from that by η: η · dL/dη."""
    return log_rate.exp() * d_rate


def step_in_log(step: float, start_rate: float) -> float:
    """The step size for log η that moves η near `start_rate` as `step` for η itself would: step / η².

    So that settings of the literature keep their meaning: −s η dL/dη in the log is −s η² dL/dη in η.

    Raises:
        ValueError: either is not positive and finite.
    """
    if not (0 < step < math.inf and 0 < start_rate < math.inf):
        raise ValueError(f"step sizes must be positive and finite, not {step} for a rate of {start_rate}")
    return step / start_rate**2


def is_finite(*values: Tensor) -> bool:
    """Whether no number in any of the tensors is infinite or NaN; one transfer from the device."""
    return bool(torch.stack([value.isfinite().all() for value in values]).all())
