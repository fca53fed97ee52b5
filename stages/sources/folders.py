"""Tiles as image files: a folder with a table, a Hugging Face imagefolder, or folders named after the classes."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages.contracts import UserError
from stages.sources.parquet import class_names, named
from stages.sources.table import Columns, Source, known, pick, read_csv, roles_told, some

log = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".jp2")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
Unlisted = Literal["refuse", "leave_out"]


def open_folder(path: Path, table: Path | None, columns: Columns, unlisted: Unlisted) -> Source:
    """A folder of images with a CSV that has a row for each.

    Raises:
        UserError: no table, or the two do not agree.
    """
    if table is None:
        raise UserError("A source of format folder needs tiles.table: a CSV with the columns file, label, group.")
    frame = read_csv(table).astype(object)
    file = pick(frame.columns, columns.file, table.name)
    return _open_files(path, frame, frame[file].tolist(), columns, unlisted, table.name)


def open_imagefolder(path: Path, columns: Columns, unlisted: Unlisted) -> Source:
    """A Hugging Face imagefolder: `metadata.csv|jsonl|parquet` beside the images, or the folders' names as classes.

    Raises:
        UserError: no image, or the metadata cannot be read or does not agree with the files.
    """
    found = sorted(p for p in path.rglob("metadata.*") if p.name in METADATA)
    if not found:
        return _open_classes(path, columns, unlisted)
    frames = []
    for metadata in found:
        frame = _read_metadata(metadata, columns.label)
        folder = metadata.parent.relative_to(path)
        frame["file_name"] = [(folder / str(v)).as_posix() for v in frame[pick(frame, "file_name", metadata.name)]]
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True).astype(object)
    by_folder = columns.label not in frame and columns.label == "label"
    if by_folder:
        frame = _by_folder(frame)
    frame = _with_roles(frame, columns, 2 if by_folder else 1)
    return _open_files(path, frame, frame["file_name"].tolist(), columns, unlisted, found[0].name)


def _open_classes(path: Path, columns: Columns, unlisted: Unlisted) -> Source:
    """Images and nothing else: CLASS/x.png, or train/CLASS/x.png and so on. There are no groups."""
    files = [p.relative_to(path).as_posix() for p in image_files(path)]
    frame = _by_folder(pd.DataFrame({"file_name": files}, dtype=object))
    if files and not any(frame["label"]):
        raise UserError(
            f"The {len(files)} images lie in {path} itself, so no class is told. Put them into a folder for each "
            "class, or give a table (tiles.table)."
        )
    others = sum(p.is_file() for p in path.rglob("*")) - len(files)
    if others:
        log.info("%d files of %s are no pictures by their names, and are left out", others, path.name)
    alone = columns._replace(label="label", group=None)
    return _open_files(path, _with_roles(frame, columns, 2), files, alone, unlisted, path.name)


def _with_roles(frame: pd.DataFrame, columns: Columns, below: int) -> pd.DataFrame:
    """`frame` with roles by the names of folders, save the last `below` parts of a path (the class, the file)."""
    if columns.role != "role" or "role" in frame:
        return frame
    roles = roles_told([Path(name).parts[:-below] for name in frame["file_name"]])
    if roles is None:
        return frame
    log.info("roles are told by the folders' names: %s", ", ".join(sorted(set(roles))))
    return frame.assign(role=roles)


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
    if label in frame:
        frame[label] = named(frame[label], class_names(table.schema, label))
    return frame


def _open_files(
    path: Path, frame: pd.DataFrame, files: Sequence[str], columns: Columns, unlisted: Unlisted, where: str
) -> Source:
    """Image files below `path`, each described by a row of `frame`."""
    if not files:
        raise UserError(f"No image was found in {path}. Looked for files named {', '.join(SUFFIXES)}.")
    names = [_inside(path, str(file), where) for file in files]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(f"{where} lists {len(twice)} files more than once: {some(twice)}. Give each file one row.")
    missing = [name for name in names if not _is_file(path / name)]
    if missing:
        raise UserError(f"{where} lists {len(missing)} files that are not in {path}: {some(missing)}.")
    extra = sorted({p.relative_to(path).as_posix() for p in image_files(path)} - set(names))
    if extra and unlisted == "refuse":
        raise UserError(
            f"{len(extra)} images in {path} are not in {where}: {some(extra)}. Add them to the table, or set "
            "tiles.unlisted to leave_out."
        )
    places = np.stack([np.arange(len(names)), np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)], 1)
    paths = tuple(path / name for name in names)
    return Source(known(frame, names, columns, where), columns.group is not None, "files", paths, places)


def _inside(folder: Path, file: str, where: str) -> str:
    """`file`, relative to `folder`; outside of it a file would be no part of what the result's seal vouches for."""
    name = Path(file.replace("\\", "/"))
    if name.is_absolute() and name.is_relative_to(folder):
        name = name.relative_to(folder)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{where} lists {file}, which is not inside {folder}. Give files relative to that folder.")
    return name.as_posix()


def image_files(path: Path) -> list[Path]:
    """The image files below `path`, by their suffix, hidden ones left out."""
    found = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in found if _is_file(p))


def _is_file(path: Path) -> bool:
    """A file, or a link to nothing, which is to be set aside and not overlooked."""
    return path.is_file() or (path.is_symlink() and not path.exists())
