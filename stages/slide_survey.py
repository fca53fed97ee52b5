"""One slide, looked at from afar: where its tiles lie, how much of each is tissue, ink or fold, and of which class.

Shapes: n tiles, h and w pixels of the thumbnail, c = 3 channels.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from stages.slide_settings import SlidesSettings
from stages.slides import grid, quality, tissue
from stages.slides.annotations import Region, labels_of, regions
from stages.slides.units import Mpp, Px
from stages.sources import slide_reading
from stages.sources.slide_reading import Facts, Unreadable

MASK_PX_PER_TILE = 16
"""Pixels of the tissue mask along a tile's side, where the mask need not be coarser …"""
FINEST_MASK, COARSEST_MASK = 1.0, 8.0
"""… nor finer, in micrometres per pixel."""
LARGEST_MASK_PX = 3000
"""Longest side of the tissue mask, in pixels."""
PEN, LITTLE, DARK = "pen", "too little tissue", "dark or folded"
UNKNOWN_MPP = "unknown micrometres per pixel"


class Asked(NamedTuple):
    """A slide to be surveyed."""

    path: Path
    mpp: float | None
    """Micrometres per pixel of level 0 as the user says; None: as the slide says."""
    regions: Path | None
    """Its GeoJSON."""
    label: str | None
    """Its class, where there are no regions."""


class Survey(NamedTuple):
    """What was found."""

    refused: str | None
    """Why nothing of the slide can be used, what is of this slide alone in brackets; everything else is empty then."""
    told: dict[str, Any]
    """`plan` (fields of `grid.Plan`), `mpp0`, `origin`, `size` at level 0, `positions`, `background` (tiles without
    tissue), `mask_mpp` of the tissue mask, `tissue` (its share), `regions`, `per_pixel` (level-0
    pixels per pixel of the thumbnail)."""
    table: pd.DataFrame
    """A row per tile with tissue or ink: x, y (level 0), tissue, pen, dark (shares), label, reason."""
    thumbnail_hwc: npt.NDArray[np.uint8]
    """The scanned part from afar, hardly larger than its preview."""


COLUMNS = ("x", "y", "tissue", "pen", "dark", "label", "reason")


def survey(asked: Asked, settings: SlidesSettings) -> Survey:
    """Look at a slide; whatever is wrong with it alone is told in `refused`."""
    try:
        facts = slide_reading.facts(asked.path)
        mpp0 = asked.mpp if asked.mpp is not None else facts.mpp
        if mpp0 is None:
            raise Unreadable(UNKNOWN_MPP)
        plan = _plan(facts, Mpp(mpp0), settings)
        drawn = _regions(asked.regions)
        thumbnail_hwc, scale = slide_reading.thumbnail(asked.path, _about(facts, mpp0, settings))
    except Unreadable as reason:
        empty = pd.DataFrame(columns=COLUMNS)
        return Survey(str(reason), {}, empty, np.zeros((1, 1, 3), np.uint8))
    ends = [start + size for start, size in zip(facts.origin, (facts.width, facts.height), strict=True)]
    places_n2 = grid.positions(ends[0], ends[1], plan, facts.origin)
    within_n2 = places_n2 - np.asarray(facts.origin)  # QuPath, too, counts from the corner of what was scanned
    mask_mpp = Mpp(mpp0 * scale)
    pen_hw = quality.pen_mask(thumbnail_hwc)
    mask_hw = tissue.tissue_mask(thumbnail_hwc, mask_mpp, settings.tissue, pen_hw)
    seen = {
        "tissue": mask_hw,
        "pen": pen_hw,
        "dark": quality.dark_mask(thumbnail_hwc, mask_mpp) & mask_hw,
    }
    shares = {name: tissue.fractions(mask, scale, within_n2, plan.side0_px) for name, mask in seen.items()}
    table = pd.DataFrame({"x": places_n2[:, 0], "y": places_n2[:, 1], **shares})
    table["label"] = pd.Series([asked.label] * len(table), dtype=object)
    if drawn is not None:
        found = labels_of(drawn, within_n2, plan.side0_px, settings.least_annotated)
        table["label"] = pd.Series(found, dtype=object)
    judged = _judged(table, settings)
    smaller = max(1, max(thumbnail_hwc.shape) // settings.preview_px)
    told = {
        "plan": plan._asdict(),
        "mpp0": float(mpp0),
        "origin": list(facts.origin),
        "size": [facts.width, facts.height],
        "positions": len(table),
        "background": len(table) - len(judged),
        "per_pixel": scale * smaller,
        "mask_mpp": float(mask_mpp),
        "tissue": float(mask_hw.mean()),
        "regions": None if drawn is None else len(drawn),
    }
    return Survey(None, told, judged, np.asarray(Image.fromarray(thumbnail_hwc).reduce(smaller)))


def _plan(facts: Facts, mpp0: Mpp, settings: SlidesSettings) -> grid.Plan:
    try:
        return grid.plan(mpp0, facts.downsamples, Mpp(settings.mpp), Px(settings.tile_px), Px(settings.overlap_px))
    except ValueError as error:
        raise Unreadable(str(error)) from error


def _about(facts: Facts, mpp0: float, settings: SlidesSettings) -> float:
    """Level-0 pixels per pixel of the thumbnail."""
    mask_mpp = settings.tile_px * settings.mpp / MASK_PX_PER_TILE
    mask_mpp = min(max(mask_mpp, FINEST_MASK), COARSEST_MASK)
    return max(1.0, mask_mpp / mpp0, max(facts.width, facts.height) / LARGEST_MASK_PX)


def _regions(path: Path | None) -> list[Region] | None:
    """The annotated regions of a slide; None where there is no file."""
    if path is None:
        return None
    try:
        return regions(json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:  # its own words would name the file
        raise Unreadable(f"its annotation cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise Unreadable(f"its annotation cannot be read ({error})") from error


def _judged(table: pd.DataFrame, settings: SlidesSettings) -> pd.DataFrame:
    """The rows with tissue or ink, and why some of them are rejected."""
    pen = table["pen"] > (1 if settings.most_pen is None else settings.most_pen)
    dark = table["dark"] > (1 if settings.most_dark is None else settings.most_dark)
    reason = np.select([pen, table["tissue"] < settings.least_tissue, dark], [PEN, LITTLE, DARK], "")
    table["reason"] = pd.Series([str(word) or None for word in reason], dtype=object)
    return table[(table["tissue"] > 0) | pen].reset_index(drop=True)
