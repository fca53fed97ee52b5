"""Distillation: images that are learned from real train tiles by gradient, distribution or trajectory matching.

One loop for all methods. Step k depends on what is learned, on k and on the generators of its streams alone, so that it
may stop and continue anywhere. At equal distances a small ConvNet is trained on the images as they would be saved and
looked at on val; the best images are kept, never chosen by test.
Shapes: k classes, m stored images of each, n images as they are saved, c = 3 channels, h = w pixels.
"""

import logging
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages import classifiers, compute, distilling_data, images, scale_bar, store, streams, tables, training
from stages.condensation_settings import CondensationSettings
from stages.contact_sheet import contact_sheet
from stages.contracts import Engine, Inputs, UserError
from stages.distillation_settings import TITLES
from stages.distilling_data import Tiles

if TYPE_CHECKING:
    from torch import Tensor

    from stages.learned_images import Best, Learned

log = logging.getLogger(__name__)
SHEET_PER_CLASS, SHEET_COLUMNS = 20, 10
DECIMALS = 4
"""Of learned class probabilities."""


def run(settings: CondensationSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Learn `per_class` images of each class from the train tiles of `tiles`.

    They may begin with random `candidates` and follow `experts`. Writes `images/` as a selection's (class-major; what
    a selection tells of graphs is empty), `contact.png`, `curves.parquet` and `facts.json`.

    Raises:
        UserError: a class lacks tiles or candidates to begin with, or the learning came apart.
        Interrupted: when asked to stop; what was learned so far is kept.
    """
    from stages import distillation_steps
    from stages.learned_images import Best, Descent

    with compute.one_thread():
        lesson = distillation_steps.prepare(settings, inputs, seed)
        learned, descent = lesson.learned, Descent(lesson.learned, lesson.rates, lesson.limits)
        best = Best(learned)
        looks = _Looks(settings, lesson.tiles, inputs["tiles"], out, seed)

        def step(k: int) -> dict[str, float]:
            told: dict[str, float] = {}
            if k == 0:
                told["val_bal_acc_start"] = looks.score(learned, 0)
                best.offer(learned, told["val_bal_acc_start"], 0)
            told["loss"] = lesson.gradient(k)
            if learned.log_rate.grad is not None:
                told["student_rate"] = math.exp(float(learned.log_rate.detach()))
            if not descent.step(told["loss"]):
                log.warning("step %d of %s came apart: images went back, steps are halved", k + 1, settings.method)
            if looks.due(k, lesson.steps):
                told["val_bal_acc"] = looks.score(learned, k + 1)
                best.offer(learned, told["val_bal_acc"], k + 1)
            return told

        try:
            curves = training.train(
                out,
                "distillation",
                lesson.steps,
                step,
                {"learned": learned, "best": best, **lesson.modules},
                {"images": descent.optimizer},
            )
        except FloatingPointError as error:
            raise UserError(
                f"The distillation came apart: {error}. Lower distillation.image_rate or network_rate."
            ) from error
    tables.write(out / "curves.parquet", curves, "curves")
    _write(settings, lesson.tiles, best, int(learned.backoffs), inputs, out, {"steps": lesson.steps, **lesson.facts})


class _Looks:
    """Looks at val: a ConvNet-3 trained on the images as they would be saved.

    Each look begins with the same weights and draws the same batches, so that looks differ by the images alone. A stop
    waits for the end of a look, which takes seconds, so that the step it belongs to is not lost.
    """

    def __init__(self, settings: CondensationSettings, train: Tiles, tiles: Path, out: Path, seed: int) -> None:
        self.given, self.train, self.out, self.seed = settings.distillation, train, out, seed
        given = self.given
        self.training = classifiers.ClassifierSettings(
            network="convnet3", image_px=train.pixels_nhwc.shape[1], steps=given.evaluation_steps, evaluations=1
        )
        self.val = distilling_data.read(tiles, self.training.image_px, "val", like=train)

    def due(self, k: int, steps: int) -> bool:
        """Whether there is a look after step k of so many."""
        return self.given.evaluations * (k + 1) // steps > self.given.evaluations * k // steps

    def score(self, learned: "Learned", steps: int) -> float:
        """Balanced accuracy on val of a network trained on what is learned after so many steps."""
        from stages.classify import metrics, protocol
        from stages.classify.plan import Sample

        pixels_nhwc, labels_n, soft_nk = shown(learned.image, learned.targets(), self.given.formation, self.train)
        sample = Sample(pixels_nhwc, labels_n, soft_nk if learned.soft else None)
        val = protocol.capped(Sample(self.val.pixels_nhwc, self.val.labels_n), self.given.evaluation_tiles)
        plan = classifiers.plan(self.training, classifiers.rate(self.training), pixels_nhwc)
        px = int(pixels_nhwc.shape[1])
        facts = classifiers.facts(self.training, plan, len(self.train.classes), px, grey=False)
        stream = partial(streams.torch_stream, self.seed, "look")
        with compute.undisturbed():
            trained = classifiers.train(self.training, plan, facts, (sample, val), self.out, f"look-{steps}", stream)
        p_nk = classifiers.ask(trained.network, facts, val.pixels_nhwc, plan.bf16)
        return float(metrics.scores(val.labels_n, p_nk)["balanced_accuracy"])


def shown(
    img_kmchw: "Tensor", target_kmk: "Tensor", factor: int, train: Tiles
) -> tuple[distilling_data.Pixels, distilling_data.Ints, npt.NDArray[np.float64]]:
    """What is learned as it is saved, class-major: pictures, class numbers, and probabilities (which sum to 1)."""
    from stages.distill import formation
    from stages.distillation_methods import seen

    img_nchw, target_nk = seen(img_kmchw.detach(), target_kmk.detach(), formation.decoder(factor))
    pixels_nhwc = distilling_data.to_pixels(img_nchw, train.mean, train.std)
    p_nk = target_nk.double().cpu().numpy().round(DECIMALS)
    labels_n = np.repeat(np.arange(len(train.classes)), len(pixels_nhwc) // len(train.classes))
    return pixels_nhwc, labels_n, p_nk / p_nk.sum(1, keepdims=True)


def _write(
    settings: CondensationSettings,
    tiles: Tiles,
    best: "Best",
    backoffs: int,
    inputs: Inputs,
    out: Path,
    facts: dict[str, Any],
) -> None:
    """The best images with their labels, a sheet of them, and the facts."""
    given = settings.distillation
    pixels_nhwc, labels_n, soft_nk = shown(best.image, best.label, given.formation, tiles)
    rank_n = np.arange(len(labels_n)) % (len(labels_n) // len(tiles.classes))
    columns: dict[str, Any] = {
        "candidate": np.arange(len(labels_n)),
        "index": rank_n,
        "community": 0,
        "centrality": 0.0,
        "rank": rank_n,
    }
    if given.soft_labels:
        columns |= {f"p{c}": soft_nk[:, c] for c in range(len(tiles.classes))}
    found = images.make(pixels_nhwc, labels_n, tiles.classes, pd.DataFrame(columns))
    for kind in ("condensation", "selection", "candidates"):
        tables.check(found.table, kind)
    images.write(out / "images", found)
    sheet = contact_sheet(
        found, SHEET_PER_CLASS, SHEET_COLUMNS, scale_bar.known_mpp(inputs["tiles"], pixels_nhwc.shape[1])
    )
    store.write_bytes(out / "contact.png", images.png(sheet, level=6))
    published = given.published(settings.method)
    told = {
        "pixels": "learned",
        "method": settings.method,
        "title": TITLES[settings.method],
        "per_class": settings.per_class,
        "images_per_class": len(labels_n) // len(tiles.classes),
        "start": given.start,
        "iterations": published.iterations,
        "kept_after": int(best.step),
        "val_bal_acc": float(best.score),
        "backoffs": backoffs,
        "soft_labels": {"learned": True, "decimals": DECIMALS} if given.soft_labels else None,
    }
    store.write_json(out / "facts.json", told | facts)
