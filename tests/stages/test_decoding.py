"""Pictures in all their kinds become RGB pixels, or are refused with a reason."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.decoding import Refused, Wanted, rgb

KEEP = Wanted(None, False, 64)
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_files_keep_every_pixel(kind: str) -> None:
    np.testing.assert_array_equal(rgb(saved(Image.fromarray(COLOURS), kind), KEEP), COLOURS)


def test_grey_palette_and_one_bit_become_rgb() -> None:
    grey = Image.fromarray(COLOURS[..., 0])
    np.testing.assert_array_equal(rgb(saved(grey), KEEP), np.repeat(COLOURS[..., :1], 3, axis=2))
    palette = Image.fromarray(COLOURS).quantize(256)
    np.testing.assert_array_equal(rgb(saved(palette), KEEP), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(COLOURS[..., 0] > 127)
    assert set(np.unique(rgb(saved(bits), KEEP))) == {0, 255}


def test_what_is_transparent_shows_white_and_never_what_lay_under_it() -> None:
    layer = np.dstack([COLOURS, np.full((8, 8), 255, np.uint8)])
    layer[:4, :, 3] = 0
    pixels = rgb(saved(Image.fromarray(layer)), KEEP)
    assert (pixels[:4] == 255).all()
    np.testing.assert_array_equal(pixels[4:], COLOURS[4:])


def test_exif_turns_the_picture_upright_and_stays_behind() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: rotate by 90° clockwise to view
    exif[0x010E] = "patient name"
    content = saved(Image.fromarray(COLOURS), "PNG", exif=exif)
    np.testing.assert_array_equal(rgb(content, KEEP), np.rot90(COLOURS, -1))


def test_shrinking_takes_the_mean_over_areas() -> None:
    pixels = rgb(saved(Image.fromarray(COLOURS)), KEEP._replace(size_px=4))
    means = COLOURS.reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(pixels - means).max() <= 1  # Pillow rounds once along each axis


def test_growing_keeps_a_flat_picture_flat() -> None:
    flat = np.full((8, 8, 3), 77, np.uint8)
    assert (rgb(saved(Image.fromarray(flat)), KEEP._replace(size_px=20)) == 77).all()


def test_the_middle_square_is_cut_when_asked() -> None:
    wide = np.dstack([np.tile(np.arange(12, dtype=np.uint8), (8, 1))] * 3)
    pixels = rgb(saved(Image.fromarray(wide)), KEEP._replace(crop=True))
    np.testing.assert_array_equal(pixels, wide[:, 2:10])


def bomb() -> bytes:
    """A small file that says it holds 20,000 × 20,000 pixels."""
    content = bytearray(saved(Image.fromarray(COLOURS)))
    content[16:24] = struct.pack(">II", 20000, 20000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def bad_pictures() -> dict[str, tuple[bytes | None, str]]:
    image = Image.fromarray(COLOURS)
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    frames = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1])]
    deep = Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 257)
    return {
        "vanished": (None, "unreadable"),
        "zero bytes": (b"", "empty"),
        "text": (b"no picture at all", "not an image"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
        "truncated png": (saved(noise)[:4000], "damaged or truncated"),
        "truncated jpeg": (saved(noise, "JPEG")[:1500], "damaged or truncated"),
        "truncated tiff": (saved(noise, "TIFF")[:2000], "damaged or truncated"),
        "only a head": (saved(noise)[:20], "damaged or truncated"),
        "16 bits": (saved(deep), "more than 8 bits a channel"),
        "32 bits": (saved(Image.fromarray(COLOURS[..., 0].astype(np.int32)), "TIFF"), "more than 8 bits a channel"),
        "floats": (saved(Image.fromarray(COLOURS[..., 0].astype(np.float32)), "TIFF"), "more than 8 bits a channel"),
        "cmyk": (saved(image.convert("CMYK"), "JPEG"), "colour mode CMYK"),
        "two frames": (saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "several frames"),
        "huge": (saved(Image.new("L", (65, 65))), "too large"),
        "a bomb": (bomb(), "too large"),
        "oblong": (saved(image.crop((0, 0, 8, 5))), "not square"),
    }


@pytest.mark.parametrize("kind", bad_pictures())
def test_a_bad_picture_is_refused_with_the_reason(kind: str) -> None:
    content, reason = bad_pictures()[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Refused, match=reason):
            rgb(content, KEEP)
