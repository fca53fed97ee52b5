"""From a table with a row per tile to what stands out; see `inspection` for the table's columns."""

from typing import Any

import numpy as np
import pandas as pd
import yaml

from stages import streams
from stages.classify import colour_alone as by_colour
from stages.splits import stain_groups
from stages.stats.intervals import Interval
from stages.tables import ROLES
from stages.tiles import TilesSettings

NAMES = 10
"""How many names a finding holds."""
MOST_TILES = 20_000
"""Tiles the colour models see, evenly spaced."""
FAR = 0.5
"""Colour goes far when it covers this share of the way from chance to certainty."""
GAP = 0.05
"""A difference of balanced accuracies that is worth a warning."""
FEW_GROUPS = 4
"""Each of the four roles wants a group of every class."""


def counts(values: "pd.Series[Any]") -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    found = values.dropna().value_counts()
    return {str(value): int(count) for value, count in found.items()}


def aside(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Reason -> how many tiles are set aside for it, and the names of the first."""
    bad = table[table["reason"].notna()]
    return {
        reason: {"tiles": count, "names": sorted(bad.loc[bad["reason"] == reason, "name"])[:NAMES]}
        for reason, count in counts(bad["reason"]).items()
    }


def greyness(good: pd.DataFrame) -> dict[str, int]:
    """How many tiles are grey, and how many are in colour."""
    grey = int(good["grey"].astype(bool).sum())
    return {"grey": grey, "rgb": len(good) - grey}


def classes(good: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Class -> tiles and groups, the largest first."""
    groups_of = good.groupby("label")["group"].nunique()
    return {label: {"tiles": count, "groups": int(groups_of[label])} for label, count in counts(good["label"]).items()}


def groups(good: pd.DataFrame, given: bool) -> dict[str, Any]:
    """How many groups, how large, and how many hold one tile or two classes."""
    if not given:
        return {"given": False}
    sizes = good["group"].value_counts()
    mixed = good.groupby("group")["label"].nunique()
    mixed_names = sorted(mixed.index[mixed > 1])
    return {
        "given": True,
        "count": len(sizes),
        "smallest": int(sizes.min()),
        "median": float(sizes.median()),
        "largest": int(sizes.max()),
        "largest_name": str(sizes.index[0]),
        "singletons": float((sizes == 1).mean()),
        "of_two_classes": {"groups": len(mixed_names), "names": mixed_names[:NAMES]},
    }


def duplicates(good: pd.DataFrame, grouped: bool, with_roles: bool) -> dict[str, Any]:
    """Pictures that occur more than once, pixel for pixel; also those across classes, given roles and groups."""
    twice = good[good["tile_id"].duplicated(keep=False)]
    found: dict[str, Any] = {"all": _sets(twice)}
    wanted = {"label": "across_classes"}
    wanted |= {"role": "across_roles"} if with_roles else {}
    wanted |= {"group": "across_groups"} if grouped else {}
    for column, key in wanted.items():
        values = twice.groupby("tile_id")[column].nunique()
        found[key] = _sets(twice[twice["tile_id"].isin(values.index[values > 1])])
    return found


def _sets(twice: pd.DataFrame) -> dict[str, Any]:
    """How many pictures, in how many tiles, and the names of the first: one list for each picture."""
    names = sorted(sorted(part) for _, part in twice.groupby("tile_id")["name"])
    return {"pictures": len(names), "tiles": len(twice), "names": [part[:NAMES] for part in names[:NAMES]]}


def open_to_all(good: pd.DataFrame, given: bool) -> pd.DataFrame:
    """The tiles on which something may be fitted and scored: where roles are given, not those of test and control."""
    return good[~good["role"].isin(("test", "control"))] if given else good


def colour_alone(good: pd.DataFrame, grouped: bool) -> dict[str, Any] | None:
    """How well colour alone classifies: random tiles held out, whole groups, and whole clusters of stain."""
    if good["label"].nunique() < 2:
        return None
    rows_m = np.unique(np.linspace(0, len(good) - 1, min(len(good), MOST_TILES)).astype(np.int64))
    part = good.iloc[rows_m]
    x_nd, labels_n = np.stack(part["colour"].tolist()), pd.factorize(part["label"])[0].astype(np.int64)
    groups_n = pd.factorize(part["group"])[0].astype(np.int64)
    stains_n = stain_groups.stain_groups(np.stack(part["stain"].tolist()), labels_n, stain_groups.PER_GROUP, 0)
    ways = {"random_tiles": None} | ({"groups": groups_n} if grouped else {}) | {"stain_clusters": stains_n}
    found: dict[str, Any] = {"tiles": len(part), "chance": 1 / int(labels_n.max() + 1)}
    for way, held_n in ways.items():
        units_n = stains_n if way == "stain_clusters" else groups_n
        score = by_colour.colour_alone(x_nd, labels_n, held_n, units_n, streams.derive(0, "inspect"))
        found[way] = None if score is None else {name: _rounded(v) for name, v in score._asdict().items()}
    return found


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in interval._asdict().items()}


def roles(table: pd.DataFrame) -> dict[str, Any]:
    """Role -> class -> tiles, and the classes that have too few groups for four roles."""
    good = table[table["reason"].isna()]
    labels = sorted(good["label"].unique())
    names = [*[r for r in ROLES if (good["role"] == r).any()], *sorted(set(good["role"].dropna()) - set(ROLES))]
    of = {r: {c: int(((good["role"] == r) & (good["label"] == c)).sum()) for c in labels} for r in names}
    groups_of = good.groupby("label")["group"].nunique()
    return {"counts": of, "small_classes": {c: int(groups_of[c]) for c in labels if groups_of[c] < FEW_GROUPS}}


def warnings(found: dict[str, Any]) -> list[str]:
    """What a reader should not overlook, most serious first."""
    said = []
    copies, groups_found, roles_found = found["duplicates"], found["groups"], found["roles"]
    if len(found["classes"]) < 2:
        said.append("There is one class; two or more are wanted.")
    if roles_found["trouble"]:
        said.append(f"A run would stop here: {roles_found['trouble']}")
    for label, count in roles_found["small_classes"].items():
        said.append(
            f"Class {label} has {count} groups: too few for four roles. Add patients or slides, or leave it out."
        )
    if len(found["sizes"]) > 1:
        said.append("The tiles have several sizes; a run wants one. tiles.size_px resizes them.")
    if count := copies["across_classes"]["pictures"]:
        said.append(f"Pictures in two classes: {count}. One label of each is wrong; a run sets them aside.")
    if count := copies.get("across_roles", {}).get("pictures"):
        said.append(f"Pictures in two of the given roles: {count}. That leaks; a run sets them aside.")
    if copies.get("across_groups", {}).get("pictures"):
        count = copies["across_groups"]["pictures"]
        said.append(f"Pictures in two groups: {count}. Are these groups really apart?")
    if not groups_found["given"]:
        said.append(
            "No groups are known: tiles of one patient or slide will lie in several roles, and every result will look "
            "better than it is. Find out which slide each tile is from; name that column with --group-column."
        )
    elif groups_found["singletons"] > 0.9:
        said.append("Almost every group holds a single tile: is the column of groups the patient, the slide?")
    near = found["near_duplicates"]
    if near and near["across_roles"]["count"]:
        said.append(
            f"{near['across_roles']['count']} pairs of near copies lie in two of the given roles: what is learnt "
            "from one is tested on the other. A run with tiles.grouping near_duplicates sets those in train aside."
        )
    return said + _warnings_of_colour(found["colour_alone"])


def _warnings_of_colour(colour: dict[str, Any] | None) -> list[str]:
    if colour is None or colour["random_tiles"] is None:
        return []
    said, drawn = [], colour["random_tiles"]
    best = colour.get("groups") or drawn
    chance = colour["chance"]
    top = max(best["linear"]["value"], best["neighbours"]["value"] if "groups" in colour else 0)
    if top > chance + FAR * (1 - chance):
        said.append(
            f"Colour alone goes far ({top:.0%} where chance is {chance:.0%}): a good score on this data says little "
            "about morphology. Compare every result with the colour-only contestant."
        )
    return said + _leak(colour)


def _leak(colour: dict[str, Any]) -> list[str]:
    """Does a random split leak? Groups can show it; clusters of stain can only raise the suspicion.

    Neighbours fall with clusters of stain also where classes lie crosswise in colour and there are no slides at all.
    """
    held = colour.get("groups") or colour.get("stain_clusters")
    if held is None or colour["random_tiles"] is None:
        return []
    drawn, held, linear = colour["random_tiles"]["neighbours"], held["neighbours"], colour["random_tiles"]["linear"]
    known, fall = bool(colour.get("groups")), drawn["value"] - held["value"]
    if fall < (GAP if known else 2 * GAP) or held["high"] >= drawn["low"]:
        return []
    if not known and drawn["value"] - linear["value"] < 2 * GAP:
        return []
    scores = f"nearest neighbours in colour reach {drawn['value']:.0%} when random tiles are held out, and "
    if known:
        return [
            f"A random split leaks: {scores}{held['value']:.0%} when whole groups are. They know the groups by heart, "
            "and so would a network. Never divide this data by random tiles."
        ]
    return [
        f"A random split may well leak: {scores}{held['value']:.0%} when whole clusters of stain are, and a linear "
        f"model {linear['value']:.0%}. Either they know slides by heart, and so would a network, or the classes lie "
        "crosswise in colour; only the slides' names can tell. Do not divide this data by random tiles until you know."
    ]


def section(settings: TilesSettings, found: dict[str, Any]) -> str:
    """A `tiles:` section for a recipe: what was given, and what the findings advise."""
    chosen = settings.model_dump(mode="json", exclude_defaults=True, exclude={"chunk_tiles"})
    chosen = {"source": str(settings.source)} | chosen
    if len(found["sizes"]) > 1:
        chosen["size_px"] = min(int(part) for size in found["sizes"] for part in size.split("×"))
    if found["set_aside"].get("not square", {"tiles": 0})["tiles"] > found["tiles"] / 10:
        chosen["not_square"] = "crop"
    if not found["groups"]["given"] and found["colour_alone"] and _leak(found["colour_alone"]):
        chosen["grouping"] = "stain"
    return yaml.safe_dump({"tiles": chosen}, sort_keys=False, allow_unicode=True)
