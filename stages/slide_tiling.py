"""Whole slides -> tiles: every slide is surveyed, then regions are read, judged and encoded in chunks over the engine.

What is finished is kept slide by slide and chunk by chunk, so a stop loses at most one piece of work; a slide that
cannot be read is set aside whole and the rest goes on. Shapes: n tiles, h and w pixels, c = 3 channels.
"""

import functools
import hashlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from stages import compute, decoding, images, progress, store
from stages.contracts import Engine, Interrupted, UserError
from stages.decoding import Refused, Wanted
from stages.images import Pixels
from stages.slide_settings import SlidesSettings
from stages.slide_survey import COLUMNS, UNKNOWN_MPP, Asked, Survey, survey
from stages.slides.grid import Plan
from stages.slides.quality import sharpness
from stages.sources import slide_reading
from stages.sources.slide_reading import Unreadable
from stages.sources.table import some

log = logging.getLogger(__name__)
BLURRED, DAMAGED_SLIDE = "blurred", "of a damaged slide"
UNREAD = "unreadable region: "
"""How the reason of a tile begins whose region could not be read; why not, follows."""


class Regions(NamedTuple):
    """Tiles of one slide to be read: a piece of work for any process."""

    path: Path
    plan: Plan
    places: tuple[tuple[int, int], ...]
    """x and y of each tile at level 0."""
    tile: Wanted
    """The finished tile: its side and, where one is given, its stain."""
    least_sharpness: float | None


class Surveyed(NamedTuple):
    """All slides, looked at."""

    slides: pd.DataFrame
    """A row per slide: name, path, label, group, role, site, reason."""
    told: dict[int, dict[str, Any]]
    """`Survey.told` of each slide that is not set aside, by its row."""
    tiles: pd.DataFrame
    """A row per tile that has tissue: slide (row of `slides`), x, y, tissue, pen, dark, label, reason, name, group,
    role, site, row; and patient, which is the group however tiles are grouped later."""


def surveyed(slides: pd.DataFrame, settings: SlidesSettings, work: Path, engine: Engine) -> Surveyed:
    """Survey every slide; what is known from before a stop is not looked at again.

    Args:
        slides: of `slide_files.open_slides`.
        settings: how they are cut.
        work: kept until the stage is done; thumbnails stay there for the previews.
        engine: where slides are looked at, each a piece of work.

    Raises:
        UserError: a slide does not tell its micrometres per pixel.
        Interrupted: asked to stop; what was found is kept.
    """
    here = slides.index[slides["reason"].isna()]
    waiting = [row for row in here if not _told_path(work, row).exists()]
    asked = [asked_of(slides.loc[row], settings) for row in waiting]
    found = engine.map(functools.partial(survey, settings=settings), asked)
    tracked = progress.track(found, "slides", total=len(here), done=len(here) - len(waiting), unit="slide")
    for row, result in zip(waiting, tracked, strict=True):
        _keep(work, row, result)
        if compute.stop_asked() and row != waiting[-1]:
            raise Interrupted(f"tiles stopped after surveying {row + 1} of {len(slides)} slides; run again to continue")
    slides, told, tables = slides.copy(), {}, []
    for row in here:
        kept = store.read_json(_told_path(work, row))
        slides.at[row, "reason"] = kept["refused"]
        if kept["refused"] is None:
            told[int(row)] = kept["told"]
        tables.append(pd.read_parquet(_told_path(work, row).with_suffix(".parquet")).assign(slide=row))
    _refuse_unknown_mpp(slides)
    tiles = pd.concat([table for table in tables if len(table)] or [pd.DataFrame(columns=[*COLUMNS, "slide"])])
    return Surveyed(slides, told, _of_slides(tiles.reset_index(drop=True), slides, told, settings))


def asked_of(slide: "pd.Series[Any]", settings: SlidesSettings) -> Asked:
    """What is asked of one slide: a row of `slide_files.open_slides`.

    Raises:
        UserError: its mpp in the table is no number.
    """
    try:
        mpp = settings.mpp_override if slide["mpp"] is None else float(slide["mpp"])
    except ValueError:
        raise UserError(f"The table's mpp of {slide['name']} is {slide['mpp']!r}, which is no number.") from None
    return Asked(slide["path"], mpp, slide["regions"], slide["label"])


def _told_path(work: Path, row: int) -> Path:
    return work / f"slide-{row:05d}.json"


def thumbnail_path(work: Path, row: int) -> Path:
    """Where the thumbnail of a surveyed slide lies."""
    return work / f"slide-{row:05d}.png"


def _keep(work: Path, row: int, found: Survey) -> None:
    """Write a survey; its JSON last, which says that it is whole."""
    path = _told_path(work, row)
    buffer = io.BytesIO()
    found.table.astype({"label": object, "reason": object}).to_parquet(buffer, index=False)
    store.write_bytes(path.with_suffix(".parquet"), buffer.getvalue())
    store.write_bytes(thumbnail_path(work, row), images.png(found.thumbnail_hwc))
    store.write_json(path, {"refused": found.refused, "told": found.told})


def _refuse_unknown_mpp(slides: pd.DataFrame) -> None:
    names = slides.loc[slides["reason"] == UNKNOWN_MPP, "name"].tolist()
    if names:
        raise UserError(
            f"{len(names)} slides do not say how many micrometres a pixel is: {some(names)}. Nothing is assumed: give "
            "tiles.slides.mpp_override (one value), or a column mpp in tiles.table (0.25 is about 40×, 0.5 20×)."
        )


def _of_slides(
    tiles: pd.DataFrame, slides: pd.DataFrame, told: Mapping[int, Mapping[str, Any]], settings: SlidesSettings
) -> pd.DataFrame:
    """The tiles with what is known of their slides, and the caps applied; numbered in `row`."""
    of = slides.loc[tiles["slide"]].reset_index(drop=True)
    place = [f"{name} at {x}, {y}" for name, x, y in zip(of["name"], tiles["x"], tiles["y"], strict=True)]
    tiles = tiles.assign(name=place, group=of["group"], role=of["role"], site=of["site"])
    tiles = tiles.astype({"label": object, "reason": object})
    tiles["label"] = tiles["label"].where(tiles["label"].notna(), None)
    tiles["reason"] = tiles["reason"].where(tiles["reason"].notna(), None)
    if settings.pseudo_patients is not None and len(tiles):
        log.warning(
            "pieces of slides play patients (tiles.slides.pseudo_patients): no figure says anything of patients"
        )
        tiles["group"] = _pieces(tiles, told, settings.pseudo_patients)
    if settings.max_per_slide is not None:
        tiles = _capped(tiles, settings.max_per_slide)
    return tiles.assign(patient=tiles["group"], row=np.arange(len(tiles)))


def _pieces(tiles: pd.DataFrame, told: Mapping[int, Mapping[str, Any]], cut: tuple[int, int]) -> list[str]:
    """Pseudo-patients: which piece of its slide each tile's middle lies in."""
    found = []
    for group, slide, x, y in tiles[["group", "slide", "x", "y"]].itertuples(index=False):
        facts = told[int(slide)]
        half = facts["plan"]["side0_px"] / 2
        places = zip((y, x), reversed(facts["origin"]), reversed(facts["size"]), cut, strict=True)
        piece = [min(int((start + half - origin) / size * n), n - 1) for start, origin, size, n in places]
        found.append(f"{group} piece {piece[0]},{piece[1]}")
    return found


def _capped(tiles: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many good tiles of each class of each slide; the others are not read."""
    draw = [hashlib.sha256(f"{x},{y}".encode()).hexdigest() for x, y in zip(tiles["x"], tiles["y"], strict=True)]
    good = tiles["reason"].isna()
    order = tiles.assign(draw=draw, class_=tiles["label"].fillna(""))[good].sort_values("draw")
    rank = order.groupby(["slide", "class_"]).cumcount()
    return tiles.drop(index=rank.index[rank >= most]).reset_index(drop=True)


def pieces(
    found: Surveyed, settings: SlidesSettings, tile: Wanted, size: int
) -> list[tuple[npt.NDArray[np.int64], Regions]]:
    """The tiles to be read, `size` or fewer of one slide in a piece, with their rows."""
    tile, cut = tile._replace(size_px=settings.tile_px), []
    good = found.tiles[found.tiles["reason"].isna()]
    for slide, told in found.told.items():
        path, part = Path(found.slides["path"].tolist()[slide]), good[good["slide"] == slide]
        for start in range(0, len(part), size):
            some_of = part.iloc[start : start + size]
            places = tuple(zip(some_of["x"].astype(int), some_of["y"].astype(int), strict=True))
            work = Regions(path, Plan(**told["plan"]), places, tile, settings.least_sharpness)
            cut.append((some_of["row"].to_numpy(np.int64), work))
    return cut


def read_regions(regions: Regions) -> dict[str, list[Any]]:
    """Read, resample, judge and encode: the columns of `decoding.DECODED` but `row`, an entry for each place."""
    columns: dict[str, list[Any]] = {name: [] for name in decoding.DECODED.names if name != "row"}
    for values in map(functools.partial(_tile, regions), regions.places):
        for name, column in columns.items():
            column.append(values.get(name))
    return columns


def _tile(regions: Regions, place: tuple[int, int]) -> dict[str, Any]:
    plan, side = regions.plan, regions.tile.size_px
    assert side is not None
    try:
        pixels_hwc = slide_reading.region(regions.path, *place, plan.level, plan.read_px, plan.read_px)
    except Unreadable as why:
        return {"reason": f"{UNREAD}{why}"}
    pixels_hwc = _resampled(pixels_hwc, side)
    if regions.least_sharpness is not None and sharpness(pixels_hwc) < regions.least_sharpness:
        return {"reason": BLURRED}
    try:
        pixels_hwc = decoding.in_stain(pixels_hwc, regions.tile)
    except Refused as refused:
        return {"reason": str(refused)}
    found: dict[str, Any] = {"tile_id": images.tile_id(pixels_hwc), "png": images.png(pixels_hwc)}
    return found | {"width": side, "height": side, "side": side, "grey": images.is_grey(pixels_hwc)}


def _resampled(pixels_hwc: Pixels, side: int) -> Pixels:
    """A square at another side: means over areas where it shrinks, bicubic where it grows.

    Means over whole pixels are rounded once; Pillow's box filter rounds across and then down, and each time halves go
    up, so that tiles of half the side would come out brighter by a third of a grey level.
    """
    read = len(pixels_hwc)
    if read == side:
        return pixels_hwc
    picture = Image.fromarray(pixels_hwc)
    if read % side == 0:
        return np.asarray(picture.reduce(read // side))
    method = Image.Resampling.BOX if side < read else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((side, side), method))


def set_damaged_aside(found: Surveyed, tiles: pd.DataFrame) -> None:
    """A slide with a region that cannot be read is not to be trusted: all its tiles are set aside, and it is named."""
    unread = tiles[tiles["reason"].fillna("").astype(str).str.startswith(UNREAD)]
    for slide, reason in unread.drop_duplicates("slide")[["slide", "reason"]].itertuples(index=False):
        found.slides.at[slide, "reason"] = reason.removeprefix(UNREAD)
        tiles.loc[tiles["slide"] == slide, "reason"] = DAMAGED_SLIDE


def kind_of(reason: str) -> str:
    """A reason without what stands in brackets: that is of one slide, and may quote its files."""
    return reason.partition(" (")[0]


def counts(found: Surveyed, tiles: pd.DataFrame) -> dict[str, Any]:
    """Numbers for the facts, by kind of reason; no name among them.

    Every position is background, rejected, without a class, or a tile with one.
    """
    told = list(found.told.values())
    mpps = [one["plan"]["mpp"] for one in told]
    aside = found.slides["reason"].dropna().map(kind_of).value_counts()
    return {
        "slides": int(found.slides["reason"].isna().sum()),
        "patients": int(tiles.loc[tiles["reason"].isna(), "group"].nunique()),
        "slides_set_aside": {str(reason): int(n) for reason, n in sorted(aside.items())},
        "positions": sum(one["positions"] for one in told),
        "background": sum(one["background"] for one in told),
        "rejected": {str(r): int(n) for r, n in tiles["reason"].dropna().value_counts().items()},
        "unlabelled": int((tiles["reason"].isna() & tiles["label"].isna()).sum()),
        "effective_mpp": [min(mpps, default=None), max(mpps, default=None)],
    }
