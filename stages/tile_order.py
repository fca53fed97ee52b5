"""The tiles that are left, in their final order: numbered groups, caps, classes, shards and facts.

Tables have a row per tile, as in `stages.dividing`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from stages import decoding, images
from stages.contracts import UserError
from stages.tables import ROLES


def reasons(table: pd.DataFrame, otherwise: str = "it holds none") -> str:
    """How many rows were set aside for which reason, in words; `otherwise` where none was."""
    counts = table["reason"].value_counts().sort_index()
    return ", ".join(f"{count} × {reason}" for reason, count in counts.items()) or otherwise


def capped(good: pd.DataFrame, max_per_group: int | None, max_groups: int | None) -> pd.DataFrame:
    """Number the groups by their pixels, so that the numbers tell nothing, and apply the caps."""
    good = good.sort_values(["group", "tile_id"])
    if max_per_group is not None:
        good = good[good.groupby(["group", "label"]).cumcount() < max_per_group]
    first = good.groupby("group")["tile_id"].agg(tuple).sort_values(kind="stable")
    good = good.assign(number=good["group"].map(pd.Series(range(len(first)), index=first.index)))
    if max_groups is not None:
        rank = good.groupby(["role", "label"])["number"].rank(method="dense")
        good = good[rank <= max_groups]
        good = good.assign(number=good["number"].rank(method="dense").astype(np.int64) - 1)
    return good


def ordered(good: pd.DataFrame) -> pd.DataFrame:
    """Rows by role, class, group and tile; classes by name, or by number where all are numbers."""
    names = set(good["label"])
    classes = sorted(names, key=(lambda n: (int(n), n)) if all(n.isdecimal() for n in names) else str)
    good = good.assign(
        role_rank=good["role"].map({role: i for i, role in enumerate(ROLES)}),
        label_number=good["label"].map({name: i for i, name in enumerate(classes)}),
    )
    return good.sort_values(["role_rank", "label_number", "number", "tile_id"], ignore_index=True)


def checked_classes(table: pd.DataFrame, kept: pd.DataFrame) -> tuple[str, ...]:
    """The classes, in order; at least two, each with a tile in each role."""
    classes = tuple(kept.sort_values("label_number")["label"].unique())
    wanted = sorted(table["label"].dropna().unique())
    if len(wanted) < 2:
        raise UserError(f"The source has one class ({', '.join(wanted)}); two or more are wanted.")
    counts = kept.groupby(["label", "role"]).size()
    bare = [f"{label} in {role}" for label in wanted for role in ROLES if counts.get((label, role), 0) == 0]
    if bare:
        raise UserError(
            f"There is no tile of {', '.join(bare)}. Every class needs tiles in train, val, test and control: "
            f"give it groups with these roles, or leave the class out. Set aside: {reasons(table)}."
        )
    return classes


def shards(kept: pd.DataFrame, classes: tuple[str, ...]) -> Iterator[images.Encoded]:
    """The tiles in their final order, a shard at a time, fetched from where the decoded chunks lie."""
    for start in range(0, len(kept), images.ROWS_PER_SHARD):
        shard = kept.iloc[start : start + images.ROWS_PER_SHARD].reset_index(drop=True)
        png_n = np.empty(len(shard), dtype=object)
        for path, part in shard.groupby("path"):
            cells = decoding.read_chunk(Path(str(path)))["png"].take(pa.array(part["place"].to_numpy(np.int64)))
            png_n[part.index] = cells.to_pylist()
        columns: dict[str, npt.NDArray[Any] | list[str]] = {
            "label": shard["label_number"].to_numpy(np.int64),
            "tile_id": shard["tile_id"].tolist(),
            "group": shard["number"].to_numpy(np.int64),
            "role": shard["role"].tolist(),
        }
        yield images.Encoded(png_n.tolist(), pd.DataFrame(columns), classes)


def facts(table: pd.DataFrame, kept: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Any]:
    """What later stages and people want to know of the tiles; numbers and class names only."""
    parts = {role: kept[kept["role"] == role] for role in ROLES}
    aside = table["reason"].dropna().value_counts()
    return {
        "classes": list(classes),
        "counts": {role: {c: int((part["label"] == c).sum()) for c in classes} for role, part in parts.items()},
        "groups": {
            role: {c: int(part.loc[part["label"] == c, "group"].nunique()) for c in classes}
            for role, part in parts.items()
        },
        "groups_in_all": {role: int(part["group"].nunique()) for role, part in parts.items()},
        "size_px": int(kept["width"].iloc[0]),
        "colour": "grey" if bool(kept["grey"].astype(bool).all()) else "rgb",
        "copies": int(kept["tile_id"].duplicated().sum()),
        "set_aside": {str(reason): int(count) for reason, count in sorted(aside.items())},
    }
