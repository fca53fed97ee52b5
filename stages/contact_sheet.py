"""All classes of an image set on one page, for people."""

import numpy as np

from stages import scale_bar
from stages.images import ImageSet, Pixels

GAP_PX = 2


def contact_sheet(tiles: ImageSet, per_class: int, columns: int, mpp: float | None = None) -> Pixels:
    """The first tiles of every class under its name, on white; small tiles are enlarged by a whole number.

    Below them stands a scale bar where `mpp`, micrometres per pixel of a tile, is known.
    """
    from PIL import Image, ImageDraw, ImageFont

    scale = max(1, -(-64 // tiles.pixels_nhwc.shape[1]))
    side = tiles.pixels_nhwc.shape[1] * scale
    step, caption = side + GAP_PX, 18
    font = ImageFont.load_default(13)
    blocks = [tiles.where(label=number).pixels_nhwc[:per_class] for number in range(len(tiles.classes))]
    heights = [caption + step * -(-len(block) // columns) for block in blocks]
    width = step * min(columns, max(map(len, blocks))) + GAP_PX
    sheet = Image.new("RGB", (max(width, 160), sum(heights) + GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for name, block, height in zip(tiles.classes, blocks, heights, strict=True):
        draw.text((GAP_PX, top + 1), name, fill="black", font=font)
        for number, pixels_hwc in enumerate(block):
            tile = Image.fromarray(pixels_hwc).resize((side, side), Image.Resampling.NEAREST)
            row, column = divmod(number, columns)
            sheet.paste(tile, (GAP_PX + column * step, top + caption + row * step))
        top += height
    return scale_bar.under(np.asarray(sheet), mpp, tiles.pixels_nhwc.shape[1], scale)
