"""Experts: networks trained on real train tiles whose parameters after every epoch trajectory matching follows.

They stay in the house: their weights hold what they learned from real tiles. An expert of ConvNet-3 (width 128) takes
1.3 MB an epoch. Experts are independent: they are trained side by side over the engine, and each can be stopped and
continued after any epoch. Among several learning rates val chooses, by the first expert of each.
Shapes: e = epochs + 1 moments, p parameters, n tiles, k classes.
"""

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from stages import compute, distilling_data, progress, store, streams
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.settings import Settings

if TYPE_CHECKING:
    import torch

    from stages.distill.student import Shape
    from stages.distill.trajectory_matching import Batch, Gradients
    from stages.distilling_data import Tiles

log = logging.getLogger(__name__)
VAL_TILES = 1000
"""At most so many val tiles, evenly spread, are looked at after an epoch."""


class ExpertsSettings(Settings):
    """How experts are trained (Cazenavette et al. 2022: 100 experts of 50 epochs)."""

    count: int = Field(100, ge=1, le=10_000)
    """Experts."""
    epochs: int = Field(50, ge=1, le=10_000)
    """Epochs of each."""
    learning_rates: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field((0.01,), min_length=1)
    """Learning rates; where there are several, the first expert is trained with each and val chooses."""
    batch: int = Field(256, ge=1, le=65_536)
    """Tiles per step."""
    augment: bool = True
    """Whether tiles are augmented (DSA)."""
    image_px: int | None = Field(32, ge=8, le=512)
    """Side of the tiles they see, in pixels; null: as they are."""
    width: int = Field(128, ge=8, le=1024)
    """Channels of each block of the ConvNet."""
    depth: Literal[3, 5] = 3
    """Its blocks."""
    mode: Literal["plain", "exact", "fast"] = "exact"
    """How it is computed, as of a distillation."""


class Course(NamedTuple):
    """One training to be done."""

    number: int
    rate: float
    place: int
    """Of the rate among those given."""

    @property
    def what(self) -> str:
        """Its name, in the progress and in the work folder."""
        return f"expert-{self.number:03d}-rate{self.place}"


def run(settings: ExpertsSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Train experts on the train tiles of `tiles`, epoch by epoch.

    Writes `expert_000.safetensors` … (`epochs_ep`: parameters at the start and after every epoch), `network.json` (the
    network and its normalisation), `curves.parquet` (on val after every epoch) and `facts.json`.

    Raises:
        Interrupted: when asked to stop; finished epochs are kept.
        UserError: a class has no train tile, or no rate gives a training that holds.
    """
    import pandas as pd

    train = distilling_data.read(inputs["tiles"], settings.image_px)
    val = distilling_data.read(inputs["tiles"], settings.image_px, "val", like=train)
    work = partial(_train, settings, train, val, store.work_folder(out), seed)
    first = [Course(0, rate, place) for place, rate in enumerate(settings.learning_rates)]
    curves = dict(zip(first, engine.map(work, first), strict=True))
    last = {course: curve[-1]["val_loss"] for course, curve in curves.items() if holds(curve)}
    if not last:
        raise UserError(f"At none of the rates {list(settings.learning_rates)} did an expert hold. Lower them.")
    best = min(last, key=lambda course: last[course])
    wanted = [best._replace(number=number) for number in range(settings.count)]
    curves |= dict(zip(wanted[1:], engine.map(work, wanted[1:]), strict=True))
    kept = [course for course in wanted if holds(curves[course])]
    if len(kept) < len(wanted):
        log.warning("%d of %d experts came apart and are set aside", len(wanted) - len(kept), len(wanted))
    for number, course in enumerate(kept):
        epochs_ep = _epochs(store.work_folder(out) / course.what, settings.epochs)
        store.write_tensors(out / f"expert_{number:03d}.safetensors", {"epochs_ep": epochs_ep})
    rows = [{"expert": c.number, "rate": c.rate, **row} for c, curve in curves.items() for row in curve]
    pd.DataFrame(rows).to_parquet(out / "curves.parquet", index=False)
    of_network = {"mean": train.mean, "std": train.std, "classes": list(train.classes)}
    of_network |= {"size_px": train.pixels_nhwc.shape[1], "width": settings.width, "depth": settings.depth}
    store.write_json(out / "network.json", of_network)
    ends = [curves[course][-1]["val_bal_acc"] for course in kept]
    told: dict[str, Any] = {"experts": len(kept), "set_aside": len(wanted) - len(kept), "epochs": settings.epochs}
    told["learning_rate"] = best.rate
    store.write_json(out / "facts.json", told | {"val_bal_acc": {"least": min(ends), "most": max(ends)}})


def holds(curve: Sequence[dict[str, float]]) -> bool:
    """Whether a training came to its end with numbers."""
    return math.isfinite(curve[-1]["val_loss"])


def _train(
    settings: ExpertsSettings, train: "Tiles", val: "Tiles", work: Path, seed: int, course: Course
) -> list[dict[str, float]]:
    """One expert, from the last epoch that is there; what val says of it after every epoch."""
    from stages.classify import dsa
    from stages.distill import experts, flat, student
    from stages.distill.trajectory_matching import Batch

    folder, device = work / course.what, compute.device()
    shape = student.Shape(len(train.classes), train.pixels_nhwc.shape[1], settings.width, settings.depth)
    stream = partial(streams.torch_stream, seed, "expert", course.number)
    with compute.one_thread():
        ready = _gradients(shape, distilling_data.usable(settings.mode), device.type)
        pixels_nhwc = train.bytes_on(device)

        def shown(rows_b: "torch.Tensor") -> "Batch":
            rows = rows_b.numpy()
            return Batch(train.normalised(rows, pixels_nhwc), train.targets(rows, device))

        theta_p = flat.flatten(student.draw(shape, stream("weights"))).to(device)
        store.write_tensors(folder / "epoch_000.safetensors", {"theta_p": theta_p})
        curve: list[dict[str, float]] = []
        for epoch in progress.track(range(1, settings.epochs + 1), course.what, total=settings.epochs, unit="epoch"):
            path = folder / f"epoch_{epoch:03d}.safetensors"
            if path.exists():
                theta_p = store.read_tensors(path)["theta_p"].to(device)
            else:
                strength = dsa.Strength() if settings.augment else None
                how = (course.rate, settings.batch, stream("epoch", epoch), strength)
                theta_p = experts.epoch(ready.descent, theta_p, shown, len(train.labels_n), *how)
                store.write_tensors(path, {"theta_p": theta_p})
            curve.append({"epoch": epoch, **_on_val(shape, theta_p, val)})
            if compute.stop_asked() and epoch < settings.epochs:
                raise Interrupted(f"{course.what} stopped after epoch {epoch}; run the same command again to continue")
            if not math.isfinite(curve[-1]["val_loss"]):
                break
    return curve


@compute.loaded_once
def _gradients(shape: "Shape", mode: Any, device: str) -> "Gradients":
    """The student's gradients, compiled once for all experts of a process."""
    from stages.distill import trajectory_matching

    return trajectory_matching.gradients(shape, mode, device)


def _on_val(shape: "Shape", theta_p: "torch.Tensor", val: "Tiles") -> dict[str, float]:
    """Loss and balanced accuracy of an expert on val; the loss is endless where it came apart."""
    from stages.classify import metrics, networks, protocol
    from stages.classify.plan import Sample
    from stages.distill import flat, student

    network = networks.build(student.facts(shape)).to(theta_p.device)
    for mine, given in zip(network.parameters(), flat.unflatten(theta_p, flat.sizes(shape)), strict=True):
        mine.data.copy_(given)
    seen = protocol.capped(Sample(val.pixels_nhwc, val.labels_n), VAL_TILES)
    p_nk = protocol.probabilities(network, seen.pixels_nhwc, val.mean, val.std, theta_p.device)
    if not np.isfinite(p_nk).all():
        return {"val_loss": math.inf, "val_bal_acc": math.nan}
    found = metrics.scores(seen.labels_n, p_nk)["balanced_accuracy"]
    return {"val_loss": metrics.balanced_log_loss(seen.labels_n, p_nk), "val_bal_acc": found}


def _epochs(folder: Path, epochs: int) -> "torch.Tensor":
    """All moments of an expert, e × p."""
    import torch

    paths = [folder / f"epoch_{epoch:03d}.safetensors" for epoch in range(epochs + 1)]
    return torch.stack([store.read_tensors(path)["theta_p"] for path in paths])
