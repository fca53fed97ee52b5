"""The settings of a feasibility study: which tasks, methods, sizes and seeds, in which set-ups."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from pipeline.config import anchored, faults, overlaid, read_yaml
from stages.benchmark import BenchmarkSettings
from stages.condensation_settings import CondensationSettings
from stages.contracts import UserError
from stages.experts import ExpertsSettings
from stages.judge import JudgeSettings
from stages.settings import InputPath, Name, Settings
from stages.simulation import SimulationSettings
from stages.sources import medmnist, medmnist_files
from stages.tiles import TilesSettings

ALL_REAL = "all_real"
RANDOM = "random"
SIMULATION = "simulation"
MISSING = "is how a table says that something is missing"
TASKS_TAKEN = {SIMULATION: "is the task of all data sets merged", "nan": MISSING, "null": MISSING}
METHODS_TAKEN = {
    ALL_REAL: "is the row of all real tiles",
    "all": "is the row of all methods together",
    "nan": MISSING,
    "null": MISSING,
}
"""Names that mean something else in results and tables, and what."""
Setup = Literal["simulation", "each"]
SHARED = {"organamnist": "lits", "organcmnist": "lits", "organsmnist": "lits"}
"""What sets of MedMNIST stand on where several stand on the same: slices of one set of CT scans, three ways."""
Source = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
QUICK = {"seeds": 1, "resamples": 100}
"""Of the benchmark of one cell, where nothing is said: the study's own seeds and intervals are over cells."""


class TaskSettings(Settings):
    """One data set, or some classes of one."""

    tiles: TilesSettings
    """Where its tiles come from, as in a recipe."""
    source: Source | None = None
    """What it counts with in the statistics: tasks of one source are no independent evidence. None: what its set of
    MedMNIST stands on (the OrganMNISTs share the scans of LiTS), or the file's name where it is none."""
    classes: tuple[str, ...] | None = None
    """The classes that are taken, as `tiles.classes`. None: those of `tiles`."""
    subsets: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    """Further tasks over the same tiles, by name: the classes that each takes."""

    @model_validator(mode="after")
    def _once(self) -> "TaskSettings":
        if self.classes is not None and self.tiles.classes is not None and self.classes != self.tiles.classes:
            raise ValueError("classes and tiles.classes name different ones; give one of them")
        return self


class MergedSettings(SimulationSettings):
    """The simulation of a study, and what takes part in it."""

    tasks: tuple[Name, ...] | None = None
    """The tasks that become its classes. None: all of whole data sets."""


class SizesSettings(Settings):
    """How many images per class: one number, or several."""

    per_class: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Images per class."""

    @field_validator("per_class", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]


class StudyConfig(Settings):
    """A study: cells of task × method × images per class × seed."""

    seed: int = Field(0, ge=0)
    """Every random stream of the study derives from this number."""
    folder: InputPath | None = None
    """A folder of MedMNIST npz; each is a task, called by its set."""
    sets: tuple[str, ...] | None = None
    """The sets of MedMNIST that must lie in `folder`; None: whatever lies there."""
    folder_tiles: dict[str, Any] = Field(default_factory=lambda: {"grouping": "each"})
    """Settings of the tiles stage for the files of `folder`, `source` excepted. By default the published division."""
    sources: dict[Name, Source] = Field(default_factory=dict)
    """What tasks of `folder` count with in the statistics, by the task's name, as `source` of `tasks`. Not named: what
    the set of MedMNIST stands on, or the file's name."""
    tasks: dict[Name, TaskSettings] = Field(default_factory=dict)
    """Further tasks, by name."""
    leave_out: tuple[str, ...] = ()
    """Tasks that are left out, by name; one of `tasks` with its subsets."""
    methods: dict[Name, dict[str, Any]] = Field(
        default_factory=lambda: {RANDOM: {"method": "random"}, "herding": {"method": "herding"}}
    )
    """Condensations by name, as in a recipe; `per_class` may list the sizes that a method is given, if not all. Always
    among them is random, the draw of real tiles from which the others are predicted."""
    per_class: tuple[int, ...] = Field((1, 10, 50), min_length=1)
    """Images per class."""
    seeds: int = Field(3, ge=1)
    """How often each cell is made, each from a seed of its own: the draw of random, the learned images and the start of
    the benchmark's networks. The tiles and their roles, the simulation's draw, the judge and the experts are made once
    for all seeds, so herding, which draws nothing, chooses the same tiles for each; the intervals over seeds tell
    nothing of these."""
    all_real: bool = True
    """Whether networks are trained on all real tiles as well, for reference."""
    benchmark: BenchmarkSettings = BenchmarkSettings(seeds=1, resamples=100)
    """What is trained on every cell's images; the tables tell the first network. One seed unless more are asked for."""
    judge: JudgeSettings = JudgeSettings(grey_twin=False)
    """The network that herding looks through; trained on every task, once for all seeds."""
    experts: ExpertsSettings = ExpertsSettings()
    """The networks that mtt and tesla follow; trained on every task, once for all seeds."""
    setups: tuple[Setup, ...] = Field(("simulation", "each"), min_length=1)
    """simulation: each data set is one class of one problem. each: every task on its own."""
    simulation: MergedSettings = MergedSettings()
    """How data sets are merged for the simulation."""
    resamples: int = Field(2000, ge=1)
    """Bootstrap resamples behind the intervals of the tables and of the correlations."""
    level: float = Field(0.95, gt=0, lt=1)
    """Coverage that intervals aim at."""

    @field_validator("benchmark", mode="before")
    @classmethod
    def _quick(cls, value: Any) -> Any:
        return QUICK | dict(value) if isinstance(value, Mapping) else value

    @field_validator("judge", mode="before")
    @classmethod
    def _one_network(cls, value: Any) -> Any:
        return {"grey_twin": False} | dict(value) if isinstance(value, Mapping) else value

    @field_validator("methods", mode="before")
    @classmethod
    def _with_random(cls, value: Any) -> Any:
        return {RANDOM: {"method": "random"}} | dict(value) if isinstance(value, Mapping) else value

    @field_validator("folder_tiles")
    @classmethod
    def _of_tiles(cls, value: dict[str, Any]) -> dict[str, Any]:
        _valid(TilesSettings, value | {"source": "any.npz"}, "")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "StudyConfig":
        for name in self.methods:
            if name in METHODS_TAKEN:
                raise ValueError(f"methods.{name}: {name} {METHODS_TAKEN[name]}; give the method another name")
            _valid(SizesSettings, self._sizes_given(name), f"methods.{name}:")
            for per_class in self.sizes(name):
                _valid(CondensationSettings, self.methods[name] | {"per_class": per_class}, f"methods.{name}:")
                if self.condensed(name, per_class).distillation.start == "candidates":
                    raise ValueError(f"methods.{name}: a study makes no candidates to start from; take noise or real")
        if self.methods[RANDOM].get("method", "random") != "random":
            raise ValueError(f"{RANDOM} is the draw that others are predicted from; give the method another name")
        return self

    def sizes(self, method: str) -> tuple[int, ...]:
        """The images per class that a method is given, each once, in order."""
        return tuple(sorted(set(SizesSettings.model_validate(self._sizes_given(method)).per_class)))

    def _sizes_given(self, method: str) -> dict[str, Any]:
        return {"per_class": self.methods[method].get("per_class", self.per_class)}

    def condensed(self, method: str, per_class: int) -> CondensationSettings:
        """The settings of a condensation."""
        return CondensationSettings.model_validate(self.methods[method] | {"per_class": per_class})


def _valid(model: type[Settings], given: Mapping[str, Any], where: str) -> None:
    """Settings that are told apart only here must be good as well.

    Raises:
        ValueError: they are not; with the faults in words.
    """
    try:
        model.model_validate(given)
    except ValidationError as error:
        raise ValueError(f"{where} {'; '.join(line.strip() for line in faults(error, model))}".strip()) from None


class Task(NamedTuple):
    """A task of a study, ready to be made."""

    name: str
    source: str
    tiles: TilesSettings

    @property
    def whole(self) -> bool:
        """Whether all classes of the data set are taken."""
        return self.tiles.classes is None


def load(recipe: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study's recipe with `overrides` laid over it; paths as in `pipeline.config.load`.

    Raises:
        UserError: no such recipe, no YAML, an unknown key, or a value out of its bounds; all faults in one message.
    """
    folder = recipe.resolve().parent
    raw = anchored(read_yaml(recipe), StudyConfig, folder)
    if isinstance(raw.get("folder_tiles"), dict):  # not a model's yet: the files of the folder complete it
        raw["folder_tiles"] = anchored(raw["folder_tiles"], TilesSettings, folder)
    for word in overrides:
        raw = overlaid(raw, word, StudyConfig)
    return checked(raw, str(recipe))


def checked(raw: Mapping[str, Any], named: str) -> StudyConfig:
    """The settings of a study; `named` is what an error calls them."""
    try:
        return StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{named} cannot be used:\n" + "\n".join(faults(error, StudyConfig))) from error


def tasks_of(config: StudyConfig, download: bool = False) -> list[Task]:
    """All tasks of a study, those of the folder first.

    Args:
        config: its settings.
        download: whether official files of MedMNIST that are missing are brought.

    Raises:
        UserError: there is none, a file is missing (says what to put where) or cannot be had, two have one name, or one
            has a name that means something else in the results.
    """
    found = _sourced(config, list(_of_folder(config, download)))
    for name in config.tasks:
        if name not in config.leave_out:
            found += _of_recipe(config, name, download)
    unknown = sorted(set(config.leave_out) - {task.name for task in found} - config.tasks.keys())
    if unknown:
        there = ", ".join(task.name for task in found)
        raise UserError(f"leave_out names {unknown[0]}, which is no task; there are {there}.")
    found = [task for task in found if task.name not in config.leave_out]
    names = [task.name for task in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"The study has two tasks called {twice[0]}. Rename one of them, or leave it out.")
    for name in names:
        if name in TASKS_TAKEN:
            raise UserError(
                f"The study has a task called {name}, which {TASKS_TAKEN[name]}. Rename it (a task of the folder is "
                "called by its file), or leave it out."
            )
    if not found:
        raise UserError("The study has no task: name a folder of MedMNIST npz (folder), or tasks.")
    return found


def _of_folder(config: StudyConfig, download: bool) -> Iterator[Task]:
    if config.folder is None:
        return
    for flag in config.sets or ():
        _there(config.folder / f"{_known(flag)}.npz", flag, download)
    if config.sets is not None:
        files = [config.folder / f"{flag}.npz" for flag in config.sets]
    else:
        files = sorted(config.folder.glob("*.npz"))
        if not files:
            raise UserError(
                f"There is no npz in {config.folder}. Put files of MedMNIST there, from {medmnist_files.ADDRESS}, or "
                "name the sets (sets) and run with --download."
            )
    for path in files:
        tiles = TilesSettings.model_validate(config.folder_tiles | {"source": path})
        names = [medmnist.set_named(other.stem) for other in files]
        own = medmnist.set_named(path.stem)
        name = own if own is not None and names.count(own) == 1 else _as_name(path.stem)
        yield Task(name, _stands_on(own, path.stem), tiles)


def _sourced(config: StudyConfig, found: Sequence[Task]) -> list[Task]:
    """The tasks of the folder with the sources that the recipe gives them."""
    strange = sorted(config.sources.keys() - {task.name for task in found})
    if strange:
        there = ", ".join(task.name for task in found) or "none"
        raise UserError(
            f"sources names {strange[0]}, which is no task of folder; there are {there}. One of tasks has a source of "
            "its own: tasks.NAME.source."
        )
    return [task._replace(source=config.sources.get(task.name, task.source)) for task in found]


def _stands_on(flag: str | None, otherwise: str) -> str:
    """The source of a set of MedMNIST; `otherwise` where it is none."""
    return otherwise if flag is None else SHARED.get(flag, flag)


def _known(flag: str) -> str:
    try:
        return medmnist.known_set(flag)
    except ValueError as error:
        raise UserError(f"sets: {error}.") from error


def _of_recipe(config: StudyConfig, name: str, download: bool) -> Iterator[Task]:
    given = config.tasks[name]
    source = given.tiles.source
    if isinstance(source, Path):
        flag = given.tiles.medmnist if source.suffix == ".npz" else None
        _there(source, flag if flag is not None and source.stem == flag else None, download)
    own = source.stem if isinstance(source, Path) else source
    cluster = given.source or _stands_on(given.tiles.medmnist, own)
    for task, classes in ({name: given.classes} | given.subsets).items():
        tiles = given.tiles if classes is None else given.tiles.model_copy(update={"classes": classes})
        yield Task(task, cluster, tiles)


def _there(path: Path, flag: str | None, download: bool) -> None:
    """The file must be there, or be had."""
    if path.exists():
        return
    if flag is None:
        raise UserError(f"There is nothing at {path}. Put the data there, or mend the path in the study's recipe.")
    if not download:
        raise UserError(medmnist_files.advice(flag, path.parent))
    medmnist_files.bring(flag, path.parent)


def _as_name(stem: str) -> str:
    """A file's name as that of a task."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in stem.lower())
    return (kept if kept[:1].isalpha() else f"set_{kept}")[:40]


def merged(config: StudyConfig, tasks: Sequence[Task]) -> list[Task]:
    """The tasks that are classes of the simulation.

    Raises:
        UserError: it names one that is not there, or fewer than two take part.
    """
    by_name = {task.name: task for task in tasks}
    wanted = config.simulation.tasks
    if wanted is None:
        wanted = tuple(task.name for task in tasks if task.whole)
    lacking = sorted(set(wanted) - by_name.keys())
    if lacking:
        raise UserError(f"simulation.tasks names {lacking[0]}, which is no task; there are {', '.join(by_name)}.")
    if len(wanted) < 2:
        raise UserError(
            f"The simulation merges whole data sets, and there are {len(wanted)}. Add some, name simulation.tasks, or "
            "set setups to [each]."
        )
    return [by_name[name] for name in dict.fromkeys(wanted)]
