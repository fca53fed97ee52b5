"""What in the store no run uses any more, and what stopped runs left behind."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages import store


def unused(root: Path) -> list[tuple[Path, int]]:
    """Paths in the store that no run's record names, with their size in bytes; the newest checkpoints count too."""
    used = {(node.partition("/")[0], entry["folder"]) for node, entry in _entries(root)}
    found = []
    for path in sorted((root / "store").glob("*/*")):
        kept = (path.parent.name, path.name.split(".")[0]) in used
        leftover = path.name.endswith((".work", ".scratch"))
        if not kept or leftover:
            found.append((path, size(path)))
    return found


def _entries(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for record in sorted((root / "runs").glob("*/run.json")):
        yield from store.read_json(record)["nodes"].items()


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def delete(paths: Iterable[Path]) -> None:
    """Delete files and folders of the store."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
