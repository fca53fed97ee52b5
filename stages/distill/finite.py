"""The guard against numbers that are none."""

import torch
from torch import Tensor


def all_finite(*values: Tensor) -> bool:
    """Whether no number in any of the tensors is infinite or NaN; one transfer from the device."""
    return bool(torch.stack([value.isfinite().all() for value in values]).all())
