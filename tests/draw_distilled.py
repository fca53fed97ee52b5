"""Draw what learned images began as above what became of them.

    python tests/draw_distilled.py RECIPE NAME OUT.png [--root DIR] [--set KEY=VALUE ...]

NAME is a condensation of RECIPE that was learned, in the run of that recipe. A class has a pair of columns.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from pipeline import config as configs
from stages import distillation_steps, distilling_data, images, streams
from stages.contracts import Inputs

EACH, ENLARGED, GAP_PX = 2, 2, 4
WHITE = 255


def start_and_end(config: configs.Config, results: Path, name: str) -> tuple[images.ImageSet, images.ImageSet]:
    """The images of a condensation before its first step, and as it wrote them."""
    settings = config.condensations[name]
    inputs: Inputs = {"tiles": results / "tiles", "candidates": results / "candidates"}
    end = images.read(results / "condensation" / name / "images")
    tiles = distilling_data.read(inputs["tiles"], end.pixels_nhwc.shape[1])
    draw = partial(streams.torch_stream, streams.derive(config.seed, "condensation"))
    img_kmchw = distillation_steps.start(settings, tiles, inputs, draw)
    start_nhwc = distilling_data.to_pixels(img_kmchw.flatten(0, 1), tiles.mean, tiles.std)
    return images.make(start_nhwc, end.labels_n, end.classes, {}), end


def sheet(start: images.ImageSet, end: images.ImageSet) -> images.Pixels:
    """Two rows: before and after, the first images of each class."""
    rows_n = np.concatenate([np.flatnonzero(end.labels_n == label)[:EACH] for label in range(len(end.classes))])
    rows = []
    for shown in (start, end):
        large_nhwc = shown.pixels_nhwc[rows_n].repeat(ENLARGED, 1).repeat(ENLARGED, 2)
        framed_nhwc = np.pad(large_nhwc, ((0, 0), (GAP_PX, 0), (GAP_PX, 0), (0, 0)), constant_values=WHITE)
        rows.append(np.concatenate(list(framed_nhwc), axis=1))
    both_hwc = np.concatenate(rows)
    return np.pad(both_hwc, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=WHITE)


def main() -> None:
    """Read the command line, draw."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("recipe", type=Path)
    words.add_argument("name")
    words.add_argument("out", type=Path)
    words.add_argument("--root", type=Path, default=Path("data"))
    words.add_argument("--set", action="append", default=[])
    given = words.parse_args()
    config = configs.load(given.recipe, given.set)
    results = given.root / "runs" / given.recipe.stem / "results"
    given.out.write_bytes(images.png(sheet(*start_and_end(config, results, given.name)), level=6))


if __name__ == "__main__":
    main()
