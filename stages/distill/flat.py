"""All parameters of a network as one vector, and back: what trajectories are made of.

Shapes: p parameters in all.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Size, Tensor

from stages.distill import student


def flatten(parameters: Sequence[Tensor]) -> Tensor:
    """One vector of p numbers, a copy: it shares no memory with the parameters."""
    return torch.cat([p.detach().reshape(-1) for p in parameters])


def unflatten(flat_p: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Views of the vector in the shapes `sizes`, in their order.

    Raises:
        RuntimeError: the vector is longer or shorter than the shapes together (from `torch.split`).
    """
    parts = torch.split(flat_p, [size.numel() for size in sizes])
    return [part.view(size) for part, size in zip(parts, sizes, strict=True)]


def sizes(shape: student.Shape) -> tuple[Size, ...]:
    """The shapes of a student's parameters, in order."""
    return tuple(p.shape for p in student.draw(shape, Generator().manual_seed(0)))
