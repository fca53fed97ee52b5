"""Both engines give the same results in the same order."""

import os
import time

import pytest

from pipeline import engine


def slow_square(n: int) -> int:
    time.sleep(0.02 if n % 2 else 0)
    return n * n


def fault(n: int) -> int:
    if n == 3:
        raise ValueError(f"item {n} is bad")
    return n


def process(n: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(engine.make(workers).map(slow_square, range(7))) == [n * n for n in range(7)]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_fault_of_a_worker_is_raised_here(workers: int) -> None:
    with pytest.raises(ValueError, match="item 3 is bad"):
        list(engine.make(workers).map(fault, range(5)))


def test_a_pool_works_outside_this_process() -> None:
    assert os.getpid() not in set(engine.make(2).map(process, range(4)))
