"""Pictures of the report: thumbnails in their places, sizes within bounds."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import report_pictures as pictures
from stages import images


def test_thumbnails_lie_row_by_row() -> None:
    tiles = [np.full((8, 8, 3), 50 * number, np.uint8) for number in range(5)]
    sheet = pictures.sprites(tiles)
    assert (sheet.edge_px, sheet.across, sheet.width_px, sheet.height_px) == (8, 3, 24, 16)
    grey_hw = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.uri.partition(",")[2]))).convert("L"))
    assert np.allclose(grey_hw[4::8, 4::8], [[0, 50, 100], [150, 200, 0]], atol=2)


def test_large_pictures_are_made_small(tmp_path: Path) -> None:
    noise_hwc = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    (tmp_path / "pairs.png").write_bytes(images.png(noise_hwc))
    uri = pictures.figure(tmp_path / "pairs.png")
    assert uri and uri.startswith("data:image/jpeg") and len(uri) < pictures.LARGEST_FIGURE_BYTES * 1.4
    assert pictures.figure(tmp_path / "none.png") is None
    assert len(pictures.tile(noise_hwc, "").uri) < 60_000
