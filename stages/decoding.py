"""An image file's bytes -> RGB pixels, or the reason why not. Nothing but pixels comes out: no EXIF, no comment.

Chunks of a source become tables of PNGs, which wait on disk until all are known and can be put in order.

Shapes: h and w pixels, c = 3 channels.
"""

import io
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageOps, UnidentifiedImageError

from stages import images, stain, store
from stages.contracts import UserError
from stages.images import Pixels
from stages.sources.chunks import FORMATS, Chunk, fetch
from stages.stain import Stain, StainSettings

DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes of more than 8 bits a channel."""
MIN_SIDE_PX = 8
"""A smaller picture shows no tissue; it is an icon or a slip."""
PLAIN = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"}
"""Pillow's modes that become 8-bit RGB without a choice to make."""


DECODED = pa.schema(
    [
        ("row", pa.int64()),
        ("tile_id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("side", pa.int32()),
        ("grey", pa.bool_()),
        ("png", pa.binary()),
        ("reason", pa.string()),
        ("hint", pa.string()),
    ]
)
"""A decoded chunk: row of the source, what `rgb` found and its PNG, or why not; `hint` as in `chunks.Found`. `side` is
what the picture's (square) side was before it was resized, in pixels."""


class Wanted(NamedTuple):
    """What a tile should be."""

    size_px: int | None
    """Side in pixels; None keeps the picture's own."""
    crop: bool
    """Cut the middle square out of a picture that is not square, instead of setting it aside."""
    max_side_px: int
    """A longer side is no tile; it is not even decoded."""
    stain: Stain | None = None
    """The stain that every tile is given; None leaves it its own."""


class Refused(Exception):
    """Why a picture cannot be a tile, in a few words."""


def rgb(content: bytes | Pixels | None, wanted: Wanted) -> Pixels:
    """The picture in `content` (a file's bytes, or grey or RGB pixels) as h × w × 3 RGB.

    Upright (EXIF orientation applied), on white where transparent.
    Resized to `wanted.size_px`: the mean over areas when it shrinks, bicubic when it grows. Then in `wanted.stain`.

    Raises:
        Refused: the file is empty, no picture, truncated, deeper than 8 bits, of several frames, of a colour mode
            whose meaning is uncertain, too large, too small, or not square; or its stain cannot be told.
    """
    return _finished(_picture(content, wanted), wanted)


def _picture(content: bytes | Pixels | None, wanted: Wanted) -> Image.Image:
    """The picture in `content` in its own size, RGB; refused as `rgb` says."""
    if content is None:
        raise Refused("unreadable")
    if len(content) == 0:
        raise Refused("empty")
    with warnings.catch_warnings():  # Pillow warns of odd files; the checks here decide
        warnings.simplefilter("ignore")
        try:
            with _opened(content) as image:
                _check(image, content, wanted)
                return _on_white(ImageOps.exif_transpose(image))
        except Refused:
            raise
        except UnidentifiedImageError:
            raise Refused("not an image") from None
        except Image.DecompressionBombError:
            raise Refused("too large") from None
        except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error … on damaged files
            raise Refused("damaged or truncated") from None


def _finished(picture: Image.Image, wanted: Wanted) -> Pixels:
    """A picture at the wanted size, in the wanted stain."""
    return in_stain(np.asarray(_sized(picture, wanted)), wanted)


def in_stain(pixels_hwc: Pixels, wanted: Wanted) -> Pixels:
    """A tile in `wanted.stain`; as it is where none is wanted.

    Raises:
        Refused: its own stain cannot be told.
    """
    if wanted.stain is None:
        return pixels_hwc
    found = stain.stained(pixels_hwc, wanted.stain)
    if found is None:
        raise Refused("stain cannot be told")
    return found


def wanted_stain(settings: StainSettings, max_side_px: int) -> Stain:
    """The stain that `settings` ask for, read from their target where there is one.

    Raises:
        UserError: the target is missing, no picture, or its stain cannot be told.
    """
    if settings.target is None:
        return stain.own_reference()
    if not settings.target.is_file():
        raise UserError(f"There is no picture at {settings.target}. Mend tiles.stain.target.")
    try:
        pixels_hwc = rgb(settings.target.read_bytes(), Wanted(None, True, max_side_px))
    except Refused as refused:
        raise UserError(
            f"{settings.target} cannot be the target of the stain: {refused}. Give a picture of stained tissue, of 8 "
            f"bits a channel and at most {max_side_px} px a side."
        ) from None
    found = stain.told(pixels_hwc, settings.method)
    if found is None:
        raise UserError(
            f"The stain of {settings.target} cannot be told: it shows too little tissue, or one colour. Give tiles."
            "stain.target a picture that is mostly tissue and shows hematoxylin and eosin."
        )
    return found


def _opened(content: bytes | Pixels) -> Image.Image:
    """Nothing but the head is read; pixels of one channel are grey."""
    if not isinstance(content, bytes):
        return Image.fromarray(content[..., 0] if content.shape[2:] == (1,) else content)
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _bits(image: Image.Image, content: bytes | Pixels) -> int:
    """Bits of a channel as the file says: of deep colours Pillow keeps the upper 8 bits (or, of planar TIFF, worse)."""
    if not isinstance(content, bytes):
        return 8
    if image.format == "PNG":
        return content[24]  # ISO/IEC 15948, 11.2.2: IHDR comes first, its ninth byte is the depth
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(258, (1,))))  # type: ignore[attr-defined]  # BitsPerSample
    if image.format == "JPEG2000" and (start := content.find(b"\xff\x4f\xff\x51")) >= 0:
        return (content[start + 42] & 0x7F) + 1  # ISO/IEC 15444-1, A.5.1: Ssiz of the first component
    if image.format == "PPM":
        args = image.tile[0].args  # type: ignore[attr-defined]
        return int(args[1]).bit_length() if isinstance(args, tuple) else 8  # the largest value
    return 8


def _check(image: Image.Image, content: bytes | Pixels, wanted: Wanted) -> None:
    """What can be told from the head of the file."""
    if max(image.size) > wanted.max_side_px:
        raise Refused("too large")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise Refused("several frames")
    if image.mode in DEEP or _bits(image, content) > 8:
        raise Refused("more than 8 bits a channel")
    if image.mode not in PLAIN:
        raise Refused(f"colour mode {image.mode}")
    width, height = image.size
    if width != height and not wanted.crop:
        raise Refused("not square")
    if min(image.size) < MIN_SIDE_PX:
        raise Refused("too small")


def _on_white(image: Image.Image) -> Image.Image:
    """RGB; what is transparent shows white, as the background of a slide does."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer).convert("RGB")
    return image.convert("RGB")


def _sized(picture: Image.Image, wanted: Wanted) -> Image.Image:
    """The middle square, if asked for, at the wanted size."""
    side = min(picture.size)
    if picture.size != (side, side):
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    if wanted.size_px is None or wanted.size_px == side:
        return picture
    method = Image.Resampling.BOX if wanted.size_px < side else Image.Resampling.BICUBIC
    return picture.resize((wanted.size_px, wanted.size_px), method)


def decode_chunk(chunk: Chunk, wanted: Wanted) -> dict[str, list[Any]]:
    """Decode a chunk: the columns of `DECODED` but `row`, one entry for each of its images."""
    columns: dict[str, list[Any]] = {name: [] for name in DECODED.names if name != "row"}
    for found in fetch(chunk):
        values: dict[str, Any] = {"hint": found.hint}
        try:
            picture = _picture(found.content, wanted)
            pixels_hwc = _finished(picture, wanted)
        except Refused as refused:
            values["reason"] = str(refused)
        else:
            values |= {"tile_id": images.tile_id(pixels_hwc), "png": images.png(pixels_hwc)}
            values |= {"height": pixels_hwc.shape[0], "width": pixels_hwc.shape[1], "side": min(picture.size)}
            values["grey"] = images.is_grey(pixels_hwc)
        for name, column in columns.items():
            column.append(values.get(name))
    return columns


def write_chunk(path: Path, rows_n: npt.NDArray[np.int64], columns: Mapping[str, Sequence[Any]]) -> None:
    """Keep what `decode_chunk` made of the source's rows `rows_n`."""
    table = pa.Table.from_pydict({"row": rows_n.tolist(), **columns}, schema=DECODED)
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    buffer.seek(0)
    store.write_stream(path, buffer)


def read_chunk(path: Path) -> pa.Table:
    """A decoded chunk, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def finished_mpp(mpp: float | None, sides_px: Collection[int], size_px: int) -> float | None:
    """Micrometres per pixel of finished tiles of `size_px`, from those of the pictures they were made of.

    None where it is not known: `mpp` is not, or the pictures had several sides and tiles have several scales.
    """
    if mpp is None or len(set(sides_px)) != 1:
        return None
    return mpp * next(iter(sides_px)) / size_px
