"""How well near-duplicates are found where the originals are known.

python tests/measure_near_duplicates.py tiles.parquet     (columns image, group)
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and the number of each tile's original."""
    table = pq.read_table(path, columns=["image", "group"])
    pixels = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in table["image"].to_pylist()]
    return np.stack(pixels), pd.factorize(np.array(table["group"].to_pylist(), dtype=object))[0]


def measured(found_n: np.ndarray, truth_n: np.ndarray) -> dict[str, float]:
    """Share of originals whose tiles lie in one cluster; precision and recall of pairs; the largest cluster's share."""
    table = pd.DataFrame({"found": found_n, "truth": truth_n})

    def pairs(by: list[str]) -> float:
        size = table.groupby(by).size()
        return float((size * (size - 1) / 2).sum())

    both = pairs(["found", "truth"])
    return {
        "intact": float((table.groupby("truth")["found"].nunique() == 1).mean()),
        "precision": both / max(1.0, pairs(["found"])),
        "recall": both / max(1.0, pairs(["truth"])),
        "largest": float(table.groupby("found").size().max() / len(table)),
    }


def main(path: Path) -> None:
    """Print the table."""
    import torch

    from stages.splits.near_duplicates import Limits, group

    torch.set_num_threads(1)
    pixels, truth = read(path)
    clock, processor = time.perf_counter(), time.process_time()
    found = group(pixels, Limits(largest=max(20, len(pixels) // 20)), np.random.default_rng(0))
    facts = measured(found.number_n, truth) | {
        "seconds": time.perf_counter() - clock,
        "processor seconds": time.process_time() - processor,
    }
    print(f"{len(pixels)} tiles, {truth.max() + 1} originals, {found.compared} pairs compared, {found.lines}")
    for name, value in facts.items():
        print(f"{name:>18} {value:8.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
