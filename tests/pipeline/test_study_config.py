import hashlib
from pathlib import Path
from typing import Any

import pytest
import studies
import yaml
from serving import served

from pipeline import story, study_config
from pipeline.runner import Run
from pipeline.study import Study
from pipeline.study_config import StudyConfig
from stages.condensation_settings import CondensationSettings
from stages.contracts import UserError
from stages.sources import medmnist

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def load(where: Path, words: tuple[str, ...] = (), **raw: Any) -> StudyConfig:
    path = where / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return study_config.load(path, words)


def names(config: StudyConfig, download: bool = False) -> list[tuple[str, str, bool]]:
    return [(task.name, task.source, task.whole) for task in study_config.tasks_of(config, download)]


def test_every_npz_of_a_folder_is_a_task_called_by_its_set_or_its_file(tmp_path: Path) -> None:
    for name in ("bloodmnist_28", "pathmnist", "pathmnist_64", "3rd Set"):
        studies.npz(tmp_path / "sets" / f"{name}.npz", 0)
    config = load(tmp_path, folder="sets", folder_tiles={"grouping": "each", "size_px": 28})
    assert names(config) == [
        ("set_3rd_set", "3rd Set", True),
        ("bloodmnist", "bloodmnist", True),
        ("pathmnist", "pathmnist", True),
        ("pathmnist_64", "pathmnist", True),
    ]
    first = study_config.tasks_of(config)[0].tiles
    assert first.source == tmp_path / "sets" / "3rd Set.npz" and (first.size_px, first.grouping) == (28, "each")


def test_slices_of_the_same_scans_are_one_source_in_the_folder_and_under_tasks(tmp_path: Path) -> None:
    for name in ("organamnist", "organcmnist_64", "organsmnist_128", "octmnist", "scans"):
        studies.npz(tmp_path / "sets" / f"{name}.npz", 0)
    config = load(
        tmp_path,
        folder="sets",
        leave_out=["scans"],
        tasks={
            "told": {"tiles": {"source": "sets/scans.npz", "medmnist": "organsmnist"}, "subsets": {"two": ["0", "1"]}},
            "mine": {"tiles": {"source": "sets/scans.npz"}},
            "named": {"tiles": {"source": "sets/octmnist.npz"}, "source": "eyes"},
        },
    )
    sources = {name: source for name, source, _ in names(config)}
    lits = ("organamnist", "organcmnist", "organsmnist", "told", "two")
    assert sources == dict.fromkeys(lits, "lits") | {"octmnist": "octmnist", "mine": "scans", "named": "eyes"}


def test_the_sets_that_share_scans_are_those_that_medmnist_says_do() -> None:
    said = {flag for flag, info in medmnist.catalogue().items() if "LiTS" in info["description"]}
    assert said == study_config.SHARED.keys(), "its volumes of them (OrganMNIST3D) cannot be tiles"


def test_a_person_may_say_that_tasks_of_the_folder_share_a_source(tmp_path: Path) -> None:
    for name in ("clinic_a", "clinic_b", "organamnist"):
        studies.npz(tmp_path / "sets" / f"{name}.npz", 0)
    config = load(tmp_path, folder="sets", sources={"clinic_a": "clinic", "clinic_b": "clinic", "organamnist": "own"})
    assert names(config) == [("clinic_a", "clinic", True), ("clinic_b", "clinic", True), ("organamnist", "own", True)]
    with pytest.raises(UserError, match="sources names clinic_c, which is no task of folder; there are clinic_a"):
        names(load(tmp_path, folder="sets", sources={"clinic_c": "clinic"}))
    with pytest.raises(UserError, match="sources.clinic_a: String should have at least 1 character"):
        load(tmp_path, folder="sets", sources={"clinic_a": " "})


def test_a_subset_is_a_task_of_its_own_over_the_same_source(tmp_path: Path) -> None:
    config = study_config.load(studies.recipe(tmp_path))
    alpha, beta, gamma = ((name, name, whole) for name, whole in (("alpha", True), ("beta", True), ("gamma", False)))
    assert names(config) == [alpha, ("alpha_two", "alpha", False), beta, gamma]
    tasks = {task.name: task.tiles for task in study_config.tasks_of(config)}
    assert tasks["alpha_two"].classes == ("0", "1") and tasks["alpha_two"].source == tasks["alpha"].source
    assert [task.name for task in study_config.merged(config, study_config.tasks_of(config))] == ["alpha", "beta"]
    fewer = config.model_copy(update={"leave_out": ("beta", "alpha_two")})
    assert [name for name, *_ in names(fewer)] == ["alpha", "gamma"]
    without = config.model_copy(update={"leave_out": ("alpha",)})
    assert [name for name, *_ in names(without)] == ["beta", "gamma"], "with its subsets"
    with pytest.raises(UserError, match="leave_out names delta, which is no task; there are alpha"):
        names(config.model_copy(update={"leave_out": ("delta",)}))
    with pytest.raises(UserError, match="there are 1"):
        study_config.merged(config, study_config.tasks_of(without)[:1])


def test_paths_in_what_all_files_of_a_folder_share_lie_beside_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "study.yaml"
    stain = {"method": "reinhard", "target": "target.png"}
    recipe.write_text(yaml.safe_dump({"folder": "sets", "folder_tiles": {"stain": stain}}))
    assert study_config.load(recipe).folder_tiles["stain"]["target"] == str(tmp_path / "target.png")


def test_a_missing_file_is_an_error_that_says_what_to_put_where(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    address = "https://zenodo.org/records/10519652"
    with pytest.raises(UserError, match=rf"no npz in .*sets.*{address}"):
        names(load(tmp_path, folder="sets"))
    with pytest.raises(UserError, match=rf"no pathmnist.npz in .*sets. Get pathmnist.npz from {address} and put it"):
        names(load(tmp_path, folder="sets", sets=["pathmnist"]))
    with pytest.raises(UserError, match="sets: MedMNIST has no set 'patmnist'; did you mean 'pathmnist'"):
        names(load(tmp_path, folder="sets", sets=["patmnist"]))
    tiles = {"source": "sets/bloodmnist.npz"}
    with pytest.raises(UserError, match=rf"no bloodmnist.npz in .*sets.*{address}.*--download"):
        names(load(tmp_path, tasks={"blood": {"tiles": tiles}}))
    with pytest.raises(UserError, match=r"nothing at .*lung.parquet. Put the data there"):
        names(load(tmp_path, tasks={"lung": {"tiles": {"source": "lung.parquet"}}}))
    with pytest.raises(UserError, match="no task"):
        names(load(tmp_path))


def test_official_files_that_are_missing_are_brought_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(medmnist.catalogue())
    for number, flag in enumerate(("bloodmnist", "pathmnist", "octmnist")):
        content = studies.npz(tmp_path / "served" / f"{flag}.npz", number).read_bytes()
        known[flag] = known[flag] | {"MD5": hashlib.md5(content, usedforsecurity=False).hexdigest()}
    studies.npz(tmp_path / "sets" / "octmnist.npz", 5)
    mine = (tmp_path / "sets" / "octmnist.npz").read_bytes()
    tasks = {"blood": {"tiles": {"source": "more/bloodmnist.npz"}}}
    config = load(tmp_path, folder="sets", sets=["pathmnist", "octmnist"], tasks=tasks)
    with served(tmp_path / "served") as (address, asked):
        there = {flag: info | {"url": f"{address}/{flag}.npz"} for flag, info in known.items()}
        monkeypatch.setattr(medmnist, "catalogue", lambda: there)
        assert [name for name, *_ in names(config, download=True)] == ["pathmnist", "octmnist", "blood"]
        assert names(config, download=True) == names(config)
        assert asked == ["/pathmnist.npz", "/bloodmnist.npz"], "what lies there is not brought, nor anything twice"
    for folder, flag in (("sets", "pathmnist"), ("more", "bloodmnist")):
        assert (tmp_path / folder / f"{flag}.npz").read_bytes() == (tmp_path / "served" / f"{flag}.npz").read_bytes()
    assert (tmp_path / "sets" / "octmnist.npz").read_bytes() == mine


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({"metods": {}}, r"unknown key 'metods'; did you mean 'methods'\?"),
        ({"methods": {"random": {"method": "randon"}}}, "methods.random: method"),
        ({"methods": {"random": {}, "h": {"method": "herding", "per_clas": 1}}}, "methods.h: unknown key 'per_clas'"),
        ({"methods": {"random": {"method": "herding"}}}, "random is the draw that others are predicted from"),
        ({"methods": {"h": {"per_class": [1, "a"]}}}, r"methods.h: per_class.1: Input should be .*given 'a'"),
        ({"methods": {"h": {"per_class": [[1]]}}}, r"methods.h: per_class.0: Input should be .*given \[1\]"),
        ({"methods": {"h": {"per_class": {"a": 1}}}}, r"methods.h: per_class.0: Input should be .*given {'a': 1}"),
        ({"methods": {"h": {"per_class": []}}}, r"methods.h: per_class: Tuple should have at least 1 item"),
        ({"methods": {"h": {"per_class": None}}}, r"methods.h: per_class.0: Input should be .*given None"),
        ({"methods": {"h": {"per_class": [2, 0]}}}, "methods.h: per_class.1: Input should be greater than or equal"),
        ({"methods": {"random": {}, "all_real": {}}}, "all_real is the row of all real tiles"),
        ({"methods": {"all": {"method": "herding"}}}, "all is the row of all methods together; give the method"),
        ({"methods": {"null": {}}}, "null is how a table says that something is missing"),
        ({"per_class": [0]}, "per_class.0: Input should be greater than or equal to 1"),
        ({"folder_tiles": {"groping": "each"}}, r"unknown key 'groping'; did you mean 'grouping'\?"),
        (
            {"tasks": {"a": {"tiles": {"source": "a.npz", "sze_px": 1}}}},
            r"tasks.a.tiles.sze_px'; did you mean 'size_px'",
        ),
        (
            {"tasks": {"a": {"tiles": {"source": "a.npz", "classes": ["x", "y"]}, "classes": ["x", "z"]}}},
            "classes and tiles.classes name different ones",
        ),
    ],
)
def test_a_fault_in_the_recipe_is_said_with_the_nearest_key(tmp_path: Path, raw: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        load(tmp_path, **raw)


def test_no_task_has_a_name_that_means_something_else_in_the_results(tmp_path: Path) -> None:
    for name in ("simulation", "alpha"):
        studies.npz(tmp_path / "sets" / f"{name}.npz", 0)
    tiles = {"source": "sets/alpha.npz"}
    merged = "a task called simulation, which is the task of all data sets merged. Rename it"
    with pytest.raises(UserError, match=merged):
        names(load(tmp_path, folder="sets"))
    with pytest.raises(UserError, match=merged):
        names(load(tmp_path, tasks={"simulation": {"tiles": tiles}}))
    with pytest.raises(UserError, match=merged):
        names(load(tmp_path, tasks={"alpha": {"tiles": tiles, "subsets": {"simulation": ["0", "1"]}}}))
    with pytest.raises(UserError, match="a task called nan, which is how a table says that something is missing"):
        names(load(tmp_path, tasks={"alpha": {"tiles": tiles, "subsets": {"nan": ["0", "1"]}}}))
    assert names(load(tmp_path, folder="sets", leave_out=["simulation"])) == [("alpha", "alpha", True)]


def test_overrides_are_laid_over_and_a_cell_has_one_quick_network_unless_more_is_asked_for(tmp_path: Path) -> None:
    words = ("benchmark.networks.convnet3.width=8", "methods.late={method: random, per_class: [50]}", "seeds=5")
    config = load(tmp_path, words, benchmark={"resamples": 7})
    assert (config.benchmark.seeds, config.benchmark.resamples, config.seeds) == (1, 7, 5)
    assert config.benchmark.networks["convnet3"].width == 8 and not config.judge.grey_twin
    assert config.sizes("late") == (50,) and config.sizes("random") == (1, 10, 50)
    assert load(tmp_path, ("methods.late={per_class: ['10', 2, 2]}",)).sizes("late") == (2, 10)
    assert load(tmp_path, ("methods.late={per_class: 3}",)).sizes("late") == (3,)
    assert config.condensed("late", 50) == CondensationSettings(method="random", per_class=50)
    assert list(config.methods) == ["random", "late"], "the draw of real tiles is always among them"
    assert load(tmp_path, ("judge.grey_twin=true", "benchmark.seeds=2")).benchmark.seeds == 2


def test_judges_are_trained_only_where_a_method_looks_through_one(tmp_path: Path) -> None:
    def stages(**changes: Any) -> list[str]:
        config = study_config.load(studies.recipe(tmp_path, **changes))
        study = Study(config, Run(tmp_path, "x", 0), tuple(study_config.tasks_of(config)))
        assert all(
            need in {s.node for s in study.shared()}
            for c in study.cells()
            for s in study.steps(c)[:1]
            for need in s.needs.values()
        )
        return [step.node for step in study.shared()]

    tiles = ["tiles/alpha", "tiles/alpha_two", "tiles/beta", "tiles/gamma"]
    names = ("simulation", "alpha", "alpha_two", "beta", "gamma")
    assert stages() == [*tiles, "simulation/all", *(f"judge/{name}" for name in names)]
    assert stages(methods={"random": {}}) == [*tiles, "simulation/all"]
    assert stages(methods={"random": {}}, setups=["simulation"]) == ["tiles/alpha", "tiles/beta", "simulation/all"]
    assert stages(methods={"random": {}}, setups=["each"]) == tiles
    assert story.condensed_needs(CondensationSettings(method="random")) == ["tiles"]
    assert story.condensed_needs(CondensationSettings(method="herding")) == ["tiles", "judge"]


def test_the_recipes_that_ship_can_be_read(tmp_path: Path) -> None:
    config = study_config.load(CONFIGS / "feasibility.yaml")
    tasks = 0
    for name, task in config.tasks.items():
        tasks += 1 + len(task.subsets)
        assert task.tiles.source.parent.name in ("medmnist", "data", "sample"), name
    assert tasks == 11 and config.per_class == (1, 10, 50) and set(config.setups) == {"simulation", "each"}
    eight = study_config.load(CONFIGS / "feasibility_medmnist.yaml", [f"folder={tmp_path}"])
    assert eight.sets is not None and len(eight.sets) == 8
    assert len({study_config.SHARED.get(flag, flag) for flag in eight.sets}) == 6, "as its head says"
    with pytest.raises(UserError, match="pathmnist"):
        study_config.tasks_of(eight)


def test_every_setting_says_what_it_means() -> None:
    schema = StudyConfig.model_json_schema()
    for name in ("TaskSettings", "MergedSettings"):
        assert all(field.get("description") for field in schema["$defs"][name]["properties"].values()), name
    assert all(field.get("description") for field in schema["properties"].values())
