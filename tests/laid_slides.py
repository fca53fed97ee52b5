"""Folders of small slides whose every tile is known beforehand, and what the tiles stage made of them.

A slide shows one square piece of tissue, 8 px out of step with the grid of 64-px tiles: seven eighths of its first row
and column are tissue, and one eighth of those past its end. At 0.5 µm per pixel the mask has 16 px along a tile's side.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from made_slides import Slide, generic_slide
from made_tiles import KEY, run
from painted_tissue import Box, Scene, scene

from stages.hashing import keyed

TILE = 64
TISSUE = Box(TILE + 8, TILE + 8, 6 * TILE + 8, 5 * TILE + 8)
WIDTH, HEIGHT = 7 * TILE, 6 * TILE
TAKEN, LITTLE, BARE = 5 * 4, 4 + 5 + 1, 12
"""Tiles of a slide that are mostly tissue, hardly, and not at all."""
LEVELS = (1, 4)
COHORT = tuple(
    f"{label}/{label[0].upper()}{n}_{part}.tiff"
    for label in ("normal", "tumour")
    for n, part in ((1, "a"), (1, "b"), (2, "a"), (3, "a"), (4, "a"))
)
"""Two classes of four patients; the first has two slides."""
SLIDES = {"tile_px": TILE, "patient_pattern": r"([NT]\d)_"}


@functools.cache
def piece(seed: int) -> Scene:
    return scene(WIDTH, HEIGHT, (TISSUE,), seed=seed)


def lay(folder: Path, names: Sequence[str] = COHORT, **options: Any) -> dict[str, Slide]:
    """Write a slide under each name, each with tissue of its own; what is true of each, by name."""
    found = {}
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        found[name] = generic_slide(path, piece(seed), **{"downsamples": LEVELS, **options})
    return found


def cut_slides(out: Path, source: Path, engine: Any = None, slides: dict[str, Any] | None = None, **given: Any) -> Path:
    """Run the tiles stage on slides that `lay` has written; `slides` are settings beside `SLIDES`."""
    return run(out, engine, source=source, format="slides", slides=SLIDES | (slides or {}), **given)


def coordinates(out: Path, name: str | None = None) -> pd.DataFrame:
    """Where the tiles of a slide lie (of all, without a name); None where there is no label, role or reason."""
    table = pd.read_parquet(out / "coordinates.parquet")
    table = table.astype(object).where(table.notna(), None)
    return table if name is None else table[table["slide"] == slide_id(name)].reset_index(drop=True)


def slide_id(name: str) -> str:
    return keyed(KEY, "slide", name)


def group_id(name: str) -> str:
    return keyed(KEY, "group", name)


def places(table: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(table["x_px"], table["y_px"], strict=True))


def blocks(mask_hw: np.ndarray, side: int = TILE) -> np.ndarray:
    """The share of each tile of a grid without overlap that a mask covers, (rows, columns)."""
    rows, columns = mask_hw.shape[0] // side, mask_hw.shape[1] // side
    return mask_hw[: rows * side, : columns * side].reshape(rows, side, columns, side).mean((1, 3))


def boxed(box: Box, holes: Sequence[Box] = ()) -> dict[str, Any]:
    """A polygon of a box with holes, as GeoJSON."""

    def ring(b: Box) -> list[list[int]]:
        return [[b.left, b.top], [b.right, b.top], [b.right, b.bottom], [b.left, b.bottom], [b.left, b.top]]

    return {"type": "Polygon", "coordinates": [ring(b) for b in (box, *holes)]}


def write_regions(path: Path, *regions: tuple[str, dict[str, Any]]) -> Path:
    """A file as QuPath exports it: a feature for each class and its geometry."""
    features = [
        {
            "type": "Feature",
            "geometry": shape,
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for name, shape in regions
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
