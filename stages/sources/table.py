"""What is known of a source's tiles: one table with a row per tile, and where its pixels lie."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.contracts import UserError
from stages.tables import ROLES

Kind = Literal["files", "parquet", "array"]
"""How images lie in a source's files: one in each, in a Parquet column, or as pixels in a NumPy array."""
ROLE_OF = {name: name for name in ROLES} | {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}
"""What a role is called elsewhere -> what it is called here."""
SHOWN = 3
"""How many offenders an error names."""


class NoGroupColumn(UserError):
    """The source has no column of that name for its groups; it may have none."""


class Columns(NamedTuple):
    """How the source calls its columns."""

    image: str
    file: str
    label: str
    group: str | None
    """None: there are no groups; every tile is its own."""
    role: str | None
    site: str | None = None
    """None: sites are not asked for."""


class Source(NamedTuple):
    """An opened source."""

    table: pd.DataFrame
    """One row per tile: `name` (to find it again), `label`, `group`, `role`, `site` (str or None)."""
    grouped: bool
    """Whether the source tells groups; if not, every tile is its own."""
    kind: Kind
    paths: tuple[Path, ...]
    """The files that hold the images."""
    places: npt.NDArray[np.int64]
    """Rows × 3: number of the file, of its Parquet row group, and the row therein (0, 0 for an image file)."""
    column: str = ""
    """The Parquet column with the images."""
    facts: Mapping[str, Any] = {}
    """What the result's facts should say of this source."""


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


def texts(cells: Iterable[Any]) -> "pd.Series[Any]":
    """A column of cells as text."""
    return pd.Series([text(cell) for cell in cells], dtype=object)


def read_csv(path: Path) -> pd.DataFrame:
    """A table of text; commas, semicolons or tabs, with or without a byte order mark."""
    try:
        head = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = next((mark for mark in ",;\t" if mark in head), ",")
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path} cannot be read as a table: {error}. Save it as CSV in UTF-8.") from error


def known(frame: pd.DataFrame, names: Sequence[str], columns: Columns, where: str) -> pd.DataFrame:
    """The table of a source from its own columns.

    Raises:
        NoGroupColumn: it has no column for the groups, though one is asked for.
        UserError: it lacks another column.
    """
    result = pd.DataFrame({"name": pd.Series(list(names), dtype=object)})
    result["label"] = texts(frame[pick(frame.columns, columns.label, where)])
    if columns.group is None:
        result["group"] = result["name"]
    elif columns.group in frame:
        result["group"] = texts(frame[columns.group])
    else:
        try:
            pick(frame.columns, columns.group, where)
        except UserError as error:
            raise NoGroupColumn(
                f"{error} Groups (patient, slide, original) keep what belongs together in one role. If there are none, "
                "set tiles.group_column to null: near copies are then sought and kept together (see tiles.grouping)."
            ) from None
    result["role"] = None
    if columns.role is not None and (columns.role in frame or columns.role != "role"):
        result["role"] = texts(frame[pick(frame.columns, columns.role, where)])
    result["site"] = None if columns.site is None else texts(frame[pick(frame.columns, columns.site, where)])
    return result


def roles_told(words_n: Sequence[Sequence[str]]) -> list[str] | None:
    """The role that one of each tile's words (folders, parts of a file's name) is; as Hugging Face writes splits.

    None unless every tile tells one, and train and another are among them: a folder called train alone tells nothing.
    """
    told = [next((ROLE_OF[w.lower()] for w in words if w.lower() in ROLE_OF), None) for words in words_n]
    roles = [role for role in told if role is not None]
    return roles if len(roles) == len(told) and {"train"} < set(roles) else None


def some(names: Sequence[str]) -> str:
    """The first few of `names`, for an error."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
