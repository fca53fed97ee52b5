"""Slides that OpenSlide opens, with exactly known content: small ones of a scene, and a big one for speed.

Compression is deflate, so every level holds its truth to the grey level. Levels below the first are pages of reduced
resolution, each pixel the rounded mean of a square of level 0: OpenSlide's generic reader does not follow SubIFDs.
"""

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from painted_tissue import Box, Ellipse, Piece, Scene, covered, glass, inside, repeated, tissue
from PIL import Image, ImageDraw

TILE_PX = 256
PERIOD_PX = 2048  # of the big slide's texture: 64 distinct tiles of level 0
PATIENT = "MUSTERMANN^ERIKA"
PRIVATE = {  # in the words of Aperio's scanners: what must never leave the hospital
    "Filename": f"{PATIENT}-S21-04711",
    "Date": "03/14/21",
    "Time": "09:26:53",
    "User": "7d7dd5b1-0e59-4c4f-9ab7-3c1d1f3a2b6e",
    "ScanScope ID": "SS7061CNTLR",
}
HEAD = "Aperio Image Library v11.2.1 \r\n"


class Slide(NamedTuple):
    """A slide on disk and all that is true of it."""

    path: Path
    mpp: float | None  # micrometres per pixel of level 0, as the file says it; None: it does not
    levels: tuple[np.ndarray, ...]  # uint8 (h, w, 3) each, as OpenSlide must give them
    scene: Scene
    associated: dict[str, np.ndarray]  # label, macro, thumbnail
    private: dict[str, str]  # properties that point to a person


class BigSlide(NamedTuple):
    """A slide too big to hold: ask `block` for what is where."""

    path: Path
    mpp: float
    side: int
    downsamples: tuple[int, ...]
    pieces: tuple[Piece, ...]


def reduced(pixels_hwc: np.ndarray, factor: int) -> np.ndarray:
    """Mean of every whole factor × factor square, rounded half up, uint8."""
    height, width = pixels_hwc.shape[0] // factor, pixels_hwc.shape[1] // factor
    rows = pixels_hwc[: height * factor, : width * factor].reshape(height, factor, width * factor * 3)
    total = rows.sum(axis=1, dtype=np.uint32).reshape(height, width, factor, 3).sum(axis=2)
    return ((2 * total + factor**2) // (2 * factor**2)).astype(np.uint8)


def resolution(mpp: float | None) -> dict[str, Any]:
    """TIFF's resolution tags, in pixels per centimetre."""
    return {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}


def write_level(file: tifffile.TiffWriter, level: int, pixels_hwc: np.ndarray, **tags: Any) -> None:
    """Append one level of a pyramid as a tiled page."""
    place = {"subfiletype": 1 if level else 0, "tile": (TILE_PX, TILE_PX), "photometric": "rgb"}
    file.write(pixels_hwc, compression="zlib", metadata=None, software=False, **place, **tags)


def generic_slide(path: Path, scene: Scene, mpp: float | None = 0.5, downsamples: Sequence[int] = (1, 4, 16)) -> Slide:
    """Write a pyramidal TIFF without a maker's marks; OpenSlide calls it generic-tiff."""
    levels = tuple(reduced(scene.pixels_hwc, factor) for factor in downsamples)
    with tifffile.TiffWriter(path) as file:
        for level, (factor, pixels) in enumerate(zip(downsamples, levels, strict=True)):
            write_level(file, level, pixels, **resolution(None if mpp is None else mpp * factor))
    return Slide(path, mpp, levels, scene, {}, {})


def aperio_slide(
    path: Path,
    scene: Scene,
    mpp: float | None = 0.5,
    downsamples: Sequence[int] = (1, 4),
    private: Mapping[str, str] = PRIVATE,
) -> Slide:
    """Write what Aperio's scanners write: properties of a patient, a photographed label and a macro image."""
    levels = tuple(reduced(scene.pixels_hwc, factor) for factor in downsamples)
    height, width = scene.pixels_hwc.shape[:2]
    pictures = {"thumbnail": reduced(scene.pixels_hwc, 8), "label": label(), "macro": macro(scene)}
    said = dict(private) | {"AppMag": "20"} | ({} if mpp is None else {"MPP": f"{mpp:.4f}"})
    about = "|".join([f"{HEAD}{width}x{height} [0,0 {width}x{height}] (256x256) ZIP/RGB"])
    about += "".join(f"|{name} = {value}" for name, value in said.items())
    with tifffile.TiffWriter(path) as file:
        write_level(file, 0, levels[0], description=about)
        write_picture(file, "", pictures["thumbnail"], 0)
        for level, pixels in enumerate(levels[1:], 1):
            size = f"{width}x{height} -> {pixels.shape[1]}x{pixels.shape[0]}"
            write_level(file, level, pixels, description=f"{HEAD}{size}")
        write_picture(file, "label", pictures["label"], 1)
        write_picture(file, "macro", pictures["macro"], 9)
    return Slide(path, mpp, levels, scene, pictures, dict(private))


def leica_slide(
    path: Path, scene: Scene, origin: tuple[int, int], mpp: float = 0.5, downsamples: Sequence[int] = (1, 4)
) -> Slide:
    """Write what Leica's SCN400 writes: a scanned area on a larger, empty plane; MIRAX and Ventana have such too.

    Args:
        path: ends in .scn.
        scene: what was scanned; `levels` hold no more than it.
        origin: where its upper left corner lies on the plane, x and y in pixels of level 0.
        mpp: micrometres per pixel of level 0.
        downsamples: how much coarser each level is.
    """
    levels = tuple(reduced(scene.pixels_hwc, factor) for factor in downsamples)
    height, width = scene.pixels_hwc.shape[:2]
    # whole pixels on every level, as OpenSlide tells downsamples by the levels' sizes
    plane = tuple(-(-(start + size + 64) // 16) * 16 for start, size in zip(origin, (width, height), strict=True))
    overview = np.full((plane[1] // 8, plane[0] // 8, 3), 240, np.uint8)
    images = leica_image(0, [overview], plane, (0, 0), mpp) + leica_image(1, levels, (width, height), origin, mpp)
    size = f'sizeX="{round(plane[0] * mpp * 1000)}" sizeY="{round(plane[1] * mpp * 1000)}"'
    about = f"<collection {size}><barcode>{base64.b64encode(PATIENT.encode()).decode()}</barcode>{images}</collection>"
    about = f'<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">{about}</scn>'
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        write_level(file, 0, overview, description=about)
        for level, (factor, pixels) in enumerate(zip(downsamples, levels, strict=True)):
            write_level(file, level, pixels, **resolution(mpp * factor))
    return Slide(path, mpp, levels, scene, {"macro": overview}, {"barcode": PATIENT})


def leica_image(
    page: int, levels: Sequence[np.ndarray], size: tuple[int, int], origin: tuple[int, int], mpp: float
) -> str:
    """The XML of one of Leica's images: its levels from a page of the file on, and where it lies, in nanometres."""
    wide, high, left, top = (round(pixels * mpp * 1000) for pixels in (*size, *origin))
    pages = "".join(
        f'<dimension ifd="{page + level}" r="{level}" sizeX="{pixels.shape[1]}" sizeY="{pixels.shape[0]}"/>'
        for level, pixels in enumerate(levels)
    )
    return (
        f'<image><creationDate>2021-03-14T09:26:53.00Z</creationDate><pixels>{pages}</pixels><view sizeX="{wide}" '
        f'sizeY="{high}" offsetX="{left}" offsetY="{top}"/><scanSettings><objectiveSettings><objective>20</objective>'
        "</objectiveSettings><illuminationSettings><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings></image>"
    )


def write_picture(file: tifffile.TiffWriter, name: str, pixels_hwc: np.ndarray, subfiletype: int) -> None:
    """Append an associated image as a page of strips; the second page of a file is its thumbnail, by place."""
    about = f"{HEAD}{name} {pixels_hwc.shape[1]}x{pixels_hwc.shape[0]}"
    tags: dict[str, Any] = {"subfiletype": subfiletype, "description": about, "photometric": "rgb"}
    file.write(pixels_hwc, compression="zlib", rowsperstrip=16, metadata=None, software=False, **tags)


def label() -> np.ndarray:
    """A sticker with the patient's name, in a yellow that occurs nowhere else, uint8 (200, 180, 3)."""
    sticker = Image.new("RGB", (180, 200), (250, 230, 60))
    ImageDraw.Draw(sticker).text((10, 40), f"{PATIENT}\n* 12.08.1957\nS21-04711", fill=(0, 0, 0))
    return np.asarray(sticker)


def macro(scene: Scene) -> np.ndarray:
    """The whole glass as a camera sees it: the sticker beside the tissue, uint8 (200, 180 + w, 3)."""
    height, width = scene.pixels_hwc.shape[:2]
    small = Image.fromarray(scene.pixels_hwc).resize((round(200 * width / height), 200), Image.Resampling.BOX)
    return np.concatenate([label(), np.asarray(small)], axis=1)


def big_slide(path: Path, side: int = 20_000, mpp: float = 0.5, downsamples: Sequence[int] = (1, 4, 16)) -> BigSlide:
    """Write a square pyramid tile by tile; memory does not grow with its side.

    About half is tissue, whose texture repeats every PERIOD_PX and is drawn for 0.5 µm per pixel. A tile wholly in a
    piece, or outside all, is compressed once per place in the texture; only borders are painted afresh. 20,000 px
    take 13 s of one core, 0.65 GB of memory and 0.75 GB on disk.
    """
    slide = BigSlide(path, mpp, side, tuple(downsamples), big_pieces(side))
    with tifffile.TiffWriter(path) as file:
        for level, factor in enumerate(downsamples):
            shape: dict[str, Any] = {"shape": (side // factor, side // factor, 3), "dtype": np.uint8}
            write_level(file, level, compressed_tiles(slide, level), **shape, **resolution(mpp * factor))
    return slide


def big_pieces(side: int) -> tuple[Piece, ...]:
    """A round piece and a square one, together 47 % of a square slide."""
    round_piece = Ellipse(*(round(share * side) for share in (0.05, 0.05, 0.55, 0.95)))
    return round_piece, Box(*(round(share * side) for share in (0.62, 0.30, 0.92, 0.70)))


def block(slide: BigSlide, level: int, left: int, top: int, width: int, height: int) -> np.ndarray:
    """What a level of a big slide holds in a window of its own pixels, uint8 (height, width, 3)."""
    factor = slide.downsamples[level]
    window = (factor * left, factor * top, factor * width, factor * height)
    pixels = repeated(glass(PERIOD_PX), *window)
    tissue_hw = covered(slide.pieces, *window)
    np.copyto(pixels, repeated(tissue(PERIOD_PX), *window), where=tissue_hw[..., None])
    return reduced(pixels, factor)


def compressed_tiles(slide: BigSlide, level: int) -> Iterator[bytes]:
    """Every tile of a level, row by row; what hangs over the border goes on as the picture does."""
    factor, side = slide.downsamples[level], slide.side // slide.downsamples[level]
    kept: dict[tuple[bool, int, int], bytes] = {}
    for top in range(0, side, TILE_PX):
        for left in range(0, side, TILE_PX):
            all_tissue = uniform(slide.pieces, factor * left, factor * top, factor * TILE_PX)
            key = (bool(all_tissue), factor * left % PERIOD_PX, factor * top % PERIOD_PX)
            tile = None if all_tissue is None else kept.get(key)
            if tile is None:
                tile = zlib.compress(block(slide, level, left, top, TILE_PX, TILE_PX).tobytes(), 1)
            if all_tissue is not None:
                kept[key] = tile
            yield tile


def uniform(pieces: Sequence[Piece], left: int, top: int, side: int) -> bool | None:
    """Whether a square is all tissue (True) or all glass (False); None where it may be both."""
    right, bottom = left + side, top + side
    corners = [(x, y) for x in (left, right - 1) for y in (top, bottom - 1)]
    # pieces are convex: what holds the four corners holds the square
    if any(all(inside(piece, x, y, 1, 1)[0, 0] for x, y in corners) for piece in pieces):
        return True
    apart = (p.right <= left or right <= p.left or p.bottom <= top or bottom <= p.top for p in pieces)
    return False if all(apart) else None
