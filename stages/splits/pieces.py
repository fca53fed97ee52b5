"""Work cut into pieces that an engine can share."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Share = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Applies a function to every item, in order, wherever the work may run; `map` will do."""


class Pieces:
    """So many pieces of work, each made when it is its turn; the number lets progress be told."""

    def __init__(self, count: int, make: Callable[[int], Any]) -> None:
        self.count = count
        self.make = make

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return map(self.make, range(self.count))
