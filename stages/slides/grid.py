"""Where the tiles of a slide lie, and from which level of its pyramid they are best read.

Everything is planned in pixels of level 0, in whole numbers: tiles abut exactly, and what the finished tile's mpp
really is follows from that, rather than the other way round.
Shapes: n tiles.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.slides.units import Mpp, Px, checked, to_microns, to_pixels

Ints = npt.NDArray[np.int64]

NO_OVERLAP = Px(0)
SAME = 1e-3
"""Levels coarser than wanted by no more than this share count as wanted: scanners round their downsamples."""


class Plan(NamedTuple):
    """How the tiles of one slide are cut: all lengths in level-0 pixels but `read_px`."""

    level: int
    """The level to read from: the coarsest that is still as fine as wanted."""
    side0_px: int
    """Side of a tile."""
    stride0_px: int
    """Step from a tile to the next; the side, when they do not overlap."""
    read_px: int
    """Side of the region to read, in pixels of `level`, before it is resampled to the finished tile; at least 1."""
    mpp: Mpp
    """Micrometres per pixel of the finished tile: what was wanted, up to a whole number of level-0 pixels."""


def plan(
    mpp0: Mpp,
    downsamples: Sequence[float],
    wanted: Mpp,
    tile_px: Px,
    overlap_px: Px = NO_OVERLAP,
    tolerance: float = 0.1,
) -> Plan:
    """Choose the level and the whole level-0 pixels for tiles of `tile_px` at `wanted` micrometres per pixel.

    Args:
        mpp0: micrometres per pixel of level 0.
        downsamples: how much coarser each level is than level 0; the first is 1.
        wanted: micrometres per pixel of the finished tiles.
        tile_px: side of a finished tile.
        overlap_px: what neighbours share, in pixels of finished tiles.
        tolerance: by which share level 0 may be coarser than wanted, so that tiles are blown up by so much.

    Raises:
        ValueError: level 0 is coarser than that, an mpp is no positive number, or the overlap leaves no step.
    """
    if not 0 <= overlap_px < tile_px:
        raise ValueError(
            f"an overlap of {overlap_px} pixels does not fit tiles of {tile_px}: choose one from 0 to {tile_px - 1}."
        )
    if checked(mpp0) > checked(wanted) * (1 + tolerance):
        raise ValueError(
            f"the slide has {mpp0:g} µm per pixel at its finest, coarser than the {wanted:g} wanted by more than "
            f"{tolerance:.0%}: detail cannot be made up. Ask for tiles of {mpp0:g} µm per pixel or more, leave the "
            "slide out, or correct its mpp."
        )
    fine = [level for level, down in enumerate(downsamples) if mpp0 * down <= wanted * (1 + SAME)]
    level = max(fine, key=lambda level: downsamples[level], default=0)
    side0 = max(1, to_pixels(to_microns(tile_px, wanted), mpp0))
    stride0 = max(1, math.floor(side0 * (tile_px - overlap_px) / tile_px + 0.5))
    read = max(1, math.floor(side0 / downsamples[level] + 0.5))
    return Plan(level, side0, stride0, read, Mpp(side0 * mpp0 / tile_px))


def positions(width0: int, height0: int, plan: Plan, origin: tuple[int, int] = (0, 0)) -> Ints:
    """Upper left corners (x, y) of all tiles, at level 0, row by row, n × 2.

    Args:
        width0: x where the slide (or its scanned part) ends, at level 0.
        height0: y where it ends.
        plan: the side and the step.
        origin: x and y of the first tile, such as where the scanned part begins.

    Only tiles wholly before both ends are taken: nothing is padded.
    """
    x = np.arange(origin[0], width0 - plan.side0_px + 1, plan.stride0_px, dtype=np.int64)
    y = np.arange(origin[1], height0 - plan.side0_px + 1, plan.stride0_px, dtype=np.int64)
    return np.stack([np.tile(x, len(y)), np.repeat(y, len(x))], axis=1)
