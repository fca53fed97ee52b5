"""From exceptions to one clear paragraph and an exit code."""

import errno
import sys
import textwrap
import traceback
from collections.abc import Callable

from stages.contracts import Interrupted, NoGo, UserError


def guarded(call: Callable[[], object], debug: bool) -> int:
    """Run `call` and return an exit code: 0 done, 1 our fault, 2 something to mend, 3 NO-GO, 130 stopped.

    Args:
        call: what to do; it may raise SystemExit itself.
        debug: print the traceback before the paragraph.
    """
    try:
        call()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except BaseException as fault:  # every way a run can end passes here, so that each is said in words
        if debug:
            traceback.print_exc()
        code, words = verdict(fault)
        sys.stderr.write("\n".join(paragraph(line) for line in words.split("\n")) + "\n")
        return code
    return 0


def verdict(fault: BaseException) -> tuple[int, str]:
    """Exit code and words for an exception."""
    if isinstance(fault, NoGo):
        return 3, f"histodistill: NO-GO. {fault}"
    if isinstance(fault, UserError):
        return 2, f"histodistill: {fault}"
    if isinstance(fault, Interrupted):
        return 130, f"histodistill: {fault}."
    if isinstance(fault, KeyboardInterrupt):
        return 130, "histodistill: stopped. Run the same command again to continue."
    if isinstance(fault, OSError) and fault.errno == errno.ENOSPC:
        return (
            2,
            "histodistill: the disk is full. Free some space (histodistill clean shows what no run uses), then "
            "run the same command again; it continues where it was.",
        )
    if isinstance(fault, OSError) and fault.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return 2, f"histodistill: may not write or read {fault.filename}. Give another folder with --root."
    kind = type(fault).__name__
    return 1, (
        f"histodistill: {kind}: {fault}\nIf the message names nothing you can mend, this is our fault, not yours. "
        "Nothing finished is lost; the same command continues. --debug shows where it happened."
    )


def paragraph(line: str) -> str:
    """A line folded at 100 columns, indented lines kept as they are."""
    return line if line.startswith(" ") else textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False)
