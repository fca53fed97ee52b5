"""Every kind of odd file in a folder of classes: taken with the right pixels, set aside with the reason, or no tile."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from made_tiles import run
from PIL import Image

from stages import images, store

SIDE, LARGEST = 16, 64
Pixels = npt.NDArray[np.uint8]


def noise(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def smooth(seed: int) -> Pixels:
    """Survives JPEG well enough to be told from its mirror images."""
    ramp = np.linspace(0, 200, SIDE).astype(np.uint8)
    return np.stack([ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None], np.full((SIDE, SIDE), seed)], 2).astype(
        np.uint8
    )


def saved(pixels: Pixels | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG as told, whatever Pillow would write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_png(channels: int, colour: int) -> bytes:
    values = np.random.default_rng(9).integers(0, 65536, (SIDE, SIDE * channels)).astype(">u2")
    return png(SIDE, SIDE, 16, colour, b"".join(b"\0" + row.tobytes() for row in values))


def deep_tiff() -> bytes:
    """16-bit RGB TIFF, of which Pillow alone would keep the upper half of every number."""
    values = np.random.default_rng(9).integers(0, 65536, (SIDE, SIDE, 3)).astype("<u2").tobytes()
    tags = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 206)]
    tags += [(277, 3, 1, 3), (278, 4, 1, SIDE), (279, 4, 1, len(values))]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (head + bytes(4)).ljust(200, b"\0") + struct.pack("<3H", 16, 16, 16) + values


def on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    return np.where(alpha[..., None] == 0, 255, pixels).astype(np.uint8)


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


HOLES = np.where(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3 == 0, 0, 255).astype(np.uint8)
GREY = noise(2)[..., 0]
PALETTE = Image.fromarray(noise(3)).quantize(64)
BITS = Image.fromarray(noise(4)[..., 0] > 127)
JPEG = saved(smooth(40), "JPEG", quality=95, subsampling=0)

TAKEN: dict[str, tuple[str, bytes, Pixels]] = {
    "grey": ("png", saved(GREY), np.repeat(GREY[..., None], 3, 2)),
    "palette": ("png", saved(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "one bit": ("png", saved(BITS), np.asarray(BITS.convert("RGB"))),
    "alpha": ("png", saved(np.dstack([noise(5), HOLES])), on_white(noise(5), HOLES)),
    "grey with alpha": (
        "png",
        saved(Image.fromarray(np.dstack([GREY[::-1], HOLES]))),
        on_white(np.repeat(GREY[::-1, :, None], 3, 2), HOLES),
    ),
    "transparent colour of a palette": (
        "gif",
        saved(PALETTE.transpose(Image.Transpose.ROTATE_90), "GIF", transparency=PALETTE.getpixel((0, SIDE - 1))),
        np.zeros(0, np.uint8),  # checked by itself below: white where that colour was
    ),
    "turned by exif": ("png", saved(noise(6), exif=with_exif(6)), np.rot90(noise(6), -1)),
    "mirrored by exif": ("png", saved(noise(7), exif=with_exif(2)), noise(7)[:, ::-1]),
    "jpeg turned by exif": (
        "jpg",
        saved(smooth(90), "JPEG", quality=95, subsampling=0, exif=with_exif(8)),
        np.rot90(np.asarray(Image.open(io.BytesIO(saved(smooth(90), "JPEG", quality=95, subsampling=0))))),
    ),
    "progressive jpeg": (
        "jpeg",
        saved(smooth(20), "JPEG", progressive=True),
        np.asarray(Image.open(io.BytesIO(saved(smooth(20), "JPEG", progressive=True)))),
    ),
    "bmp": ("bmp", saved(noise(8), "BMP"), noise(8)),
    "compressed tiff": ("tif", saved(noise(9), "TIFF", compression="tiff_lzw"), noise(9)),
    "webp": ("webp", saved(noise(10), "WEBP", lossless=True), noise(10)),
    "jpeg 2000": ("jp2", saved(noise(11), "JPEG2000", irreversible=False), noise(11)),
    "ppm": ("ppm", saved(noise(12), "PPM"), noise(12)),
    "a wrong suffix": ("jpg", saved(noise(13)), noise(13)),
    "a suffix in capitals": ("PNG", saved(noise(14)), noise(14)),
    "text beside the pixels": ("png", saved(noise(15), dpi=(300, 300), icc_profile=b"no profile"), noise(15)),
    "bytes after the end": ("png", saved(noise(16)) + b"trailer", noise(16)),
}

BOMB = png(20000, 20000, 8, 2, b"")
SET_ASIDE: dict[str, tuple[str, bytes, str]] = {
    "empty": ("png", b"", "empty"),
    "text": ("png", b"no picture at all", "not an image"),
    "a web page": ("jpg", b"<!DOCTYPE html><html>404</html>", "not an image"),
    "postscript": ("tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
    "a drawing": ("png", b'<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"/>', "not an image"),
    "a pdf": ("png", b"%PDF-1.7\n", "not an image"),
    "zeros": ("png", bytes(4000), "not an image"),
    "no width and no height": ("png", png(0, 0, 8, 2, b""), "not an image"),
    "only a head": ("png", saved(noise(20))[:20], "damaged or truncated"),
    "half a png": ("png", saved(noise(20))[:500], "damaged or truncated"),
    "half a jpeg": ("jpg", saved(noise(20), "JPEG")[:700], "damaged or truncated"),
    "half a tiff": ("tiff", saved(noise(20), "TIFF")[:500], "damaged or truncated"),
    "half a webp": ("webp", saved(noise(20), "WEBP", lossless=True)[:400], "damaged or truncated"),
    "a flipped byte": ("png", flipped(saved(noise(20)), 300), "damaged or truncated"),
    "grey of 16 bits": ("png", deep_png(1, 0), "more than 8 bits a channel"),
    "colour of 16 bits": ("png", deep_png(3, 2), "more than 8 bits a channel"),
    "colour and alpha of 16 bits": ("png", deep_png(4, 6), "more than 8 bits a channel"),
    "tiff of 16 bits": ("tif", deep_tiff(), "more than 8 bits a channel"),
    "ppm of 16 bits": ("ppm", b"P6 16 16 65535\n" + bytes(range(256)) * 6, "more than 8 bits a channel"),
    "jpeg 2000 of 16 bits": ("jp2", saved(GREY.astype(np.uint16) * 257, "JPEG2000"), "more than 8 bits a channel"),
    "floating point": ("tif", saved(GREY.astype(np.float32), "TIFF"), "more than 8 bits a channel"),
    "cmyk jpeg": ("jpg", saved(Image.fromarray(noise(20)).convert("CMYK"), "JPEG"), "colour mode CMYK"),
    "cmyk tiff": ("tif", saved(Image.fromarray(noise(20)).convert("CMYK"), "TIFF"), "colour mode CMYK"),
    "lab": ("tif", saved(Image.fromarray(noise(20)).convert("LAB"), "TIFF"), "colour mode LAB"),
    "a moving gif": (
        "gif",
        saved(Image.fromarray(noise(20)), "GIF", save_all=True, append_images=[Image.fromarray(noise(21))]),
        "several frames",
    ),
    "a tiff of two pages": (
        "tif",
        saved(Image.fromarray(noise(20)), "TIFF", save_all=True, append_images=[Image.fromarray(noise(21))]),
        "several frames",
    ),
    "too large": ("png", saved(Image.new("RGB", (LARGEST + 1, LARGEST + 1))), "too large"),
    "a bomb": ("png", BOMB, "too large"),
    "one pixel": ("png", saved(Image.new("RGB", (1, 1))), "too small"),
    "oblong": ("png", saved(noise(20)[:9]), "not square"),
}
TWICE: dict[str, tuple[bytes, bytes, str]] = {
    "one file": (saved(noise(30)), saved(noise(30)), "png"),
    "another format": (saved(noise(31)), saved(noise(31), "BMP"), "bmp"),
    "another comment": (saved(noise(32)), saved(noise(32), exif=with_exif(1)), "png"),
}
"""Pictures under benign, and again under tumour."""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All odd files and 30 good ones of each class, once through the stage."""
    root = tmp_path_factory.mktemp("odd")
    folder = root / "in"
    for number, label in enumerate(("benign", "tumour")):
        (folder / label).mkdir(parents=True)
        for tile in range(30):
            (folder / label / f"{tile:02d}.png").write_bytes(saved(noise(1000 * (number + 1) + tile)))
    for kind, (suffix, content, _) in (TAKEN | SET_ASIDE).items():
        (folder / "benign" / f"{kind}.{suffix}").write_bytes(content)
    for kind, (one, other, suffix) in TWICE.items():
        (folder / "benign" / f"{kind}.png").write_bytes(one)
        (folder / "tumour" / f"{kind}.{suffix}").write_bytes(other)
    (folder / "benign" / "a link to nothing.png").symlink_to("gone.png")
    (folder / "benign" / "a folder.png").mkdir()
    (folder / "benign" / ".hidden.png").write_bytes(b"")
    (folder / "benign" / "Thumbs.db").write_bytes(b"")
    return run(root / "out", source=folder, max_side_px=LARGEST)


@pytest.fixture(scope="module")
def reasons(result: Path) -> dict[str, str]:
    frame = pd.read_csv(result / "quarantine.csv")
    return dict(zip(frame["tile"], frame["reason"], strict=True))


def ids(result: Path) -> set[str]:
    return set(images.read_table(result / "images")[0]["tile_id"])


@pytest.mark.parametrize("kind", [kind for kind in TAKEN if TAKEN[kind][2].size])
def test_it_is_taken_with_these_pixels(result: Path, reasons: dict[str, str], kind: str) -> None:
    suffix, _, pixels = TAKEN[kind]
    assert f"benign/{kind}.{suffix}" not in reasons
    assert images.tile_id(np.ascontiguousarray(pixels)) in ids(result)


@pytest.mark.parametrize("kind", SET_ASIDE)
def test_it_is_set_aside_with_the_reason(reasons: dict[str, str], kind: str) -> None:
    suffix, _, reason = SET_ASIDE[kind]
    assert reasons[f"benign/{kind}.{suffix}"] == reason


@pytest.mark.parametrize("kind", TWICE)
def test_a_picture_that_lies_in_two_classes_is_set_aside_in_both(reasons: dict[str, str], kind: str) -> None:
    for name in (f"benign/{kind}.png", f"tumour/{kind}.{TWICE[kind][2]}"):
        assert reasons[name] == "the same picture in two classes"


def test_a_link_to_nothing_is_set_aside_and_what_is_no_picture_by_its_name_is_none(reasons: dict[str, str]) -> None:
    assert reasons["benign/a link to nothing.png"] == "unreadable"
    assert not [name for name in reasons if "hidden" in name or "Thumbs" in name or "a folder" in name]


def test_what_is_transparent_in_a_palette_is_white(result: Path, reasons: dict[str, str]) -> None:
    assert "benign/transparent colour of a palette.gif" not in reasons
    turned = np.asarray(PALETTE.transpose(Image.Transpose.ROTATE_90).convert("RGB")).copy()
    clear = np.asarray(PALETTE.transpose(Image.Transpose.ROTATE_90)) == PALETTE.getpixel((0, SIDE - 1))
    turned[clear] = 255
    assert images.tile_id(turned) in ids(result)


def test_every_file_is_accounted_for(result: Path, reasons: dict[str, str]) -> None:
    assert len(reasons) == len(SET_ASIDE) + 2 * len(TWICE) + 1
    assert len(images.read_table(result / "images")[0]) == 60 + len(TAKEN)
    facts = store.read_json(result / "facts.json")
    assert sum(facts["set_aside"].values()) == len(reasons) and facts["colour"] == "rgb"


def test_the_same_kinds_inside_parquet_have_the_same_fate(tmp_path: Path, reasons: dict[str, str]) -> None:
    good = [(saved(noise(2000 + n)), ("a", "b")[n % 2]) for n in range(12)]
    odd: list[tuple[bytes | None, str]] = [(content, "a") for _, content, _ in SET_ASIDE.values()]
    content, label = zip(*odd, (None, "b"), *good, strict=True)
    pd.DataFrame({"image": content, "label": label}).to_parquet(tmp_path / "t.parquet")
    out = run(tmp_path / "out", source=tmp_path / "t.parquet", group_column=None, max_side_px=LARGEST)
    found = pd.read_csv(out / "quarantine.csv").set_index("tile")["reason"]
    wanted = [reason for _, _, reason in SET_ASIDE.values()] + ["unreadable"]
    assert [found[f"row {row}"] for row in range(len(wanted))] == wanted and len(found) == len(wanted)
