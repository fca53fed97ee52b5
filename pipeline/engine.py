"""Where independent work runs: in this process, or in a pool of processes; results come in the order of the items."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from stages.contracts import Engine

Item = TypeVar("Item")
Result = TypeVar("Result")


class Serial:
    """One chunk after the other, in this process."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `function` to every item, lazily."""
        return map(function, items)


class Pool:
    """A pool of processes, each with one thread; at most two chunks per worker are under way at a time."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `function` to every item; the first error of any worker is raised here."""
        context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads and locks
        with ProcessPoolExecutor(self.workers, context, _one_thread) as pool:
            under_way: deque[Future[Result]] = deque()
            try:
                for item in items:
                    under_way.append(pool.submit(function, item))
                    if len(under_way) >= 2 * self.workers:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()


def _one_thread() -> None:
    """Workers share the machine: one thread each; Ctrl-C is the parent's to answer."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)


def make(workers: int) -> Engine:
    """The engine for `workers` processes; 1 means this process."""
    return Serial() if workers == 1 else Pool(workers)
