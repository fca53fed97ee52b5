"""Selections that a run keeps beside those of its recipe."""

from pathlib import Path

import pytest
import yaml

from pipeline import config as configs
from pipeline import run_selections
from stages.contracts import UserError
from stages.gating import GateSettings
from stages.selection import SelectionSettings

BASE = "tiles: {source: tiles.parquet}\nautoencoder: {mode: train}\n"
LEIDEN = SelectionSettings(method="leiden", per_class=20)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(BASE)
    return path


def test_what_is_kept_is_read_back_and_only_what_differs_from_the_defaults_is_written(tmp_path: Path) -> None:
    kept = {"b": LEIDEN, "a": SelectionSettings(gate=GateSettings(agreement=0.5)), "c": SelectionSettings()}
    run_selections.write(tmp_path, kept)
    assert run_selections.read(tmp_path) == kept and list(run_selections.read(tmp_path)) == ["b", "a", "c"]
    written = yaml.safe_load((tmp_path / run_selections.FILE).read_text())
    assert written == {"b": {"method": "leiden", "per_class": 20}, "a": {"gate": {"agreement": 0.5}}, "c": {}}
    run_selections.write(tmp_path, {})
    assert not (tmp_path / run_selections.FILE).exists() and run_selections.read(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: {metod: leiden}", r"unknown key 'selections.a.metod'; did you mean 'method'\?"),
        ("a: {gate: {agrement: 0.5}}", r"unknown key 'selections.a.gate.agrement'; did you mean 'agreement'\?"),
        ("a: {per_class: 0}", "selections.a.per_class"),
        ("A b: {}", "String should match pattern"),
        ("a: {}\na: {}", "key given twice"),
        ("- a", "should hold a mapping"),
    ],
)
def test_faults_in_the_file_are_said_with_its_name(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / run_selections.FILE).write_text(text)
    with pytest.raises(UserError, match=fault) as caught:
        run_selections.read(tmp_path)
    assert run_selections.FILE in str(caught.value)


def test_they_come_behind_the_recipes_own_which_stay_also_where_those_are_the_defaults(recipe: Path) -> None:
    assert list(configs.load(recipe, (), {"new": LEIDEN}).selections) == ["infomap_50", "new"]
    recipe.write_text(BASE + "selections: {mine: {per_class: 3}}\n")
    config = configs.load(recipe, ["selections.new.per_class=7"], {"new": LEIDEN})
    assert list(config.selections) == ["mine", "new"]
    assert config.selections["new"] == LEIDEN.model_copy(update={"per_class": 7}), "the command line is above both"
    assert config.selections["mine"].per_class == 3


def test_a_name_of_the_recipes_own_is_refused_unless_nothing_differs(recipe: Path) -> None:
    recipe.write_text(BASE + "selections: {mine: {method: leiden, per_class: 20}}\n")
    assert configs.load(recipe, (), {"mine": LEIDEN}) == configs.load(recipe)
    with pytest.raises(UserError, match=r"mine is a selection of .* another of that name \(per_class: 21\).*--drop"):
        configs.load(recipe, (), {"mine": SelectionSettings(per_class=21)})
    recipe.write_text(BASE)
    with pytest.raises(UserError, match="infomap_50 is a selection of"):
        configs.load(recipe, (), {"infomap_50": LEIDEN})


def test_a_kept_selection_can_ship_and_is_no_name_for_another_contestant(recipe: Path) -> None:
    words = ["release.selection=new", "release.licence=CC0-1.0", "release.contact=me"]
    config = configs.load(recipe, words, {"new": LEIDEN})
    assert config.release is not None and config.release.selection == "new"
    with pytest.raises(UserError, match="names two contestants"):
        configs.load(recipe, (), {"all_real": LEIDEN})
