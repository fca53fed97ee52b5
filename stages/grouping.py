"""Which decoded tiles belong together where the source does not say: near-duplicates and stains, and what follows.

Tables are as in `stages.dividing`, decoded: `path` and `place` tell where a tile's PNG lies. They are filled in place.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import Field

from stages import compute, decoding, images, progress, streams
from stages.contracts import Engine, Interrupted
from stages.dividing import set_aside
from stages.settings import Settings
from stages.splits import stain_groups
from stages.splits.pieces import Pieces

log = logging.getLogger(__name__)
Rule = Literal["auto", "given", "near_duplicates", "stain", "each"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TILES_AT_ONCE = 128
KEPT_FIRST = ("test", "val", "control", "train")
"""Of near copies in two given roles, those in the earlier of these stay."""
SMALLEST_CAP = 20
"""Tiles that a found group may always hold, however few tiles there are."""
SHOWN_AS = {"describe_piece": "landmarks", "search_cells": "look-alikes", "score_piece": "comparing"}


class GroupingSettings(Settings):
    """How tiles are grouped by what they show."""

    neighbours: int = Field(12, ge=1, le=100)
    """Likely partners of each tile that are laid on it and compared; time grows with it."""
    largest: float = Field(0.05, gt=0, le=1)
    """The most tiles a group of near-duplicates may hold, as a share of all; links that would make it larger are not
    followed, the weakest first. 20 tiles are always allowed."""
    tiles_per_stain: int = Field(stain_groups.PER_GROUP, ge=1, le=1_000_000)
    """Tiles that a group of like stain should hold on average; a class has at least 8 such groups."""


class Seen(NamedTuple):
    """Near-duplicates among the tiles that are not set aside, by distinct picture."""

    ids: tuple[str, ...]
    """The `tile_id` of each distinct picture, sorted."""
    cluster_u: Ints
    pair_p2: Ints
    """Pairs of distinct pictures that belong together, most alike first."""
    score_p: npt.NDArray[np.float32]
    sure: float
    """Scores above are copies beyond doubt."""
    facts: dict[str, Any]


def chosen(rule: Rule, grouped: bool) -> Rule:
    """What `auto` means: the groups that are given, else near-duplicates."""
    return rule if rule != "auto" else ("given" if grouped else "near_duplicates")


def group_tiles(
    table: pd.DataFrame,
    grouped: bool,
    rule: Rule,
    settings: GroupingSettings,
    seed: int,
    engine: Engine,
) -> dict[str, Any]:
    """Fill `group` by the rule, and set aside near copies that contradict each other or would leak.

    Groups that are given stay whole under every rule but `each`. Near copies (a link that is sure) in two classes are
    set aside, as exact copies are; otherwise a group of near-duplicates is split by class. Where roles are given, a
    near copy of a tile in test, val or control is set aside in favour of that role, and a group is split by role.

    Args:
        table: the tiles, decoded.
        grouped: whether the source gives groups.
        rule: which tiles belong together.
        settings: how near-duplicates and stains are found.
        seed: the stage's.
        engine: where the work runs.

    Returns:
        facts: numbers only.
    """
    rule = chosen(rule, grouped)
    facts: dict[str, Any] = {"rule": rule}
    if rule == "each":
        if grouped:
            log.warning("tiles.grouping is each: the groups that the source gives are not heeded")
        else:
            log.warning("every tile is its own group, so near copies may lie in two roles")
        table["group"] = table["name"]
    elif rule in ("near_duplicates", "stain"):
        if not grouped:
            log.warning("no groups are given: near copies are sought, to keep them in one role")
        seen = near_duplicates(table, settings, seed, engine)
        facts |= seen.facts | _part_contradictions(table, seen)
        _unite(table, grouped, rule, settings, seen, seed, engine)
    return facts | sizes(table[table["reason"].isna()])


def near_duplicates(table: pd.DataFrame, settings: GroupingSettings, seed: int, engine: Engine) -> Seen:
    """Find the near-duplicates among the tiles that are not set aside."""
    from stages.splits import near_duplicates as science

    good = table[table["reason"].isna()]
    distinct = good.drop_duplicates("tile_id").sort_values("tile_id")
    limits = science.Limits(settings.neighbours, max(SMALLEST_CAP, int(settings.largest * len(good))))
    spread = functools.partial(_spread, engine)
    described = spread(science.describe_piece, _pieces(distinct), pixels_of)
    found = science.near_duplicates(
        good["tile_id"].tolist(), described, limits, streams.numpy_stream(seed, "near_duplicates"), spread
    )
    same = found.cluster_u[found.pair_p2[:, 0]] == found.cluster_u[found.pair_p2[:, 1]]
    counts = np.bincount(found.number_n)
    facts = {
        "sure_above": round(found.lines.sure, 4),
        "likely_above": round(found.lines.likely, 4),
        "pairs_compared": found.compared,
        "pairs_alike": int(same.sum()),
        "links_refused": found.refused,
        "near_duplicate_clusters": int((counts > 1).sum()),
        "tiles_in_them": int(counts[counts > 1].sum()),
        "largest_cluster": int(counts.max(initial=0)),
    }
    log.info("%(tiles_in_them)d tiles have near copies, in %(near_duplicate_clusters)d clusters", facts)
    if found.refused:
        log.warning("%d links were not followed: a group would have passed tiles.find_groups.largest", found.refused)
    return Seen(
        tuple(distinct["tile_id"]), found.cluster_u, found.pair_p2[same], found.score_p[same], found.lines.sure, facts
    )


def sizes(good: pd.DataFrame) -> dict[str, int]:
    """How many groups there are, the largest, and how many hold one tile."""
    counts = good.groupby("group").size()
    return {
        "groups": len(counts),
        "largest_group": int(counts.max() if len(counts) else 0),
        "of_one_tile": int((counts == 1).sum()),
    }


def links(table: pd.DataFrame, seen: Seen, column: str, above: float = 0.0) -> pd.DataFrame:
    """Near copies with different values of `column`: a row per pair of tiles, `first`, `second` (index) and `score`."""
    good = table[table["reason"].isna() & table[column].notna()]
    rows = pd.DataFrame({"id": good["tile_id"], "value": good[column], "at": good.index})
    ids = np.asarray(seen.ids, dtype=object)
    strong = seen.score_p > above
    pairs = pd.DataFrame(
        {"a": ids[seen.pair_p2[strong, 0]], "b": ids[seen.pair_p2[strong, 1]], "score": seen.score_p[strong]}
    )
    both = pairs.merge(rows, left_on="a", right_on="id").merge(rows, left_on="b", right_on="id", suffixes=("_1", "_2"))
    both = both[both["value_1"] != both["value_2"]]
    return pd.DataFrame({"first": both["at_1"], "second": both["at_2"], "score": both["score"]}).reset_index(drop=True)


def _part_contradictions(table: pd.DataFrame, seen: Seen) -> dict[str, int]:
    """Set aside near copies in two classes, and those in the lesser of two given roles; how many of each."""
    mixed = links(table, seen, "label", above=seen.sure)
    _aside(table, {*mixed["first"], *mixed["second"]}, "near copy of a tile in another class")
    lesser = 0
    torn = links(table, seen, "role")
    rank = {role: place for place, role in enumerate(KEPT_FIRST)}
    for keeper in KEPT_FIRST[:-1]:
        ends = [(a, b) for x, y in zip(torn["first"], torn["second"], strict=True) for a, b in ((x, y), (y, x))]
        role, free = table["role"], table["reason"].isna()
        aside = {b for a, b in ends if role[a] == keeper and free[a] and rank.get(role[b], 9) > rank[keeper]}
        lesser += _aside(table, aside, f"near copy of a tile in {keeper}")
    return {"near_copies_in_two_classes": len({*mixed["first"], *mixed["second"]}), "near_copies_in_two_roles": lesser}


def _aside(table: pd.DataFrame, which: set[int], reason: str) -> int:
    before = int(table["reason"].isna().sum())
    set_aside(table, pd.Series(table.index.isin(list(which)), table.index), reason)
    return before - int(table["reason"].isna().sum())


def _unite(
    table: pd.DataFrame, grouped: bool, rule: Rule, settings: GroupingSettings, seen: Seen, seed: int, engine: Engine
) -> None:
    """Fill `group`: near-duplicates, with stains and given groups where they count; split by class and given role."""
    good = table[table["reason"].isna()].sort_values("tile_id", kind="stable")
    cluster_of = dict(zip(seen.ids, seen.cluster_u.tolist(), strict=True))
    kinds = [good["label"].tolist()] + ([] if grouped else [good["role"].fillna("").tolist()])
    # Near-duplicates are split before they are united with given groups: a class or role apart is not joined through
    # a third. A given group is never cut, though it hold several classes.
    together = pd.factorize(pd.Series(list(zip(good["tile_id"].map(cluster_of), *kinds, strict=True))))[0]
    if grouped:
        together = stain_groups.united(together, pd.factorize(good["group"])[0])
    if rule == "stain":
        stain_nd = np.concatenate(list(_spread(engine, stain_of, _pieces(good))))
        kind_n = pd.factorize(pd.Series(list(zip(*kinds, strict=True))), sort=True)[0].astype(np.int64)
        stain_n = stain_groups.stain_groups(stain_nd, kind_n, settings.tiles_per_stain, seed)
        together = stain_groups.most_frequent(stain_n, together)
    table.loc[good.index, "group"] = [f"found-{number:07d}" for number in together]


class Bundle(NamedTuple):
    """Some tiles by where their PNGs lie; small to send to another process."""

    paths: tuple[str, ...]
    places: tuple[int, ...]


def _pieces(table: pd.DataFrame) -> Pieces:
    paths, places = table["path"].tolist(), table["place"].astype(np.int64).tolist()

    def bundle(number: int) -> Bundle:
        rows = slice(number * TILES_AT_ONCE, (number + 1) * TILES_AT_ONCE)
        return Bundle(tuple(paths[rows]), tuple(places[rows]))

    return Pieces(-(-len(paths) // TILES_AT_ONCE), bundle)


def pixels_of(bundle: Bundle) -> list[npt.NDArray[np.uint8]]:
    """The decoded tiles of a bundle, RGB."""
    found: list[Any] = [None] * len(bundle.places)
    for path in sorted(set(bundle.paths)):
        at = [i for i, other in enumerate(bundle.paths) if other == path]
        cells = decoding.read_chunk(Path(path))["png"].take(pa.array([bundle.places[i] for i in at])).to_pylist()
        for i, cell in zip(at, cells, strict=True):
            found[i] = images.pixels(cell)
    return found


def stain_of(bundle: Bundle) -> Floats:
    """The stain of the tiles of a bundle, whatever their sizes, n × 6."""
    return np.concatenate([stain_groups.stain(tile[None]) for tile in pixels_of(bundle)])


def _spread(
    engine: Engine, function: Callable[[Any], Any], items: Iterable[Any], first: Callable[[Any], Any] | None = None
) -> Iterator[Any]:
    """Map by the engine, showing how far it is; a stop is heeded between pieces.

    Raises:
        Interrupted: asked to stop; what was decoded is kept, the grouping begins anew.
    """
    total = len(items) if isinstance(items, (Pieces, Sequence)) else None
    what = SHOWN_AS.get(function.__name__, "stain")
    results = engine.map(functools.partial(_alone, function, first), items)
    for result in progress.track(results, what, total=total, unit="piece"):
        yield result
        if compute.stop_asked():
            raise Interrupted("tiles stopped while near-duplicates were sought; run again to continue")


def _alone(function: Callable[[Any], Any], first: Callable[[Any], Any] | None, item: Any) -> Any:
    """One piece, with one torch thread."""
    if function is stain_of:  # needs no torch
        return function(item)
    with compute.one_thread():
        return function(item if first is None else first(item))
