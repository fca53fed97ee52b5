"""Running the tool as a person does, and comparing what it leaves on disk."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent.parent
TINY = HERE / "configs" / "tiny.yaml"


class Told(NamedTuple):
    """A command's end."""

    code: int
    out: str
    err: str


def histodistill(*words: str | Path, root: Path | None = None) -> Told:
    """Run the command line in a process of its own, as a person does."""
    environment = os.environ | ({"HISTODISTILL_ROOT": str(root)} if root else {})
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
    return Told(done.returncode, done.stdout, done.stderr)


def seals_below(root: Path) -> dict[str, bytes]:
    """Every seal in a store, by stage and digest."""
    return {p.parent.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("seal.json"))}


def changed(one: dict[str, bytes], two: dict[str, bytes]) -> Sequence[str]:
    """Names under which two stores differ."""
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
