"""Files of MedMNIST that are not there: where they come from, and bringing the official ones.

Yang et al., *MedMNIST v2*, Scientific Data 10 (2023), 41; the files lie at Zenodo, record 10519652.
"""

import hashlib
import http.client
import logging
import shutil
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock

from stages import progress
from stages.contracts import UserError
from stages.sources import medmnist

log = logging.getLogger(__name__)
ADDRESS = "https://zenodo.org/records/10519652"
BLOCK = 2**20
PATIENCE_S = 60.0
"""How long a silent server is waited for, in seconds."""
UNREACHED = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)
"""What the network may raise. Not every OSError: a full disk is another matter."""


def advice(flag: str, folder: Path) -> str:
    """What to put where, for a file of a set that is missing."""
    return (
        f"There is no {flag}.npz in {folder}. Get {flag}.npz from {ADDRESS} and put it there under that name, or let "
        "--download bring it."
    )


def bring(flag: str, folder: Path) -> Path:
    """The official 28-px file of a set, brought into `folder` and checked by its md5.

    Raises:
        UserError: as `download`; or there is no such set.
    """
    try:
        info = medmnist.catalogue()[medmnist.known_set(flag)]
    except ValueError as error:
        raise UserError(f"{error}.") from error
    return download(info["url"], info["MD5"], folder / f"{flag}.npz")


def download(url: str, md5: str, path: Path) -> Path:
    """Bring the file at `url` to `path`: under a scratch name, renamed once it is whole and what it should be.

    One of several at the same file brings it, in this process or another; the others wait, and find it there.

    Raises:
        UserError: it cannot be reached, is cut short, there is no room for it, or its md5 is another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            _bring(url, md5, path)
    return path


def _bring(url: str, md5: str, path: Path) -> None:
    log.info("bringing %s", url)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.scratch")
    try:
        _copy(url, scratch, path)
        with scratch.open("rb") as file:  # what lies on the disk, not what came
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            raise UserError(
                f"{url} came with the md5 {found}, not the {md5} that MedMNIST published, and was not kept. Run again; "
                f"if it comes so again, get {path.name} from {ADDRESS} yourself."
            )
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _copy(url: str, scratch: Path, path: Path) -> None:
    """Copy all that comes from `url`, which is to become `path`."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer, scratch.open("xb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            _check_room(size, path)
            for block in progress.track(_blocks(answer), path.name, -(-size // BLOCK) or None, unit="MiB"):
                file.write(block)
            came = file.tell()
    except UNREACHED as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        said = str(error) if isinstance(error, urllib.error.URLError) else repr(error)
        raise UserError(
            f"{url} cannot be had: {said}. Check the network and run again, or put "
            f"{path.name} from {ADDRESS} into {path.parent}."
        ) from error
    if size and came != size:
        raise UserError(f"{path.name} came with {came} of {size} bytes. Run again.")


def _check_room(size: int, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise UserError(f"{path.name} takes {size / 2**20:.0f} MiB, and {free / 2**20:.0f} are free at {path.parent}.")


def _blocks(answer: IO[bytes]) -> Iterator[bytes]:
    while block := answer.read(BLOCK):
        yield block
