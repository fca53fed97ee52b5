"""A feasibility study at work: its steps, its cells, and making what is not there, cell by cell.

A cell is a task × method × images per class × seed. Tiles, the simulation and judges are made once; what a cell adds
(its condensation and its benchmark) derives from the seed of the cell. Every result is a stage's, in the store, so that
a study continues wherever it was stopped, and two studies share what they have in common.
"""

import functools
import logging
import threading
import time
from typing import NamedTuple

from pipeline import engine as engines
from pipeline import faults, keys, runner, story
from pipeline.runner import Run
from pipeline.seals import Seal
from pipeline.steps import Step
from pipeline.study_config import ALL_REAL, SIMULATION, StudyConfig, Task, merged
from stages import benchmark, compute, experts, judge, progress, simulation, streams, tiles
from stages.contracts import Engine, Interrupted, UserError
from stages.simulation import SimulationSettings

log = logging.getLogger(__name__)
MERGED = "simulation/all"
NOT_YET = "not made yet"


class Cell(NamedTuple):
    """One measurement."""

    setup: str
    """"simulation" or "each"."""
    task: str
    method: str
    per_class: int | None
    """None: all real tiles."""
    seed: int

    @property
    def named(self) -> str:
        """Its name, of which node names are made."""
        size = "" if self.per_class is None else f"_{self.per_class}"
        return f"{self.task}/{self.method}{size}/seed{self.seed}"


class Failure(NamedTuple):
    """Why a result cannot be made."""

    reason: str
    ours: bool
    """Whether it broke by our fault; otherwise its data or settings are to be mended."""


class Outcome(NamedTuple):
    """What became of a cell."""

    cell: Cell
    benchmark: Seal | None
    """Of its result; None where there is none."""
    condensation: Seal | None
    reason: str | None
    """Why there is no result."""
    ours: bool = False
    """Whether there is none because something broke by our fault."""


class Measured(NamedTuple):
    """What became of a study."""

    outcomes: list[Outcome]
    tiles: dict[str, Seal]
    """The tiles of every task that could be made, the simulation's among them, by the task's name."""
    stopped: bool
    """Whether a stop was asked for."""

    @property
    def left(self) -> int:
        """Cells that are not made yet; those that cannot be made are none of them."""
        return sum(outcome.reason == NOT_YET for outcome in self.outcomes)

    @property
    def broken(self) -> list[Outcome]:
        """Cells that broke by our fault; another run tries them again."""
        return [outcome for outcome in self.outcomes if outcome.ours]


class Study(NamedTuple):
    """What is measured."""

    config: StudyConfig
    run: Run
    tasks: tuple[Task, ...]

    def seeded(self, seed: int) -> Run:
        """The same run under the seed of its cells."""
        return self.run._replace(seed=streams.derive(self.run.seed, "cell", seed))

    def shared(self) -> list[Step]:
        """What cells stand on, in order: tiles, the simulation, the judges that a method looks through, and experts."""
        names = [task.name for task in self.tasks] if "each" in self.config.setups else []
        mixed = [task.name for task in merged(self.config, self.tasks)] if SIMULATION in self.config.setups else []
        steps = [
            Step(f"tiles/{task.name}", tiles.run, task.tiles, secrets=("key",))
            for task in self.tasks
            if task.name in {*names, *mixed}
        ]
        if mixed:
            needs = {f"tiles/{name}": f"tiles/{name}" for name in mixed}
            wanted = self.config.simulation.model_dump(include=set(SimulationSettings.model_fields))
            steps.append(Step(MERGED, simulation.run, SimulationSettings.model_validate(wanted), needs))
        told = [*([SIMULATION] if mixed else []), *names]
        needed = {role for m, n in self._methods() for role in story.condensed_needs(self.config.condensed(m, n))}
        if "judge" in needed:
            steps += [Step(f"judge/{n}", judge.run, self.config.judge, {"tiles": tiles_of(n)}) for n in told]
        if "experts" in needed:
            steps += [Step(f"experts/{n}", experts.run, self.config.experts, {"tiles": tiles_of(n)}) for n in told]
        return steps

    def cells(self) -> list[Cell]:
        """All of them: those of one seed before the next, so that a stopped study has seen every task."""
        told: list[tuple[str, str]] = [(SIMULATION, SIMULATION)] if SIMULATION in self.config.setups else []
        told += [("each", task.name) for task in self.tasks] if "each" in self.config.setups else []
        kinds: list[tuple[str, int | None]] = [(ALL_REAL, None)] if self.config.all_real else []
        kinds += self._methods()
        return [
            Cell(setup, task, *kind, seed)
            for seed in range(self.config.seeds)
            for setup, task in told
            for kind in kinds
        ]

    def _methods(self) -> list[tuple[str, int]]:
        return [(name, size) for name in self.config.methods for size in self.config.sizes(name)]

    def steps(self, cell: Cell) -> list[Step]:
        """What the cell adds: its condensation, unless all tiles are its images, and its benchmark."""
        node, found = tiles_of(cell.task), []
        contestant = node
        if cell.per_class is not None:
            condensed, contestant = self.config.condensed(cell.method, cell.per_class), f"condensation/{cell.named}"
            at = {"tiles": node} | {role: f"{role}/{cell.task}" for role in ("judge", "experts")}
            found.append(story.condense(contestant, condensed, at))
        needs = {"tiles": node, "contestant": contestant}
        return [*found, Step(f"benchmark/{cell.named}", benchmark.run, self.config.benchmark, needs)]


def tiles_of(task: str) -> str:
    """The node that holds the tiles of a task."""
    return MERGED if task == SIMULATION else f"tiles/{task}"


class Ledger:
    """What is made so far, for the threads that are at work on it."""

    def __init__(self, run: Run, until: float, go_on: bool) -> None:
        self.run, self.until, self.go_on = run, until, go_on
        self.record = run.record()
        self.sealed: dict[str, Seal] = {}
        self.failed: dict[str, Failure] = {}
        self.stopped = False
        self._lock = threading.Lock()

    def known(self, run: Run, step: Step) -> runner.State:
        """How a step stands; a sealed one is remembered."""
        with self._lock:
            state = runner.look(run, step, self.sealed, self.record)
            if state.seal is not None:
                self._remember(step, state.seal, None)
            return state

    def bring(self, run: Run, step: Step) -> None:
        """Make a step unless it is there, cannot be made, or is not to be begun any more.

        What breaks by our fault is set aside as well where the study goes on; what would stop every other step too,
        such as a full disk, is raised.
        """
        if step.node in self.sealed or any(node in self.failed for node in step.needs.values()):
            self._inherit(step)
            return
        state = self.known(run, step)
        if state.seal is not None or state.causes is None or compute.stop_asked() or time.monotonic() > self.until:
            return
        started = time.monotonic()
        try:
            seal = runner.make(run, step, state, self.sealed, engines.Serial(), anew=False)
        except Interrupted:
            return
        except UserError as error:
            log.warning("%s is set aside: %s", step.node, error)
            self.failed[step.node] = Failure(str(error), ours=False)
            return
        except Exception as error:
            if not self.go_on or faults.verdict(error)[0] != faults.OURS:
                raise
            failure = Failure(f"{type(error).__name__}: {error}", ours=True)
            log.exception("%s broke and is set aside: %s", step.node, failure.reason)
            self.failed[step.node] = failure
            return
        seconds = time.monotonic() - started
        log.info("%s: done in %s", step.node, runner.duration(seconds))
        with self._lock:
            self._remember(step, seal, seconds)
            runner.keep_record(self.run, self.record, self.sealed)

    def _inherit(self, step: Step) -> None:
        for node in step.needs.values():
            if node in self.failed:
                self.failed[step.node] = self.failed[node]

    def _remember(self, step: Step, seal: Seal, seconds: float | None) -> None:
        self.sealed[step.node] = seal
        entry = {"folder": seal.folder.name} | ({} if seconds is None else {"seconds": round(seconds, 1)})
        known = self.record.get(step.node)
        if seconds is not None or known is None or known["folder"] != entry["folder"]:
            self.record[step.node] = entry

    def close(self) -> None:
        """Keep the record of the run and its links."""
        runner.keep_record(self.run, self.record, self.sealed)
        runner.link(self.run, self.record)


def measure(study: Study, engine: Engine, until: float = float("inf")) -> Measured:
    """Make every result that is not there; what breaks by our fault is raised.

    Args:
        study: what is measured.
        engine: where cells run, one thread each; threads, or this one.
        until: nothing is begun after this time of the monotonic clock.
    """
    ledger = begin(study, until)
    work(study, ledger, engine)
    return made(study, ledger)


def begin(study: Study, until: float = float("inf"), go_on: bool = False) -> Ledger:
    """The ledger of a study that is about to work.

    Args:
        study: what is measured.
        until: nothing is begun after this time of the monotonic clock.
        go_on: whether a cell that breaks by our fault is set aside, for the others to be made.
    """
    study.run.folder.mkdir(parents=True, exist_ok=True)
    keys.ensure(study.run.root)
    return Ledger(study.run, until, go_on)


def work(study: Study, ledger: Ledger, engine: Engine) -> None:
    """Make every result that is not there; the ledger and the run's record know what is, even if something breaks."""
    cells = study.cells()
    try:
        with compute.graceful():
            try:
                for stage in ("tiles", "simulation", "judge", "experts"):
                    steps = [step for step in study.shared() if step.stage == stage]
                    for _ in engine.map(functools.partial(ledger.bring, study.run), steps):
                        pass
                # small sets first, of every task: where it is stopped, tasks have been compared at what there is
                waiting = [cell for cell in cells if not _there(study, ledger, cell)]
                waiting.sort(key=lambda cell: (cell.seed, cell.per_class or 0))
                results = engine.map(functools.partial(_make, study, ledger), waiting)
                done = len(cells) - len(waiting)
                for _ in progress.track(results, "study", len(cells), done, unit="cell"):
                    pass
            finally:
                ledger.stopped = compute.stop_asked()
    finally:
        ledger.close()


def made(study: Study, ledger: Ledger) -> Measured:
    """What there is of a study, wherever its work ended."""
    cells = study.cells()
    for step in study.shared():
        _known(ledger, study.run, step)
    for cell in cells:
        _there(study, ledger, cell)
    found = {
        task: ledger.sealed[tiles_of(task)]
        for task in dict.fromkeys(c.task for c in cells)
        if tiles_of(task) in ledger.sealed
    }
    return Measured([_outcome(ledger, cell) for cell in cells], found, ledger.stopped)


def _known(ledger: Ledger, run: Run, step: Step) -> bool:
    return step.node in ledger.sealed or ledger.known(run, step).seal is not None


def _there(study: Study, ledger: Ledger, cell: Cell) -> bool:
    return all(_known(ledger, study.seeded(cell.seed), step) for step in study.steps(cell))


def _make(study: Study, ledger: Ledger, cell: Cell) -> None:
    for step in study.steps(cell):
        ledger.bring(study.seeded(cell.seed), step)


def _outcome(ledger: Ledger, cell: Cell) -> Outcome:
    node = f"benchmark/{cell.named}"
    condensed = ledger.sealed.get(f"condensation/{cell.named}")
    seal = ledger.sealed.get(node)
    if seal is not None:
        return Outcome(cell, seal, condensed, None)
    return Outcome(cell, None, condensed, *ledger.failed.get(node, Failure(NOT_YET, ours=False)))
