"""What makes a tile unfit: blur, pen ink, folds and dark debris.

Colours are judged as optical density, the decadic logarithm of the light a channel lost. Haematoxylin and eosin both
absorb green the most, so an ink that absorbs red more than green cannot be taken for stain, whatever its strength.
Red ink and blood differ in strength alone. The limits are meant for H&E; they were found on 600 colorectal tiles, 2777
lung tiles and one slide of skin, all real.
Shapes: h × w pixels, p pixels of them, c = 3 channels.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.slides.units import Mpp

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

GREY = (299, 587, 114)
"""Luminance of red, green and blue (ITU-R BT.601), in thousandths."""
DENSITY = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of a grey level; one level is added, so that black is finite."""
INK = 0.2
"""Optical density in red from which blue or green is ink and no tint of the glass."""
MORE_RED = 1.15
"""How many times as much red as green blue and green inks absorb, at least. Haematoxylin absorbs about 0.93 times."""
CLEAR = 0.06
"""By how much density, too: where there is little ink, a ratio alone is noise."""
TEAL = 0.75
"""From green to teal (hue 195°), green exceeds red by more than this share of what blue does: counted as green."""
RED_CLEAR, RED_GREEN, RED_BLUE = 0.35, 0.75, 0.55
"""Red ink lets red through and takes more green and blue than blood does: at most, at least, at least."""
LIGHTEST_INK = int(np.flatnonzero(DENSITY > INK).max())
"""The brightest red of blue and green inks."""
BLACK, NEUTRAL = 90, 16
"""Black ink: no channel brighter, and no two channels further apart. Nuclei are as dark, but purple."""
EMPTY = 8
"""Below, in all channels, it is no ink but where the scanner saw nothing."""
DARK = 50
"""Luminance below which tissue lies on tissue, or is burnt, or is dirt."""
NUCLEUS_UM = 12.0
"""Dark spots narrower than this are nuclei or pigment, not folds."""


class QualityLimits(NamedTuple):
    """What a tile may show; shares of its pixels, 0 … 1. None: not judged.

    By the defaults 1 of the 3377 colorectal and lung tiles is refused (blood, taken for ink), and 2 of the 35 of the
    skin at 0.5 as at 1 µm per pixel, for the surgeon's ink on their margins.
    """

    least_sharpness: float | None = 40.0
    """Variance of the Laplacian of grey levels, see `sharpness`. All the real tiles lie above (99 in 100 above 300);
    blurred by a Gaussian of 2 pixels 94 to 100 % lie below, of 1.5 pixels 0 to 73 %, of 1 pixel at most 1 %."""
    most_pen: float | None = 0.05
    """Share of ink of all colours together."""
    most_dark: float | None = 0.1
    """Share of folds and dark debris."""


def sharpness(rgb_hwc: Pixels) -> float:
    """Variance of the Laplacian of the grey levels (Pech-Pacheco et al., ICPR 2000, eq. 5); 0 for a plain colour.

    The Laplacian is the sum of the differences to the four neighbours; at the border, to those that are there. So it
    sums to 0, and its variance is its mean square. Grey levels are whole numbers, which moves the value of real tiles
    near the limit by 1 % at most. It depends on the resolution and on how much there is to see: compare tiles of one
    mpp.
    """
    grey_hw = _grey(rgb_hwc)
    laplacian_hw = np.zeros_like(grey_hw)
    down, right = np.diff(grey_hw, axis=0), np.diff(grey_hw, axis=1)
    laplacian_hw[:-1] += down
    laplacian_hw[1:] -= down
    laplacian_hw[:, :-1] += right
    laplacian_hw[:, 1:] -= right
    flat = laplacian_hw.ravel().astype(np.float64)  # whole numbers, so the sum is exact in any order
    return float(flat @ flat) / flat.size


def _grey(rgb_hwc: Pixels) -> npt.NDArray[np.int16]:
    """Luminance in whole grey levels; the weights are 256ths, so that 16 bits suffice."""
    red, green, blue = (rgb_hwc[..., c].astype(np.uint16) * np.uint16(w) for c, w in enumerate((77, 150, 29)))
    grey_hw: npt.NDArray[np.uint16] = (red + green + blue + np.uint16(128)) >> np.uint16(8)
    return grey_hw.astype(np.int16)


def pen_mask(rgb_hwc: Pixels) -> Mask:
    """Where there is ink of any colour, h × w."""
    ink_hw = _maybe_ink(rgb_hwc)
    ink_hw[ink_hw] = functools.reduce(np.logical_or, _colours(rgb_hwc[ink_hw]).values())
    return ink_hw


def pen_colours(rgb_hwc: Pixels) -> dict[str, Mask]:
    """Where there is "blue", "green", "red" and "black" ink, each h × w; no pixel is of two colours.

    Thin ink over strongly stained tissue is not seen. Red markers so pale that blood is as red are not either.
    """
    maybe_hw = _maybe_ink(rgb_hwc)
    found = {}
    for name, ink_p in _colours(rgb_hwc[maybe_hw]).items():
        found[name] = np.zeros_like(maybe_hw)
        found[name][maybe_hw] = ink_p
    return found


def _maybe_ink(rgb_hwc: Pixels) -> Mask:
    """Pixels that `_colours` must look at: it finds ink only where red is absorbed more than green, or green much."""
    red, green = rgb_hwc[..., 0], rgb_hwc[..., 1]
    maybe: Mask = (green > red) & (red <= LIGHTEST_INK) | (green < BLACK)
    return maybe


def _colours(rgb_pc: Pixels) -> dict[str, npt.NDArray[np.bool_]]:
    """Which of some pixels are ink of each colour."""
    channels = [np.ascontiguousarray(rgb_pc[..., c]) for c in range(3)]
    red, green, blue = (DENSITY[channel] for channel in channels)
    bright, faint = np.maximum.reduce(channels), np.minimum.reduce(channels)
    black = (bright < BLACK) & (bright - faint < NEUTRAL) & (bright >= EMPTY)
    cold = (red > INK) & (red > MORE_RED * green) & (red > green + CLEAR) & ~black
    r, g, b = (channel.astype(np.int16) for channel in channels)
    teal = g - r > TEAL * (b - r)
    warm = (red < RED_CLEAR) & (green > RED_GREEN) & (blue > RED_BLUE)
    return {"blue": cold & ~teal, "green": cold & teal, "red": warm, "black": black}


def dark_mask(rgb_hwc: Pixels, mpp: Mpp) -> Mask:
    """Where tissue is folded or covered by dark debris, h × w: dark, and wider than a nucleus all around."""
    return opened(_dark(rgb_hwc), NUCLEUS_UM / 2 / mpp)


def _dark(rgb_hwc: Pixels) -> Mask:
    dark: Mask = rgb_hwc[..., 1] < DARK * 1000 / GREY[1]  # no brighter pixel can be, whatever its red and blue
    red, green, blue = (rgb_hwc[..., c][dark].astype(np.int32) * weight for c, weight in enumerate(GREY))
    dark[dark] = red + green + blue < DARK * 1000
    return dark


def opened(mask_hw: Mask, radius: float) -> Mask:
    """Opening by a disk of `radius` pixels: what no such disk fits into is gone. What lies outside is as the border."""
    if not mask_hw.any() or radius < 1:
        return mask_hw
    rim = int(radius) + 1
    core = _eroded(np.pad(mask_hw, rim, mode="edge"), radius)
    if not core.any():
        return np.zeros_like(mask_hw)
    grown: Mask = ~_eroded(~core, radius)  # dilation is erosion of what is not
    return grown[rim:-rim, rim:-rim]


def _eroded(mask_hw: Mask, radius: float) -> Mask:
    """Where a disk of `radius` fits: no pixel within reach of its middle lies outside the mask.

    A disk is a stack of rows, so a pixel stays if, so many rows up or down, the nearest pixel outside is further along
    the row than the disk reaches there. For the radii used here that is several times as fast as distances.
    """
    high, reach = len(mask_hw), int(radius)
    along_hw = _along_rows(mask_hw, reach + 1)
    kept = np.ones_like(mask_hw)
    for rows in range(min(reach, high - 1) + 1):
        free_hw = along_hw > int(math.sqrt(radius**2 - rows**2))
        kept[rows:] &= free_hw[: high - rows]
        kept[: high - rows] &= free_hw[rows:]
    return kept


def _along_rows(mask_hw: Mask, far: int) -> npt.NDArray[np.integer]:
    """How many pixels further, to the left or right, the mask ends; `far` at most."""
    wide = mask_hw.shape[1]
    column_w = np.arange(wide, dtype=np.min_scalar_type(-(wide + far)))
    before = np.maximum.accumulate(np.where(mask_hw, column_w.dtype.type(-far), column_w), axis=1)
    mirrored = np.where(mask_hw, column_w.dtype.type(wide + far), column_w)[:, ::-1]
    after = np.minimum.accumulate(mirrored, axis=1)[:, ::-1]
    along: npt.NDArray[np.integer] = np.minimum(np.minimum(column_w - before, after - column_w), far)
    return along.astype(np.min_scalar_type(far))


def fault(rgb_hwc: Pixels, mpp: Mpp, limits: QualityLimits) -> str | None:
    """What is wrong with a tile, the first of "pen", "dark or folded" and "blurred"; None when it is good."""
    if limits.most_pen is not None and pen_mask(rgb_hwc).mean() > limits.most_pen:
        return "pen"
    most = limits.most_dark  # opening only takes away: most tiles are too bright to need it
    if most is not None and _dark(rgb_hwc).mean() > most and dark_mask(rgb_hwc, mpp).mean() > most:
        return "dark or folded"
    if limits.least_sharpness is not None and sharpness(rgb_hwc) < limits.least_sharpness:
        return "blurred"
    return None
