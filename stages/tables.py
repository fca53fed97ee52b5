"""The columns of each table that passes from stage to stage, checked on writing and on reading.

Tables are Parquet. A column may be added by a stage; a promised one may not be missing or of another kind.
"""

from pathlib import Path

import pandas as pd

ROLES = ("train", "val", "test", "control")
"""`control` is seen by no stage but the audits; `test` by no stage but the benchmark's last step."""

COLUMNS: dict[str, dict[str, str]] = {
    # every image set has `label` (a number into its classes) and `tile_id` (digest of the pixels)
    "tiles": {"group": "int", "role": "str"},
    "candidates": {"index": "int"},
    "selection": {"candidate": "int", "community": "int", "centrality": "float", "rank": "int"},
    "condensation": {"rank": "int"},
    # other tables
    "groups": {"number": "int", "hash": "str", "role": "str", "tiles": "int"},
    "predictions": {"seed": "int", "network": "str", "role": "str", "row": "int", "group": "int", "label": "int"},
    "curves": {"step": "int"},
}
_KINDS = {"int": "iu", "float": "f", "str": "OUTS"}


def check(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """`frame` itself, once the promised columns are there, of the promised kinds; `ValueError` otherwise."""
    for column, wanted in COLUMNS[kind].items():
        if column not in frame:
            raise ValueError(f"a {kind} table needs the column {column!r}; it has {sorted(frame.columns)}")
        found = frame[column].dtype
        if not (found.kind in _KINDS[wanted] or (wanted == "str" and pd.api.types.is_string_dtype(found))):
            raise ValueError(f"column {column!r} of a {kind} table should be {wanted}, not {found}")
    return frame


def write(path: Path, frame: pd.DataFrame, kind: str) -> None:
    """Write a checked table as Parquet, without the pandas index."""
    check(frame, kind).to_parquet(path, index=False)


def read(path: Path, kind: str) -> pd.DataFrame:
    """Read a table back and check it again."""
    return check(pd.read_parquet(path), kind)
