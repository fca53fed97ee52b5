"""What a run says: short lines on the screen, the same with the time in `runs/<recipe>/log.txt`."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path


class _Short(logging.Formatter):
    """Lines for the screen: a traceback goes to the file alone."""

    def format(self, record: logging.LogRecord) -> str:
        """The message."""
        return record.getMessage()


@contextlib.contextmanager
def to(folder: Path) -> Iterator[None]:
    """Within: the program's log goes to the screen and to `folder`/log.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = [logging.getLogger(name) for name in ("pipeline", "stages")]
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(_Short())
    file = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for log in ours:
        log.setLevel(logging.INFO)
        log.propagate = False
        for handler in (screen, file):
            log.addHandler(handler)
    try:
        yield
    finally:
        for handler in (screen, file):
            for log in ours:
                log.removeHandler(handler)
            handler.close()
