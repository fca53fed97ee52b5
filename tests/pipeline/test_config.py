"""Settings are read strictly, and every fault is said at once."""

from pathlib import Path

import pytest

from pipeline import config as configs
from pipeline import story
from pipeline.steps import find
from stages.contracts import UserError
from stages.settings import external_paths

HERE = Path(__file__).parents[2]
BASE = "tiles: {source: tiles.parquet}\nautoencoder: {mode: train}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "here" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(BASE)
    return path


def write(recipe: Path, text: str) -> Path:
    recipe.write_text(BASE + text)
    return recipe


def test_relative_paths_start_at_the_recipe(recipe: Path) -> None:
    assert configs.load(recipe).tiles.source == recipe.parent / "tiles.parquet"


def test_relative_paths_on_the_command_line_start_at_the_working_folder(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert configs.load(recipe, ["tiles.source=other.parquet"]).tiles.source == tmp_path / "other.parquet"


def test_an_override_wins_and_leaves_the_rest(recipe: Path) -> None:
    write(recipe, "selections: {a: {per_class: 5}, b: {method: random}}\nseed: 3\n")
    config = configs.load(recipe, ["selections.a.per_class=7", "seed=4"])
    assert config.selections["a"].per_class == 7
    assert (config.selections["b"].method, config.seed) == ("random", 4)


def test_an_override_can_add_a_named_selection(recipe: Path) -> None:
    config = configs.load(recipe, ["selections.new.method=kmeans"])
    assert config.selections["new"].method == "kmeans"


def test_an_unknown_key_stops_and_the_nearest_is_suggested(recipe: Path) -> None:
    write(recipe, "candidates: {per_clas: 5}\n")
    with pytest.raises(UserError, match=r"unknown key 'candidates.per_clas'; did you mean 'per_class'\?"):
        configs.load(recipe)


def test_an_unknown_key_of_a_named_selection_is_suggested_too(recipe: Path) -> None:
    write(recipe, "selections: {a: {neighbors: 5}}\n")
    with pytest.raises(UserError, match=r"did you mean 'neighbours'\?"):
        configs.load(recipe)


def test_an_unknown_key_of_a_network_of_the_benchmark_is_suggested_too(recipe: Path) -> None:
    write(recipe, "benchmark: {networks: {convnet3: {widht: 5}}}\n")
    with pytest.raises(UserError, match=r"unknown key 'benchmark.networks.convnet3.widht'; did you mean 'width'\?"):
        configs.load(recipe)


def test_a_network_of_the_benchmark_is_set_on_the_command_line(recipe: Path) -> None:
    write(recipe, "benchmark: {networks: {convnet3: {steps: 600}, vit: {}}}\n")
    found = configs.load(recipe, ["benchmark.networks.convnet3.width=8", "benchmark.networks.resnet18_grey.grey=true"])
    networks = found.benchmark.networks
    assert list(networks) == ["convnet3", "vit", "resnet18_grey"]
    assert (networks["convnet3"].steps, networks["convnet3"].width) == (600, 8)
    assert [one.network for one in networks.values()] == ["convnet3", "vit", "resnet18"]
    assert networks["resnet18_grey"].grey and not networks["vit"].grey


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        ("{mine: {steps: 3}}", "benchmark.networks.mine.network is required"),
        ("{mine: {network: vgg19}}", "benchmark.networks.mine.network: Input should be 'convnet3'"),
        ("{convnet3_soft: {}}", "convnet3_soft names another row of the results"),
        ("{colour: {network: vit}}", "colour names another row"),
        ("{resnet18: {width: 5}}", "resnet18 has one width"),
        ("{}", "benchmark.networks"),
    ],
)
def test_networks_that_cannot_be_are_explained(recipe: Path, networks: str, words: str) -> None:
    write(recipe, f"benchmark: {{networks: {networks}}}\n")
    with pytest.raises(UserError, match=words):
        configs.load(recipe)


def test_an_unknown_stage_is_suggested(recipe: Path) -> None:
    write(recipe, "selektions: {}\n")
    with pytest.raises(UserError, match=r"did you mean 'selections'\?"):
        configs.load(recipe)


def test_all_faults_are_said_at_once(recipe: Path) -> None:
    write(recipe, "seed: -1\ncandidates: {per_class: 0}\nrelease: {selection: infomap_50}\n")
    with pytest.raises(UserError) as caught:
        configs.load(recipe)
    for words in ("seed", "candidates.per_class", "release.licence is required", "release.contact is required"):
        assert words in str(caught.value)


def test_a_key_given_twice_is_a_fault(recipe: Path) -> None:
    write(recipe, "seed: 1\nseed: 2\n")
    with pytest.raises(UserError, match="given twice"):
        configs.load(recipe)


def test_no_yaml_and_no_file_are_said(recipe: Path) -> None:
    with pytest.raises(UserError, match="There is no recipe"):
        configs.load(recipe.parent / "gone.yaml")
    write(recipe, "seed: [1\n")
    with pytest.raises(UserError, match="is not YAML"):
        configs.load(recipe)
    recipe.write_text("- a list\n")
    with pytest.raises(UserError, match="should hold a mapping"):
        configs.load(recipe)


def test_no_code_is_run_from_a_recipe(recipe: Path) -> None:
    write(recipe, "seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(UserError, match="is not YAML"):
        configs.load(recipe)


@pytest.mark.parametrize("word", ["seed", "=3", "a..b=1"])
def test_an_override_without_a_key_or_value_is_explained(recipe: Path, word: str) -> None:
    with pytest.raises(UserError, match="--set takes section.key=value"):
        configs.load(recipe, [word])


def test_contestants_have_names_of_their_own(recipe: Path) -> None:
    write(recipe, "selections: {a: {}}\ncondensations: {a: {}}\n")
    with pytest.raises(UserError, match="names two contestants"):
        configs.load(recipe)


def test_the_selection_that_ships_must_exist(recipe: Path) -> None:
    write(recipe, "release: {selection: gone, licence: CC-BY-4.0, contact: someone}\n")
    with pytest.raises(UserError, match="release.selection is 'gone'"):
        configs.load(recipe)


def test_a_condensation_ships_only_if_its_images_are_learned(recipe: Path) -> None:
    write(recipe, "condensations: {real: {}, made: {method: dm}}\nrelease: {licence: CC-BY-4.0, contact: someone}\n")
    with pytest.raises(UserError, match="Real tiles never ship"):
        configs.load(recipe, ["release.selection=real"])
    steps = story.tell(configs.load(recipe, ["release.selection=made"]))
    assert find(steps, "release").needs["selection"] == "condensation/made"
    assert "denoiser" not in find(steps, "release").needs.values()
    assert find(steps, "audit_images/made").needs["candidates"] == "condensation/made"
    assert "audit_images/real" not in [step.node for step in steps]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("{method: random}", {"tiles"}),
        ("{method: herding}", {"tiles", "judge"}),
        ("{method: dm, distillation: {start: candidates}}", {"tiles", "candidates"}),
        ("{method: mtt, distillation: {start: real}}", {"tiles", "experts"}),
    ],
)
def test_a_condensation_needs_what_its_method_uses(recipe: Path, words: str, wanted: set[str]) -> None:
    write(recipe, f"condensations: {{one: {words}}}\n")
    steps = story.tell(configs.load(recipe))
    assert set(find(steps, "condensation/one").needs) == wanted
    assert ("experts" in [step.node for step in steps]) == ("experts" in wanted)


def test_settings_of_learning_go_with_methods_that_learn(recipe: Path) -> None:
    write(recipe, "condensations: {one: {method: random, distillation: {iterations: 5}}}\n")
    with pytest.raises(UserError, match="leave distillation out"):
        configs.load(recipe)


def test_names_that_could_leave_the_folder_are_refused(recipe: Path) -> None:
    write(recipe, "selections: {'../x': {}}\n")
    with pytest.raises(UserError, match="selections"):
        configs.load(recipe)


def test_what_is_printed_reads_back_to_the_same(recipe: Path, tmp_path: Path) -> None:
    config = configs.load(recipe)
    again = tmp_path / "again.yaml"
    again.write_text(configs.dump(config))
    assert configs.load(again) == config


def test_outside_paths_are_known_by_their_type(recipe: Path) -> None:
    assert external_paths(configs.load(recipe).tiles) == {"source": recipe.parent / "tiles.parquet"}


def test_paths_within_a_section_start_at_the_recipe_too(recipe: Path) -> None:
    write(recipe, "embedding: {encoder: transformers, transformers: {folder: vit}}\n")
    assert external_paths(configs.load(recipe).embedding) == {"transformers.folder": recipe.parent / "vit"}


def test_an_unknown_key_within_a_section_is_suggested(recipe: Path) -> None:
    write(recipe, "embedding: {encoder: timm, timm: {model: resnet18, wheights: x}}\n")
    with pytest.raises(UserError, match=r"'embedding.timm.wheights'; did you mean 'weights'\?"):
        configs.load(recipe)


@pytest.mark.parametrize(
    ("encoder", "needs"),
    [
        ("judge", {"candidates", "tiles", "judge"}),
        ("squeezenet", {"candidates", "tiles"}),
        ("autoencoder", {"candidates", "tiles", "autoencoder"}),
    ],
)
def test_the_embedding_needs_its_encoder_alone(recipe: Path, encoder: str, needs: set[str]) -> None:
    steps = story.tell(configs.load(recipe, [f"embedding.encoder={encoder}"]))
    assert set(find(steps, "embedding").needs) == needs


def test_a_selection_with_soft_labels_needs_the_judge(recipe: Path) -> None:
    write(recipe, "selections: {hard: {}, soft: {soft_labels: true}}\n")
    steps = story.tell(configs.load(recipe))
    assert "judge" in find(steps, "selection/soft").needs and "judge" not in find(steps, "selection/hard").needs


def test_soft_labels_that_no_selection_makes_cannot_ship(recipe: Path) -> None:
    write(recipe, "release: {selection: infomap_50, licence: CC-BY-4.0, contact: someone, soft_labels: true}\n")
    with pytest.raises(UserError, match="selections.infomap_50.soft_labels is not"):
        configs.load(recipe)
    assert configs.load(recipe, ["selections.infomap_50.soft_labels=true"]).release


RECIPES = [path for path in sorted((HERE / "configs").glob("*.yaml")) if not path.stem.startswith("feasibility")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_every_recipe_that_ships_can_be_read(path: Path) -> None:
    assert configs.load(path).denoiser.network in ("unet", "dit", "uvit")


def test_every_setting_says_what_it_means() -> None:
    schema = configs.Config.model_json_schema()
    for name, model in [("Config", schema), *schema["$defs"].items()]:
        for key, field in model.get("properties", {}).items():
            assert field.get("description"), f"{name}.{key} has no description"


def test_every_number_is_bounded() -> None:
    schema = configs.Config.model_json_schema()
    bounds = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    for name, model in [("Config", schema), *schema["$defs"].items()]:
        for key, field in model.get("properties", {}).items():
            kinds = [field, *field.get("anyOf", [])]
            for kind in kinds:
                if kind.get("type") in ("integer", "number") and not {"enum", "const"} & kind.keys():
                    assert bounds & kind.keys(), f"{name}.{key} has no bound"


def test_audits_can_be_limited_to_the_selection_that_ships(recipe: Path) -> None:
    shipping = "release: {selection: one, licence: CC-BY-4.0, contact: someone}\n"
    write(recipe, "selections: {one: {}, two: {}}\n" + shipping)
    audited = {"all": ["one", "two"], "released": ["one"]}
    for setting, names in audited.items():
        nodes = [step.node for step in story.tell(configs.load(recipe, [f"audited={setting}"]))]
        assert [node for node in nodes if node.startswith("audit")] == [f"audit_images/{name}" for name in names]


def test_pins_of_the_recipe_hold_for_every_selection_that_names_none(recipe: Path) -> None:
    write(recipe, "pins: {exclude: veto.csv, keep: keep.csv}\nselections: {a: {}, b: {exclude: mine.csv}}\n")
    steps = story.tell(configs.load(recipe))
    found = {name: external_paths(find(steps, f"selection/{name}").settings) for name in ("a", "b")}
    assert found["a"] == {"exclude": recipe.parent / "veto.csv", "keep": recipe.parent / "keep.csv"}
    assert found["b"] == {"exclude": recipe.parent / "mine.csv", "keep": recipe.parent / "keep.csv"}
