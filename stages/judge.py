"""The judge: one classifier trained on real train tiles and stopped on val, and its grey twin.

It gives features to the embedding and to herding, says of candidates whether they look like their class, and is itself
a row of the benchmark of all real tiles. The grey twin sees luminance alone: the figure that colour cannot explain.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from stages import classifiers, images, models, store, streams, tables
from stages.classifiers import ClassifierSettings, Network
from stages.contracts import Engine, Inputs

if TYPE_CHECKING:
    import pandas as pd


class JudgeSettings(ClassifierSettings):
    """How the judge is trained. The InfoDist paper's encoder is `network: convnet5`."""

    network: Network = "resnet18"
    """ResNet-18, or any other network of the benchmark; convnet5 is the encoder of the InfoDist paper."""
    image_px: int | None = Field(None, ge=8, le=512)
    """Side of the tiles the judge sees, in pixels; null: as they are. Larger tiles are averaged down."""
    steps: int = Field(240, ge=1, le=10_000_000)
    """Optimiser steps."""
    learning_rate: float | None = Field(None, gt=0, le=1)
    """Peak learning rate; null: 0.003 for ConvNet-3 and 0.001 for others."""
    evaluations: int = Field(8, ge=1, le=100_000)
    """How many times val is looked at; the weights with the lowest loss there are kept."""
    shift_px: int = Field(4, ge=0, le=64)
    """Augmentation: largest shift along each axis, in pixels of what the network sees."""
    grey_twin: bool = True
    """Whether to train the grey twin as well."""


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
    from stages.classify import calibration, metrics, protocol
    from stages.classify.plan import Sample

    train, val = images.read(tiles / "images", role="train"), images.read(tiles / "images", role="val")
    px = classifiers.size_px(settings, train.pixels_nhwc)
    samples = [Sample(protocol.resize(part.pixels_nhwc, px), part.labels_n) for part in (train, val)]
    learning_rate = classifiers.rate(settings) if settings.learning_rate is None else settings.learning_rate
    plan = classifiers.plan(settings, learning_rate, samples[0].pixels_nhwc)
    facts = classifiers.facts(settings, plan, train.classes, px, name == "grey")
    trained = classifiers.train(
        settings,
        plan,
        facts,
        (samples[0], samples[1]),
        out,
        f"judge-{name}",
        partial(streams.torch_stream, seed),
    )
    p_nk = classifiers.ask(trained.network, facts, samples[1].pixels_nhwc, plan.bf16)
    # where the judge is asked for soft labels, it computes in float32
    exact_nk = classifiers.ask(trained.network, facts, samples[1].pixels_nhwc, bf16=False)
    log_p_nk = np.log(np.maximum(exact_nk, np.finfo(np.float64).tiny))
    facts |= {"feature_dim": trained.network.feature_dim, "title": settings.title(px, name == "grey")}
    facts |= {"temperature": calibration.fit_temperature(log_p_nk, val.labels_n)}
    models.write_network(out / name, trained.network, facts)
    found = metrics.scores(val.labels_n, p_nk)
    return _Trained(trained.curves, {"best_step": trained.best_step, "val": found, "bf16": plan.bf16})
