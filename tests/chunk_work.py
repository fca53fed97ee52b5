"""Work for the tests of engines: in a module of its own, which any process can import by its name."""

import os
import time


def slow_square(n: int) -> int:
    time.sleep(0.02 if n % 2 else 0)
    return n * n


def fault(n: int) -> int:
    if n == 3:
        raise ValueError(f"item {n} is bad")
    return n


def process(n: int) -> int:
    return os.getpid()
