"""Who plays which part in a table of tiles: roles that are given, drawn, or lacking; and copies that would leak.

Tables have a row per tile with `name`, `label`, `group`, `role`, `reason` (why it is set aside; None: it is not) and,
where sites are heeded, `site`; once decoded, also `tile_id` (digest of the pixels). They are filled in place.

Where sites are heeded, roles are drawn for whole sites instead of groups: stain tells the site, and the site tells the
outcome, so a test on sites that training has seen flatters. Howard et al., *The impact of site-specific digital
histology signatures on deep learning model accuracy and bias*, Nature Communications 12 (2021), 4423.
"""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, model_validator

from stages import streams
from stages.contracts import UserError
from stages.settings import Settings
from stages.sources.table import ROLE_OF, pick, read_csv, some
from stages.splits.roles import draw_roles, role_of_groups
from stages.tables import ROLES

log = logging.getLogger(__name__)
Missing = Literal["draw_from_train", "refuse"]
OTHER_CLASS = "of a class that is not taken"
"""A reason that only the counts tell: nothing is wrong with these tiles."""


class Fractions(Settings):
    """What share of each class's groups plays each role; the four sum to 1."""

    train: float = Field(default=0.6, gt=0, lt=1)
    """Learned from. A share of the groups of each class."""
    val: float = Field(default=0.1, gt=0, lt=1)
    """Choices are made on it. A share."""
    test: float = Field(default=0.15, gt=0, lt=1)
    """Seen by the benchmark's last step alone. A share."""
    control: float = Field(default=0.15, gt=0, lt=1)
    """Seen by the audits alone: real tiles that nothing was learned from. A share."""

    @model_validator(mode="after")
    def _whole(self) -> "Fractions":
        total = self.train + self.val + self.test + self.control
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions of train, val, test and control sum to {total:g}, not to 1")
        return self


def set_aside(table: pd.DataFrame, which: "pd.Series[bool]", reason: str) -> None:
    """Give a reason to those of `which` that have none yet."""
    table.loc[which & table["reason"].isna(), "reason"] = reason


def set_aside_copies(table: pd.DataFrame, column: str, reason: str) -> None:
    """Set aside every copy of a picture that occurs with two values of `column`."""
    good = table[table["reason"].isna()]
    values = good.groupby("tile_id")[column].nunique()
    set_aside(table, table["tile_id"].isin(values.index[values > 1]), reason)


def only_classes(table: pd.DataFrame, classes: Sequence[str] | None) -> None:
    """Set aside the tiles of other classes; those without a class are left to whoever asks for one.

    Args:
        table: the tiles.
        classes: the classes that are taken; None: all.

    Raises:
        UserError: the source has no such class; the nearest is suggested.
    """
    if classes is None:
        return
    known = sorted(str(label) for label in table["label"].dropna().unique())
    for name in classes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise UserError(
                f"tiles.classes names {name!r}, but the source has no such class. {hint}It has: {', '.join(known)}."
            )
    set_aside(table, table["label"].notna() & ~table["label"].isin(classes), OTHER_CLASS)


def check_sites(table: pd.DataFrame, column: str | None) -> None:
    """Set aside the tiles without a site, where sites are heeded; every group must lie in one.

    Args:
        table: the tiles; grouped already, or not yet.
        column: what the source calls its column of sites; None: sites are not heeded.

    Raises:
        UserError: the source tells no site, or a group lies in two; says how many do and names the first.
    """
    if column is None:
        return
    if table["site"].isna().all():
        raise UserError(
            f"No tile has a site, though tiles.site_column is {column!r}. Fill that column, or set it to null."
        )
    set_aside(table, table["site"].isna(), "no site")
    good = table[table["reason"].isna()]
    sites = good.groupby("group")["site"].nunique()
    torn = sorted(sites.index[sites > 1])
    if torn:
        first = good[good["group"] == torn[0]].drop_duplicates("site").head(2)
        tiles = ", ".join(f"{name} in {site}" for name, site in zip(first["name"], first["site"], strict=True))
        raise UserError(
            f"{len(torn)} of {len(sites)} groups lie in two or more sites ({some(torn)}; {tiles}), so that whole sites "
            "cannot play one role. Mend the sites, or set tiles.site_column to null."
        )


def given_roles(table: pd.DataFrame, roles: Path | None, leave_out: Sequence[str]) -> tuple[bool, int]:
    """Fill `role` from a CSV, or check those of the source.

    Args:
        table: the tiles.
        roles: CSV with group, role and perhaps label; None: the source's own roles, if it has any.
        leave_out: roles to be ignored, beside the four that are known.

    Returns:
        whether any were given, and how many tiles are left out.

    Raises:
        UserError: an unknown role, a group without one or in two, or the CSV contradicts the source.
    """
    usable = table["reason"].isna()
    if roles is not None:
        _join_roles(roles, table, usable)
    elif table["role"].isna().all():
        return False, 0
    else:
        set_aside(table, table["role"].isna(), "no role")
        usable = table["reason"].isna()
    table["role"] = [ROLE_OF.get(role, role) if role not in leave_out else role for role in table["role"]]
    known = (*ROLES, *leave_out)
    for role in table.loc[usable, "role"].unique():
        try:
            pick(known, role, "the list of roles")
        except UserError as error:
            message = str(error).replace("has no column", "has no").replace("It has:", "Known are:")
            raise UserError(
                f"{message} Roles to be ignored are named in tiles.leave_out; rename a role, or list it there."
            ) from None
    try:
        role_of_groups(table.loc[usable, "group"].tolist(), table.loc[usable, "role"].tolist())
    except ValueError as error:
        raise UserError(str(error)) from error
    ignored = table.loc[usable & table["role"].isin(leave_out), "role"].value_counts()
    for role, count in ignored.items():
        log.info("%d tiles with the role %s are left out", count, role)
    return True, int(ignored.sum())


def _join_roles(path: Path, table: pd.DataFrame, usable: "pd.Series[bool]") -> None:
    """Fill `role` from a CSV of group, role and perhaps label."""
    if not path.is_file():
        raise UserError(f"There is no table of roles at {path}. Mend tiles.roles, or leave it out to draw the roles.")
    frame = read_csv(path)
    for column in ("group", "role"):
        pick(frame.columns, column, path.name)
    frame = frame.apply(lambda cells: cells.str.strip())
    try:
        role_of = role_of_groups(frame["group"].tolist(), frame["role"].tolist())
    except ValueError as error:
        raise UserError(f"{path.name}: {error}") from error
    table["role"] = pd.Series([role_of.get(group) for group in table["group"]], index=table.index, dtype=object)
    lacking = sorted(set(table.loc[usable & table["role"].isna(), "group"]))
    if lacking:
        raise UserError(
            f"{path.name} lacks {len(lacking)} of the {table['group'].nunique()} groups: {some(lacking)}. "
            "Add a row for each."
        )
    if "label" in frame:
        pairs = set(zip(frame["group"], frame["label"], strict=True))
        found = zip(table.loc[usable, "group"], table.loc[usable, "label"], strict=True)
        other = sorted({group for group, label in found if (group, label) not in pairs})
        if other:
            raise UserError(
                f"{len(other)} groups have another label in {path.name} than in the source: {some(other)}. "
                "One of the two is wrong."
            )


def divide(table: pd.DataFrame, fractions: Fractions, missing: Missing, seed: int, given: bool) -> tuple[str, ...]:
    """Draw the roles that are not given, and set copies aside that would leak from one role to another.

    Args:
        table: the tiles, decoded and grouped.
        fractions: shares of the roles where they are drawn.
        missing: what to do where roles are given, but not all four.
        seed: the stage's.
        given: whether roles are given.

    Returns:
        the roles that were given but lacking, and were drawn from train.

    Raises:
        UserError: a class has too few groups, a role is missing that may not be drawn, or sites are torn.
    """
    unit = _unit(table, given)
    good = table[table["reason"].isna()]
    lacking = tuple(role for role in ROLES if given and role not in set(good["role"]))
    if not given:
        role_of = _drawn(good, fractions.model_dump(), seed, "roles", unit)
        table["role"] = pd.Series([role_of.get(name) for name in table[unit]], index=table.index, dtype=object)
    elif lacking:
        _draw_missing(table, fractions, missing, seed, lacking, unit)
    set_aside_copies(table, "role", "the same picture in two roles")
    good = table[table["reason"].isna()]
    for column in ("group", "tile_id"):
        assert good.empty or good.groupby(column)["role"].nunique().max() == 1, f"a {column} lies in two roles"
    return lacking


def _unit(table: pd.DataFrame, given: bool) -> str:
    """What plays a role as a whole: the column of sites where they are heeded, else that of groups.

    Raises:
        UserError: a group that was found lies in two sites, or a site has two of the given roles.
    """
    if "site" not in table or table["site"].isna().all():
        return "group"
    check_sites(table, "site")
    good = table[table["reason"].isna()]
    if given:
        try:
            role_of_groups(good["site"].tolist(), good["role"].tolist())
        except ValueError as error:
            raise UserError(
                f"Sites count as groups (tiles.site_column), and {error} Or set tiles.site_column to null."
            ) from error
    return "site"


def _draw_missing(
    table: pd.DataFrame, fractions: Fractions, missing: Missing, seed: int, lacking: Sequence[str], unit: str
) -> None:
    """Give the lacking roles some of the groups of train: of its share and theirs, each gets its own.

    MedMNIST, for one, has no control tiles. What other roles hold stays as it is.
    """
    good = table[table["reason"].isna()]
    here = ", ".join(role for role in ROLES if role not in lacking)
    if "train" in lacking:
        raise UserError(
            f"The source's roles are {here}; no tile is left with the role train. Give some the role train, or set "
            "tiles.role_column to null to have all roles drawn."
        )
    if missing == "refuse":
        raise UserError(
            f"The source's roles are {here}; {', '.join(lacking)} is missing. Give some groups that role, or set "
            "tiles.missing_roles to draw_from_train."
        )
    shares = {role: getattr(fractions, role) for role in ("train", *lacking)}
    train = good[good["role"] == "train"]
    role_of = _drawn(train, shares, seed, "missing_roles", unit)
    among = table["role"] == "train"
    table.loc[among, "role"] = pd.Series([role_of.get(u, "train") for u in table[unit]], table.index)[among]
    for role in lacking:
        counts = train[train[unit].map(role_of) == role].groupby("label")[unit].nunique()
        log.info(
            "the source has no %s: %.1f %% of the %ss of train are drawn for it (%s)",
            role,
            100 * shares[role] / sum(shares.values()),
            unit,
            ", ".join(f"{label} {count}" for label, count in counts.items()),
        )


def _drawn(good: pd.DataFrame, shares: dict[str, float], seed: int, stream: str, unit: str) -> dict[str, str]:
    """Group (or site) -> role, stratified by class."""
    try:
        return draw_roles(
            good["label"].tolist(),
            good[unit].tolist(),
            shares,
            lambda label: streams.numpy_stream(seed, stream, label),
            unit,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
