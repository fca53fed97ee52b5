"""What the tiles stage tells of whole slides: where every tile lies, pictures to check, and tiles without a class.

Slides are named by keyed hashes alone. None of this is read by a later stage but the image set `unlabelled`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages import images, progress, slide_tiling, small_classes, store, tile_order
from stages.contracts import Engine
from stages.dividing import OTHER_CLASS
from stages.hashing import keyed
from stages.slide_previews import preview
from stages.slide_settings import SlidesSettings
from stages.slide_survey import DARK, LITTLE, PEN
from stages.slide_tiling import BLURRED, DAMAGED_SLIDE, Surveyed

NO_CLASS, OVER_CAP = "no class", "over the cap"
EXPECTED = (PEN, LITTLE, DARK, BLURRED, NO_CLASS, OVER_CAP, DAMAGED_SLIDE, small_classes.REASON, OTHER_CLASS)
"""Reasons so common that `coordinates.parquet` and the previews tell them, and not the list of what was set aside."""
UNLABELLED = "unlabelled"
"""The image set, and its only class."""


class Drawn(NamedTuple):
    """A preview to be drawn: a piece of work for any process."""

    thumbnail: Path
    per_pixel: float
    tiles: pd.DataFrame
    classes: tuple[str, ...]
    side0_px: int
    longest_px: int
    to: Path


def write(
    out: Path,
    key: bytes,
    settings: SlidesSettings,
    engine: Engine,
    slides: Surveyed,
    tiles: pd.DataFrame,
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Write `coordinates.parquet` and `previews/` into `out`.

    Args:
        out: the result's folder.
        key: the root's.
        settings: how the slides were cut.
        engine: where previews are drawn.
        slides: what is known of each slide.
        tiles: what `settled` gave.
        classes: all classes, in order.

    Returns:
        facts: numbers only.
    """
    ids = [keyed(key, "slide", str(name)) for name in slides.slides["name"]]
    coordinates = _coordinates(tiles, slides, ids)
    coordinates.to_parquet(out / "coordinates.parquet", index=False)
    (out / "previews").mkdir()
    drawn = _previews(out, settings, slides, tiles, ids, classes)
    for _ in progress.track(engine.map(draw, drawn), "previews", total=len(drawn), unit="slide"):
        pass
    told = slide_tiling.counts(slides, tiles) | {"pseudo_patients": settings.pseudo_patients is not None}
    return {"slides": told, "mpp": settings.mpp, "set_aside": told["rejected"]}


def settled(tiles: pd.DataFrame, kept: pd.DataFrame, settings: SlidesSettings, most: int | None) -> pd.DataFrame:
    """The tiles with their final role and, where they are used for nothing, the reason.

    Tiles without a class are used if their patient is learned from; who has no tile with a class is, too, unless the
    source, or the site, puts that patient elsewhere.

    Args:
        tiles: all tiles with tissue, those without a class among them, with the reasons of the rejected.
        kept: the tiles of the image set.
        settings: how the slides were cut.
        most: at most so many tiles without a class of each patient; None: all.
    """
    bare, good = tiles["label"].isna(), tiles["reason"].isna()
    unused = bare & (_held_out(tiles) | (settings.unlabelled == "leave_out"))
    unused |= bare & tiles["tile_id"].isin(kept["tile_id"])
    tiles = tiles.assign(role=tiles["role"].where(~bare, "train").astype(object))
    tiles.loc[good & unused, "reason"] = NO_CLASS
    over = good & ~bare & ~tiles["row"].isin(kept["row"])
    if most is not None:
        spare = tiles[good & bare & ~unused].sort_values("tile_id")
        over |= tiles.index.isin(spare.index[spare.groupby("patient").cumcount() >= most])
    tiles.loc[over, "reason"] = OVER_CAP
    tiles.loc[tiles["reason"].notna(), "role"] = None
    return tiles


def _held_out(tiles: pd.DataFrame) -> "pd.Series[bool]":
    """Which tiles are of a patient or a site of whom any tile, capped or not, plays another role than train."""
    elsewhere = tiles["role"].notna() & (tiles["role"] != "train")
    for unit in ("patient", "site"):
        elsewhere |= tiles[unit].isin(tiles.loc[elsewhere & tiles[unit].notna(), unit])
    return elsewhere


def _coordinates(tiles: pd.DataFrame, slides: Surveyed, ids: Sequence[str]) -> pd.DataFrame:
    """Where every tile with tissue lies, and what became of it."""
    plans = [slides.told[int(row)]["plan"] for row in tiles["slide"]]
    columns = {
        "slide": [ids[int(row)] for row in tiles["slide"]],
        "x_px": tiles["x"].to_numpy(np.int64),
        "y_px": tiles["y"].to_numpy(np.int64),
        "side_px": [plan["side0_px"] for plan in plans],
        "mpp": [plan["mpp"] for plan in plans],
        "tissue": tiles["tissue"].to_numpy(np.float64).round(4),
        **{name: tiles[name].to_numpy() for name in ("label", "role", "tile_id", "reason")},
    }
    frame = pd.DataFrame(columns).astype(dict.fromkeys(("label", "role", "tile_id", "reason"), object))
    return frame.sort_values(["slide", "y_px", "x_px"], ignore_index=True)


def _previews(
    out: Path,
    settings: SlidesSettings,
    slides: Surveyed,
    tiles: pd.DataFrame,
    ids: Sequence[str],
    classes: tuple[str, ...],
) -> list[Drawn]:
    """A preview of each slide that could be surveyed, also where no tile of it is taken."""
    found = []
    for row, told in slides.told.items():
        part = tiles.loc[tiles["slide"] == row, ["x", "y", "label", "reason"]]
        part = part.assign(x=part["x"] - told["origin"][0], y=part["y"] - told["origin"][1])
        thumbnail = slide_tiling.thumbnail_path(store.work_folder(out), row)
        to = out / "previews" / f"{ids[row]}.png"
        side0, longest = told["plan"]["side0_px"], settings.preview_px
        found.append(Drawn(thumbnail, told["per_pixel"], part, classes, side0, longest, to))
    return found


def draw(one: Drawn) -> None:
    """Draw and write one preview."""
    thumbnail_hwc = images.pixels(one.thumbnail.read_bytes())
    drawn = preview(thumbnail_hwc, one.per_pixel, one.tiles, one.classes, one.side0_px, one.longest_px)
    store.write_bytes(one.to, images.png(drawn, level=6))


def write_unlabelled(out: Path, tiles: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Write the tiles without a class, if there are any, as an image set of one class: `unlabelled/` in `out`.

    Args:
        out: the result's folder.
        tiles: what `settled` gave.
        kept: the tiles of the image set; their patients keep the numbers of their groups, new ones follow.

    Returns:
        the tiles written, with the columns of `kept`.
    """
    bare = tiles[tiles["reason"].isna() & tiles["label"].isna()]
    if bare.empty:
        return kept.iloc[:0]
    bare = bare.sort_values(["patient", "tile_id"])
    numbers = kept.drop_duplicates("patient").set_index("patient")["number"]
    first = bare.groupby("patient")["tile_id"].agg(tuple).sort_values(kind="stable")
    new = [patient for patient in first.index if patient not in numbers.index]
    after = int(numbers.max()) + 1
    numbers = pd.concat([numbers, pd.Series(range(after, after + len(new)), index=new, dtype=np.int64)])
    bare = bare.assign(number=bare["patient"].map(numbers), label_number=0).sort_values(["number", "tile_id"])
    bare = bare.reset_index(drop=True)
    images.write_encoded(out / UNLABELLED, tile_order.shards(bare, (UNLABELLED,)))
    return bare[kept.columns.intersection(bare.columns)]
