"""Pictures of the report as data: single tiles, whole figures, and a sprite sheet of thumbnails.

The page carries everything it shows. Tiles are JPEG without colour subsampling, a third of their PNG; the page says so.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from stages import images

LARGEST_TILE_PX = 160
THUMBNAIL_PX = 48
LARGEST_PNG_BYTES = 100_000
LARGEST_FIGURE_BYTES = 350_000


class Tile(NamedTuple):
    """One tile on the page."""

    uri: str
    alt: str


class Sprites(NamedTuple):
    """Thumbnails side by side in one picture, row by row."""

    uri: str
    edge_px: int
    across: int
    width_px: int
    height_px: int


def tile(pixels_hwc: images.Pixels, alt: str) -> Tile:
    """A tile to look at; larger ones than the page can show are shrunk."""
    picture = Image.fromarray(pixels_hwc)
    picture.thumbnail((LARGEST_TILE_PX, LARGEST_TILE_PX), Image.Resampling.LANCZOS)
    return Tile(_jpeg(picture, 90), alt)


def spread(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of `rows`, evenly spaced from the first: a choice without taste."""
    if len(rows) <= count:
        return rows
    return rows[np.arange(count) * len(rows) // count]


def sprites(tiles: Sequence[images.Pixels]) -> Sprites:
    """Thumbnails of square tiles in one picture, in their order; at least one tile."""
    edge = min(THUMBNAIL_PX, tiles[0].shape[0])
    across = max(1, int(np.ceil(len(tiles) ** 0.5)))
    down = -(-len(tiles) // across)
    sheet = Image.new("RGB", (across * edge, down * edge))
    for place, pixels_hwc in enumerate(tiles):
        small = Image.fromarray(pixels_hwc).resize((edge, edge), Image.Resampling.BILINEAR)
        sheet.paste(small, (place % across * edge, place // across * edge))
    return Sprites(_jpeg(sheet, 80), edge, across, *sheet.size)


def figure(path: Path) -> str | None:
    """A picture a stage wrote, as it is where it is small enough, otherwise as JPEG, shrunk until it is."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if len(content) <= LARGEST_PNG_BYTES:
        return "data:image/png;base64," + base64.b64encode(content).decode()
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    uri = _jpeg(picture, 88)
    while len(uri) > LARGEST_FIGURE_BYTES * 4 / 3:
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)
        uri = _jpeg(picture, 88)
    return uri


def _jpeg(picture: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    # Best Huffman tables need the whole picture in the encoder's buffer; for tiles they save a fifth.
    small = 3 * picture.width * picture.height < ImageFile.MAXBLOCK
    picture.save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=small)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
