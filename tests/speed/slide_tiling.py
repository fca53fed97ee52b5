"""Tiling of a 20,000 × 20,000 px slide beside a bare loop that only reads the same regions and encodes them.

    python tests/speed/slide_tiling.py [--side 20000] [--workers 2] [--engine processes] [--rounds 3]

Prints the seconds that the coordinates take, tiles per second of both (interleaved, medians), their ratio (wanted:
0.85 or more), and the peak memory of a process that tiles one slide, and of one that tiles four.
"""

import argparse
import io
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_slides import big_slide

from pipeline import engine as engines
from stages import gathering, slide_tiling
from stages.decoding import Wanted
from stages.slide_settings import SlidesSettings
from stages.slide_tiling import Regions, Surveyed
from stages.sources import slide_files
from stages.sources.table import Columns

CHUNK = 256
SETTINGS = SlidesSettings(mpp=0.5, tile_px=256)
TILE = Wanted(None, False, 2048)


def bare(regions: Regions) -> int:
    """Read every region and encode it; nothing is judged, named or kept."""
    import openslide

    slide, plan, size = openslide.OpenSlide(regions.path), regions.plan, 0
    for place in regions.places:
        tile = slide.read_region(place, plan.level, (plan.read_px, plan.read_px)).convert("RGB")
        side = regions.tile.size_px
        if plan.read_px != side:
            tile = tile.resize((side, side), Image.Resampling.BOX)
        buffer = io.BytesIO()
        tile.save(buffer, format="PNG", compress_level=1)
        size += buffer.tell()
    return size


@contextmanager
def clock(seconds: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)


def surveyed(folder: Path, settings: SlidesSettings, work: Path, engine: Any) -> Surveyed:
    columns = Columns("image", "file", "label", "group", "role")
    slides, _ = slide_files.open_slides(folder, None, columns, None, None, True)
    return slide_tiling.surveyed(slides, settings, work, engine)


def read(found: Surveyed, settings: SlidesSettings, work: Path, engine: Any) -> pd.DataFrame:
    cut = slide_tiling.pieces(found, settings, TILE, CHUNK)
    return gathering.decoded(found.tiles, cut, slide_tiling.read_regions, work, engine)


def fresh(work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    return work


def warmed(engine: Any, workers: int) -> None:
    """Start the workers, and let them import what both ways need."""
    list(engine.map(_imported, range(4 * workers)))


def _imported(_: int) -> float:
    time.sleep(0.05)
    return float(np.zeros(1).sum() + len(slide_tiling.__name__))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--side", type=int, default=20_000)
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--engine", choices=("threads", "processes"), default="processes")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--tile", nargs=2, type=Path, metavar=("SLIDES", "WORK"), help="only tile, and print the memory")
    given = words.parse_args()
    if given.tile is not None:
        folder, work = given.tile
        found = surveyed(folder, SETTINGS, fresh(work), engines.Serial())
        read(found, SETTINGS, work, engines.Serial())
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        print(f"{int(peak[1]) / 1024:.0f} MiB" if peak else "unknown")
        return
    settings = SETTINGS
    with engines.at_work(given.engine, given.workers) as engine, tempfile.TemporaryDirectory() as scratch:
        folder, work = Path(scratch) / "in" / "tumour", Path(scratch) / "work"
        folder.mkdir(parents=True)
        slide = big_slide(folder / "big.tif", given.side)
        warmed(engine, given.workers)
        seconds: dict[str, list[float]] = {"survey": [], "ours": [], "bare": []}
        for _ in range(given.rounds):
            with clock(seconds["survey"]):
                found = surveyed(folder, settings, fresh(work), engine)
            with clock(seconds["ours"]):
                table = read(found, settings, work, engine)
            cut = [regions for _, regions in slide_tiling.pieces(found, settings, TILE, CHUNK)]
            with clock(seconds["bare"]):
                size = sum(engine.map(bare, cut))
        tiles = int(found.tiles["reason"].isna().sum())
        told(seconds, tiles, table, size)
        print(f"peak memory with one slide: {memory(folder, work)}")
        for number in range(3):
            (folder / f"again{number}.tif").hardlink_to(slide.path)
        print(f"peak memory with four slides: {memory(folder, work)}")


def told(seconds: dict[str, list[float]], tiles: int, table: pd.DataFrame, size: int) -> None:
    ours, theirs = (tiles / statistics.median(seconds[name]) for name in ("ours", "bare"))
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["bare"], strict=True)]
    print(f"{tiles} tiles of 256 px, {size / tiles / 1024:.0f} KiB each; {table['reason'].notna().sum()} not taken")
    print(f"coordinates: {statistics.median(seconds['survey']):.2f} s")
    print(f"tiles a second: ours {ours:.1f}, bare loop {theirs:.1f}")
    print(f"ratio: {statistics.median(ratios):.3f} (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})")


def memory(folder: Path, work: Path) -> str:
    """What a process of its own needs to tile a folder, one worker."""
    words = [sys.executable, __file__, "--tile", str(folder), str(work)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
