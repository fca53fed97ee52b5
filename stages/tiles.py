"""The first stage: tiles with a class, a group and one of four roles, from whatever the user has.

What leaves this stage is pixels, classes, roles and group numbers that carry no name. File names, group names, EXIF
and comments stay behind; only `quarantine.csv`, which no later stage reads, names the sources of what was set aside,
and `groups.parquet` tells the groups by ids that mean nothing without the root's key.
"""

import functools
import logging
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from stages import (
    decoding,
    dividing,
    gathering,
    images,
    keyed_groups,
    slide_results,
    slide_tiling,
    small_classes,
    store,
    tile_order,
)
from stages.contracts import Engine, Inputs, UserError
from stages.decoding import Wanted
from stages.dividing import Fractions, set_aside
from stages.grouping import GroupingSettings, Rule, group_tiles
from stages.hashing import read_key
from stages.settings import InputPath, InputSource, Settings
from stages.slide_settings import SlidesSettings
from stages.slide_tiling import Surveyed
from stages.sources import chunks, medmnist, opening, remote, slide_files
from stages.sources.folders import Unlisted
from stages.sources.table import Columns
from stages.stain import StainSettings

log = logging.getLogger(__name__)
NAMED_ON_SCREEN = 10


class TilesSettings(Settings):
    """Where the tiles come from, and how they are divided."""

    source: InputSource
    """A folder of whole slides, a Parquet file or a folder of them, a MedMNIST npz, a Hugging Face imagefolder, or a
    folder of images: a path, or an address that fsspec reads (s3://, hf://datasets/… …), which is brought first."""
    format: opening.Format = "auto"
    """What the source is: slides, parquet, medmnist, imagefolder (with metadata, or class = folder), folder (with a
    table), or auto: look. A folder of TIFFs alone is taken for tiles; say slides if they are slides."""
    slides: SlidesSettings = SlidesSettings()
    """How whole slides are cut into tiles."""
    medmnist: str | None = None
    """The set of MedMNIST that an npz is, as in `bloodmnist`. None: the file's name tells, as bloodmnist_64.npz does; a
    name that tells none makes an npz of MedMNIST's layout whose classes are called by their numbers."""
    table: InputPath | None = None
    """CSV with a row per image or slide of a folder: file (relative to the source), label, and, if known, group and
    role. Of slides also with a row per patient (no column file), and with a column mpp."""
    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """The classes that are taken, two or more; tiles of others are left out, and counted. None: all."""
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
    mpp: float | None = Field(None, gt=0)
    """Micrometres per pixel of the tiles as they lie in the source; None: not known. Resizing is allowed for."""
    stain: StainSettings | None = None
    """The stain that every tile is given; one whose own cannot be told is set aside. None: tiles keep their own."""
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
    found = gathered(settings, out, engine)
    table = found.table
    bare = table[table["label"].isna() & (found.slides is not None)]
    table = table.drop(index=bare.index)
    check_sizes(settings, table)
    dividing.set_aside_copies(table, "label", "the same picture in two classes")
    told = group_tiles(table, found.grouped, settings.grouping, settings.find_groups, seed, engine)
    drawn, few = small_classes.divide(
        table, settings.fractions, settings.missing_roles, seed, found.given, settings.min_patients_per_class
    )
    named = _named_aside(found, table)
    _report_set_aside(named)
    good = table[table["reason"].isna()]
    kept = tile_order.ordered(tile_order.capped(good, settings.max_per_group, settings.max_groups))
    taken = table[~table["label"].isin(few) & (table["reason"] != dividing.OTHER_CLASS)]
    classes = tile_order.checked_classes(taken, kept)
    images.write_encoded(out / "images", tile_order.shards(kept, classes))
    origin = {"left_out": found.left_out, "roles": "given" if found.given else "drawn", "drawn_from_train": list(drawn)}
    facts = tile_order.facts(table, kept, classes) | origin | _seen(settings, kept) | dict(found.facts)
    facts |= {"grouping": told, "classes_left_out": few}
    used = kept
    if found.slides is not None:
        tiles = slide_results.settled(pd.concat([table, bare]), kept, settings.slides, settings.max_per_group)
        used = pd.concat([kept, slide_results.write_unlabelled(out, tiles, kept)])
        key = read_key(inputs["key"])
        facts |= slide_results.write(out, key, settings.slides, engine, found.slides, tiles, classes)
    if found.grouped:
        keyed_groups.write(out, used, found.names, inputs["key"])
    store.write_json(out / "facts.json", facts)
    store.write_text(out / "quarantine.csv", named.sort_values(["tile", "reason"]).to_csv(index=False))


class Gathered(NamedTuple):
    """Everything the source holds, decoded, before it is grouped and divided."""

    table: pd.DataFrame
    """A row per tile, as in `stages.dividing`."""
    grouped: bool
    """Whether the source tells groups."""
    names: "pd.Series[Any]"
    """The source's name of the group of each of its rows."""
    given: bool
    """Whether roles are given."""
    left_out: int
    """Tiles with a role that is left out."""
    facts: Mapping[str, Any]
    """What the result's facts should say of the source."""
    slides: Surveyed | None = None
    """Of whole slides: what is known of each."""


def gathered(settings: TilesSettings, out: Path, engine: Engine) -> Gathered:
    """Open and decode the source; what cannot be a tile has a reason. PNGs lie in the work folder of `out`.

    Raises:
        UserError: the source, its columns or roles are not as they should be.
        Interrupted: asked to stop; what was decoded is kept.
    """
    work = store.work_folder(out)
    path = settings.source if isinstance(settings.source, Path) else remote.bring(settings.source, work)
    if opening.kind_of(path, settings.format, settings.table) == "slides":
        return _gathered_slides(settings, path, work, engine)
    columns = columns_of(settings)
    source = opening.open_source(
        path, settings.format, settings.table, columns, settings.unlisted, settings.medmnist, work
    )
    table = source.table.assign(reason=None, row=np.arange(len(source.table)))
    set_aside(table, table["label"].isna(), "no label")
    set_aside(table, table["group"].isna(), "no group")
    dividing.only_classes(table, settings.classes)
    dividing.check_sites(table, settings.site_column)
    given, left_out = dividing.given_roles(table, settings.roles, settings.leave_out)
    table = table[~table["role"].isin(settings.leave_out)].copy()
    pieces = chunks.cut(source, table.loc[table["reason"].isna(), "row"].to_numpy(np.int64), settings.chunk_tiles)
    if not pieces:
        raise UserError(f"No tile is left to decode in {settings.source}: {tile_order.reasons(table)}.")
    decode = functools.partial(decoding.decode_chunk, wanted=wanted(settings))
    table = gathering.decoded(table, pieces, decode, work, engine)
    return Gathered(table, source.grouped, source.table["group"], given, left_out, source.facts)


def _gathered_slides(settings: TilesSettings, path: Path, work: Path, engine: Engine) -> Gathered:
    """As `gathered`, from whole slides. Tiles without a class have no label and no reason."""
    slides, _ = slide_files.open_slides(
        path,
        settings.table,
        columns_of(settings),
        settings.slides.patient_pattern,
        settings.slides.annotations,
        settings.unlisted == "refuse",
    )
    dividing.check_sites(slides, settings.site_column)
    given, left_out = dividing.given_roles(slides, settings.roles, settings.leave_out)
    slides = slides[~slides["role"].isin(settings.leave_out)].reset_index(drop=True)
    found = slide_tiling.surveyed(slides, settings.slides, work, engine)
    dividing.only_classes(found.tiles, settings.classes)
    pieces = slide_tiling.pieces(found, settings.slides, wanted(settings), settings.chunk_tiles)
    if not pieces:
        raise UserError(
            f"No tile could be cut from the {len(slides)} slides of {path}. Slides set aside: "
            f"{tile_order.reasons(found.slides, 'none')}. Tiles rejected: {tile_order.reasons(found.tiles, 'none')}. "
            f"Look at a slide with: histodistill inspect {path}"
        )
    table = gathering.decoded(found.tiles, pieces, slide_tiling.read_regions, work, engine)
    slide_tiling.set_damaged_aside(found, table)
    return Gathered(table, True, found.tiles["group"], given, left_out, {}, found)


def wanted(settings: TilesSettings) -> Wanted:
    """What a tile should be, the target's stain read.

    Raises:
        UserError: the target of the stain is missing, or its stain cannot be told.
    """
    stain = None if settings.stain is None else decoding.wanted_stain(settings.stain, settings.max_side_px)
    return Wanted(settings.size_px, settings.not_square == "crop", settings.max_side_px, stain)


def columns_of(settings: TilesSettings) -> Columns:
    """How the source calls its columns."""
    s = settings
    return Columns(s.image_column, s.file_column, s.label_column, s.group_column, s.role_column, s.site_column)


def check_sizes(settings: TilesSettings, table: pd.DataFrame) -> None:
    """All tiles must be of one size."""
    good = table[table["reason"].isna()]
    if good.empty:
        raise UserError(f"No tile of {settings.source} could be used: {tile_order.reasons(table)}.")
    sizes = good.groupby(["width", "height"]).size().sort_values(ascending=False)
    if len(sizes) > 1:
        pairs = sizes.reset_index(name="tiles").astype(int).head(5).itertuples(index=False)
        listed = ", ".join(f"{pair.width}×{pair.height} ({pair.tiles})" for pair in pairs)
        raise UserError(f"The tiles have {len(sizes)} sizes, in pixels: {listed}. Set tiles.size_px to resize them.")


def _named_aside(found: Gathered, table: pd.DataFrame) -> pd.DataFrame:
    """What was set aside, by name: columns tile and reason. Of whole slides, what is common is left to the previews."""
    aside = table.loc[table["reason"].notna() & (table["reason"] != dividing.OTHER_CLASS), ["name", "reason"]]
    if found.slides is not None:
        slides = found.slides.slides
        aside = aside[~aside["reason"].isin(slide_results.EXPECTED)]
        aside = pd.concat([slides.loc[slides["reason"].notna(), ["name", "reason"]], aside])
    return aside.rename(columns={"name": "tile"})


def _report_set_aside(aside: pd.DataFrame) -> None:
    """Name on the screen what was set aside; the first ones, and how many in all."""
    for name, reason in aside[["tile", "reason"]].head(NAMED_ON_SCREEN).itertuples(index=False):
        log.warning("%s is set aside: %s", name, reason)
    if len(aside) > NAMED_ON_SCREEN:
        log.warning("and %d more are set aside; quarantine.csv names them all", len(aside) - NAMED_ON_SCREEN)


def _seen(settings: TilesSettings, kept: pd.DataFrame) -> dict[str, Any]:
    """The scale (`mpp`) and the stain of the finished tiles, each where it is known or given; slides tell their own."""
    told: dict[str, Any] = {}
    mpp = decoding.finished_mpp(settings.mpp, set(kept["side"].astype(int)), int(kept["width"].iloc[0]))
    if mpp is not None:
        told["mpp"] = mpp
    elif settings.mpp is not None:
        log.warning("tiles.mpp is given, but the tiles had several sizes before they were resized: their scale is lost")
    if settings.stain is not None:
        method, target = settings.stain.method, settings.stain.target
        told["stain"] = {"method": method, "target": None if target is None else store.digest_file(target)}
    return told
