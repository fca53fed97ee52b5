"""What distillation would give, before any is done: random real subsets now, and a study's experience with others."""

import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from pipeline import config, inspection, keys, runner, study_prediction, study_results
from pipeline.runner import Run
from pipeline.study import Study, measure
from pipeline.study_config import RANDOM, StudyConfig, Task
from pipeline.study_experience import Experience
from stages import compute, store
from stages.contracts import Engine, Interrupted, UserError
from stages.settings import SCHEME
from stages.sources.table import NoGroupColumn
from stages.stats import prediction
from stages.stats.intervals import Interval
from stages.stats.prediction import Points
from stages.tiles import TilesSettings

log = logging.getLogger(__name__)
DRAWS = 3
"""Random subsets, each with a network of its own."""
TASK = "data"
OPTIONS = {
    "label_column": "--label-column",
    "group_column": '--group-column ("" for null)',
    "medmnist": "--medmnist",
    "size_px": "--size",
}
"""Options of `predict`, by the setting of the tiles that each gives."""


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
    try:
        study = _with_tiles(_study(tiles, per_class, known, run), guess, engine)
        measured = measure(study, engine)
        reasons = [outcome.reason for outcome in measured.outcomes if outcome.reason is not None]
        if measured.stopped and measured.left:
            raise Interrupted("stopped; run the same command again to continue")
        if reasons:
            raise UserError(reasons[0])
    except UserError as error:
        raise UserError(in_options(str(error))) from error
    first = study_results.cells(study, measured)
    reached = tuple(first[study_prediction.ACCURACY].tolist())
    mean, asked = float(np.mean(reached)), methods or studied
    told = expected(known.studied.points, mean, per_class, asked, known.level)
    warned = cautions(known, mean, per_class, asked)
    return Answer(reached, float(first["chance"].iloc[0]), per_class, known.level, told, tuple(warned))


def _study(tiles: TilesSettings, per_class: int, known: Experience, run: Run) -> Study:
    """The random subsets of the data, and nothing else."""
    settings = StudyConfig(
        methods={RANDOM: {"method": "random"}},
        per_class=(per_class,),
        seeds=DRAWS,
        all_real=False,
        benchmark=known.benchmark.model_copy(update={"seeds": 1}),
        setups=("each",),
    )
    return Study(settings, run, (Task(TASK, TASK, tiles),))


def _with_tiles(study: Study, guess: bool, engine: Engine) -> Study:
    """The study with its tiles made; without groups, if they have no such column and nobody asked for one.

    Any other fault stands, so that groups that are there are never given up.
    """
    try:
        _make_tiles(study, engine)
        return study
    except NoGroupColumn:
        if not guess:
            raise
    tiles = study.tasks[0].tiles.model_copy(update={"group_column": None})
    study = study._replace(tasks=(Task(TASK, TASK, tiles),))
    _make_tiles(study, engine)
    return study


def _make_tiles(study: Study, engine: Engine) -> None:
    """Make the tiles, unless they are there, and let the run remember them."""
    run, (step,) = study.run, study.shared()
    run.folder.mkdir(parents=True, exist_ok=True)
    keys.ensure(run.root)
    with compute.graceful():
        record, started = run.record(), time.monotonic()
        state = runner.look(run, step, {}, record)
        if state.seal is not None:
            return
        seal = runner.make(run, step, state, {}, engine, anew=False)
        seconds = time.monotonic() - started
        log.info("%s: done in %s", step.node, runner.duration(seconds))
        runner.keep_record(
            run, record | {step.node: {"folder": seal.folder.name, "seconds": round(seconds, 1)}}, {step.node}
        )
        if compute.stop_asked():
            raise Interrupted("stopped after the tiles; run the same command again to continue")


def in_options(said: str) -> str:
    """What is said of settings, and which options of `predict` give these settings."""
    named = dict.fromkeys(re.findall(r"\btiles\.([a-z_]+)", said))
    given = [f"tiles.{name} is {OPTIONS[name]}" for name in named if name in OPTIONS]
    given += ["per_class is --ipc"] if re.search(r"\bper_class\b", said) else []
    others = [f"tiles.{name}" for name in named if name not in OPTIONS]
    told = [f"For predict, {', '.join(given)}."] if given else []
    told += [f"A recipe, which DATA may be, sets {', '.join(others)}."] if others else []
    return " ".join([said, *told])


def expected(
    points: Points, random: float, per_class: int, methods: Sequence[str], level: float
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
    """Where the results for some data are kept, and the seed: that of a recipe, so that its tiles serve, otherwise 0.

    Two files of one name have two runs: the name ends in a few digits of a digest of the whole path or address.

    Raises:
        UserError: the recipe cannot be read.
    """
    whole = data if SCHEME in data else str(Path(data).expanduser().resolve())
    stem = Path(urlsplit(data).path if SCHEME in data else whole).stem
    word = "".join(letter if letter.isalnum() else "_" for letter in stem)
    seed = config.load(Path(data)).seed if inspection.is_recipe(data) else 0
    return Run(root, f"predict_{word}_{store.digest_bytes(whole.encode())[:8]}", seed)
