"""Sources at an address (`s3://`, `hf://`, `memory://` …): listed, told apart by their servers' word, brought here.

Any driver of fsspec serves; credentials are found as that driver finds them, never in a recipe. An address is brought
into the stage's work folder before it is read, so every process reads local files and a stop loses little.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stages import progress, store
from stages.contracts import UserError
from stages.sources.folders import SUFFIXES

log = logging.getLogger(__name__)
WANTED = (*SUFFIXES, ".parquet", ".csv", ".jsonl")
"""What is brought of a folder; other files are no part of a source."""
MARKS = ("ETag", "etag", "e_tag", "content_hash", "md5Hash", "sha256", "blob_id", "crc32c")
"""What servers call that which changes with a file's content."""
BATCH = 64
"""Files asked for at once."""


class Listing(NamedTuple):
    """The files at an address."""

    driver: Any
    """The fsspec file system."""
    single: bool
    """Whether the address is one file."""
    files: Mapping[str, Mapping[str, Any]]
    """Name below the address (or the file's own) -> what the driver tells of it, `name` and mostly `size` among it."""


def listing(url: str) -> Listing:
    """What lies at an address.

    Raises:
        UserError: no such protocol, its driver is not installed, nothing is there, or it cannot be reached.
    """
    import fsspec

    try:
        driver, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"Reading {url} needs a driver that is not here. {error}.") from error
    except ValueError as error:
        raise UserError(
            f"{url} cannot be read: {error}. Give a path, or an address that fsspec knows: s3://, gs://, hf:// …"
        ) from error
    try:
        single = driver.isfile(root)
        found = {root: driver.info(root)} if single else driver.find(root, detail=True)
    except Exception as error:  # each driver has errors of its own
        raise UserError(f"{url} cannot be reached: {error}. Check the address, the network and your access.") from error
    if single:
        return Listing(driver, True, {PurePosixPath(root).name: found[root]})
    files = {_below(root, name): info for name, info in sorted(found.items()) if name.lower().endswith(WANTED)}
    if not files:
        raise UserError(f"There is nothing at {url}. Looked for files named {', '.join(WANTED)}.")
    return Listing(driver, False, files)


def _below(root: str, name: str) -> str:
    """`name` relative to `root`; never outside of it."""
    relative = PurePosixPath(name.removeprefix(root).lstrip("/"))
    if ".." in relative.parts:
        raise UserError(f"The address {root} lists {name}, which is not below it. It cannot be brought here safely.")
    return relative.as_posix()


def mark(url: str) -> str:
    """What tells the content of an address from any other: names, sizes, and etags or else times of change.

    Raises:
        UserError: as `listing`.
    """
    found = listing(url)
    lines = [[name, info.get("size"), _mark(info)] for name, info in found.files.items()]
    return store.digest_bytes(json.dumps([found.single, lines]).encode())


def _mark(info: Mapping[str, Any]) -> str:
    strong = [str(info[key]) for key in MARKS if info.get(key)]
    return strong[0] if strong else json.dumps({k: str(v) for k, v in info.items() if k != "name"}, sort_keys=True)


def bring(url: str, work: Path) -> Path:
    """Copy what lies at an address into `work`; what is there already, from before a stop, is not asked for again.

    Returns:
        the file, or the folder.

    Raises:
        UserError: as `listing`; there is no room, or a file cannot be had.
    """
    found = listing(url)
    folder = work / "source"
    waiting = [name for name in found.files if not (folder / name).exists()]
    need, free = sum(found.files[name].get("size") or 0 for name in waiting), shutil.disk_usage(work).free
    if need > free:
        raise UserError(
            f"{url} holds {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free at {work}. Make room, or give "
            "--root on a larger disk."
        )
    log.info("bringing %d files (%.1f MiB) from %s", len(waiting), need / 2**20, url)
    batches = [waiting[start : start + BATCH] for start in range(0, len(waiting), BATCH)]
    for names in progress.track(batches, "source", unit="batch"):
        _bring(found, names, folder, url)
    return folder / next(iter(found.files)) if found.single else folder


def _bring(found: Listing, names: list[str], folder: Path, url: str) -> None:
    """Copy some files: to scratch names, then renamed, so that one with its own name is whole."""
    scratch = {name: folder / f"{name}.scratch" for name in names}
    for path in scratch.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        found.driver.get([found.files[name]["name"] for name in names], [str(path) for path in scratch.values()])
    except Exception as error:  # each driver has errors of its own
        raise UserError(f"{url}: a file cannot be had: {error}. Run again to continue.") from error
    for name, path in scratch.items():
        size = found.files[name].get("size")
        if size is not None and path.stat().st_size != size:
            raise UserError(f"{url}: {name} came with {path.stat().st_size} of {size} bytes. Run again to continue.")
        path.rename(folder / name)
