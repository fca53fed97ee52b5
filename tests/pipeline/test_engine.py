"""Every engine gives the same results in the same order."""

import os

import psutil
import pytest
from chunk_work import fault, process, slow_square

from pipeline import engine
from stages.contracts import Engine

EVERY = [engine.Serial(), engine.Threads(2), engine.Processes(2)]


@pytest.mark.parametrize("every", EVERY, ids=["serial", "threads", "processes"])
def test_results_come_in_the_order_of_the_items(every: Engine) -> None:
    assert list(every.map(slow_square, range(7))) == [n * n for n in range(7)]


@pytest.mark.parametrize("every", EVERY, ids=["serial", "threads", "processes"])
def test_the_first_fault_of_a_worker_is_raised_here(every: Engine) -> None:
    with pytest.raises(ValueError, match="item 3 is bad"):
        list(every.map(fault, range(5)))


def test_a_pool_works_outside_this_process_and_threads_in_it() -> None:
    assert set(engine.Threads(2).map(process, range(4))) == {os.getpid()}
    assert os.getpid() not in set(engine.Processes(2).map(process, range(4)))


def test_processes_are_kept_from_one_map_to_the_next() -> None:
    pool = engine.Processes(1)
    assert set(pool.map(process, range(2))) == set(pool.map(process, range(2)))


def test_one_worker_is_this_thread() -> None:
    assert isinstance(engine.make("processes", 1), engine.Serial)
    assert isinstance(engine.make("threads", 3), engine.Threads)
    assert isinstance(engine.make("processes", 3), engine.Processes)


def test_processes_end_with_the_block_they_were_made_for() -> None:
    with engine.at_work("processes", 2) as pool:
        workers = set(pool.map(process, range(4)))
    assert workers and not any(psutil.pid_exists(worker) for worker in workers)
