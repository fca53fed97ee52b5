"""The benchmark of one contestant: classifiers trained on its images, judged on real tiles they never saw.

Any number of networks by name, each from several random starts, and a linear model on colour alone. Checkpoint,
learning rate and penalty are chosen on val; test tiles are read once, after every choice is made. A contestant with
soft labels trains every network with and without them. All real tiles have one more row: the judge, as it is.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from stages import agreement, classifiers, compute, images, store, streams, tables
from stages.classifiers import NETWORKS, ClassifierSettings
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.settings import Name, Settings

if TYPE_CHECKING:
    import pandas as pd

    from stages.classify.plan import Sample

Floats = npt.NDArray[np.float64]
SOFT = "_soft"
"""Behind a training's name: the same with the contestant's soft labels."""
TAKEN = ("colour", *agreement.ROWS.values())


class TrainingSettings(ClassifierSettings):
    """One of the networks every contestant trains."""

    grey: bool = False
    """Whether the network sees luminance alone."""
    learning_rates: tuple[float, ...] | None = Field(None, min_length=1)
    """Peak learning rates; where there are several, val chooses one by the mean loss over the seeds; null: in
    plain 0.003 for ConvNet-3 and 0.001 for others, in infodist 0.01."""
    views: Literal[1, 4, 8] = 4
    """Predictions are means over so many views of a tile: as it is, its flips, its transpositions."""


class BenchmarkSettings(Settings):
    """How every contestant is judged: the same networks for all, with the same steps whatever their size."""

    seeds: int = Field(3, ge=1)
    """Trainings of each network, each from its own random start."""
    networks: dict[Name, TrainingSettings] = Field(
        default_factory=lambda: {"convnet3": TrainingSettings(network="convnet3")}, min_length=1
    )
    """What is trained, by name; the report sorts by the first. A name that begins with a network's
    need not tell the network again: `convnet5_grey: {grey: true}`."""
    colour_penalties: tuple[float, ...] = Field((0.01, 0.1, 1.0, 10.0, 100.0), min_length=1)
    """Values of C (inverse strength of the L2 penalty) that val chooses from for the colour model."""
    resamples: int = Field(1000, ge=1)
    """Bootstrap resamples, of groups and of seeds, behind every interval."""
    level: float = Field(0.95, gt=0, lt=1)
    """Coverage that the intervals aim at."""
    agreement_images: int = Field(600, ge=1)
    """At most so many of the contestant's images, and of the test tiles, evenly spread, are shown to the judge for its
    agreement."""

    @field_validator("networks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Fill in the network where the name of the training tells it."""
        if not isinstance(value, Mapping):
            return value
        return {name: _with_network(str(name), given) for name, given in value.items()}

    @field_validator("networks")
    @classmethod
    def _free(cls, value: dict[str, TrainingSettings]) -> dict[str, TrainingSettings]:
        wrong = [name for name in value if name in TAKEN or name.endswith(SOFT)]
        if wrong:
            raise ValueError(f"{wrong[0]} names another row of the results; take another name")
        return value


def _with_network(name: str, given: Any) -> Any:
    told = [known for known in NETWORKS if name == known or name.startswith(f"{known}_")]
    if (given is None or (isinstance(given, Mapping) and "network" not in given)) and told:
        return {"network": told[0], **(given or {})}
    return given


class _Unit(NamedTuple):
    """One training."""

    what: str
    """Name of its checkpoint: training, place of the learning rate, seed."""
    settings: TrainingSettings
    rate: float
    seed: int
    soft: bool

    @property
    def key(self) -> str:
        """Equal for two trainings that are the same in everything."""
        resolved = self.settings.model_copy(update={"width": self.settings.channels, "learning_rates": None})
        return f"{resolved.model_dump_json()} {self.rate} {self.seed} {self.soft}"


class _Trained(NamedTuple):
    """A finished training, as plain arrays that pass between processes."""

    weights: dict[str, npt.NDArray[Any]]
    """The best weights on val."""
    facts: dict[str, Any]
    """What `networks.build` needs."""
    bf16: bool
    val_p_nk: Floats
    val_loss: float
    best_step: int
    curves: "pd.DataFrame"


class _Entrant(NamedTuple):
    """A row of the results: a training by name, with hard or soft labels."""

    name: str
    title: str
    units: list[list[_Unit]]
    """By learning rate, then seed."""


class _Chosen(NamedTuple):
    """An entrant once val has chosen its learning rate."""

    entrant: _Entrant
    units: list[_Unit]
    facts: dict[str, Any]


class _Predictions(NamedTuple):
    """What the networks of one kind say of the tiles of one role."""

    network: str
    role: str
    tiles: images.ImageSet
    p_snk: Floats


Samples = Mapping[int, "tuple[Sample, Sample]"]
"""Train and val, by the size they are seen at."""
Done = Mapping[str, _Trained]
"""Finished trainings, by the key of their unit."""


def run(settings: BenchmarkSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Train on the images of `contestant`, choose on val of `tiles`, predict its test once.

    The `judge`, where there is one among the inputs, is asked for its agreement.

    Writes `predictions.parquet`, `metrics.json`, `curves.parquet` and `facts.json`.

    Raises:
        UserError: the contestant's classes are not those of the tiles, or it has images of one class only.
        Interrupted: when asked to stop; finished trainings are kept.
    """
    from stages.classify import colour

    contestant, all_real = _contestant_images(inputs["contestant"] / "images")
    val = images.read(inputs["tiles"] / "images", role="val")
    _check(contestant, val)
    entrants = list(_entrants(settings, contestant))
    done = _train_all(entrants, _samples(settings, contestant, val), len(val.classes), out, seed, engine)
    chosen = [_choose_rate(entrant, done) for entrant in entrants]
    fitted = colour.fit(
        (contestant.pixels_nhwc, contestant.labels_n),
        (val.pixels_nhwc, val.labels_n),
        len(val.classes),
        settings.colour_penalties,
    )
    # Every choice is made: from here on, and only here, test tiles are read.
    test = images.read(inputs["tiles"] / "images", role="test")
    predictions = _predict_all(chosen, done, val, test, engine)
    for role, tiles in (("val", val), ("test", test)):
        predictions.append(_Predictions("colour", role, tiles, fitted.probabilities(tiles.pixels_nhwc)[None]))
    judge = inputs.get("judge")
    judges = agreement.networks_in(judge) if all_real and judge is not None else []
    for name in judges:
        for role, tiles in (("val", val), ("test", test)):
            p_nk = agreement.predict(inputs["judge"] / name, tiles)
            predictions.append(_Predictions(agreement.ROWS[name], role, tiles, p_nk[None]))
    _write_predictions(out, predictions)
    _write_metrics(settings, out, predictions, seed)
    _write_curves(out, entrants, done)
    rows = [(entrant.name, entrant.title) for entrant in entrants] + [("colour", "colour only")]
    rows += [(agreement.ROWS[name], agreement.title(inputs["judge"] / name)) for name in judges]
    facts = _facts(contestant) | {
        "networks": [{"name": name, "title": title} for name, title in rows],
        "trainings": {one.entrant.name: one.facts for one in chosen},
        "colour": {"penalty": fitted.penalty},
        "agreement": None
        if judge is None
        else agreement.measure(
            judge, contestant, test, settings.agreement_images, seed, settings.resamples, settings.level
        ),
    }
    store.write_json(out / "facts.json", facts)


def _contestant_images(folder: Path) -> tuple[images.ImageSet, bool]:
    """All images of a set; of the tiles themselves, which have roles, the train tiles alone. And whether those."""
    columns = store.read_json(folder / "dataset_info.json")["features"]
    all_real = "role" in columns
    return (images.read(folder, role="train") if all_real else images.read(folder)), all_real


def _check(contestant: images.ImageSet, val: images.ImageSet) -> None:
    if contestant.classes != val.classes:
        raise UserError(f"The contestant's classes are {contestant.classes}, those of the tiles {val.classes}.")
    if len(np.unique(contestant.labels_n)) < 2:
        raise UserError("The contestant has images of one class only; a classifier needs at least two.")


def _soft_labels(contestant: images.ImageSet) -> Floats | None:
    """Class probabilities of every image, n × k, where the set has the columns p0, p1 …"""
    columns = [f"p{c}" for c in range(len(contestant.classes))]
    if not set(columns) <= set(contestant.table.columns):
        return None
    return contestant.table[columns].to_numpy(np.float64)


def _samples(settings: BenchmarkSettings, contestant: images.ImageSet, val: images.ImageSet) -> Samples:
    """Train and val tiles at every size that a network sees."""
    from stages.classify import protocol
    from stages.classify.plan import Sample

    sizes = {classifiers.size_px(training, val.pixels_nhwc) for training in settings.networks.values()}
    soft_nk = _soft_labels(contestant)
    return {
        px: (
            Sample(protocol.resize(contestant.pixels_nhwc, px), contestant.labels_n, soft_nk),
            Sample(protocol.resize(val.pixels_nhwc, px), val.labels_n),
        )
        for px in sizes
    }


def _entrants(settings: BenchmarkSettings, contestant: images.ImageSet) -> Iterator[_Entrant]:
    """Every row of trained networks by name (equal settings give equal bytes), each before its soft twin if any."""
    for name, given in sorted(settings.networks.items()):
        px = classifiers.size_px(given, contestant.pixels_nhwc)
        training = given.model_copy(update={"image_px": px})
        rates = training.learning_rates or (classifiers.rate(training),)
        for soft in [False] if _soft_labels(contestant) is None else [False, True]:
            row = name + SOFT * soft
            units = [
                [_Unit(f"{row}-rate{r}-seed{n}", training, rate, n, soft) for n in range(settings.seeds)]
                for r, rate in enumerate(rates)
            ]
            yield _Entrant(row, training.title(px, training.grey) + ", soft labels" * soft, units)


def _train_all(
    entrants: list[_Entrant], samples: Samples, classes: int, out: Path, seed: int, engine: Engine
) -> dict[str, _Trained]:
    """Every different training once, over the engine; a finished training's checkpoint outlives a stop."""
    units: dict[str, _Unit] = {}
    for unit in (unit for entrant in entrants for row in entrant.units for unit in row):
        units.setdefault(unit.key, unit)
    done: dict[str, _Trained] = {}
    parts = engine.map(partial(_train, samples, classes, out, seed), units.values())
    for key, part in zip(units, parts, strict=True):
        done[key] = part
        if compute.stop_asked() and len(done) < len(units):
            raise Interrupted(f"benchmark stopped after {len(done)} of {len(units)} trainings; run again to continue")
    return done


def _train(samples: Samples, classes: int, out: Path, seed: int, unit: _Unit) -> _Trained:
    """One training. Streams carry the seed number alone: contestants, networks and rates share starts and draws."""
    px = unit.settings.image_px
    assert px is not None
    train, val = samples[px]
    plan = classifiers.plan(unit.settings, unit.rate, train.pixels_nhwc)
    facts = classifiers.facts(unit.settings, plan, classes, px, unit.settings.grey)
    trained = classifiers.train(
        unit.settings,
        plan,
        facts,
        (train if unit.soft else train._replace(soft_nk=None), val),
        out,
        unit.what,
        lambda name, *numbers: streams.torch_stream(seed, name, unit.seed, *numbers),
    )
    p_nk = classifiers.ask(trained.network, facts, val.pixels_nhwc, plan.bf16, unit.settings.views)
    weights = {name: tensor.cpu().numpy() for name, tensor in trained.network.state_dict().items()}
    return _Trained(weights, facts, plan.bf16, p_nk, trained.val_loss, trained.best_step, trained.curves)


def _choose_rate(entrant: _Entrant, done: Done) -> _Chosen:
    """The trainings of the learning rate with the lowest mean loss on val over the seeds (on a tie the first)."""
    means = [float(np.mean([done[unit.key].val_loss for unit in row])) for row in entrant.units]
    row = entrant.units[int(np.argmin(means))]
    told = {
        "learning_rate": row[0].rate,
        "val_loss_by_rate": means,
        "best_steps": [done[unit.key].best_step for unit in row],
        "bf16": done[row[0].key].bf16,
    }
    return _Chosen(entrant, row, told)


def _predict_all(
    chosen: list[_Chosen], done: Done, val: images.ImageSet, test: images.ImageSet, engine: Engine
) -> list[_Predictions]:
    """What the chosen networks say of val, known already, and of the test tiles, each network once."""
    units = {unit.key: unit for one in chosen for unit in one.units}
    jobs = [(done[key], unit.settings.views) for key, unit in units.items()]
    on_test = dict(zip(units, engine.map(partial(_predict, test.pixels_nhwc), jobs), strict=True))
    predictions = []
    for one in chosen:
        of_val = np.stack([done[unit.key].val_p_nk for unit in one.units])
        predictions.append(_Predictions(one.entrant.name, "val", val, of_val))
        of_test = np.stack([on_test[unit.key] for unit in one.units])
        predictions.append(_Predictions(one.entrant.name, "test", test, of_test))
    return predictions


def _predict(pixels_nhwc: images.Pixels, job: tuple[_Trained, int]) -> Floats:
    """What one trained network says of tiles, n × k."""
    import torch

    from stages.classify import networks

    trained, views = job
    network = networks.build(trained.facts)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in trained.weights.items()})
    return classifiers.ask(network, trained.facts, pixels_nhwc, trained.bf16, views)


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


def _write_curves(out: Path, entrants: list[_Entrant], done: Done) -> None:
    """The curves of every training, of all learning rates, by the name of the row."""
    import pandas as pd

    frames = [
        done[unit.key].curves.assign(network=entrant.name, seed=unit.seed, learning_rate=unit.rate)
        for entrant in entrants
        for row in entrant.units
        for unit in row
    ]
    tables.write(out / "curves.parquet", pd.concat(frames, ignore_index=True), "curves")


def _facts(contestant: images.ImageSet) -> dict[str, Any]:
    counts = np.bincount(contestant.labels_n, minlength=len(contestant.classes))
    per_class = dict(zip(contestant.classes, counts.tolist(), strict=True))
    return {"images": len(contestant.table), "per_class": per_class, "classes": list(contestant.classes)}
