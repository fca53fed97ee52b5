"""Whether `torch.compile` works on this machine."""

import functools
import logging

from stages import compute


@functools.cache
def compiles() -> bool:
    """Whether `torch.compile` works in this process: on a CPU it needs a C++ compiler. Seconds, once a process."""
    import torch

    # that there is no CUDA runtime is no news on a CPU
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

    def more(x_n: torch.Tensor) -> torch.Tensor:
        return x_n + 1

    try:
        return bool(torch.compile(more)(torch.ones(2, device=compute.device()))[0] == 2)
    except Exception:  # whatever is missing, from the compiler to a header, what is compiled runs uncompiled too
        return False
