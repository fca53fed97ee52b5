"""The first stage: tiles with a class, a group and one of four roles, from whatever the user has.

What leaves this stage is pixels, classes, roles and group numbers that carry no name. File names, group names, EXIF
and comments stay behind; only `quarantine.csv`, which no later stage reads, names the sources of what was set aside,
and `groups.parquet` tells the groups by ids that mean nothing without the root's key.
"""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator

from stages import compute, decoding, dividing, images, keyed_groups, progress, small_classes, store
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.decoding import Wanted
from stages.dividing import Fractions, set_aside
from stages.grouping import GroupingSettings, Rule, group_tiles
from stages.settings import InputPath, InputSource, Settings
from stages.sources import chunks, medmnist, opening, remote
from stages.sources.folders import Unlisted
from stages.sources.table import Columns, Source
from stages.tables import ROLES

log = logging.getLogger(__name__)
NAMED_ON_SCREEN = 10


class TilesSettings(Settings):
    """Where the tiles come from, and how they are divided."""

    source: InputSource
    """A Parquet file or a folder of them, a MedMNIST npz, a Hugging Face imagefolder, or a folder of images: a path, or
    an address that fsspec reads (s3://, hf://datasets/… …), which is brought here first."""
    format: opening.Format = "auto"
    """What the source is: parquet, medmnist, imagefolder (with metadata, or class = folder), folder (with a table), or
    auto: look."""
    medmnist: str | None = None
    """The set of MedMNIST that an npz is, as in `bloodmnist`. None: the file's name tells, as bloodmnist_64.npz does; a
    name that tells none makes an npz of MedMNIST's layout whose classes are called by their numbers."""
    table: InputPath | None = None
    """CSV with a row per image of a folder: file (relative to the source), label, and, if known, group and role."""
    roles: InputPath | None = None
    """CSV with the columns group, role and, to be checked, label: who plays which part. None: see `role_column`."""
    leave_out: tuple[str, ...] = ("public",)
    """Roles whose groups are left out, beside the four that are known."""
    fractions: Fractions = Fractions()
    """Shares of the roles that are drawn: all, where neither `roles` nor a column gives them; else the missing ones."""
    missing_roles: dividing.Missing = "draw_from_train"
    """What to do where roles are given, but not all four (MedMNIST has no control): draw the missing ones from the
    groups of train, class by class, each by its fraction among theirs and train's; or refuse."""
    image_column: str = "image"
    """Name of the Parquet column with the images (bytes, or a struct of bytes and path)."""
    file_column: str = "file"
    """Name of the table's column with the files."""
    label_column: str = "label"
    """Name of the column with the classes."""
    group_column: str | None = "group"
    """Name of the column with the groups (patient, slide, original). None: there is none; see `grouping`."""
    site_column: str | None = None
    """Name of the column with the sites (hospital, laboratory). All groups of a site then play one role, so val and
    test are tissue of sites that training never saw. None: sites are not heeded."""
    grouping: Rule = "auto"
    """Which tiles must play one role. given: the source's groups. near_duplicates: copies of one original, turned,
    mirrored, cropped, zoomed or recoloured, are sought. stain: near-duplicates, and tiles of a class whose colours are
    alike. each: every tile is its own group. auto: given, or near_duplicates where no group is given. Groups that are
    given also stay whole under near_duplicates and stain."""
    find_groups: GroupingSettings = GroupingSettings()
    """How near-duplicates and stains are found."""
    role_column: str | None = "role"
    """Name of the column with each tile's role; a column called role, and MedMNIST's split, are used if they are there.
    None: never."""
    unlisted: Unlisted = "refuse"
    """Image files of which the table says nothing: an error, or left out."""
    size_px: int | None = Field(None, ge=8, le=2048)
    """Side to which tiles are resized, in pixels. None: as they are; then all must be equal."""
    not_square: Literal["set_aside", "crop"] = "set_aside"
    """Pictures that are not square: set aside, or cut to their middle square."""
    max_side_px: int = Field(8192, ge=8, le=32768)
    """A picture with a longer side, in pixels, is no tile and is set aside undecoded."""
    min_patients_per_class: int = Field(1, ge=1, le=1_000_000)
    """A class with fewer groups (patients) than this among its train tiles is left out whole. 1: none is; then a class
    with too few groups for the four roles is an error."""
    max_per_group: int | None = Field(None, ge=1)
    """At most this many tiles of each group (those with the smallest digests, which is as good as a draw)."""
    max_groups: int | None = Field(None, ge=1)
    """At most this many groups of each class in each role; for a quick trial."""
    chunk_tiles: int = Field(512, ge=1, le=65536)
    """Tiles decoded in one piece of work; a stop loses at most one piece."""

    @field_validator("medmnist")
    @classmethod
    def _set_of_medmnist(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Told here, because the seal holds the source's content and not its name."""
        source = PurePath(info.data.get("source", ""))
        if value is None and source.suffix == ".npz":
            return medmnist.set_named(source.stem)
        return None if value is None else medmnist.known_set(value)


def run(settings: TilesSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Read the source, divide it into roles, write `images/`, `facts.json` and `quarantine.csv` into `out`.

    Where the source gives groups, `groups.parquet` tells them by ids under `inputs["key"]`, the file of the root's key.

    Raises:
        UserError: the source, its columns, classes or roles are not as they should be; says which and what to do.
        Interrupted: asked to stop; what was decoded is kept.
    """
    source, table, given, left_out = gathered(settings, out, engine)
    check_sizes(settings, table)
    dividing.set_aside_copies(table, "label", "the same picture in two classes")
    told = group_tiles(table, source.grouped, settings.grouping, settings.find_groups, seed, engine)
    drawn, left = small_classes.divide(
        table, settings.fractions, settings.missing_roles, seed, given, settings.min_patients_per_class
    )
    _report_set_aside(table)
    kept = _ordered(_capped(settings, table[table["reason"].isna()]))
    classes = _checked_classes(table[~table["label"].isin(left)], kept)
    images.write_encoded(out / "images", _shards(kept, classes))
    if source.grouped:
        keyed_groups.write(out, kept, source.table["group"], inputs["key"])
    origin = {"left_out": left_out, "roles": "given" if given else "drawn", "drawn_from_train": list(drawn)}
    facts = _facts(table, kept, classes) | origin | {"grouping": told, "classes_left_out": left} | dict(source.facts)
    store.write_json(out / "facts.json", facts)
    aside = table.loc[table["reason"].notna(), ["name", "reason"]].rename(columns={"name": "tile"})
    store.write_text(out / "quarantine.csv", aside.sort_values(["tile", "reason"]).to_csv(index=False))


class Gathered(NamedTuple):
    """Everything the source holds, decoded, before it is grouped and divided."""

    source: Source
    table: pd.DataFrame
    """A row per tile, as in `stages.dividing`."""
    given: bool
    """Whether roles are given."""
    left_out: int
    """Tiles with a role that is left out."""


def gathered(settings: TilesSettings, out: Path, engine: Engine) -> Gathered:
    """Open and decode the source; what cannot be a tile has a reason. PNGs lie in the work folder of `out`.

    Raises:
        UserError: the source, its columns or roles are not as they should be.
        Interrupted: asked to stop; what was decoded is kept.
    """
    work = store.work_folder(out)
    source = opening.open_source(
        settings.source if isinstance(settings.source, Path) else remote.bring(settings.source, work),
        settings.format,
        settings.table,
        _columns(settings),
        settings.unlisted,
        settings.medmnist,
        work,
    )
    table = source.table.assign(reason=None, row=np.arange(len(source.table)))
    set_aside(table, table["label"].isna(), "no label")
    set_aside(table, table["group"].isna(), "no group")
    dividing.check_sites(table, settings.site_column)
    given, left_out = dividing.given_roles(table, settings.roles, settings.leave_out)
    table = table[~table["role"].isin(settings.leave_out)].copy()
    return Gathered(source, _decoded(settings, source, table, out, engine), given, left_out)


def _columns(settings: TilesSettings) -> Columns:
    s = settings
    return Columns(s.image_column, s.file_column, s.label_column, s.group_column, s.role_column, s.site_column)


def _decoded(settings: TilesSettings, source: Source, table: pd.DataFrame, out: Path, engine: Engine) -> pd.DataFrame:
    """`table` with what decoding found: tile_id, size, grey, where the PNG lies, and the reason where there is none."""
    rows_m = table.loc[table["reason"].isna(), "row"].to_numpy(np.int64)
    pieces = chunks.cut(source, rows_m, settings.chunk_tiles)
    work = store.work_folder(out)
    paths = [work / f"tiles-{number:05d}.arrow" for number in range(len(pieces))]
    waiting = [number for number, path in enumerate(paths) if not path.exists()]
    wanted = Wanted(settings.size_px, settings.not_square == "crop", settings.max_side_px)
    results = engine.map(
        functools.partial(decoding.decode_chunk, wanted=wanted), [pieces[number][1] for number in waiting]
    )
    done = len(pieces) - len(waiting)
    tracked = progress.track(results, "tiles", total=len(pieces), done=done, unit="chunk")
    for number, result in zip(waiting, tracked, strict=True):
        decoding.write_chunk(paths[number], pieces[number][0], result)
        if compute.stop_asked() and number != waiting[-1]:
            raise Interrupted(f"tiles stopped after chunk {number + 1} of {len(pieces)}; run again to continue")
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


def check_sizes(settings: TilesSettings, table: pd.DataFrame) -> None:
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
