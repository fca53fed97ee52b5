"""A learned step size that cannot turn negative.

Trajectory matching learns the student's rate η along with the images. Moved directly it turns negative or blows up, the
most reported faults of the public code; here log η moves, so η = exp(log η) stays positive: d/d(log η) = η · d/dη.
"""

from torch import Tensor


def rate(log_rate: Tensor) -> Tensor:
    """η = exp(log η) > 0, of `rate`'s shape."""
    return log_rate.exp()


def in_log(d_rate: Tensor, log_rate: Tensor) -> Tensor:
    """The derivative by log η, from that by η: η · dL/dη."""
    return log_rate.exp() * d_rate
