"""A story just before its release, and releases of it, for the tests of the release, its card and its check."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages import images, release, store

CLASSES = ("zeta type", "alpha/beta")
PER_CLASS, CANDIDATES = 6, 15
AUDIT = {
    "verdict": "REVIEW",
    "reasons": ["12 tiles were audited; 300 are wanted for GO"],
    "tests": [
        {"name": "near_copies", "value": 0.01, "low": 0.0, "high": 0.05, "control": 0.02, "guess": 0.5, "passed": True}
        | {"meaning": "share of tiles nearer to a training tile than controls are"}
    ],
    "power": {"planted_found": 1.0},
    "nearest": [{"tile": "secret", "group": 7}],
}
SETTINGS = {
    "selection": "infomap_6",
    "licence": "CC-BY-4.0",
    "contact": "Department of Pathology, pathology@example.org",
}


class Serial:
    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


def pixels(count: int, seed: int) -> images.Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def lay_story(root: Path) -> dict[str, Path]:
    """Result folders as the stages before a release would leave them."""
    inputs = {key: root / key.replace("/", "_") for key in ("tiles", "candidates", "selection", "audit_images")}
    roles = ["train", "val", "test", "control"] * 10
    real = images.make(pixels(40, 0), np.arange(40) % 2, CLASSES, {"group": np.arange(40), "role": roles})
    images.write(inputs["tiles"] / "images", real)
    tens = {role: dict.fromkeys(CLASSES, 5) for role in ("train", "val", "test", "control")}
    store.write_json(inputs["tiles"] / "facts.json", {"counts": tens, "groups": tens, "classes": CLASSES})
    labels, index = np.repeat([0, 1], CANDIDATES), np.tile(np.arange(CANDIDATES), 2)
    candidates = images.make(pixels(2 * CANDIDATES, 1), labels, CLASSES, {"index": index})
    images.write(inputs["candidates"] / "images", candidates)
    store.write_json(inputs["candidates"] / "facts.json", {"guidance": 2.0, "made_in": "/home/mustermann/run"})
    rows = np.concatenate(
        [CANDIDATES * k + np.random.default_rng(k).permutation(CANDIDATES)[:PER_CLASS] for k in (1, 0)]
    )
    columns = {"candidate": rows, "community": rows % 3, "centrality": rows / 7, "rank": np.tile(np.arange(6), 2)[::-1]}
    images.write(inputs["selection"] / "images", candidates.take(rows)._replace(
        table=candidates.take(rows).table.drop(columns="index").assign(**columns)
    ))  # fmt: skip
    store.write_json(inputs["selection"] / "facts.json", {"method": "infomap"})
    store.write_json(inputs["audit_images"] / "audit.json", AUDIT)
    causes = {"seed": 3, "settings": {"trials": 5, "folder": "/home/mustermann"}, "code": {"stages.selection": "ab"}}
    store.write_json(inputs["selection"] / "seal.json", {"causes": causes, "result": "0" * 64, "files": {}})
    return inputs


def write_benchmark(folder: Path, value: float) -> Path:
    numbers = {"value": value, "low": value - 0.1, "high": value + 0.1}
    metrics = {"convnet3": {"test": {"balanced_accuracy": numbers}, "val": {"balanced_accuracy": numbers}}}
    store.write_json(folder / "metrics.json", metrics)
    told = [{"name": "convnet3", "title": "ConvNet-3, 32 px"}]
    store.write_json(folder / "facts.json", {"images": 12, "agreement": {"judge": 0.9}, "networks": told})
    return folder


def make(story: dict[str, Path], out: Path, **settings: Any) -> Path:
    out.mkdir(parents=True)
    release.run(release.ReleaseSettings(**(SETTINGS | settings)), story, out, 11, Serial())
    return out / "dataset"
