"""Pixels of a whole slide, and nothing else of it: no label, no macro, no property but the mpp and the bounds.

OpenSlide reads SVS, NDPI, MRXS, SCN, BIF, DICOM and tiled TIFF; its Python side hands plain pictures to Pillow. A
process keeps the slides it read last open. Shapes: h and w pixels, c = 3 channels.
"""

import functools
import os
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from stages.slides.units import Mpp
from stages.sources.chunks import FORMATS
from stages.sources.slide_files import SURE

Pixels = npt.NDArray[np.uint8]
KEPT_OPEN = 4
"""Slides a process holds open: enough for threads that cross from one slide into the next."""
CACHE_BYTES = 2**26
"""Decoded pixels a process keeps, of all its slides together."""
BAND_PX = 1024
"""Rows of a level read at once for a thumbnail, about; bounds memory."""
SENSIBLE = (0.05, 20.0)
"""Micrometres per pixel a microscope can have; TIFFs made for printing say otherwise."""
PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's modes that become 8-bit RGB without a choice to make."""
TILE_WIDTH = 322
"""The tag (TIFF 6.0, section 15) that a TIFF in tiles has."""
_opening = threading.Lock()


class Unreadable(Exception):
    """Why a slide cannot be read, in a few words that name nothing private."""


class Facts(NamedTuple):
    """What tiling wants to know of a slide."""

    width: int
    height: int
    """Of level 0, in pixels."""
    origin: tuple[int, int]
    """Upper left corner of what was scanned, x and y."""
    downsamples: tuple[float, ...]
    """How much coarser than level 0 each level is."""
    mpp: Mpp | None
    """Micrometres per pixel of level 0; None: the slide does not say."""


def facts(path: Path) -> Facts:
    """What the head of a slide says.

    Raises:
        Unreadable: it is no slide, or damaged.
    """
    slide = _slide(path)
    x, y = (_number(slide, f"openslide.bounds-{axis}", 0) for axis in "xy")
    width, height = slide.dimensions
    width, height = (
        min(int(_number(slide, f"openslide.bounds-{name}", size)), size - int(start))
        for name, size, start in (("width", width, x), ("height", height, y))
    )
    return Facts(width, height, (int(x), int(y)), tuple(map(float, slide.level_downsamples)), mpp_of(slide.properties))


def mpp_of(properties: Any) -> Mpp | None:
    """Micrometres per pixel as the properties of a slide say, the geometric mean of both axes; None if they do not.

    Raises:
        Unreadable: the pixels are far from square.
    """
    try:
        x, y = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    if not all(SENSIBLE[0] <= value <= SENSIBLE[1] for value in (x, y)):
        return None
    if max(x, y) / min(x, y) > 1.05:
        raise Unreadable(f"its pixels are not square ({x:g} × {y:g} µm)")
    return Mpp((x * y) ** 0.5)


def region(path: Path, x: int, y: int, level: int, width: int, height: int) -> Pixels:
    """`width` × `height` pixels of a level, the upper left corner at x, y of level 0; white where nothing was scanned.

    Raises:
        Unreadable: this part of the slide is damaged.
    """
    slide = _slide(path)
    try:
        rgba = slide.read_region((x, y), level, (width, height))
    except Exception as error:  # OpenSlideError, and whatever Pillow raises on damaged pictures
        raise Unreadable("damaged") from error
    return on_white(rgba)


def on_white(rgba: Image.Image) -> Pixels:
    """RGB; what is transparent was not scanned and shows white."""
    if rgba.getchannel("A").getextrema() == (255, 255):
        return np.asarray(rgba.convert("RGB"))
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB"))


def thumbnail(path: Path, about: float) -> tuple[Pixels, float]:
    """The scanned part of a slide, made smaller by means over whole pixels, and by how much.

    Args:
        path: the slide.
        about: level-0 pixels a pixel of the result should have, at most; the coarsest level that is finer is read.

    Returns:
        h × w × 3, and level-0 pixels per pixel of it.

    Raises:
        Unreadable: the slide is damaged.
    """
    told = facts(path)
    level = max(n for n, d in enumerate(told.downsamples) if n == 0 or d <= about * 1.001)
    down = told.downsamples[level]
    factor = max(1, int(about / down + 0.001))
    wide, high = (max(1, int(size / down)) for size in (told.width, told.height))
    rows = max(1, BAND_PX // factor) * factor
    bands = []
    for top in range(0, high, rows):
        start = told.origin[1] + int(top * down)
        band = Image.fromarray(region(path, told.origin[0], start, level, wide, min(rows, high - top)))
        bands.append(np.asarray(band.reduce(factor) if factor > 1 else band))
    return np.concatenate(bands), down * factor


def hidden(path: Path) -> tuple[dict[str, str], list[str]]:
    """Every property of a slide, and the names of the pictures beside its levels (label, macro): for people, to see
    what must not travel. No other function reads them.

    Raises:
        Unreadable: it is no slide, or damaged.
    """
    slide = _slide(path)
    return dict(slide.properties), sorted(slide.associated_images)


def _slide(path: Path) -> Any:
    try:
        with _opening:  # threads that come upon a slide at once share it
            return _opened(path, path.stat().st_mtime_ns, os.getpid())
    except FileNotFoundError as error:
        raise Unreadable("not there") from error
    except OSError as error:
        raise Unreadable("unreadable") from error


@functools.lru_cache(maxsize=1)
def _cache() -> Any:
    """What the slides of a process have in common to keep decoded pixels in: memory does not grow with their number."""
    import openslide

    return openslide.OpenSlideCache(CACHE_BYTES)


@functools.lru_cache(maxsize=KEPT_OPEN)
def _opened(path: Path, changed: int, process: int) -> Any:
    """An open slide; `changed` and `process` see to it that none outlives its file's change or a fork."""
    import openslide

    with path.open("rb") as file:  # tells what may not be read; OpenSlide does not
        if not file.read(1):
            raise Unreadable("empty")
    try:
        if openslide.OpenSlide.detect_format(path) is not None:
            slide = openslide.OpenSlide(path)
            slide.set_cache(_cache())
            return slide
    except openslide.OpenSlideError:
        raise Unreadable("damaged") from None
    return openslide.ImageSlide(_picture(path))


def _picture(path: Path) -> Image.Image:
    """A plain picture, read whole: Pillow's open files are not for several threads at once."""
    if path.suffix.lower() in SURE:
        raise Unreadable("damaged, or not what its name says")
    try:
        with warnings.catch_warnings():  # Pillow warns of large pictures; here they are expected
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                _check(picture)
                picture.load()
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable("too large for a picture without levels: save it as a tiled, pyramidal TIFF") from None
    except UnidentifiedImageError:
        raise Unreadable("not a slide") from None
    except Exception:  # each of Pillow's decoders has errors of its own
        raise Unreadable("damaged") from None
    return picture


def _check(picture: Image.Image) -> None:
    """What can be told from the head of the file."""
    if picture.format == "TIFF" and TILE_WIDTH in picture.tag_v2:  # type: ignore[attr-defined]  # OpenSlide's to read
        raise Unreadable("damaged, or of a kind that OpenSlide does not read")
    if picture.mode not in PLAIN_MODES:
        raise Unreadable(f"colour mode {picture.mode}")


def _number(slide: Any, name: str, otherwise: int) -> float:
    try:
        return float(slide.properties[name])
    except (KeyError, ValueError):
        return float(otherwise)
