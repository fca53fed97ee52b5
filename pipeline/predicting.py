"""What distillation would give, before any is done: random real subsets now, and a study's experience with others."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline import study_prediction, study_results
from pipeline.runner import Run
from pipeline.study import Measured, Study, measure
from pipeline.study_config import RANDOM, StudyConfig, Task
from stages import store
from stages.benchmark import BenchmarkSettings
from stages.contracts import Engine, Interrupted, UserError
from stages.stats import prediction
from stages.stats.intervals import Interval
from stages.stats.prediction import Points
from stages.tiles import TilesSettings

DRAWS = 3
"""Random subsets, each with a network of its own."""
TASK = "data"
DEFAULT = Path("runs/feasibility/study/results.csv")
SHIPPED = Path(__file__).resolve().parent.parent / "data" / "feasibility.csv"


class Experience(NamedTuple):
    """A study's results."""

    path: Path
    studied: study_prediction.Studied
    benchmark: BenchmarkSettings
    known_benchmark: bool
    """Whether the study tells how it trained; otherwise the defaults stand in."""


class Foretold(NamedTuple):
    """The answer for one method."""

    method: str
    expected: Interval


class Answer(NamedTuple):
    """All that is told."""

    random: tuple[float, ...]
    """What each random subset reached."""
    chance: float
    per_class: int
    level: float
    foretold: tuple[Foretold, ...]
    cautions: tuple[str, ...]


def experience(given: Path | None, root: Path) -> Experience:
    """The results of a study: those given, else the root's `feasibility`, else those that ship.

    Raises:
        UserError: there are none (says which command makes them), or they are not a study's.
    """
    places = [given] if given is not None else [root / DEFAULT, SHIPPED]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"There are no results of a study at {' or '.join(map(str, places))}. Make them with: histodistill study "
            "configs/feasibility.yaml, or give those of another study with --study."
        )
    results = pd.read_csv(io.BytesIO(path.read_bytes()))
    lacking = [name for name in study_results.CELLS if name not in results]
    if lacking:
        raise UserError(f"{path} is not the results.csv of a study: it has no column {', '.join(lacking)}.")
    about: dict[str, Any] = store.read_json(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else {}
    network = about.get("network", results["network"].iloc[0] if len(results) else "")
    of = study_prediction.studied(results, network)
    if len(np.unique(of.points.source_n)) < 2:
        raise UserError(
            f"{path} has distilled sets beside random subsets of {len(np.unique(of.points.source_n))} sources; to "
            "predict for new data, two or more are wanted."
        )
    settings = BenchmarkSettings.model_validate(about.get("benchmark", {"seeds": 1, "resamples": 100}))
    return Experience(path, of, settings, "benchmark" in about)


def predict(
    tiles: TilesSettings,
    guess: bool,
    per_class: int,
    known: Experience,
    run: Run,
    engine: Engine,
    methods: Sequence[str],
) -> Answer:
    """Train on random real subsets of the data, and tell what to expect of each method.

    Args:
        tiles: how the data are read.
        guess: whether data without the column of groups are taken to have none.
        per_class: images per class.
        known: the study's results.
        run: where results are kept.
        engine: where work runs.
        methods: those that are asked for; none: all of the study.

    Raises:
        UserError: the data cannot be used so, or a method is not in the study.
        Interrupted: asked to stop; what was finished is kept.
    """
    studied = sorted(set(known.studied.points.method_n.tolist()))
    strange = sorted(set(methods) - set(studied))
    if strange:
        raise UserError(f"{known.path} tells nothing of the method {strange[0]!r}; it has {', '.join(studied)}.")
    study, measured = _measured(tiles, guess, per_class, known, run, engine)
    if measured.stopped and measured.left:
        raise Interrupted("stopped; run the same command again to continue")
    reasons = [outcome.reason for outcome in measured.outcomes if outcome.reason is not None]
    if reasons:
        raise UserError(reasons[0])
    rows = study_results.cells(study, measured)
    first = rows[rows["network"] == next(iter(study.config.benchmark.networks))]
    reached = tuple(first[study_prediction.ACCURACY].tolist())
    mean, asked, level = float(np.mean(reached)), methods or studied, study.config.level
    told = expected(known.studied.points, mean, per_class, asked, level)
    warned = cautions(known, mean, per_class, asked)
    return Answer(reached, float(first["chance"].iloc[0]), per_class, level, told, tuple(warned))


def _measured(
    tiles: TilesSettings, guess: bool, per_class: int, known: Experience, run: Run, engine: Engine
) -> tuple[Study, Measured]:
    """The random subsets of the data; without groups, if there are none and nobody asked for them."""
    config = StudyConfig(
        methods={RANDOM: {"method": "random"}},
        per_class=(per_class,),
        seeds=DRAWS,
        all_real=False,
        benchmark=known.benchmark.model_copy(update={"seeds": 1}),
        setups=("each",),
    )
    kinds = [tiles, tiles.model_copy(update={"group_column": None})] if guess else [tiles]
    found: list[tuple[Study, Measured]] = []
    for used in kinds:
        study = Study(config, run, (Task(TASK, TASK, used),))
        found.append((study, measure(study, engine)))
        if TASK in found[-1][1].tiles or found[-1][1].stopped:
            return found[-1]
    return found[0]


def expected(
    points: Points, random: float, per_class: int, methods: Sequence[str], level: float = 0.95
) -> tuple[Foretold, ...]:
    """What each method is expected to reach where a random subset reaches `random`."""
    model = prediction.fitted(points)
    count = len(methods)
    values = (np.full(count, random), np.full(count, random), np.array(methods, np.str_))
    new = Points(*values, np.full(count, float(per_class)), np.full(count, "new"))
    limits = prediction.interval(points, model, new, level)
    return tuple(Foretold(name, found) for name, found in zip(methods, limits, strict=True))


def cautions(known: Experience, random: float, per_class: int, methods: Sequence[str]) -> list[str]:
    """What stands against believing what is told of the methods."""
    points, tasks = known.studied.points, len(np.unique(known.studied.task_n))
    sources = len(np.unique(points.source_n))
    said = [f"It stands on {tasks} tasks of {sources} sources ({known.path.name}), each source counting once."]
    tested = prediction.tested(points)
    if tested is not None and not tested.model.mae < tested.same.mae:
        said.append("On sources left out, the model was no better than taking the random subset's own accuracy.")
    words = {"random": "The random subsets' accuracy lies", "size": f"{per_class} per class lies"}
    for out in prediction.outside(points, methods, random, per_class):
        low, high = (f"{end:.3f}" if out.what == "random" else f"{end:g}" for end in (out.low, out.high))
        said.append(f"{words[out.what]} outside of what was studied of {', '.join(out.methods)}: {low} to {high}.")
    if not known.known_benchmark:
        said.append(
            f"{known.path.with_suffix('.json').name} is missing, so the default benchmark stood in for the study's."
        )
    return said


def page(answer: Answer) -> str:
    """The answer in words."""
    mean, draws = float(np.mean(answer.random)), ", ".join(f"{value:.3f}" for value in answer.random)
    lines = [
        f"Random real subsets, {answer.per_class} per class: {mean:.3f} balanced accuracy on test tiles ({draws}); "
        f"chance is {answer.chance:.3f}.",
        f"Expected of a distilled set of that size, with a {100 * answer.level:g} % prediction interval:",
    ]
    wide = max(len(one.method) for one in answer.foretold)
    for one in answer.foretold:
        value, low, high = one.expected
        lines.append(
            f"  {one.method:<{wide}}  {value:.3f}  [{low:.3f}, {high:.3f}]  {value - mean:+.3f} against random"
        )
    return "\n".join([*lines, *(f"! {line}" for line in answer.cautions)]) + "\n"


def run_of(data: str, root: Path) -> Run:
    """Where the results for some data are kept."""
    stem = "".join(letter if letter.isalnum() else "_" for letter in Path(data.rstrip("/")).stem)
    return Run(root, f"predict_{stem}", 0)
