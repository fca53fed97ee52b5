"""Progress with an estimate of the time left: a bar on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def track(
    items: Iterable[Item], what: str, total: int | None = None, done: int = 0, unit: str = "it"
) -> Iterator[Item]:
    """Yield `items` while showing `what`, how far it is (starting from `done`), its speed and the time left."""
    live = sys.stderr.isatty()
    yield from tqdm(
        items,
        desc=what,
        total=total,
        initial=done,
        unit=unit,
        file=sys.stderr,
        mininterval=0.2 if live else 20.0,
        leave=live,
        dynamic_ncols=live,
    )
