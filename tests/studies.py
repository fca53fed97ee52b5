"""A tiny study: three small sources in MedMNIST's layout, and a recipe over them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from textures import textured

from pipeline import study_results
from pipeline.runner import Run
from pipeline.study import Study
from pipeline.study_config import load, tasks_of

BENCHMARK = {"resamples": 5, "networks": {"convnet3": {"width": 8, "steps": 12, "evaluations": 2, "image_px": 16}}}

SLOPE, SHIFT = 0.5, {"dc": 0.3, "dm": 0.2}


def results(path: Path, sources: int = 4) -> Path:
    """The results of a study in which distilled = shift of the method + half of random, exactly."""
    found = []
    for place in range(sources):
        task = {"setup": "each", "task": f"t{place}", "source": f"s{place}", "classes": 2, "tiles": 9, "chance": 0.5}
        for size in (1, 10):
            for seed in (0, 1):
                random = 0.5 + 0.1 * place + 0.02 * seed + 0.01 * size
                for method, value in {"random": random, **{m: s + SLOPE * random for m, s in SHIFT.items()}}.items():
                    known = {"method": method, "per_class": size, "seed": seed, "network": "convnet3"}
                    found.append(task | known | {"test_balanced_accuracy": value})
    found.append({**found[0], "method": "all_real", "per_class": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(found, columns=list(study_results.CELLS)).to_csv(path, index=False)
    return path


def npz(path: Path, seed: int, classes: int = 3, groups: int = 36, noise: int = 0) -> Path:
    """Textures of three kinds (or the first two) in MedMNIST's layout, harder with more `noise`."""
    content = {}
    for place, (role, count) in enumerate((("train", groups), ("val", 18), ("test", 24))):
        pixels, labels, _ = textured(count, 1, 100 * seed + place)
        rough = np.random.default_rng([seed, place]).normal(0, noise, pixels.shape)
        keep = labels < classes
        content[f"{role}_images"] = np.clip(pixels + rough, 0, 255).astype(np.uint8)[keep]
        content[f"{role}_labels"] = labels[keep][:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **content)
    return path


def recipe(folder: Path, **changes: Any) -> Path:
    """A study of two whole sources, a subset of the first and one that has too few tiles for two of a class."""
    for number, name in enumerate(("alpha", "beta", "gamma")):
        npz(folder / "sets" / f"{name}.npz", number, noise=30 * number)
    tiles = {"source": "sets/alpha.npz", "grouping": "each"}
    raw: dict[str, Any] = {
        "tasks": {
            "alpha": {"tiles": tiles, "subsets": {"alpha_two": ["0", "1"]}},
            "beta": {"tiles": tiles | {"source": "sets/beta.npz"}},
            "gamma": {"tiles": tiles | {"source": "sets/gamma.npz"}, "classes": ["0", "2"]},
        },
        "per_class": [1, 4],
        "seeds": 2,
        "benchmark": BENCHMARK,
        "judge": {"network": "convnet3", "width": 8, "steps": 6, "batch": 8, "evaluations": 2},
        "simulation": {"share": 0.5, "image_px": 16, "least": 6},
        "resamples": 50,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw | changes))
    return path


def study(root: Path, folder: Path, **changes: Any) -> Study:
    """The tiny study under a root; sources given as in a recipe of `folder`."""
    config = load(recipe(folder, **changes))
    return Study(config, Run(root, "tiny_study", config.seed), tuple(tasks_of(config)))
