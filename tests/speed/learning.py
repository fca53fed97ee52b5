"""Seconds an iteration and memory of every method that learns images, as the stages run it, on this machine's device.

    python tests/speed/learning.py [--methods dc dm mtt] [--per-class 1 10] [--modes plain exact fast] [--classes 8]

Tiles are noise of the size and number of BloodMNIST; everything else is a distillation as a recipe asks for it: tiles
are drawn and normalised, networks drawn, augmentation, gradient, the step, but no looks at val. Times are medians after
compilation, which is told apart. On a GPU: peak memory of tensors; on a CPU: the process's.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.engine import Serial
from stages import compute, distillation_steps, experts, images, store, streams
from stages.condensation_settings import CondensationSettings
from stages.distill import flat, student
from stages.distillation_methods import METHODS
from stages.experts import ExpertsSettings
from stages.learned_images import Descent

TILES, PX, WIDTH, EPOCHS = 1500, 28, 128, 4
"""Of each class; side; channels; of an expert."""
WARM = 3


def made(folder: Path, classes: int) -> dict[str, Path]:
    """Tiles of noise, and an expert that was not trained."""
    draw = np.random.default_rng(0)
    labels_n = np.repeat(np.arange(classes), TILES)
    pixels_nhwc = draw.integers(0, 256, (len(labels_n), PX, PX, 3), dtype=np.uint8)
    names = tuple(f"class {place}" for place in range(classes))
    role_n = np.where(np.arange(len(labels_n)) % TILES < TILES - 50, "train", "val")
    images.write(folder / "tiles" / "images", images.make(pixels_nhwc, labels_n, names, {"role": role_n}))
    shape = student.Shape(classes, 32, WIDTH)
    walk = [flat.flatten(student.draw(shape, streams.torch_stream(0, "expert", epoch))) for epoch in range(EPOCHS + 1)]
    store.write_tensors(folder / "experts" / "expert_000.safetensors", {"epochs_ep": torch.stack(walk)})
    store.write_json(folder / "experts" / "facts.json", {"experts": 1, "epochs": EPOCHS})
    told = {"mean": [0.5] * 3, "std": [0.3] * 3, "classes": list(names), "size_px": 32, "width": WIDTH, "depth": 3}
    store.write_json(folder / "experts" / "network.json", told)
    return {"tiles": folder / "tiles", "experts": folder / "experts"}


def timed(settings: CondensationSettings, inputs: dict[str, Path], seconds: float) -> str:
    """One row."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    lesson = distillation_steps.prepare(settings, inputs, 7)
    descent = Descent(lesson.learned, lesson.rates, lesson.limits)
    outer = int(lesson.facts.get("outer", 1))
    begun, spent = time.perf_counter(), []
    for k in range(WARM * outer):
        descent.step(lesson.gradient(k))
    compiled = time.perf_counter() - begun
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(spent) < 2:
        started = time.perf_counter()
        for place in range(outer):
            descent.step(lesson.gradient((WARM + len(spent)) * outer + place))
        spent.append(time.perf_counter() - started)
    if torch.cuda.is_available():
        mebibytes = torch.cuda.max_memory_reserved() / 2**20
    else:
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return f"{np.median(spent):9.4f} s  {len(spent):5d} timed  first {WARM} {compiled:6.1f} s  {mebibytes:7.0f} MiB"


def main() -> None:
    """Print a row for every method × mode × size."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--methods", nargs="+", default=["dc", "dm", "mtt"], choices=METHODS)
    asked.add_argument("--per-class", nargs="+", type=int, default=[1, 10])
    asked.add_argument("--modes", nargs="+", default=["plain", "exact", "fast"])
    asked.add_argument("--classes", type=int, default=8)
    asked.add_argument("--seconds", type=float, default=3.0)
    given = asked.parse_args()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{where}, torch {torch.__version__}, {given.classes} classes, real batch 256, width {WIDTH}, 32 px")
    with tempfile.TemporaryDirectory() as folder, compute.one_thread():
        inputs = made(Path(folder), given.classes)
        for method in given.methods:
            for per_class in given.per_class:
                for mode in given.modes:
                    how = {"mode": mode, "start": "real", "width": WIDTH}
                    settings = CondensationSettings(method=method, per_class=per_class, distillation=how)
                    print(
                        f"{method:5} {per_class:3} a class  {mode:6}",
                        timed(settings, inputs, given.seconds),
                        flush=True,
                    )
        if "mtt" in given.methods:
            for mode in given.modes:
                out = Path(folder) / mode / "experts"
                out.mkdir(parents=True)
                begun = time.perf_counter()
                experts.run(ExpertsSettings(count=1, epochs=1, mode=mode), inputs, out, 1, Serial())
                first = time.perf_counter() - begun
                begun = time.perf_counter()
                experts.run(ExpertsSettings(count=2, epochs=1, mode=mode), inputs, out, 2, Serial())
                print(f"expert, an epoch  {mode:6} {(time.perf_counter() - begun) / 2:9.4f} s  first {first:6.1f} s")


if __name__ == "__main__":
    main()
