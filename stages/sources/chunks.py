"""Chunks of a source: small to send to another process, which reads the images by itself."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.sources.table import Kind, Source

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")
"""Formats that hold pictures and run nothing (Pillow would hand PostScript to another program)."""


class Chunk(NamedTuple):
    """Some images that lie together."""

    kind: Kind
    paths: tuple[Path, ...]
    """The image files, or the one file that holds them all."""
    column: str
    row_group: int
    offsets: tuple[int, ...]


class Found(NamedTuple):
    """An image as it lies in the source."""

    content: bytes | npt.NDArray[np.uint8] | None
    """A file's bytes, or pixels (h × w, or h × w × 3); None if it cannot be read."""
    hint: str | None = None
    """What a Parquet file calls it, if it says so."""


def cut(source: Source, rows_m: npt.NDArray[np.int64], size: int) -> list[tuple[npt.NDArray[np.int64], Chunk]]:
    """Cut rows into chunks of at most `size`; a chunk lies within one row group of a Parquet file, or one array."""
    if source.kind == "files":
        runs = [rows_m]
    else:
        ends = np.flatnonzero(np.any(np.diff(source.places[rows_m, :2], axis=0) != 0, axis=1)) + 1
        runs = np.split(rows_m, ends)
    pieces = [run[start : start + size] for run in runs for start in range(0, len(run), size)]
    return [(piece, _chunk(source, piece)) for piece in pieces]


def _chunk(source: Source, rows_m: npt.NDArray[np.int64]) -> Chunk:
    file_m, group_m, offset_m = source.places[rows_m].T
    files = file_m if source.kind == "files" else file_m[:1]
    paths = tuple(source.paths[int(file)] for file in files)
    return Chunk(source.kind, paths, source.column, int(group_m[0]), tuple(int(offset) for offset in offset_m))


def fetch(chunk: Chunk) -> list[Found]:
    """The images of a chunk as they lie in the source, one for each of its rows; what cannot be read is None."""
    if chunk.kind == "files":
        return [Found(_file_bytes(path)) for path in chunk.paths]
    if chunk.kind == "array":
        array = np.load(chunk.paths[0], mmap_mode="r", allow_pickle=False)
        return [Found(np.array(array[offset])) for offset in chunk.offsets]
    try:
        changed = chunk.paths[0].stat().st_mtime_ns
        images = _row_group(chunk.paths[0], chunk.row_group, chunk.column, changed)
    except (pa.ArrowException, OSError):
        return [Found(None)] * len(chunk.offsets)
    cells = images.take(pa.array(chunk.offsets)).to_pylist()
    return [Found(cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else Found(cell) for cell in cells]


def _file_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


@functools.lru_cache(maxsize=1)
def _row_group(path: Path, row_group: int, column: str, changed: int) -> pa.ChunkedArray:
    """The images of one row group; kept, as the next chunk of this process is mostly cut from the same."""
    with pq.ParquetFile(path) as file:
        return file.read_row_group(row_group, columns=[column])[column]
