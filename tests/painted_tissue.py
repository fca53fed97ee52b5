"""Painted pieces of tissue on glass, with ink, a fold and a blurred half at exactly known places.

Colours follow Beer and Lambert's law with the stain vectors that implementations of Macenko et al. (ISBI 2009) take for
their reference, so hues, and what a stain matrix or a ratio of channels makes of them, are those of real sections.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

HAEMATOXYLIN, EOSIN = np.array([0.5626, 0.7201, 0.4062]), np.array([0.2159, 0.8012, 0.5581])
GLASS = (244, 242, 242)
INKS = {"blue": (40, 80, 200), "green": (20, 140, 80), "red": (215, 25, 35), "black": (28, 28, 32)}
LAYERS = 6  # of tissue in a fold: darker than any nucleus
BLUR_PX = 4.0  # standard deviation of what lies out of focus
NUCLEI_PX, CELL_PX = 5.0, 32.0  # half width of a nucleus, and side of the square that holds one, at 0.5 µm/px


class Box(NamedTuple):
    """Pixels of level 0: left <= x < right, top <= y < bottom."""

    left: int
    top: int
    right: int
    bottom: int


class Ellipse(NamedTuple):
    """The largest ellipse in a box of level-0 pixels; a pixel belongs to it where its centre does."""

    left: int
    top: int
    right: int
    bottom: int


Piece = Box | Ellipse


class Scene(NamedTuple):
    """What a slide shows at level 0, and the truth about it."""

    pixels_hwc: np.ndarray  # uint8
    tissue_hw: np.ndarray  # bool, exactly the pieces; ink and fold do not change it
    pieces: tuple[Piece, ...]
    ink: dict[str, Box]  # by the ink's colour; opaque
    fold: Box | None
    blurred: Box | None  # all in it was out of focus when the sensor saw it


def inside(piece: Piece, left: int, top: int, width: int, height: int) -> np.ndarray:
    """Which pixels of a window belong to a piece, bool (height, width)."""
    x, y = left + np.arange(width) + 0.5, top + np.arange(height) + 0.5
    if isinstance(piece, Box):
        across, down = (piece.left < x) & (x < piece.right), (piece.top < y) & (y < piece.bottom)
        return down[:, None] & across
    u = (2 * x - piece.left - piece.right) / (piece.right - piece.left)
    v = (2 * y - piece.top - piece.bottom) / (piece.bottom - piece.top)
    inside_hw: np.ndarray = u**2 + v[:, None] ** 2 < 1
    return inside_hw


def covered(pieces: Sequence[Piece], left: int, top: int, width: int, height: int) -> np.ndarray:
    """Which pixels of a window belong to any piece, bool (height, width)."""
    found = np.zeros((height, width), bool)
    for piece in pieces:
        found |= inside(piece, left, top, width, height)
    return found


def field(rng: np.random.Generator, side: int, sigma: float) -> np.ndarray:
    """Smooth noise of mean 0 and variance 1 that goes on seamlessly past its borders, float32 (side, side)."""
    noise = rng.normal(size=(side, side)).astype(np.float32)
    smooth = gaussian_filter(noise, sigma, mode="wrap", truncate=3)
    scaled: np.ndarray = (smooth - smooth.mean()) / smooth.std()
    return scaled


def nuclei(rng: np.random.Generator, side: int) -> np.ndarray:
    """Depth of haematoxylin in nuclei of three shapes, 0 to about 1, float32 (side, side); seamless."""
    depth = np.zeros((side, side), np.float32)
    shapes = ((NUCLEI_PX, NUCLEI_PX), (0.5 * NUCLEI_PX, 1.5 * NUCLEI_PX), (1.5 * NUCLEI_PX, 0.5 * NUCLEI_PX))
    for sigmas in shapes:
        seeds = np.zeros((side, side), np.float32)
        count = max(1, round((side / CELL_PX) ** 2 / len(shapes)))
        seeds[tuple(rng.integers(0, side, (2, count)))] = 2 * np.pi * sigmas[0] * sigmas[1]
        blobs = gaussian_filter(seeds, sigmas, mode="wrap", truncate=3)
        depth = np.maximum(depth, 1 / (1 + np.exp(np.clip(-25 * (blobs - 0.6), -30, 30))))
    return depth


@cache
def tissue(side: int = 512, seed: int = 0) -> np.ndarray:
    """Collagen and nuclei under haematoxylin and eosin, uint8 (side, side, 3); seamless, so it may be repeated."""
    rng = np.random.default_rng([5, seed])
    inside_nucleus = nuclei(rng, side)
    chromatin = np.clip(1 + 0.25 * field(rng, side, 1), 0, None)
    fibres = field(rng, side, 0.8) + field(rng, side, 3) + 0.7 * field(rng, side, 12)
    eosin = np.clip(0.52 + 0.16 * fibres, 0.05, None) * (1 - 0.5 * inside_nucleus)
    haematoxylin = 0.15 + np.clip(0.04 * field(rng, side, 6), -0.1, None) + 1.5 * inside_nucleus * chromatin
    density = haematoxylin[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN
    return sensed(np.asarray(GLASS) * np.exp(-density), rng)


@cache
def glass(side: int = 512, seed: int = 0) -> np.ndarray:
    """Empty slide under a noisy sensor, uint8 (side, side, 3)."""
    return sensed(np.broadcast_to(np.asarray(GLASS, float), (side, side, 3)), np.random.default_rng([6, seed]))


def sensed(light_hwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole grey levels, after a sensor's noise of standard deviation 1."""
    noise = rng.normal(size=light_hwc.shape).astype(np.float32)
    return np.clip(np.rint(light_hwc + noise), 0, 255).astype(np.uint8)


def repeated(pattern_hwc: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    """A window of the plane that is paved with a pattern."""
    rows = (top + np.arange(height)) % pattern_hwc.shape[0]
    columns = (left + np.arange(width)) % pattern_hwc.shape[1]
    return pattern_hwc.take(rows, axis=0).take(columns, axis=1)


def scene(
    width: int,
    height: int,
    pieces: Sequence[Piece],
    ink: Mapping[str, Box] | None = None,
    fold: Box | None = None,
    blurred: Box | None = None,
    seed: int = 0,
) -> Scene:
    """Paint tissue on glass; then a fold (where there is tissue), ink, and what is out of focus, in this order."""
    tissue_hw = covered(pieces, 0, 0, width, height)
    window = (0, 0, width, height)
    pixels = np.where(tissue_hw[..., None], repeated(tissue(seed=seed), *window), repeated(glass(seed=seed), *window))
    rng = np.random.default_rng([7, seed])
    if fold is not None:
        part = pixels[fold.top : fold.bottom, fold.left : fold.right]
        folded = sensed(np.asarray(GLASS) * (np.minimum(part / np.asarray(GLASS), 1)) ** LAYERS, rng)
        part[...] = np.where(tissue_hw[fold.top : fold.bottom, fold.left : fold.right, None], folded, part)
    for colour, box in (ink or {}).items():
        part = pixels[box.top : box.bottom, box.left : box.right]
        part[...] = sensed(np.broadcast_to(np.asarray(INKS[colour], float), part.shape), rng)
    if blurred is not None:
        part = pixels[blurred.top : blurred.bottom, blurred.left : blurred.right]
        part[...] = sensed(gaussian_filter(part.astype(np.float32), (BLUR_PX, BLUR_PX, 0), mode="nearest"), rng)
    return Scene(pixels, tissue_hw, tuple(pieces), dict(ink or {}), fold, blurred)


def clean_scene(seed: int = 0) -> Scene:
    """1024 x 768 px: a round piece and a square one, and nothing wrong with them."""
    return scene(1024, 768, (Ellipse(64, 96, 512, 672), Box(608, 160, 928, 608)), seed=seed)


def troubled_scene(seed: int = 0) -> Scene:
    """2048 x 1024 px: a good piece; one whose right half is blurred; one with a fold; a stroke of every ink."""
    pieces = (Ellipse(64, 64, 640, 704), Box(704, 64, 1280, 704), Box(1344, 64, 1984, 704))
    strokes = {colour: Box(64 + 512 * i, 832, 320 + 512 * i, 928) for i, colour in enumerate(INKS)}
    return scene(2048, 1024, pieces, strokes, Box(1600, 64, 1696, 704), Box(992, 32, 1312, 736), seed)
