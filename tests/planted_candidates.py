"""Candidates whose vectors are planted blobs, laid out as the selection reads them."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.engine import Serial
from stages import images, selection, store
from stages.selection import SelectionSettings

Results = dict[str, Path]
CLASSES = ["a", "b"]
SETTINGS = SelectionSettings(per_class=10, neighbours=6)


def candidates_of(rng: np.random.Generator, per_class: int = 48) -> tuple[images.ImageSet, np.ndarray, np.ndarray]:
    """Candidates whose vectors form six blobs per class: images, vectors, blob of each."""
    count = 2 * per_class
    blob_n = np.arange(count) % 6 + 6 * (np.arange(count) // per_class)
    x_nd = 8.0 * rng.normal(size=(12, 16))[blob_n] + rng.normal(size=(count, 16))
    pixels_nhwc = rng.integers(0, 256, size=(count, 8, 8, 3), dtype=np.uint8)
    index = {"index": np.tile(np.arange(per_class), 2)}
    return images.make(pixels_nhwc, np.repeat([0, 1], per_class), CLASSES, index), x_nd.astype(np.float32), blob_n


def lay(folder: Path, candidates: images.ImageSet, x_nd: np.ndarray) -> dict[str, Path]:
    """Write what the stage reads."""
    images.write(folder / "candidates" / "images", candidates)
    tensors = {"candidates_nd": torch.from_numpy(x_nd)}
    store.write_tensors(folder / "embedding" / "features.safetensors", tensors)
    return {name: folder / name for name in ("candidates", "embedding")}


def select(inputs: dict[str, Path], out: Path, settings: SelectionSettings = SETTINGS, seed: int = 3) -> Path:
    out.mkdir(parents=True)
    selection.run(settings, inputs, out, seed, Serial())
    return out


def explorable(folder: Path, settings: SelectionSettings = SETTINGS, classes: tuple[str, ...] = ("a", "b")) -> Results:
    """Candidates, an embedding with a map on which blobs lie apart, and the selection `planted` among them."""
    candidates, x_nd, blob_n = candidates_of(np.random.default_rng(0))
    inputs = lay(folder, candidates._replace(classes=classes), x_nd)
    angle_n = 2 * np.pi * blob_n / 12
    spot_n2 = np.random.default_rng(1).normal(scale=0.1, size=(len(blob_n), 2))
    x_n, y_n = (2 * np.stack([np.cos(angle_n), np.sin(angle_n)]) + spot_n2.T).round(6)
    frame = pd.DataFrame({"row": np.arange(len(blob_n)), "x": x_n, "y": y_n})
    frame.to_parquet(folder / "embedding" / "map.parquet", index=False)
    return inputs | {"selection/planted": select(inputs, folder / "selection", settings)}
