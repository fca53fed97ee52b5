"""The only door to disk: whole writes, digests, scratch and work folders, tensors and JSON without pickle."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole (scratch name, flush, rename), keys sorted, so equal values give equal bytes."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_bytes())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: readers see the old one or the new one, never half."""
    write_stream(path, io.BytesIO(content))


def write_stream(path: Path, source: IO[bytes]) -> None:
    """Write a file whole from what `source` still holds, a few MiB at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.scratch")
    with scratch.open("wb") as file:
        shutil.copyfileobj(source, file, 2**22)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text whole."""
    write_bytes(path, text.encode())


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", note: str | None = None) -> None:
    """Write tensors as safetensors, whole, with a text `note` in the header if one is given."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, None if note is None else {"note": note}))


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Tensors of a safetensors file, on the CPU."""
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def read_rows(path: Path, name: str, rows: Sequence[int]) -> "list[Tensor]":
    """Some rows of the first axis of one tensor of a file of `write_tensors`; the others are not read."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        whole = file.get_slice(name)
        return [whole[row] for row in rows]


def read_note(path: Path) -> str:
    """The note in the header of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return str(file.metadata()["note"])


def digest_bytes(content: bytes) -> str:
    """SHA-256 of `content`, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """For every file below `folder`, by relative POSIX name: its SHA-256 and its size in bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": digest_file(path), "bytes": path.stat().st_size}
        for path in files
    }


def work_folder(out: Path) -> Path:
    """Where a stage that writes to `out` keeps what outlives a stop (checkpoints); deleted once `out` is sealed."""
    folder = out.parent / (out.name.removesuffix(".scratch") + ".work")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def logs_folder(out: Path) -> Path:
    """Where a stage that writes to `out` keeps logs for people (TensorBoard). Never sealed: they hold the clock."""
    folder = out.parent / (out.name.removesuffix(".scratch") + ".logs")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def fresh_folder(final: Path) -> Iterator[Path]:
    """A scratch folder that becomes `final` when the block ends well, and is left to be cleared otherwise."""
    scratch = final.with_name(final.name + ".scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    yield scratch
    if final.exists():
        shutil.rmtree(final)
    scratch.rename(final)
