"""Candidates whose vectors are planted blobs, laid out as the selection reads them."""

from pathlib import Path

import numpy as np
import torch

from pipeline.engine import Serial
from stages import images, selection, store
from stages.selection import SelectionSettings

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
