"""The nearest pairs side by side, for the eyes of a person inside the house: the picture holds real tiles.

Shapes: k pairs, h and w pixels, 3 channels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]
TILE_PX = 112
MARGIN_PX = 10
TEXT_PX = 16
HEADS = ("released", "nearest train", "nearest control")


def draw(
    triples_k3hwc: Sequence[Sequence[Pixels | None]], captions_k3: Sequence[Sequence[str]], columns: int
) -> Pixels:
    """Draw k rows of released tile | nearest train tile | nearest control tile, in `columns` columns of rows.

    A missing tile is left grey. Under every tile stands its caption.
    """
    rows = max(1, -(-len(triples_k3hwc) // columns))
    cell_h, cell_w = TILE_PX + TEXT_PX + 4, 3 * (TILE_PX + 2) + 2 * MARGIN_PX
    sheet = Image.new("RGB", (columns * cell_w, rows * cell_h + 3 * TEXT_PX + MARGIN_PX), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN_PX, 4), "PRIVATE: real tiles, must not leave the house. Most similar first.", fill=(170, 0, 0))
    for number, (tiles, captions) in enumerate(zip(triples_k3hwc, captions_k3, strict=True)):
        left = (number % columns) * cell_w + MARGIN_PX
        top = (number // columns) * cell_h + 3 * TEXT_PX
        for place, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
            x = left + place * (TILE_PX + 2)
            if number < columns:
                pen.text((x, 2 * TEXT_PX - 4), HEADS[place], fill=(0, 0, 0))
            sheet.paste(_enlarged(tile), (x, top))
            pen.text((x, top + TILE_PX + 1), caption, fill=(0, 0, 0))
    return np.asarray(sheet)


def _enlarged(tile_hwc: Pixels | None) -> Image.Image:
    if tile_hwc is None:
        return Image.new("RGB", (TILE_PX, TILE_PX), (225, 225, 225))
    return Image.fromarray(tile_hwc).resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST)
