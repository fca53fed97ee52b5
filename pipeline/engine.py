"""Where independent work runs: threads of this process, or a pool of processes; results come in the order of the items.

A stage's chunk computes with one torch thread whoever runs it, so that every engine and any number of workers give the
same bytes. Threads are the default: torch and image codecs release Python's lock, nothing is imported twice, and a
stop reaches every chunk. Processes are for work that holds the lock.
"""

import contextlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Literal, TypeVar

from stages.contracts import Engine

Item = TypeVar("Item")
Result = TypeVar("Result")
Kind = Literal["threads", "processes"]


class Serial:
    """One chunk after the other, in this thread."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `function` to every item, lazily."""
        return map(function, items)


class Threads:
    """Threads of this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `function` to every item; the first error is raised here, after the chunks under way have ended."""
        with ThreadPoolExecutor(self.workers) as pool:
            yield from _in_order(pool, function, items, self.workers)


class Processes:
    """Processes with one torch thread each, started when first needed and kept until this engine is gone."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `function` to every item; the first error of any worker is raised here."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads and locks
            self._pool = ProcessPoolExecutor(self.workers, context, _one_thread)
        yield from _in_order(self._pool, function, items, self.workers)

    def close(self) -> None:
        """End the processes; left to the end of Python, they may end with a complaint."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Results in the order of the items, with at most two chunks per worker under way or waiting to be taken."""
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= 2 * workers:
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


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make(kind: Kind, workers: int) -> Engine:
    """The engine of a kind; one worker means this thread."""
    if workers == 1:
        return Serial()
    return Threads(workers) if kind == "threads" else Processes(workers)


@contextlib.contextmanager
def at_work(kind: Kind, workers: int) -> Iterator[Engine]:
    """The engine of a kind, ended with the block."""
    engine = make(kind, workers)
    try:
        yield engine
    finally:
        if isinstance(engine, Processes):
            engine.close()
