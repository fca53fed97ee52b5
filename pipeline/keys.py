"""The one secret of a root: the key under which names of patients become ids that mean nothing elsewhere.

`root/.key` holds 32 random bytes in hexadecimal. It is made once, by the first run, and is never to leave the house: a
seal holds its digest alone. Without it nobody can ask any more which results hold a patient.
"""

import os
import secrets
import stat
from pathlib import Path

from filelock import FileLock

from stages import hashing, store
from stages.contracts import UserError

BYTES = 32


def place(root: Path) -> Path:
    """Where the key of a root lies."""
    return root / ".key"


def ensure(root: Path) -> Path:
    """The key's file, made if there is none; two runs that start at once find the same.

    Raises:
        UserError: as `read`.
    """
    path = place(root)
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # the second run waits, then finds it made
            if not path.exists():
                _make(path)
    read(root)
    return path


def _make(path: Path) -> None:
    """Write a new key whole: a scratch file that only its owner may read from the first byte on, then renamed."""
    scratch = path.with_name(f"{path.name}.scratch")
    scratch.unlink(missing_ok=True)  # of a run that was killed here; the caller holds the lock
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)


def read(root: Path) -> bytes | None:
    """The key of a root; None where no run has made one yet.

    Raises:
        UserError: others may read it, or it is no key.
    """
    path = place(root)
    if not path.exists():
        return None
    if open_to_others(root):
        raise UserError(
            f"{path} may be read or written by others (its mode is {stat.S_IMODE(path.stat().st_mode):03o}, 600 is "
            f"wanted): with it and a list of names anybody can tell which patients are in here. Run chmod 600 {path}. "
            "Where a disk knows no such modes, give a --root on one that does."
        )
    try:
        key = hashing.read_key(path)
    except ValueError:
        key = b""
    if len(key) != BYTES:
        raise UserError(
            f"{path} is no key: {2 * BYTES} hexadecimal digits are wanted. Bring it back from a backup. If there is "
            "none, delete it: a new one is made, but earlier results can then not be searched for a patient."
        )
    return key


def open_to_others(root: Path) -> bool:
    """Whether anybody but its owner may read or write the key."""
    path = place(root)
    return path.exists() and bool(path.stat().st_mode & 0o077)


def digest(root: Path) -> str:
    """What a seal holds of the key; a word where there is none yet, so that asking for a status makes none.

    Raises:
        UserError: as `read`.
    """
    key = read(root)
    return "none yet" if key is None else store.digest_bytes(key)
