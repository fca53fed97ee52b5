"""What is tissue on a slide's thumbnail, and how much of each tile is.

Glass is grey and stain is not, so a threshold on saturation parts them (Otsu 1979, chosen slide by slide). All
regions are kept: a slide may hold many pieces, and which of them matters is for annotations to say.
Shapes: h × w pixels of the thumbnail, c = 3 channels, n tiles.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from stages.slides.quality import opened, pen_mask
from stages.slides.units import Mpp, checked

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

SURE = 0.12
"""Saturation above is tissue whatever Otsu says: he would part strong stain from pale, or tissue from tissue where a
picture shows no glass."""
BLACK = 25
"""Not brighter in any channel: the scanner saw nothing there, and hue is noise."""
RIM_PX = 2
"""The edge of a pen's stroke, a mixture of ink and glass, goes with it."""


class TissueLimits(NamedTuple):
    """What counts as tissue; the defaults suit H&E on thumbnails of 4 to 32 µm per pixel."""

    closing_um: float = 32.0
    """Gaps in tissue up to this width are tissue: fat, fibres that part, cracks."""
    smallest_um2: float = 16_000.0
    """Smaller pieces are debris; about one tile of 256 pixels at 0.5 µm."""
    holes_um2: float = 50_000.0
    """Smaller holes are tissue: lumina and vessels up to 250 µm across."""
    least_saturation: float = 0.05
    """Otsu never goes below, 0 … 1, so that an empty slide has no tissue. Glass shows about 0.01; raise it for
    glass with a tint."""


DEFAULTS = TissueLimits()


def tissue_mask(
    rgb_hwc: npt.NDArray[np.uint8], mpp: Mpp, limits: TissueLimits = DEFAULTS, pen_hw: Mask | None = None
) -> Mask:
    """Where there is tissue on a thumbnail, h × w.

    Saturation above Otsu's threshold, gaps closed, small holes filled, small pieces dropped. Pen ink and what the
    scanner left black are taken out before the threshold is sought (a strong ink would push it above pale tissue)
    and never count.

    Args:
        rgb_hwc: the thumbnail; where it has no pixels, white or black.
        mpp: micrometres per pixel of the thumbnail.
        limits: see there.
        pen_hw: `quality.pen_mask` of the thumbnail, where it is known already.

    Raises:
        ValueError: the mpp is no positive number.
    """
    pixel_um2 = checked(mpp) ** 2
    ink = opened(pen_mask(rgb_hwc) if pen_hw is None else pen_hw, 1)
    outside = (rgb_hwc[..., 0] <= BLACK) & (rgb_hwc[..., 1] <= BLACK) & (rgb_hwc[..., 2] <= BLACK)
    if ink.any():
        outside |= ndimage.binary_dilation(ink, iterations=RIM_PX)
    saturation_hw = _saturation(rgb_hwc)
    mask = (saturation_hw > _threshold(saturation_hw[~outside], limits.least_saturation)) & ~outside
    mask = _closed(mask, limits.closing_um / 2 / mpp) & ~outside
    mask |= _holes(mask, limits.holes_um2 / pixel_um2) & ~outside
    return _without_specks(mask, limits.smallest_um2 / pixel_um2)


def _saturation(rgb_hwc: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Saturation (of hue, saturation, value), 0 … 1, of slightly smoothed colours: on glass, noise has a hue."""
    red, green, blue = (ndimage.gaussian_filter(rgb_hwc[..., c].astype(np.float32), 1) for c in range(3))
    bright_hw = np.maximum(np.maximum(red, green), blue)
    faint_hw = np.minimum(np.minimum(red, green), blue)
    saturation: npt.NDArray[np.float32] = (bright_hw - faint_hw) / np.maximum(bright_hw, 1)
    return saturation


def _threshold(saturation_p: npt.NDArray[np.float32], least: float) -> float:
    """Otsu's threshold between `least` and SURE."""
    if not len(saturation_p):
        return 1.0
    return max(least, min(SURE, float(threshold_otsu(saturation_p))))


def _closed(mask_hw: Mask, radius: float) -> Mask:
    """Closing by a disk: the opening of what is not; it fills what such a disk does not fit into."""
    return ~opened(~mask_hw, radius)


def _holes(mask_hw: Mask, largest: float) -> Mask:
    """Parts outside the mask of fewer than `largest` pixels that the mask encloses."""
    label_hw, parts = ndimage.label(~mask_hw)
    small = np.bincount(label_hw.ravel(), minlength=parts + 1) < largest
    border = np.concatenate([label_hw[0], label_hw[-1], label_hw[:, 0], label_hw[:, -1]])
    small[border] = small[0] = False
    found: Mask = small[label_hw]
    return found


def _without_specks(mask_hw: Mask, smallest: float) -> Mask:
    """The parts of at least `smallest` pixels; pixels that touch at a corner are of one part."""
    label_hw, parts = ndimage.label(mask_hw, np.ones((3, 3)))
    large = np.bincount(label_hw.ravel(), minlength=parts + 1) >= smallest
    large[0] = False
    kept: Mask = large[label_hw]
    return kept


def fractions(mask_hw: Mask, scale: float, positions_n2: npt.NDArray[np.int64], side0_px: int) -> Floats:
    """The share of each tile that is tissue, 0 … 1, exact for parts of pixels.

    The sum of the mask from the corner to a point is bilinear within a pixel, so its table (Crow 1984), interpolated,
    gives the area in any rectangle. What lies beyond the thumbnail is no tissue.

    Args:
        mask_hw: tissue on the thumbnail.
        scale: level-0 pixels per pixel of the thumbnail.
        positions_n2: x, y of the tiles' upper left corners, at level 0.
        side0_px: their side, at level 0.
    """
    if not mask_hw.any():
        return np.zeros(len(positions_n2))
    table = np.zeros((mask_hw.shape[0] + 1, mask_hw.shape[1] + 1))
    mask_hw.cumsum(0, dtype=np.int32).cumsum(1, out=table[1:, 1:])
    left, top = (positions_n2 / scale).T
    side = side0_px / scale
    area = _sums(table, left + side, top + side) - _sums(table, left, top + side)
    area += _sums(table, left, top) - _sums(table, left + side, top)
    return np.clip(np.round(area / side**2, 12), 0.0, 1.0)  # a tile full of tissue is 1, not a rounding less


def _sums(table: Floats, x_n: Floats, y_n: Floats) -> Floats:
    """The table at points between its entries, by bilinear interpolation."""
    x_n, y_n = np.clip(x_n, 0, table.shape[1] - 1), np.clip(y_n, 0, table.shape[0] - 1)
    column, row = np.minimum(x_n.astype(int), table.shape[1] - 2), np.minimum(y_n.astype(int), table.shape[0] - 2)
    right, down = x_n - column, y_n - row
    upper = table[row, column] * (1 - right) + table[row, column + 1] * right
    lower = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
    sums: Floats = upper * (1 - down) + lower * down
    return sums
