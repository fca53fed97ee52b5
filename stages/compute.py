"""The device, its precision and its threads; and the one way a long step is asked to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

Precision = Literal["no", "bf16", "fp16"]
_asked = threading.Event()


def stop_asked() -> bool:
    """Whether Ctrl-C or SIGTERM came; a long loop looks at the end of each step, saves, and raises `Interrupted`."""
    return _asked.is_set()


@contextlib.contextmanager
def graceful() -> Iterator[None]:
    """Within: the first Ctrl-C or SIGTERM asks for a stop at the next step; the second stops at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        _asked.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    _asked.clear()
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def accelerator(precision: Precision = "no") -> "Accelerator":
    """Accelerate's view of this process: device, mixed precision, and its place among processes.

    Accelerate keeps one precision per process; stages differ, so each asks anew.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def device() -> "torch.device":
    """The device this process should use: a GPU when there is one, otherwise the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within: torch computes with one thread, here and in no other thread of Python.

    Sums depend on how many threads share them. Work that goes through an engine runs in here, so that its bytes do not
    depend on who does it; the engine's workers keep the machine busy.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fast_bf16() -> bool:
    """Whether this process's device computes in bfloat16 by itself; where it is emulated, float32 is faster."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())
