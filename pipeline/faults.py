"""From exceptions to one clear paragraph and an exit code."""

import errno
import sys
import textwrap
import traceback
from collections.abc import Callable

from stages.contracts import Interrupted, NoGo, UserError

DONE, OURS, MEND, NO_GO, STOPPED = 0, 1, 2, 3, 130
"""Exit codes."""


class Broken(Exception):
    """Some of the work broke by our fault and was set aside, and the rest was done. Exit code 1."""


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
    return DONE


def verdict(fault: BaseException) -> tuple[int, str]:
    """Exit code and words for an exception."""
    if isinstance(fault, NoGo):
        return NO_GO, f"histodistill: NO-GO. {fault}"
    if isinstance(fault, UserError):
        return MEND, f"histodistill: {fault}"
    if isinstance(fault, Interrupted):
        return STOPPED, f"histodistill: {fault}."
    if isinstance(fault, KeyboardInterrupt):
        return STOPPED, "histodistill: stopped. Run the same command again to continue."
    if isinstance(fault, OSError) and fault.errno == errno.ENOSPC:
        return (
            MEND,
            "histodistill: the disk is full. Free some space (histodistill clean shows what no run uses), then "
            "run the same command again; it continues where it was.",
        )
    if isinstance(fault, OSError) and fault.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return MEND, f"histodistill: may not write or read {fault.filename}. Give another folder with --root."
    if isinstance(fault, Broken):
        return OURS, f"histodistill: {fault}"
    kind = type(fault).__name__
    return OURS, (
        f"histodistill: {kind}: {fault}\nIf the message names nothing you can mend, this is our fault, not yours. "
        "Nothing finished is lost; the same command continues. --debug shows where it happened."
    )


def paragraph(line: str) -> str:
    """A line folded at 100 columns, indented lines kept as they are."""
    return line if line.startswith(" ") else textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False)
