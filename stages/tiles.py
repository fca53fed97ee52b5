"""The first stage: tiles with a class, a group and one of four roles, from whatever the user has.

What leaves this stage is pixels, classes, roles and group numbers that carry no name. File names, group names, EXIF
and comments stay behind; only `quarantine.csv`, which no later stage reads, names the sources of what was set aside.
"""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import Field, model_validator

from stages import compute, decoding, images, progress, sources, store, streams
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.decoding import Wanted
from stages.settings import InputPath, Settings
from stages.sources import Columns, Source
from stages.splits.roles import draw_roles, role_of_groups
from stages.tables import ROLES

log = logging.getLogger(__name__)
NAMED_ON_SCREEN = 10


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


class TilesSettings(Settings):
    """Where the tiles come from, and how they are divided."""

    source: InputPath
    """A Parquet file or a folder of them, a Hugging Face imagefolder, or a folder of images with a `table`."""
    format: sources.Format = "auto"
    """What the source is: parquet, imagefolder, folder (with a table), or auto: look."""
    table: InputPath | None = None
    """CSV with a row per image of a folder: file (relative to the source), label, and, if known, group and role."""
    roles: InputPath | None = None
    """CSV with the columns group, role and, to be checked, label: who plays which part. None: see `role_column`."""
    leave_out: tuple[str, ...] = ("public",)
    """Roles whose groups are left out, beside the four that are known."""
    fractions: Fractions = Fractions()
    """Shares of the roles where they are drawn: when neither `roles` nor a column of roles is given."""
    image_column: str = "image"
    """Name of the Parquet column with the images (bytes, or a struct of bytes and path)."""
    file_column: str = "file"
    """Name of the table's column with the files."""
    label_column: str = "label"
    """Name of the column with the classes."""
    group_column: str | None = "group"
    """Name of the column with the groups (patient, slide, original). None: every tile is its own group."""
    role_column: str | None = "role"
    """Name of the column with each tile's role; a column called role is used if it is there. None: never."""
    unlisted: Literal["refuse", "leave_out"] = "refuse"
    """Image files of which the table says nothing: an error, or left out."""
    size_px: int | None = Field(None, ge=8, le=2048)
    """Side to which tiles are resized, in pixels. None: as they are; then all must be equal."""
    not_square: Literal["set_aside", "crop"] = "set_aside"
    """Pictures that are not square: set aside, or cut to their middle square."""
    max_side_px: int = Field(8192, ge=8, le=32768)
    """A picture with a longer side, in pixels, is no tile and is set aside undecoded."""
    max_per_group: int | None = Field(None, ge=1)
    """At most this many tiles of each group (those with the smallest digests, which is as good as a draw)."""
    max_groups: int | None = Field(None, ge=1)
    """At most this many groups of each class in each role; for a quick trial."""
    chunk_tiles: int = Field(512, ge=1, le=65536)
    """Tiles decoded in one piece of work; a stop loses at most one piece."""


def run(settings: TilesSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Read the source, divide it into roles, write `images/`, `facts.json` and `quarantine.csv` into `out`.

    Raises:
        UserError: the source, its columns, classes or roles are not as they should be; says which and what to do.
        Interrupted: asked to stop; what was decoded is kept.
    """
    source = sources.open_source(
        settings.source, settings.format, settings.table, _columns(settings), settings.unlisted
    )
    table = source.table.assign(reason=None, row=np.arange(len(source.table)))
    _set_aside(table, table["label"].isna(), "no label")
    _set_aside(table, table["group"].isna(), "no group")
    given, left_out = _given_roles(settings, table)
    table = table[~table["role"].isin(settings.leave_out)].copy()
    table = _decoded(settings, source, table, out, engine)
    _check_sizes(settings, table)
    _divide(settings, table, seed, given)
    _report_set_aside(table)
    kept = _ordered(_capped(settings, table[table["reason"].isna()]))
    classes = _checked_classes(table, kept)
    images.write_encoded(out / "images", _shards(kept, classes))
    facts = _facts(table, kept, classes) | {"left_out": left_out, "roles": "given" if given else "drawn"}
    store.write_json(out / "facts.json", facts)
    aside = table.loc[table["reason"].notna(), ["name", "reason"]].rename(columns={"name": "tile"})
    store.write_text(out / "quarantine.csv", aside.sort_values(["tile", "reason"]).to_csv(index=False))


def _columns(settings: TilesSettings) -> Columns:
    return Columns(
        settings.image_column, settings.file_column, settings.label_column, settings.group_column, settings.role_column
    )


def _set_aside(table: pd.DataFrame, which: "pd.Series[bool]", reason: str) -> None:
    """Give a reason to those of `which` that have none yet."""
    table.loc[which & table["reason"].isna(), "reason"] = reason


def _given_roles(settings: TilesSettings, table: pd.DataFrame) -> tuple[bool, int]:
    """Fill `role` from the table of roles or the source; whether any were given, and how many tiles are left out."""
    usable = table["reason"].isna()
    if settings.roles is not None:
        _join_roles(settings.roles, table, usable)
    elif table["role"].isna().all():
        return False, 0
    else:
        _set_aside(table, table["role"].isna(), "no role")
        usable = table["reason"].isna()
    known = (*ROLES, *settings.leave_out)
    for role in table.loc[usable, "role"].unique():
        try:
            sources.pick(known, role, "the list of roles")
        except UserError as error:
            message = str(error).replace("has no column", "has no").replace("It has:", "Known are:")
            raise UserError(
                f"{message} Roles to be ignored are named in tiles.leave_out; rename a role, or list it there."
            ) from None
    try:
        role_of_groups(table.loc[usable, "group"].tolist(), table.loc[usable, "role"].tolist())
    except ValueError as error:
        raise UserError(str(error)) from error
    ignored = table.loc[usable & table["role"].isin(settings.leave_out), "role"].value_counts()
    for role, count in ignored.items():
        log.info("%d tiles with the role %s are left out", count, role)
    return True, int(ignored.sum())


def _join_roles(path: Path, table: pd.DataFrame, usable: "pd.Series[bool]") -> None:
    """Fill `role` from a CSV of group, role and perhaps label."""
    if not path.is_file():
        raise UserError(f"There is no table of roles at {path}. Mend tiles.roles, or leave it out to draw the roles.")
    frame = sources.read_csv(path)
    for column in ("group", "role"):
        sources.pick(frame.columns, column, path.name)
    frame = frame.apply(lambda cells: cells.str.strip())
    try:
        role_of = role_of_groups(frame["group"].tolist(), frame["role"].tolist())
    except ValueError as error:
        raise UserError(f"{path.name}: {error}") from error
    table["role"] = pd.Series([role_of.get(group) for group in table["group"]], index=table.index, dtype=object)
    lacking = sorted(set(table.loc[usable & table["role"].isna(), "group"]))
    if lacking:
        raise UserError(
            f"{path.name} lacks {len(lacking)} of the {table['group'].nunique()} groups: {sources.some(lacking)}. "
            "Add a row for each."
        )
    if "label" in frame:
        pairs = set(zip(frame["group"], frame["label"], strict=True))
        found = zip(table.loc[usable, "group"], table.loc[usable, "label"], strict=True)
        other = sorted({group for group, label in found if (group, label) not in pairs})
        if other:
            raise UserError(
                f"{len(other)} groups have another label in {path.name} than in the source: {sources.some(other)}. "
                "One of the two is wrong."
            )


def _decoded(settings: TilesSettings, source: Source, table: pd.DataFrame, out: Path, engine: Engine) -> pd.DataFrame:
    """`table` with what decoding found: tile_id, size, grey, where the PNG lies, and the reason where there is none."""
    rows_m = table.loc[table["reason"].isna(), "row"].to_numpy(np.int64)
    chunks = sources.cut(source, rows_m, settings.chunk_tiles)
    work = store.work_folder(out)
    paths = [work / f"tiles-{number:05d}.arrow" for number in range(len(chunks))]
    waiting = [number for number, path in enumerate(paths) if not path.exists()]
    wanted = Wanted(settings.size_px, settings.not_square == "crop", settings.max_side_px)
    results = engine.map(
        functools.partial(decoding.decode_chunk, wanted=wanted), [chunks[number][1] for number in waiting]
    )
    done = len(chunks) - len(waiting)
    tracked = progress.track(results, "tiles", total=len(chunks), done=done, unit="chunk")
    for number, result in zip(waiting, tracked, strict=True):
        decoding.write_chunk(paths[number], chunks[number][0], result)
        if compute.stop_asked() and number != waiting[-1]:
            raise Interrupted(f"tiles stopped after chunk {number + 1} of {len(chunks)}; run again to continue")
    parts = [
        decoding.read_chunk(path).drop_columns(["png"]).to_pandas().assign(chunk=n) for n, path in enumerate(paths)
    ]
    found = pd.concat(parts).rename(columns={"reason": "refused"}) if parts else None
    if found is None:
        raise UserError(f"No tile is left to decode in {settings.source}: {_reasons(table)}.")
    found["place"] = found.groupby("chunk").cumcount()
    found["path"] = [str(paths[n]) for n in found["chunk"]]
    table = table.merge(found, on="row", how="left", validate="one_to_one")
    table.loc[table["refused"].notna(), "reason"] = table["refused"]
    hinted = table["hint"].notna() & table["reason"].notna()
    table.loc[hinted, "name"] += " (" + table.loc[hinted, "hint"] + ")"
    return table


def _check_sizes(settings: TilesSettings, table: pd.DataFrame) -> None:
    """All tiles must be of one size."""
    good = table[table["reason"].isna()]
    if good.empty:
        raise UserError(f"No tile of {settings.source} could be used: {_reasons(table)}.")
    sizes = good.groupby(["width", "height"]).size().sort_values(ascending=False)
    if len(sizes) > 1:
        pairs = sizes.reset_index(name="tiles").astype(int).head(5).itertuples(index=False)
        listed = ", ".join(f"{pair.width}×{pair.height} ({pair.tiles})" for pair in pairs)
        raise UserError(f"The tiles have {len(sizes)} sizes, in pixels: {listed}. Set tiles.size_px to resize them.")


def _reasons(table: pd.DataFrame) -> str:
    counts = table["reason"].value_counts().sort_index()
    return ", ".join(f"{count} × {reason}" for reason, count in counts.items()) or "it holds none"


def _divide(settings: TilesSettings, table: pd.DataFrame, seed: int, given: bool) -> None:
    """Set copies aside that contradict each other or would leak; draw the roles if none were given."""
    _set_aside_copies(table, "label", "the same picture in two classes")
    if not given:
        good = table[table["reason"].isna()]
        if settings.group_column is None:
            log.warning("no groups are given: every tile is its own, so near copies may lie in two roles")
        try:
            role_of = draw_roles(
                good["label"].tolist(),
                good["group"].tolist(),
                settings.fractions.model_dump(),
                lambda label: streams.numpy_stream(seed, "roles", label),
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        table["role"] = pd.Series([role_of.get(group) for group in table["group"]], index=table.index, dtype=object)
    _set_aside_copies(table, "role", "the same picture in two roles")
    good = table[table["reason"].isna()]
    for column in ("group", "tile_id"):
        assert good.groupby(column)["role"].nunique().max() == 1, f"a {column} lies in two roles"


def _set_aside_copies(table: pd.DataFrame, column: str, reason: str) -> None:
    """Set aside every copy of a picture that occurs with two values of `column`."""
    good = table[table["reason"].isna()]
    values = good.groupby("tile_id")[column].nunique()
    _set_aside(table, table["tile_id"].isin(values.index[values > 1]), reason)


def _report_set_aside(table: pd.DataFrame) -> None:
    """Name on the screen what was set aside; the first ones, and how many in all."""
    aside = table[table["reason"].notna()]
    for name, reason in aside[["name", "reason"]].head(NAMED_ON_SCREEN).itertuples(index=False):
        log.warning("%s is set aside: %s", name, reason)
    if len(aside) > NAMED_ON_SCREEN:
        log.warning("and %d more are set aside; quarantine.csv names them all", len(aside) - NAMED_ON_SCREEN)


def _capped(settings: TilesSettings, good: pd.DataFrame) -> pd.DataFrame:
    """Number the groups by their pixels, so that the numbers tell nothing, and apply the caps."""
    good = good.sort_values(["group", "tile_id"])
    if settings.max_per_group is not None:
        good = good[good.groupby("group").cumcount() < settings.max_per_group]
    first = good.groupby("group")["tile_id"].agg(tuple).sort_values(kind="stable")
    good = good.assign(number=good["group"].map(pd.Series(range(len(first)), index=first.index)))
    if settings.max_groups is not None:
        rank = good.groupby(["role", "label"])["number"].rank(method="dense")
        good = good[rank <= settings.max_groups]
        good = good.assign(number=good["number"].rank(method="dense").astype(np.int64) - 1)
    return good


def _ordered(good: pd.DataFrame) -> pd.DataFrame:
    """Rows by role, class, group and tile; classes by name, or by number where all are numbers."""
    names = set(good["label"])
    classes = sorted(names, key=(lambda n: (int(n), n)) if all(n.isdecimal() for n in names) else str)
    good = good.assign(
        role_rank=good["role"].map({role: i for i, role in enumerate(ROLES)}),
        label_number=good["label"].map({name: i for i, name in enumerate(classes)}),
    )
    return good.sort_values(["role_rank", "label_number", "number", "tile_id"], ignore_index=True)


def _checked_classes(table: pd.DataFrame, kept: pd.DataFrame) -> tuple[str, ...]:
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
            f"give it groups with these roles, or leave the class out. Set aside: {_reasons(table)}."
        )
    return classes


def _shards(kept: pd.DataFrame, classes: tuple[str, ...]) -> Iterator[images.Encoded]:
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


def _facts(table: pd.DataFrame, kept: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Any]:
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
        "size_px": int(kept["width"].iloc[0]),
        "colour": "grey" if bool(kept["grey"].astype(bool).all()) else "rgb",
        "copies": int(kept["tile_id"].duplicated().sum()),
        "set_aside": {str(reason): int(count) for reason, count in sorted(aside.items())},
    }
