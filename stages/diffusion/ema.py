"""An exponential moving average of a network's weights, as a module, so that it is saved like any other."""

import copy
from typing import Any

import torch
from torch import nn


def decay(updates: int, longest: float) -> float:
    """Decay of update number `updates` (from 0): `min(longest, (1 + n) / (10 + n))`.

    While the first argument of the minimum is the larger, about the last tenth of all steps so far is averaged, so
    a short run is not held back by its first weights (a flat 0.995 keeps 86 % of them after 30 updates).
    """
    return min(longest, (1 + updates) / (10 + updates))


class Ema(nn.Module):
    """Averaged copy of a network.

    `updates` counts the calls of `update` and lies in the state dict, so a resumed average goes on where it was.
    """

    updates: torch.Tensor

    def __init__(self, network: nn.Module, longest: float) -> None:
        super().__init__()
        self.network: Any = copy.deepcopy(network).requires_grad_(False).eval()
        self.longest = longest
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move every weight by `1 - decay` towards that of `network`; buffers are copied."""
        part = 1.0 - decay(int(self.updates), self.longest)
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), part)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
        self.updates += 1
