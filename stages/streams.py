"""Random streams from names, never from history: the same names give the same numbers anywhere.

`torch` is imported where a torch stream is made, so that asking for a seed costs nothing.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under `seed` (SHA-256, so no two names collide in practice)."""
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator of its own for `names`."""
    return np.random.default_rng(derive(seed, *names))


def torch_stream(seed: int, *names: str | int) -> "torch.Generator":
    """A torch CPU generator of its own for `names`; noise is drawn on the CPU so that every device sees the same."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *names))
