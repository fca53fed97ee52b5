"""The benchmark of one contestant: classifiers trained on its images, judged on real tiles they never saw.

ConvNet-3 from several random starts, and a linear model on colour alone. Checkpoint, learning rate and penalty are
chosen on val; test tiles are read once, after every choice is made.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stages import compute, images, models, store, streams, tables
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from stages.classify.protocol import Plan, Sample

Floats = npt.NDArray[np.float64]


class BenchmarkSettings(Settings):
    """How every contestant is judged: one protocol for all, with the same number of steps whatever their size."""

    seeds: int = Field(3, ge=1)
    """ConvNet-3 trainings, each from its own random start."""
    image_px: int = Field(32, ge=8, multiple_of=8)
    """Side of the tiles the ConvNet sees, in pixels; larger ones are averaged down."""
    width: int = Field(96, ge=1)
    """Channels of each ConvNet-3 block."""
    steps: int = Field(80, ge=1)
    """Optimiser steps of each training."""
    batch: int = Field(32, ge=1)
    """Images per step, class-balanced."""
    learning_rates: tuple[float, ...] = Field((3e-3,), min_length=1)
    """Peak learning rates of AdamW; where there are several, val chooses one by the mean loss over the seeds."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """Weight decay of AdamW, per step and unit of learning rate."""
    evaluations: int = Field(4, ge=1)
    """How many times val is looked at in a training; the weights with the lowest loss there are kept."""
    shift_px: int = Field(2, ge=0, le=64)
    """Augmentation: largest shift along each axis, in pixels of `image_px`."""
    jitter: float = Field(0.2, ge=0, le=1)
    """Augmentation: largest change of contrast and of each channel, in standard deviations of the pixels."""
    views: Literal[1, 4, 8] = 4
    """Predictions are means over so many views of a tile: as it is, its flips, its transpositions."""
    precision: Literal["no", "bf16"] = "bf16"
    """bf16: the forward pass in bfloat16 where the processor has it, otherwise as "no", in float32."""
    colour_penalties: tuple[float, ...] = Field((0.01, 0.1, 1.0, 10.0, 100.0), min_length=1)
    """Values of C (inverse strength of the L2 penalty) that val chooses from for the colour model."""
    resamples: int = Field(1000, ge=1)
    """Bootstrap resamples, of groups and of seeds, behind every interval."""
    level: float = Field(0.95, gt=0, lt=1)
    """Coverage that the intervals aim at."""
    agreement_images: int = Field(600, ge=1)
    """At most so many of the contestant's images, evenly spread, are shown to the judge for its agreement."""


class _Unit(NamedTuple):
    """One training: a learning rate (by its place in the settings) and a seed number."""

    rate: int
    seed: int


class _Trained(NamedTuple):
    """A finished training, as plain arrays that pass between processes."""

    unit: _Unit
    weights: dict[str, npt.NDArray[Any]]
    """The best weights on val."""
    val_p_nk: Floats
    val_loss: float
    best_step: int
    curves: "pd.DataFrame"


class _Predictions(NamedTuple):
    """What the networks of one kind say of the tiles of one role."""

    network: str
    role: str
    tiles: images.ImageSet
    p_snk: Floats


def run(settings: BenchmarkSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Train on the images of `contestant`, choose on val of `tiles`, predict its test once; ask `judge` for agreement.

    Writes `predictions.parquet`, `metrics.json`, `curves.parquet` and `facts.json`.

    Raises:
        UserError: the contestant's classes are not those of the tiles, or it has images of one class only.
        Interrupted: when asked to stop; finished trainings are kept.
    """
    from stages.classify import colour

    contestant = _contestant_images(inputs["contestant"] / "images")
    val = images.read(inputs["tiles"] / "images", role="val")
    _check(contestant, val)
    plan, train, val_small = _prepare(settings, contestant, val)
    trained = _train_all(settings, plan, train, val_small, out, seed, engine)
    chosen, rates = _choose_rate(settings, trained)
    fitted = colour.fit(
        (contestant.pixels_nhwc, contestant.labels_n),
        (val.pixels_nhwc, val.labels_n),
        len(val.classes),
        settings.colour_penalties,
    )
    # Every choice is made: from here on, and only here, test tiles are read.
    test = images.read(inputs["tiles"] / "images", role="test")
    test_p_snk = _predict(settings, plan, chosen, test)
    predictions = [
        _Predictions("convnet3", "val", val, np.stack([part.val_p_nk for part in chosen])),
        _Predictions("convnet3", "test", test, test_p_snk),
        _Predictions("colour", "val", val, fitted.probabilities(val.pixels_nhwc)[None]),
        _Predictions("colour", "test", test, fitted.probabilities(test.pixels_nhwc)[None]),
    ]
    _write_predictions(out, predictions)
    _write_metrics(settings, out, predictions, seed)
    _write_curves(settings, out, trained)
    facts = _facts(contestant) | {
        "colour": {"penalty": fitted.penalty},
        "convnet3": rates | {"best_steps": [part.best_step for part in chosen], "bf16": plan.bf16},
        "agreement": _agreement(settings, inputs["judge"], contestant, test, seed),
    }
    store.write_json(out / "facts.json", facts)


def _contestant_images(folder: Path) -> images.ImageSet:
    """All images of a set; of the tiles themselves, which have roles, the train tiles alone."""
    columns = store.read_json(folder / "dataset_info.json")["features"]
    return images.read(folder, role="train") if "role" in columns else images.read(folder)


def _check(contestant: images.ImageSet, val: images.ImageSet) -> None:
    if contestant.classes != val.classes:
        raise UserError(f"The contestant's classes are {contestant.classes}, those of the tiles {val.classes}.")
    if len(np.unique(contestant.labels_n)) < 2:
        raise UserError("The contestant has images of one class only; a classifier needs at least two.")


def _prepare(
    settings: BenchmarkSettings, contestant: images.ImageSet, val: images.ImageSet
) -> "tuple[Plan, Sample, Sample]":
    """The plan, normalised by the contestant's own pixels (whoever receives it has no others), and small tiles."""
    from stages.classify import augment, protocol

    train = protocol.Sample(protocol.resize(contestant.pixels_nhwc, settings.image_px), contestant.labels_n)
    mean, std = protocol.channel_statistics(train.pixels_nhwc)
    plan = protocol.Plan(
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rates[0],
        weight_decay=settings.weight_decay,
        evaluations=settings.evaluations,
        strength=augment.Strength(True, settings.shift_px, settings.jitter),
        mean=mean,
        std=std,
        bf16=settings.precision == "bf16" and compute.fast_bf16(),
    )
    return plan, train, protocol.Sample(protocol.resize(val.pixels_nhwc, settings.image_px), val.labels_n)


def _network_facts(settings: BenchmarkSettings, plan: "Plan", classes: int) -> dict[str, Any]:
    return {
        "architecture": "convnet3",
        "classes": classes,
        "std": plan.std,
        "width": settings.width,
        "size_px": settings.image_px,
    }


def _train_all(
    settings: BenchmarkSettings, plan: "Plan", train: "Sample", val: "Sample", out: Path, seed: int, engine: Engine
) -> list[_Trained]:
    """Every learning rate with every seed, over the engine; a finished training's checkpoint outlives a stop."""
    units = [_Unit(rate, number) for rate in range(len(settings.learning_rates)) for number in range(settings.seeds)]
    trained = []
    for part in engine.map(partial(_train, settings, plan, train, val, out, seed), units):
        trained.append(part)
        if compute.stop_asked() and len(trained) < len(units):
            raise Interrupted(
                f"benchmark stopped after {len(trained)} of {len(units)} trainings; run again to continue"
            )
    return trained


def _train(
    settings: BenchmarkSettings, plan: "Plan", train: "Sample", val: "Sample", out: Path, seed: int, unit: _Unit
) -> _Trained:
    """One training. Streams carry the seed number alone: contestants and rates share starts and draws."""
    from stages import training
    from stages.classify import networks, protocol

    plan = plan._replace(learning_rate=settings.learning_rates[unit.rate])
    classes = 1 + int(max(train.labels_n.max(), val.labels_n.max()))
    with compute.one_thread():
        network = networks.build_seeded(
            _network_facts(settings, plan, classes), streams.torch_stream(seed, "weights", unit.seed)
        )
        course = protocol.Training(network, train, val, plan, compute.device())
        curves = training.train(
            out,
            f"convnet3-rate{unit.rate}-seed{unit.seed}",
            plan.steps,
            lambda k: course.step(k, streams.torch_stream(seed, "step", unit.seed, k)),
            course.modules,
            {"network": course.optimizer},
        )
        p_nk = protocol.predict(course.best.network, val.pixels_nhwc, plan, course.device, settings.views)
    weights = {name: tensor.cpu().numpy() for name, tensor in course.best.network.state_dict().items()}
    return _Trained(unit, weights, p_nk, float(course.best.loss), int(course.best.step), curves)


def _choose_rate(settings: BenchmarkSettings, trained: list[_Trained]) -> tuple[list[_Trained], dict[str, Any]]:
    """The trainings of the learning rate with the lowest mean loss on val over the seeds (on a tie the first)."""
    means = [
        float(np.mean([part.val_loss for part in trained if part.unit.rate == rate]))
        for rate in range(len(settings.learning_rates))
    ]
    best = int(np.argmin(means))
    told = {"learning_rate": settings.learning_rates[best], "val_loss_by_rate": means}
    return [part for part in trained if part.unit.rate == best], told


def _predict(settings: BenchmarkSettings, plan: "Plan", chosen: list[_Trained], test: images.ImageSet) -> Floats:
    """What each chosen network says of the test tiles, s × n × k."""
    import torch

    from stages.classify import networks, protocol

    small_nhwc = protocol.resize(test.pixels_nhwc, settings.image_px)
    parts = []
    with compute.one_thread():
        for part in chosen:
            network = networks.build(_network_facts(settings, plan, part.val_p_nk.shape[1]))
            network.load_state_dict({name: torch.from_numpy(array) for name, array in part.weights.items()})
            network.to(compute.device())
            parts.append(protocol.predict(network, small_nhwc, plan, compute.device(), settings.views))
    return np.stack(parts)


def _write_predictions(out: Path, predictions: list[_Predictions]) -> None:
    """One row per network, seed, role and tile; `row` counts within `images.read(tiles, role=role)`."""
    import pandas as pd

    frames = []
    for part in predictions:
        for number, p_nk in enumerate(part.p_snk):
            frame = pd.DataFrame({"seed": number, "network": part.network, "role": part.role}, range(len(p_nk)))
            frame["row"] = np.arange(len(p_nk))
            frame["group"] = part.tiles.table["group"]
            frame["label"] = part.tiles.labels_n
            frames.append(frame.join(pd.DataFrame(p_nk, columns=[f"p{c}" for c in range(p_nk.shape[1])])))
    tables.write(out / "predictions.parquet", pd.concat(frames, ignore_index=True), "predictions")


def _write_metrics(settings: BenchmarkSettings, out: Path, predictions: list[_Predictions], seed: int) -> None:
    """Every metric of every network and role with its interval over groups and seeds."""
    from stages.classify import metrics
    from stages.stats import intervals

    told: dict[str, dict[str, Any]] = {}
    for part in predictions:
        groups_n = part.tiles.table["group"].to_numpy(np.int64)
        told.setdefault(part.network, {})[part.role] = {
            name: intervals.two_way(
                metric,
                len(np.unique(groups_n)),
                len(part.p_snk),
                streams.numpy_stream(seed, "bootstrap", part.role),
                settings.resamples,
                settings.level,
            )._asdict()
            for name, metric in metrics.weighted_scores(part.tiles.labels_n, groups_n, part.p_snk).items()
        }
    store.write_json(out / "metrics.json", told)


def _write_curves(settings: BenchmarkSettings, out: Path, trained: list[_Trained]) -> None:
    import pandas as pd

    frames = [
        part.curves.assign(
            network="convnet3", seed=part.unit.seed, learning_rate=settings.learning_rates[part.unit.rate]
        )
        for part in trained
    ]
    tables.write(out / "curves.parquet", pd.concat(frames, ignore_index=True), "curves")


def _facts(contestant: images.ImageSet) -> dict[str, Any]:
    counts = np.bincount(contestant.labels_n, minlength=len(contestant.classes))
    per_class = dict(zip(contestant.classes, counts.tolist(), strict=True))
    return {"images": len(contestant.table), "per_class": per_class, "classes": list(contestant.classes)}


def _agreement(
    settings: BenchmarkSettings, judge: Path, contestant: images.ImageSet, test: images.ImageSet, seed: int
) -> dict[str, Any]:
    """Per network of the judge: its accuracy on the contestant's own labels, on real test tiles, and their ratio."""
    rows_m = np.unique(np.linspace(0, len(contestant.table) - 1, settings.agreement_images).round().astype(np.int64))
    shown = contestant.take(rows_m)
    told: dict[str, Any] = {"images": len(rows_m)}
    for name in ("colour", "grey"):
        if (judge / name).exists():
            own_n, real_n = _is_right(judge / name, shown), _is_right(judge / name, test)
            told[name] = _compare(settings, (own_n, shown), (real_n, test), seed)
    return told


def _is_right(folder: Path, tiles: images.ImageSet) -> npt.NDArray[np.bool_]:
    """Whether the network says each tile's own label, n."""
    from stages.classify import networks, protocol

    network, facts = models.read_network(folder, networks.build)
    device = compute.device()
    pixels_nhwc = protocol.resize(tiles.pixels_nhwc, facts["size_px"])
    with compute.one_thread():
        p_nk = protocol.probabilities(network.to(device), pixels_nhwc, facts["mean"], facts["std"], device)
    return np.asarray(p_nk.argmax(1) == tiles.labels_n)


def _compare(
    settings: BenchmarkSettings,
    own: tuple[npt.NDArray[np.bool_], images.ImageSet],
    real: tuple[npt.NDArray[np.bool_], images.ImageSet],
    seed: int,
) -> dict[str, Mapping[str, float]]:
    """Two accuracies and their ratio. Images without groups are independent and get the exact interval."""
    from stages.stats import intervals, paired

    shares: dict[str, tuple[intervals.Weighted, int]] = {}
    told: dict[str, Mapping[str, float]] = {}
    for name, (right_n, tiles) in (("own", own), ("test", real)):
        grouped = "group" in tiles.table
        groups_n = tiles.table["group"].to_numpy(np.int64) if grouped else np.arange(len(right_n))
        shares[name] = intervals.share_by_group(right_n, groups_n), len(np.unique(groups_n))
        stream = streams.numpy_stream(seed, "agreement", name)
        interval = intervals.two_way(*shares[name], 1, stream, settings.resamples, settings.level)
        if not grouped:
            interval = intervals.clopper_pearson(int(right_n.sum()), len(right_n), settings.level)
        told[name] = interval._asdict()
    stream = streams.numpy_stream(seed, "agreement", "ratio")
    ratio = paired.ratio_unpaired(shares["own"], shares["test"], stream, settings.resamples, settings.level)
    return told | {"ratio": ratio._asdict()}
