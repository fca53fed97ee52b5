"""Tiles in Parquet: a column of images (bytes, or a struct with `bytes` and `path`), as Hugging Face writes them."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.contracts import UserError
from stages.sources.table import Columns, Source, known, pick, roles_told

log = logging.getLogger(__name__)


def open_parquet(path: Path, columns: Columns) -> Source:
    """A Parquet file, or all in a folder. Pixels are not read.

    Raises:
        UserError: no Parquet, no rows, or a column is missing.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    tables, places = [], []
    for number, file in enumerate(files):
        frame, row_groups = _columns(file, columns)
        prefix = "" if path.is_file() else f"{file.relative_to(path).as_posix()} "
        names = [f"{prefix}row {row}" for row in range(len(frame))]
        tables.append(known(frame, names, columns, file.name))
        offsets = [np.arange(count) for count in row_groups]
        places += [np.stack([np.full(len(o), number), np.full(len(o), g), o], 1) for g, o in enumerate(offsets)]
    if not files or not places:
        raise UserError(f"{path} holds no rows of Parquet.")
    table = pd.concat(tables, ignore_index=True)
    if columns.role == "role" and table["role"].isna().all() and path.is_dir():
        words = [re.split(r"[^a-zA-Z]+", file.relative_to(path).as_posix()) for file in files]
        if told := roles_told(words):
            log.info("roles are told by the files' names: %s", ", ".join(sorted(set(told))))
            table["role"] = pd.Series(np.repeat(np.asarray(told, object), [len(t) for t in tables]), dtype=object)
    return Source(table, columns.group is not None, "parquet", tuple(files), np.concatenate(places), columns.image)


def _columns(path: Path, columns: Columns) -> tuple[pd.DataFrame, list[int]]:
    """All but the images of a Parquet file, and the rows of each of its row groups."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}") from error
    with file:
        schema = file.schema_arrow
        pick(schema.names, columns.image, path.name)
        pick(schema.names, columns.label, path.name)
        wanted = [n for n in schema.names if n in (columns.label, columns.group, columns.role, columns.site)]
        frame = pd.DataFrame({n: pd.Series(file.read([n])[n].to_pylist(), dtype=object) for n in wanted})
        frame[columns.label] = named(frame[columns.label], class_names(schema, columns.label))
        rest = {n: pd.Series(dtype=object) for n in schema.names if n not in frame}
        counts = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        return frame.assign(**rest), counts


def class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names behind a column of class numbers, where Hugging Face `datasets` wrote them into the schema."""
    note = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(note).get("info", {}).get("features", {}) if note else {}
    names = features.get(column, {}).get("names") if isinstance(features.get(column), dict) else None
    return None if names is None else [str(name) for name in names]


def named(labels: "pd.Series", names: list[str] | None) -> "pd.Series":
    """Class numbers as names, where names are known; `datasets` writes -1 for no label."""
    if names is None:
        return labels
    return pd.Series([None if v is None or v < 0 else names[v] for v in labels], index=labels.index, dtype=object)
