"""Near-duplicates for `inspect`: turned, mirrored, cropped or recoloured copies, found as the tiles stage does."""

from pathlib import Path
from typing import Any

import pandas as pd

from stages import grouping, tiles
from stages.contracts import Engine, UserError
from stages.grouping import Seen
from stages.tiles import TilesSettings

NAMES = 10
"""Pairs that are named of each kind."""


def near_duplicates(settings: TilesSettings, grouped: bool, engine: Engine, scratch: Path) -> dict[str, Any] | None:
    """How many tiles have near copies, the largest cluster, and the most alike pairs by name.

    Args:
        settings: how the tiles stage would read the source.
        grouped: whether the source gives groups.
        engine: where the work runs.
        scratch: a folder to be deleted afterwards; the decoded tiles lie there.

    Returns:
        None where a run of the tiles stage would stop before it looks for them.
    """
    try:
        table = tiles.gathered(settings, scratch / "near", engine).table
        tiles.check_sizes(settings, table)
    except UserError:
        return None
    seen = grouping.near_duplicates(table, settings.find_groups, 0, engine)
    told: dict[str, Any] = dict(seen.facts)
    wanted = {"pairs": "name", "across_classes": "label", "across_roles": "role"}
    wanted |= {"across_groups": "group"} if grouped else {}
    for key, column in wanted.items():
        told[key] = _pairs(table, seen, column)
    return told


def _pairs(table: pd.DataFrame, seen: Seen, column: str) -> dict[str, Any]:
    """Near copies with different values of `column`: how many pairs of tiles, and the names of the most alike."""
    links = grouping.links(table, seen, column).sort_values("score", ascending=False, kind="stable")
    shown = links.head(NAMES)
    names = [
        [str(table.at[end, "name"]) for end in (a, b)] for a, b in zip(shown["first"], shown["second"], strict=True)
    ]
    return {"count": len(links), "names": names}
