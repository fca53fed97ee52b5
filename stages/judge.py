"""The judge: one ResNet-18 trained on real train tiles and stopped on val, and its grey twin.

It gives features to the embedding and to herding, and says of candidates whether they look like their class. The grey
twin sees luminance alone; its only use is the figure that colour cannot explain.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from stages import compute, images, models, store, streams, tables
from stages.contracts import Engine, Inputs
from stages.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from stages.classify.protocol import Plan, Sample


class JudgeSettings(Settings):
    """How the judge is trained. The protocol is that of `stages.classify.protocol`."""

    steps: int = Field(240, ge=1)
    """Optimiser steps, each on one class-balanced batch."""
    batch: int = Field(32, ge=2)
    """Images per step."""
    learning_rate: float = Field(1e-3, gt=0, le=1)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """Weight decay of AdamW, per step and unit of learning rate."""
    evaluations: int = Field(8, ge=1)
    """How many times val is looked at; the weights with the lowest loss there are kept."""
    shift_px: int = Field(4, ge=0, le=64)
    """Augmentation: largest shift along each axis, in pixels."""
    jitter: float = Field(0.2, ge=0, le=1)
    """Augmentation: largest change of contrast and of each channel, in standard deviations of the pixels."""
    grey_twin: bool = True
    """Whether to train the grey twin as well."""
    precision: Literal["no", "bf16"] = "bf16"
    """bf16: the forward pass in bfloat16 where the processor has it, otherwise as "no", in float32."""


class _Trained(NamedTuple):
    """What comes back from the training of one network."""

    curves: "pd.DataFrame"
    facts: dict[str, Any]


def run(settings: JudgeSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Train the judge, and its twin if asked, on `tiles`.

    Writes `colour/` and `grey/` (weights, and network.json with the temperature that fits val), `curves.parquet` (per
    network and step: loss, and where val was looked at val_loss and val_bal_acc) and `facts.json` (classes, and per
    network: best step, metrics on val).
    """
    import pandas as pd

    names = ["colour", "grey"] if settings.grey_twin else ["colour"]
    trained = list(engine.map(partial(_train, settings, inputs["tiles"], out, seed), names))
    curves = [part.curves.assign(network=name) for name, part in zip(names, trained, strict=True)]
    tables.write(out / "curves.parquet", pd.concat(curves, ignore_index=True), "curves")
    networks = {name: part.facts for name, part in zip(names, trained, strict=True)}
    classes = store.read_json(out / "colour" / "network.json")["classes"]
    store.write_json(out / "facts.json", {"classes": classes, "networks": networks})


def _train(settings: JudgeSettings, tiles: Path, out: Path, seed: int, name: str) -> _Trained:
    """Train one of the two networks (the same streams for both), and write its folder."""
    from stages import training
    from stages.classify import calibration, metrics, networks, protocol

    train, val = images.read(tiles / "images", role="train"), images.read(tiles / "images", role="val")
    plan = _plan(settings, train.pixels_nhwc)
    facts = {
        "architecture": "resnet18",
        "classes": list(train.classes),
        "grey": name == "grey",
        "mean": list(plan.mean),
        "std": list(plan.std),
        "size_px": int(train.pixels_nhwc.shape[1]),
        "feature_dim": 512,
    }
    with compute.one_thread():
        network = networks.build_seeded(facts, streams.torch_stream(seed, "weights"))
        course = protocol.Training(network, _sample(train), _sample(val), plan, compute.device())
        curves = training.train(
            out,
            f"judge-{name}",
            plan.steps,
            lambda k: course.step(k, streams.torch_stream(seed, "step", k)),
            course.modules,
            {"network": course.optimizer},
        )
        p_nk = protocol.predict(course.best.network, val.pixels_nhwc, plan, course.device)
        # where the judge is asked for soft labels, it computes in float32
        exact_nk = protocol.predict(course.best.network, val.pixels_nhwc, plan._replace(bf16=False), course.device)
    log_p_nk = np.log(np.maximum(exact_nk, np.finfo(np.float64).tiny))
    facts |= {"temperature": calibration.fit_temperature(log_p_nk, val.labels_n)}
    models.write_network(out / name, course.best.network, facts)
    found = metrics.scores(val.labels_n, p_nk)
    return _Trained(curves, {"best_step": int(course.best.step), "val": found, "bf16": plan.bf16})


def _plan(settings: JudgeSettings, pixels_nhwc: images.Pixels) -> "Plan":
    """The protocol with the normalisation of the train tiles."""
    from stages.classify import augment, protocol

    mean, std = protocol.channel_statistics(pixels_nhwc)
    return protocol.Plan(
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        evaluations=settings.evaluations,
        strength=augment.Strength(True, settings.shift_px, settings.jitter),
        mean=mean,
        std=std,
        bf16=settings.precision == "bf16" and compute.fast_bf16(),
    )


def _sample(tiles: images.ImageSet) -> "Sample":
    from stages.classify.protocol import Sample

    return Sample(tiles.pixels_nhwc, tiles.labels_n)
