"""The device, its precision and its threads; and the one way a long step is asked to stop."""

import contextlib
import functools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from stages.contracts import Interrupted

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

Precision = Literal["no", "bf16", "fp16"]
Given = ParamSpec("Given")
Loaded = TypeVar("Loaded")
_asked = threading.Event()
_deaf: ContextVar[bool] = ContextVar("deaf", default=False)
_loading = threading.RLock()
_counting = threading.Lock()
_inside = 0  # threads within `one_thread`
_usual_threads = 0  # what torch had before the first of them
_stop_of_all: Any = None  # in a process of `launch`: the event its parent sets


def stop_asked() -> bool:
    """Whether Ctrl-C or SIGTERM came; a long loop looks at the end of each step, saves, and raises `Interrupted`."""
    return _asked.is_set() and not _deaf.get()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within, in this thread: no stop is heard. For seconds of work that is part of a step of something longer."""
    before = _deaf.set(True)
    try:
        yield
    finally:
        _deaf.reset(before)


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


def launch(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `work(*arguments)` in `processes` processes that Accelerate sees as one training, and wait for them.

    `work` and its arguments are pickled. When a stop is asked for here, the processes learn of it through
    `agree_to_stop`, all at the same step, so none waits for another that is gone.

    Raises:
        Interrupted: a stop was asked for.
        torch.multiprocessing.ProcessRaisedException: one of them failed; its traceback is inside.
    """
    import torch

    mp: Any = torch.multiprocessing  # it does not say which of its names are public

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stop = mp.get_context("spawn").Event()
    members = mp.start_processes(
        _member, (processes, port, stop, work, arguments), nprocs=processes, join=False, start_method="spawn"
    )
    while not members.join(timeout=0.5):
        if stop_asked():
            stop.set()
    if stop_asked():
        raise Interrupted("training in several processes stopped; run the same command again to continue")


def _member(rank: int, processes: int, port: int, stop: Any, work: Callable[..., None], arguments: Any) -> None:
    """One process of `launch`: signals are the parent's to answer, unless the parent is gone."""
    global _stop_of_all
    _stop_of_all = stop
    parent = os.getppid()

    def heed(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, heed)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    if device().type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    with contextlib.suppress(Interrupted):
        work(*arguments)


def agree_to_stop(accelerator: "Accelerator") -> None:
    """In each process of `launch`, after each step: if any was asked to stop, all are."""
    if _stop_of_all is None:
        return
    import torch

    asked = torch.tensor([float(_stop_of_all.is_set())], device=accelerator.device)
    if float(accelerator.reduce(asked, "sum")) > 0:
        _asked.set()


def accelerator(precision: Precision = "no") -> "Accelerator":
    """Accelerate's view of this process: device, mixed precision, and its place among processes.

    Accelerate keeps one precision per process; stages differ, so each asks anew.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def loaded_once(load: Callable[Given, Loaded]) -> Callable[Given, Loaded]:
    """`load`, keeping its latest result, and let in by one thread at a time.

    Libraries patch `torch.nn` for the whole process while they read a model; two at once leave the patch behind.
    """
    kept = functools.lru_cache(maxsize=1)(load)

    @functools.wraps(load)
    def alone(*args: Given.args, **kwargs: Given.kwargs) -> Loaded:
        with _loading:
            return kept(*args, **kwargs)  # type: ignore[arg-type]  # all that is given here can be hashed

    return alone


def device() -> "torch.device":
    """The device this process should use: a GPU when there is one, otherwise the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within: torch computes with one thread.

    Sums depend on how many threads share them. Work that goes through an engine runs in here, so that its bytes do not
    depend on who does it; the engine's workers keep the machine busy. torch's number holds for the whole process, so
    the first to come remembers it and the last to leave puts it back; no one in between touches it.
    """
    import torch

    global _inside, _usual_threads
    with _counting:
        if _inside == 0:
            _usual_threads = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _counting:
            _inside -= 1
            if _inside == 0:
                torch.set_num_threads(_usual_threads)


def fast_bf16() -> bool:
    """Whether this process's device computes in bfloat16 by itself; where it is emulated, float32 is faster."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())
