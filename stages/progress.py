"""Progress with an estimate of the time left: a bar on a terminal, a line now and then in a log."""

import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 20.0
# Made now: `datasets` makes one for a moment and takes it away again, from under another thread's bar.
tqdm.get_lock()  # type: ignore[no-untyped-call]


class _Lines:
    """Standard error for tqdm where nobody watches: every state a line of its own, none of them blank."""

    def write(self, text: str) -> None:
        """Write one state."""
        if line := text.replace("\x1b[A", "").strip("\r\n "):
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        """Pass the states on."""
        sys.stderr.flush()


def track(
    items: Iterable[Item], what: str, total: int | None = None, done: int = 0, unit: str = "it"
) -> Iterator[Item]:
    """Yield `items` while showing `what`, how far it is (starting from `done`), its speed and the time left."""
    live = sys.stderr.isatty()
    how: dict[str, Any] = (
        {"mininterval": 0.2, "leave": False, "dynamic_ncols": True}
        if live
        else {"file": _Lines(), "mininterval": SECONDS_BETWEEN_LINES, "delay": SECONDS_BETWEEN_LINES, "ncols": 88}
        # the clock is asked at every item, so that tqdm's monitor need not tell a state a second time
        | {"miniters": 1, "maxinterval": math.inf}
    )
    yield from tqdm(items, desc=what, total=total, initial=done, unit=unit, **how)
