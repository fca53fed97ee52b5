"""Where tiles come from: Parquet, a Hugging Face imagefolder, or a folder with a table. Opened without reading pixels.

Every source becomes one table with a row per tile, and chunks whose image bytes any process can read by itself.
"""

import difflib
import functools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.contracts import UserError

Format = Literal["auto", "parquet", "imagefolder", "folder"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".jp2")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SHOWN = 3
"""How many offenders an error names."""


class Columns(NamedTuple):
    """How the source calls its columns."""

    image: str
    file: str
    label: str
    group: str | None
    """None: there are no groups; every tile is its own."""
    role: str | None


class Source(NamedTuple):
    """An opened source."""

    table: pd.DataFrame
    """One row per tile: `name` (to find it again), `label`, `group`, `role` (str or None)."""
    paths: tuple[Path, ...]
    """The files that hold the images."""
    places: npt.NDArray[np.int64]
    """Rows × 3: number of the file, of its Parquet row group, and the row therein (0, 0 for an image file)."""
    column: str | None
    """The Parquet column with the images; None where every image is a file."""


class Chunk(NamedTuple):
    """Some images that lie together; small to send to another process."""

    paths: tuple[Path, ...]
    """The image files, or the one Parquet file."""
    column: str | None
    row_group: int
    offsets: tuple[int, ...]


class Found(NamedTuple):
    """An image as it lies in the source."""

    content: bytes | None
    """None if it cannot be read."""
    hint: str | None
    """What a Parquet file calls it, if it says so."""


def open_source(
    path: Path, kind: Format, table: Path | None, columns: Columns, unlisted: Literal["refuse", "leave_out"]
) -> Source:
    """Find the tiles of a source and what is known of each.

    Args:
        path: the Parquet file, or the folder.
        kind: its format; "auto" looks.
        table: the CSV of a "folder".
        columns: names of the columns.
        unlisted: what to do when image files lie there of which the table says nothing.

    Raises:
        UserError: nothing there, a column or a file is missing, files are not in the table or twice.
    """
    for given in (path, table):
        if given is not None and not given.exists():
            raise UserError(f"There is nothing at {given}. Mend the path in the recipe, or give it with --set.")
    kind = _kind(path, table) if kind == "auto" else kind
    if kind == "parquet":
        return _open_parquet(path, columns)
    if not path.is_dir():
        raise UserError(f"{path} is a file; a source of format {kind} is a folder of images.")
    if kind == "folder":
        if table is None:
            raise UserError("A source of format folder needs tiles.table: a CSV with the columns file, label, group.")
        frame = read_csv(table).astype(object)
        file = pick(frame.columns, columns.file, table.name)
        return _open_files(path, frame, frame[file].tolist(), columns, unlisted, table.name)
    return _open_imagefolder(path, columns, unlisted)


def _kind(path: Path, table: Path | None) -> Format:
    """What a source looks like."""
    if path.is_file():
        return "parquet"
    if table is not None:
        return "folder"
    has_parquet = any(p.name not in METADATA for p in path.rglob("*.parquet"))
    return "parquet" if has_parquet and not _images(path) else "imagefolder"


def pick(names: Iterable[object], wanted: str, where: str) -> str:
    """`wanted`, if it is among the column `names`; otherwise an error that suggests the nearest."""
    known = [str(name) for name in names]
    if wanted in known:
        return wanted
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UserError(f"{where} has no column {wanted!r}. {hint}It has: {', '.join(known)}.")


def text(value: Any) -> str | None:
    """A cell as text: a whole number without its point, None for nothing."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def read_csv(path: Path) -> pd.DataFrame:
    """A table of text; commas, semicolons or tabs, with or without a byte order mark."""
    try:
        head = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = next((mark for mark in ",;\t" if mark in head), ",")
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path} cannot be read as a table: {error}. Save it as CSV in UTF-8.") from error


def _known(frame: pd.DataFrame, names: Sequence[str], columns: Columns, where: str) -> pd.DataFrame:
    """The table of a source from its own columns."""
    result = pd.DataFrame({"name": pd.Series(list(names), dtype=object)})
    labels = frame[pick(frame.columns, columns.label, where)]
    result["label"] = pd.Series([text(v) for v in labels], dtype=object)
    if columns.group is None:
        result["group"] = result["name"]
    elif columns.group in frame:
        result["group"] = pd.Series([text(v) for v in frame[columns.group]], dtype=object)
    else:
        try:
            pick(frame.columns, columns.group, where)
        except UserError as error:
            raise UserError(
                f"{error} Groups (patient, slide, original) keep what belongs together in one role. If there are none, "
                "set tiles.group_column to null: every tile is then its own group, and copies may lie in two roles."
            ) from None
    result["role"] = None
    if columns.role is not None and (columns.role in frame or columns.role != "role"):
        result["role"] = pd.Series([text(v) for v in frame[pick(frame.columns, columns.role, where)]], dtype=object)
    return result


def _open_parquet(path: Path, columns: Columns) -> Source:
    """A Parquet file, or all in a folder, with a column of images (bytes, or a struct with `bytes` and `path`)."""
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    tables, places = [], []
    for number, file in enumerate(files):
        frame, row_groups = _parquet_columns(file, columns)
        prefix = "" if path.is_file() else f"{file.relative_to(path).as_posix()} "
        names = [f"{prefix}row {row}" for row in range(len(frame))]
        tables.append(_known(frame, names, columns, file.name))
        offsets = [np.arange(count) for count in row_groups]
        places += [np.stack([np.full(len(o), number), np.full(len(o), g), o], 1) for g, o in enumerate(offsets)]
    if not files or not places:
        raise UserError(f"{path} holds no rows of Parquet.")
    return Source(pd.concat(tables, ignore_index=True), tuple(files), np.concatenate(places), columns.image)


def _parquet_columns(path: Path, columns: Columns) -> tuple[pd.DataFrame, list[int]]:
    """All but the images of a Parquet file, and the rows of each of its row groups."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}") from error
    with file:
        schema = file.schema_arrow
        pick(schema.names, columns.image, path.name)
        pick(schema.names, columns.label, path.name)
        wanted = [n for n in schema.names if n in (columns.label, columns.group, columns.role)]
        frame = pd.DataFrame({n: pd.Series(file.read([n])[n].to_pylist(), dtype=object) for n in wanted})
        names = class_names(schema, columns.label)
        if names is not None:
            named = [None if v is None or v < 0 else names[v] for v in frame[columns.label]]
            frame[columns.label] = pd.Series(named, dtype=object)
        rest = {n: pd.Series(dtype=object) for n in schema.names if n not in frame}
        counts = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        return frame.assign(**rest), counts


def class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names behind a column of class numbers, where Hugging Face `datasets` wrote them into the schema."""
    note = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(note).get("info", {}).get("features", {}) if note else {}
    names = features.get(column, {}).get("names") if isinstance(features.get(column), dict) else None
    return None if names is None else [str(name) for name in names]


def _open_imagefolder(path: Path, columns: Columns, unlisted: Literal["refuse", "leave_out"]) -> Source:
    """A Hugging Face imagefolder: `metadata.csv|jsonl|parquet` beside the images, or the folders' names as classes."""
    found = sorted(p for p in path.rglob("metadata.*") if p.name in METADATA)
    if not found:
        files = [p.relative_to(path).as_posix() for p in _images(path)]
        frame = pd.DataFrame({"file_name": files}, dtype=object)
        return _open_files(path, _by_folder(frame), files, columns._replace(label="label"), unlisted, path.name)
    frames = []
    for metadata in found:
        frame = _read_metadata(metadata, columns.label)
        folder = metadata.parent.relative_to(path)
        frame["file_name"] = [(folder / str(v)).as_posix() for v in frame[pick(frame, "file_name", metadata.name)]]
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True).astype(object)
    if columns.label not in frame and columns.label == "label":
        frame = _by_folder(frame)
    return _open_files(path, frame, frame["file_name"].tolist(), columns, unlisted, found[0].name)


def _by_folder(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the name of each file's folder as its label."""
    return frame.assign(label=[Path(name).parent.name for name in frame["file_name"]])


def _read_metadata(path: Path, label: str) -> pd.DataFrame:
    """A metadata file of an imagefolder; class numbers become names where the schema tells them."""
    if path.suffix == ".csv":
        return read_csv(path)
    try:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            return pd.DataFrame(rows, dtype=object)
        table = pq.read_table(path)
    except (ValueError, OSError) as error:  # ArrowInvalid and JSONDecodeError are ValueErrors
        raise UserError(f"{path} cannot be read: {error}") from error
    frame = pd.DataFrame({name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names})
    names = class_names(table.schema, label)
    if names is not None:
        frame[label] = pd.Series([None if v is None or v < 0 else names[v] for v in frame[label]], dtype=object)
    return frame


def _open_files(
    path: Path,
    frame: pd.DataFrame,
    files: Sequence[str],
    columns: Columns,
    unlisted: Literal["refuse", "leave_out"],
    where: str,
) -> Source:
    """Image files below `path`, each described by a row of `frame`."""
    if not files:
        raise UserError(f"No image was found in {path}. Looked for files named {', '.join(SUFFIXES)}.")
    names = [_inside(path, str(file), where) for file in files]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(f"{where} lists {len(twice)} files more than once: {some(twice)}. Give each file one row.")
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise UserError(f"{where} lists {len(missing)} files that are not in {path}: {some(missing)}.")
    extra = sorted({p.relative_to(path).as_posix() for p in _images(path)} - set(names))
    if extra and unlisted == "refuse":
        raise UserError(
            f"{len(extra)} images in {path} are not in {where}: {some(extra)}. Add them to the table, or set "
            "tiles.unlisted to leave_out."
        )
    places = np.stack([np.arange(len(names)), np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)], 1)
    return Source(_known(frame, names, columns, where), tuple(path / name for name in names), places, None)


def _inside(folder: Path, file: str, where: str) -> str:
    """`file`, relative to `folder`; outside of it a file would be no part of what the result's seal vouches for."""
    name = Path(file.replace("\\", "/"))
    if name.is_absolute() and name.is_relative_to(folder):
        name = name.relative_to(folder)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{where} lists {file}, which is not inside {folder}. Give files relative to that folder.")
    return name.as_posix()


def _images(path: Path) -> list[Path]:
    """The image files below `path`, by their suffix, hidden ones left out."""
    found = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())


def some(names: Sequence[str]) -> str:
    """The first few of `names`, for an error."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def cut(source: Source, rows_m: npt.NDArray[np.int64], size: int) -> list[tuple[npt.NDArray[np.int64], Chunk]]:
    """Cut rows into chunks of at most `size`; a chunk of a Parquet file lies within one row group."""
    if source.column is None:
        runs = [rows_m]
    else:
        ends = np.flatnonzero(np.any(np.diff(source.places[rows_m, :2], axis=0) != 0, axis=1)) + 1
        runs = np.split(rows_m, ends)
    pieces = [run[start : start + size] for run in runs for start in range(0, len(run), size)]
    return [(piece, _chunk(source, piece)) for piece in pieces]


def _chunk(source: Source, rows_m: npt.NDArray[np.int64]) -> Chunk:
    file_m, group_m, offset_m = source.places[rows_m].T
    files = file_m if source.column is None else file_m[:1]
    paths = tuple(source.paths[int(file)] for file in files)
    return Chunk(paths, source.column, int(group_m[0]), tuple(int(offset) for offset in offset_m))


def fetch(chunk: Chunk) -> list[Found]:
    """The images of a chunk as they lie in the source, one for each of its rows; what cannot be read is None."""
    if chunk.column is None:
        return [Found(_file_bytes(path), None) for path in chunk.paths]
    try:
        changed = chunk.paths[0].stat().st_mtime_ns
        images = _row_group(chunk.paths[0], chunk.row_group, chunk.column, changed)
    except (pa.ArrowException, OSError):
        return [Found(None, None)] * len(chunk.offsets)
    cells = images.take(pa.array(chunk.offsets)).to_pylist()
    return [
        Found(cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else Found(cell, None) for cell in cells
    ]


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
