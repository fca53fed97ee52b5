"""What a source of tiles holds, before anything is learned from it: duplicates, classes, groups, sizes, colour.

It runs inside the hospital and names tiles; nothing is written but what is printed.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stages import dividing, grouping, tiles
from stages.classify import colour
from stages.contracts import Engine, UserError
from stages.tables import ROLES
from stages.tiles import TilesSettings

Facts = dict[str, Any]
SHOWN = 5
"""Examples of each finding."""
MOST_TILES = 6000
"""Tiles on which colour is tried; evenly spread over all."""
TELLING = 0.1
"""How far above chance colour must classify, and how far a random split above a grouped one, to be warned of."""
SEED = 0


def inspect(settings: TilesSettings, engine: Engine, fast: bool) -> Facts:
    """Look at a source.

    Args:
        settings: of the stage `tiles`, as a recipe would have them; a group column called group that is not there is
            no error.
        engine: where decoding and the search for near-duplicates run.
        fast: without near-duplicates.

    Raises:
        UserError: the source cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings, found = _gathered(settings, Path(folder) / "out", engine)
        table = found.table
        facts: Facts = {
            "source": str(settings.source),
            "tiles": len(table),
            "left_out": found.left_out,
            "sizes": _sizes(table),
            "colour": "grey" if table["grey"].dropna().astype(bool).all() else "rgb",
            "duplicates": _duplicates(table),
        }
        dividing.set_aside_copies(table, "label", "the same picture in two classes")
        facts |= {"set_aside": _set_aside(table), "classes": _classes(table)}
        if table["reason"].isna().sum() == 0:
            raise UserError(f"No tile of {settings.source} could be used: {_listed(facts['set_aside']['reasons'])}.")
        given = grouping.sizes(table[table["reason"].isna()]) if found.source.grouped else None
        facts["groups"] = {"given": given, "found": None}
        seen = None if fast else grouping.near_duplicates(table, settings.find_groups, SEED, engine)
        if seen is not None:
            facts["near_duplicates"] = _near_duplicates(table, seen, found.source.grouped)
        facts["colour_alone"] = _colour_alone(table, seen, found.source.grouped, engine)
        facts["roles"] = _roles(settings, found, seen, engine)
        facts["recipe"] = _recipe(settings, found.source.grouped, facts)
        return facts


def _gathered(settings: TilesSettings, out: Path, engine: Engine) -> tuple[TilesSettings, tiles.Gathered]:
    """The decoded source; without groups, if it has no column of the usual name for them."""
    try:
        return settings, tiles.gathered(settings, out, engine)
    except UserError as error:
        if settings.group_column != "group" or "tiles.group_column" not in str(error):
            raise
    settings = settings.model_copy(update={"group_column": None})
    return settings, tiles.gathered(settings, out, engine)


def _sizes(table: pd.DataFrame) -> list[Facts]:
    counts = table.dropna(subset=["width"]).groupby(["width", "height"]).size().sort_values(ascending=False)
    pairs = counts.reset_index(name="tiles").astype(int)
    return [{str(key): int(value) for key, value in row.items()} for row in pairs.to_dict("records")]


def _set_aside(table: pd.DataFrame) -> Facts:
    aside = table[table["reason"].notna()]
    reasons = {str(reason): int(count) for reason, count in aside["reason"].value_counts().items()}
    return {"reasons": reasons, "examples": _pairs(aside["name"].head(SHOWN), aside["reason"].head(SHOWN))}


def _classes(table: pd.DataFrame) -> Facts:
    good = table[table["reason"].isna()]
    counts = good.assign(role=good["role"].fillna("all")).groupby(["label", "role"]).size().unstack(fill_value=0)
    return {str(label): {str(role): int(n) for role, n in row.items()} for label, row in counts.iterrows()}


def _duplicates(table: pd.DataFrame) -> Facts:
    """Exact copies among what decoded."""
    good = table[table["reason"].isna()]
    by_id = good.groupby("tile_id")
    copies = good[by_id["name"].transform("size") > 1]
    facts: Facts = {"pictures": int(copies["tile_id"].nunique()), "tiles": len(copies)}
    for column, key in (("label", "in_two_classes"), ("role", "in_two_roles")):
        torn = good[by_id[column].transform("nunique") > 1]
        facts[key] = int(torn["tile_id"].nunique())
        facts[f"{key}_examples"] = _sets(torn, column)
    facts["examples"] = _sets(copies, "label")
    return facts


def _sets(rows: pd.DataFrame, column: str) -> list[list[str]]:
    """The first few sets of equal pictures, each by the names of its tiles."""
    named = rows["name"] + " (" + rows[column].astype(str) + ")"
    return [names.tolist()[:SHOWN] for _, names in list(named.groupby(rows["tile_id"]))[:SHOWN]]


def _near_duplicates(table: pd.DataFrame, seen: grouping.Seen, grouped: bool) -> Facts:
    """Near copies: how many, and those that contradict the classes, the given roles or the given groups."""
    names = table.drop_duplicates("tile_id").set_index("tile_id")["name"]
    best = [(names[seen.ids[a]], names[seen.ids[b]]) for a, b in seen.pair_p2[:SHOWN].tolist()]
    facts: Facts = dict(seen.facts) | {"examples": [list(pair) for pair in best]}
    sure_in = (
        ("label", "in_two_classes", seen.sure),
        ("role", "in_two_roles", 0.0),
        ("group", "in_two_groups", seen.sure),
    )
    for column, key, above in sure_in if grouped else sure_in[:2]:
        torn = grouping.links(table, seen, column, above)
        pairs = torn.groupby([torn["first"].map(table[column]), torn["second"].map(table[column])]).ngroups
        facts[key] = {"pairs": len(torn), "kinds": pairs, "examples": _torn(table, torn, column)}
    return facts


def _torn(table: pd.DataFrame, torn: pd.DataFrame, column: str) -> list[list[str]]:
    name = table["name"] + " (" + table[column].astype(str) + ")"
    head = torn.head(SHOWN)
    return _pairs(head["first"].map(name), head["second"].map(name))


def _colour_alone(table: pd.DataFrame, seen: grouping.Seen | None, grouped: bool, engine: Engine) -> Facts | None:
    """Balanced accuracy of mean and spread of colour, cross-validated by random tiles and by groups."""
    good = table[table["reason"].isna()].sort_values("tile_id", kind="stable")
    good = good.iloc[:: max(1, -(-len(good) // MOST_TILES))]
    good = good[good.groupby("label")["label"].transform("size") >= colour.FOLDS]
    if good["label"].nunique() < 2:
        return None
    _, x_nd = grouping.colours(good, engine)
    y_n = pd.factorize(good["label"], sort=True)[0]
    facts: Facts = {"chance": 1 / good["label"].nunique(), "random": colour.cross_validated(x_nd, y_n, None, SEED)}
    facts |= {"grouped": None, "groups": None}
    if grouped or seen is not None:
        cluster = dict(zip(seen.ids, seen.cluster_u.tolist(), strict=True)) if seen else {}
        group = good["group"] if grouped else good["tile_id"].map(cluster)
        facts["grouped"] = colour.cross_validated(x_nd, y_n, pd.factorize(group)[0], SEED)
        facts["groups"] = "given" if grouped else "near-duplicates"
    return facts


def _roles(settings: TilesSettings, found: tiles.Gathered, seen: grouping.Seen | None, engine: Engine) -> Facts:
    """Groups and tiles of each class in each role, as the stage would divide them; or why it could not."""
    table = found.table.copy()
    rule = grouping.chosen(settings.grouping, found.source.grouped)
    if seen is None and rule != "given":
        rule = "each"
    told = grouping.group_tiles(table, found.source.grouped, rule, settings.find_groups, SEED, engine, seen)
    facts: Facts = {
        "rule": rule,
        "given": found.given,
        "groups": told["groups"],
        "largest_group": told["largest_group"],
    }
    try:
        lacking = dividing.divide(table, settings.fractions, settings.missing_roles, SEED, found.given)
    except UserError as error:
        return facts | {"fault": str(error)}
    good = table[table["reason"].isna()]
    counts = {
        str(label): {
            role: [int((of["role"] == role).sum()), int(of.loc[of["role"] == role, "group"].nunique())]
            for role in ROLES
        }
        for label, of in good.groupby("label")
    }
    return facts | {"drawn_from_train": list(lacking), "tiles_and_groups": counts}


def _recipe(settings: TilesSettings, grouped: bool, facts: Facts) -> str:
    """What a recipe should say of this source."""
    given = settings.model_dump(mode="json", exclude_unset=True)
    given |= {"source": str(settings.source), "group_column": settings.group_column if grouped else None}
    if len(facts["sizes"]) > 1 and settings.size_px is None:
        given["size_px"] = min(row["width"] for row in facts["sizes"])
    if grouped and facts.get("near_duplicates", {}).get("in_two_groups", {}).get("pairs"):
        given["grouping"] = "near_duplicates"
    if not grouped:
        given["grouping"] = "stain" if confounded(facts["colour_alone"]) else "near_duplicates"
    return yaml.safe_dump({"tiles": given}, sort_keys=False, allow_unicode=True)


def confounded(found: Facts | None) -> bool:
    """Whether colour classifies a random split much better than a grouped one, or groups leave that open."""
    return found is not None and found["random"] - (found["grouped"] or found["random"]) > TELLING


def _pairs(first: Iterable[str], second: Iterable[str]) -> list[list[str]]:
    return [[str(a), str(b)] for a, b in zip(first, second, strict=True)]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in counts.items())
