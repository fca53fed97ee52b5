"""How large what is seen is: a bar of a round length under a picture of tiles, and the words for its scale.

`mpp` is micrometres per pixel of a tile, None where it is not known. Shapes: h × w pixels, 3 channels.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from stages import store

Pixels = npt.NDArray[np.uint8]
MARGIN_PX = 24
"""Height of what is added below a picture."""
BAR_PX = 4
"""Thickness of the bar."""
LEFT_PX, GAP_PX = 2, 8
"""White at the left of the bar, and between it and its words."""
TEXT_PX = 13
PART = 0.25
"""Share of a tile's side that a bar would cover if every length were round."""


def known_mpp(folder: Path, side_px: int | None = None) -> float | None:
    """`mpp` as the `facts.json` of a stage's result tells it; None where there is none.

    Args:
        folder: the result.
        side_px: side of what is shown, where it may be smaller than its tiles (`size_px`): its pixels are then larger.
    """
    path = folder / "facts.json"
    facts = store.read_json(path) if path.is_file() else {}
    if facts.get("mpp") is None:
        return None
    return float(facts["mpp"]) * (1 if side_px is None else facts.get("size_px", side_px) / side_px)


def told(mpp: float | None) -> str:
    """The scale in words: "0.5 µm per pixel", or "not known"."""
    return "not known" if mpp is None else f"{mpp:.4g} µm per pixel"


def length_um(side_um: float) -> float:
    """The length of 1, 2 or 5 × 10^k µm that is nearest to a quarter of `side_um`, by ratio (0.16 to 0.4 of it).

    Raises:
        ValueError: the side is not above 0.
    """
    if side_um <= 0:
        raise ValueError(f"a scale bar needs a side above 0 µm; got {side_um:g}")
    wanted = PART * side_um
    exponent = math.floor(math.log10(wanted))
    lengths = [digit * 10.0**k for k in (exponent, exponent + 1) for digit in (1, 2, 5)]
    return min(lengths, key=lambda length: abs(math.log(length / wanted)))


def length_words(um: float) -> str:
    """A length of a bar: "0.5 µm", "20 µm", "2 mm"."""
    return f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} µm"


def under(picture_hwc: Pixels, mpp: float | None, side_px: int, enlarged: float = 1) -> Pixels:
    """A picture of one or more tiles with a scale bar in a white margin below it; as it is where mpp is not known.

    The bar is length / mpp × `enlarged` pixels long: whole ones black, the rest of a pixel grey. The tiles stay as
    they are; a picture narrower than the words becomes wider by white at its right.

    Args:
        picture_hwc: what is shown, RGB.
        mpp: micrometres per pixel of a tile.
        side_px: side of a tile, in its own pixels; the bar's length suits it.
        enlarged: side of one of a tile's pixels in the picture.
    """
    if mpp is None:
        return picture_hwc
    length = length_um(side_px * mpp)
    long_px = length / mpp * enlarged
    words, left = f"{length_words(length)}   ({told(mpp)})", LEFT_PX + math.ceil(long_px) + GAP_PX
    height, width = picture_hwc.shape[:2]
    wide = max(width, left + math.ceil(ImageFont.load_default(TEXT_PX).getlength(words)) + GAP_PX)
    page = np.full((height + MARGIN_PX, wide, 3), 255, np.uint8)
    page[:height, :width] = picture_hwc
    margin_hwc = page[height:]
    margin_hwc[:, left:] = _written(words, wide - left)
    top = (MARGIN_PX - BAR_PX) // 2
    margin_hwc[top : top + BAR_PX, LEFT_PX : LEFT_PX + math.ceil(long_px)] = _bar(long_px)[None, :, None]
    return page


def _bar(long_px: float) -> npt.NDArray[np.uint8]:
    """Grey levels along a bar: black, its last pixel as dark as the bar covers of it."""
    covered = np.clip(long_px - np.arange(math.ceil(long_px)), 0, 1)
    levels: npt.NDArray[np.uint8] = np.round(255 * (1 - covered)).astype(np.uint8)
    return levels


def _written(words: str, width: int) -> Pixels:
    """Words on white. Pillow's own font has no µ: it is drawn as a u with the stroke that makes it one."""
    font = ImageFont.load_default(TEXT_PX)
    strip = Image.new("RGB", (width, MARGIN_PX), "white")
    pen = ImageDraw.Draw(strip)
    plain, base = words.replace("µ", "u"), MARGIN_PX // 2 + TEXT_PX // 3
    pen.text((0, base), plain, fill="black", font=font, anchor="ls")
    for place in (i for i, letter in enumerate(words) if letter == "µ"):
        stem = round(font.getlength(plain[:place])) + 1
        pen.line((stem, base - 2, stem, base + 3), fill="black")
    return np.asarray(strip)
