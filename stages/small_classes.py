"""Classes of so few patients that nothing general can be learned from them are left out whole, before and after roles.

Fewer patients also means that each of them is easier to recognise in what was learned. Tables are as in
`stages.dividing`; a group is taken to be a patient.
"""

import logging
from typing import NamedTuple

import pandas as pd

from stages import dividing
from stages.contracts import UserError
from stages.dividing import Fractions, Missing, set_aside
from stages.tables import ROLES

log = logging.getLogger(__name__)
REASON = "class of too few patients"


class Divided(NamedTuple):
    """Who plays which part, and which classes play none."""

    drawn: tuple[str, ...]
    """The roles that were given but lacking, and were drawn from train."""
    left_out: dict[str, int]
    """Class -> its groups: those in train, or, where train could never have enough of them, all that may be drawn."""


def divide(table: pd.DataFrame, fractions: Fractions, missing: Missing, seed: int, given: bool, least: int) -> Divided:
    """As `dividing.divide`, for the classes that have at least `least` groups among their train tiles.

    Args:
        table: the tiles, decoded and grouped; those of other classes are set aside.
        fractions: shares of the roles where they are drawn.
        missing: what to do where roles are given, but not all four.
        seed: the stage's.
        given: whether roles are given.
        least: groups of a class in train; 1 leaves no class out.

    Raises:
        UserError: as `dividing.divide`, or fewer than two classes are left.
    """
    if least == 1:
        return Divided(dividing.divide(table, fractions, missing, seed, given), {})
    drawn_for = _other_roles(table, given)
    early: dict[str, int] = {}
    if drawn_for:  # a class that can never have enough is left out first, so that it is no error of the draw
        early = fewer(table, least + drawn_for, "train" if given else None)
        _leave_out(
            table, early, f"{least + drawn_for} are wanted: {least} in train, and one for each other role", least
        )
    drawn = dividing.divide(table, fractions, missing, seed, given)
    late = fewer(table, least, "train")
    _leave_out(table, late, f"{least} are wanted in train", least)
    return Divided(drawn, dict(sorted((early | late).items())))


def _other_roles(table: pd.DataFrame, given: bool) -> int:
    """For how many roles beside train groups are to be drawn."""
    if not given:
        return len(ROLES) - 1
    there = set(table.loc[table["reason"].isna(), "role"])
    return len(set(ROLES) - there) if "train" in there else 0


def fewer(table: pd.DataFrame, least: int, role: str | None) -> dict[str, int]:
    """The classes of fewer groups than `least`, with how many they have, in one role or (None) in all."""
    good = table[table["reason"].isna()]
    counted = good if role is None else good[good["role"] == role]
    groups = counted.groupby("label")["group"].nunique().reindex(sorted(good["label"].unique()), fill_value=0)
    return {str(label): int(count) for label, count in groups.items() if count < least}


def _leave_out(table: pd.DataFrame, small: dict[str, int], wanted: str, least: int) -> None:
    """Set aside all tiles of the classes in `small`, and say so; two classes must be left."""
    for label, count in small.items():
        log.warning("class %s is left out: it has %d patients, %s (tiles.min_patients_per_class)", label, count, wanted)
    left = sorted(set(table.loc[table["reason"].isna(), "label"]) - set(small))
    if small and len(left) < 2:
        counts = ", ".join(f"{label} has {count}" for label, count in small.items())
        raise UserError(
            f"Of {len(left) + len(small)} classes {len(left)} would be left, and two are wanted: {counts} patients, "
            f"but {wanted}. Add patients of these classes, or lower tiles.min_patients_per_class, which is {least}."
        )
    set_aside(table, table["label"].isin(small), REASON)
