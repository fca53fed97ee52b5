"""A picture of each slide for a person to check: which tiles were taken, of which class, and why others were not.

It shows tissue and stays inside. Its name is a keyed hash; nothing written on it names the slide.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from stages.slide_survey import DARK, LITTLE, PEN

Colour = tuple[int, int, int]
CLASS_COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
)
"""Okabe and Ito's palette, without black and the red that rejected tiles have."""
UNLABELLED: Colour = (70, 70, 70)
REASON_COLOURS: Mapping[str, Colour] = {
    PEN: (120, 0, 200),
    DARK: (90, 60, 30),
    "blurred": (213, 94, 0),
    LITTLE: (170, 170, 170),
}
OTHER: Colour = (255, 0, 0)
TINT = 70
"""Opacity of a class's colour over its tiles, of 255."""
LEGEND_PX, LINE_PX, MARGIN_PX = 250, 22, 10
LETTERS = 34
"""A line of the legend holds so many."""


class Mark(NamedTuple):
    """How the tiles of one state are drawn."""

    text: str
    colour: Colour
    taken: bool
    """Taken tiles are tinted and framed; rejected ones are crossed out."""


def preview(
    thumbnail_hwc: npt.NDArray[np.uint8],
    per_pixel: float,
    tiles: pd.DataFrame,
    classes: tuple[str, ...],
    side0_px: int,
    longest_px: int,
) -> npt.NDArray[np.uint8]:
    """The slide from afar with its tiles, and a legend with counts beside it.

    Args:
        thumbnail_hwc: the scanned part of the slide.
        per_pixel: level-0 pixels per pixel of it.
        tiles: x and y (level 0, from the corner of what was scanned), label, reason.
        classes: all classes of the data set, in order.
        side0_px: side of a tile at level 0.
        longest_px: the picture's longer side is made at most this long.
    """
    picture = Image.fromarray(thumbnail_hwc)
    shrink = min(1.0, longest_px / max(picture.size))
    picture = picture.resize([max(1, round(side * shrink)) for side in picture.size], Image.Resampling.LANCZOS)
    scale = shrink / per_pixel
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    draw, counted = ImageDraw.Draw(layer), dict[Mark, int]()
    for x, y, label, reason in tiles[["x", "y", "label", "reason"]].itertuples(index=False):
        mark = _mark(label, reason, classes)
        counted[mark] = counted.get(mark, 0) + 1
        _draw_tile(draw, mark, x * scale, y * scale, side0_px * scale)
    shown = Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")
    return np.asarray(_with_legend(shown, counted))


def _mark(label: str | None, reason: str | None, classes: tuple[str, ...]) -> Mark:
    if reason is not None:
        return Mark(reason, REASON_COLOURS.get(reason, OTHER), False)
    if label is None or label not in classes:
        return Mark("no class", UNLABELLED, True)
    return Mark(label, CLASS_COLOURS[classes.index(label) % len(CLASS_COLOURS)], True)


def _draw_tile(draw: ImageDraw.ImageDraw, mark: Mark, x: float, y: float, side: float) -> None:
    box = [round(x), round(y), round(x + side) - 1, round(y + side) - 1]
    if box[2] <= box[0] or box[3] <= box[1]:
        draw.point(box[:2], fill=(*mark.colour, 255))
    elif mark.taken:
        tint = 0 if mark.colour == UNLABELLED else TINT
        draw.rectangle(box, fill=(*mark.colour, tint), outline=(*mark.colour, 255))
    else:
        draw.rectangle(box, outline=(*mark.colour, 200))
        draw.line(box, fill=(*mark.colour, 200))


def _with_legend(picture: Image.Image, counted: Mapping[Mark, int]) -> Image.Image:
    """The picture with a legend to its right, taken tiles first; long names are cut."""
    marks = sorted(counted, key=lambda mark: (not mark.taken, mark.text))
    high = max(picture.height, 2 * MARGIN_PX + LINE_PX * len(marks))
    sheet = Image.new("RGB", (picture.width + LEGEND_PX, high), (255, 255, 255))
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for line, mark in enumerate(marks):
        left, top = picture.width + MARGIN_PX, MARGIN_PX + LINE_PX * line
        draw.rectangle([left, top, left + 12, top + 12], fill=mark.colour, outline=(60, 60, 60))
        if not mark.taken:
            draw.line([left, top, left + 12, top + 12], fill=(60, 60, 60))
        text = mark.text if len(mark.text) <= LETTERS else mark.text[: LETTERS - 1] + "…"
        draw.text((left + 20, top - 1), f"{text}  {counted[mark]:,}", fill=(0, 0, 0), font=font)
    return sheet
