"""Gather the public tiles that the shipped autoencoder is trained on into one Parquet file.

    python data/make_public.py LUNG.parquet BLOOD.parquet SLIDE.svs public.parquet

LUNG is lc25000_lung_64.parquet, BLOOD pbc_blood_64.parquet, SLIDE CMU-1-Small-Region.svs (all public).
Labels are sources, and a batch takes the same share of each: the slide at four scales, lung in three classes (the 200
public originals of data/sample/roles.csv alone), blood (the train rows). So slide : lung : blood is 4 : 3 : 1.
"""

import io
import sys
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SCALES = ((1, 48), (2, 24), (4, 10), (8, 5))  # downsampling, and stride in px of the reduced picture
ROLES = Path(__file__).resolve().parent / "sample" / "roles.csv"


def png(pixels: np.ndarray) -> bytes:
    """A tile as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def slide_tiles(path: str) -> list[tuple[str, bytes]]:
    """Overlapping 64-px tiles of the slide at each of SCALES, where there is tissue."""
    slide = openslide.OpenSlide(path)
    width, height = slide.dimensions
    region = slide.read_region((0, 0), 0, (width, height)).convert("RGB")
    found = []
    for factor, stride in SCALES:
        small = np.asarray(region.resize((width // factor, height // factor), Image.Resampling.BOX))
        for top in range(0, small.shape[0] - 63, stride):
            for left in range(0, small.shape[1] - 63, stride):
                tile = small[top : top + 64, left : left + 64]
                if tile.reshape(-1, 3).std(axis=0).mean() > 8:
                    found.append((f"slide_{factor}", png(tile)))
    return found


def main(lung: str, blood: str, slide: str, out: str) -> None:
    """Write `out` with the columns image and label."""
    lungs = pd.read_parquet(lung)
    lungs = lungs[lungs["group"].map(pd.read_csv(ROLES).set_index("group")["role"]) == "public"]
    cells = pd.read_parquet(blood)
    cells = cells[cells["split"] == "train"]
    rows = slide_tiles(slide)
    rows += [(str(label), image["bytes"]) for label, image in zip(lungs["label"], lungs["image"], strict=True)]
    rows += [("blood", image["bytes"]) for image in cells["image"]]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": content, "path": None} for _, content in rows], type=image_type)
    pq.write_table(pa.table({"image": images, "label": [label for label, _ in rows]}), out)


if __name__ == "__main__":
    main(*sys.argv[1:5])
