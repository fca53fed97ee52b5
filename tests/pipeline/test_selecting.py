"""Choosing again among the candidates of a finished run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from telling import TINY, histodistill, seals_below

from pipeline import cleaning, run_selections, runner, selecting
from stages import images, store
from stages.contracts import UserError


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    copy = tmp_path / "root"
    shutil.copytree(tiny_root, copy, symlinks=True)
    return copy


def ask(root: Path, name: str, *words: str, **more: Any) -> selecting.Asked:
    return selecting.Asked(TINY, root, "tiny", name, words, **more)


def kept(root: Path) -> run_selections.Kept:
    return run_selections.read(root / "runs" / "tiny")


def test_a_new_selection_runs_alone_and_every_later_command_of_the_run_knows_it(root: Path) -> None:
    before = seals_below(root)
    words = ("method=leiden", "per_class=4", "gate.agreement=0.0")
    told = histodistill("select", TINY, "l4", *(w for word in words for w in ("--set", word)), root=root)
    assert told.code == 0, told.err
    new = seals_below(root).keys() - before.keys()
    assert [name.split("/")[1] for name in new] == ["selection"] and seals_below(root).keys() >= before.keys()
    chosen = root / "runs" / "tiny" / "results" / "selection" / "l4"
    facts = store.read_json(chosen / "facts.json")
    assert facts["gate"]["classifier"] == "grey", "a gate that asks the judge is given it"
    for name, of_class in facts["classes"].items():
        row = next(line for line in told.out.splitlines() if line.strip().startswith(name + " ")).split()
        stable = "–" if of_class["stability"] is None else f"{of_class['stability']:.2f}"
        assert row[1:] == ["12", "4", str(of_class["communities"]), str(of_class["communities_reached"]), stable]
    assert "leiden, 4 of each class" in told.out and str(chosen / "contact.png") in told.out
    assert all(f"! {warning}" in told.out for warning in facts["warnings"])
    assert images.pixels((chosen / "contact.png").read_bytes()).shape[1] > 64
    assert "selection/l4" in histodistill("status", TINY, root=root).out
    assert histodistill("explain", TINY, "selection/l4", root=root).out.startswith("selection/l4: sealed")
    assert "selection/l4" not in histodistill("status", TINY, "--name", "other", root=root).out
    words = ("--until", "release", "--set", "release.selection=l4", "--set", "release.benchmark=false")
    shipped = histodistill("run", TINY, *words, root=root)
    assert shipped.code == 0, shipped.err
    made = [line.split("]")[1].split(":")[0].strip() for line in shipped.err.splitlines() if "done in" in line]
    assert made == ["audit_images/l4", "release"]


def test_a_kept_selection_is_changed_from_what_it_was_and_another_can_start_like_it(root: Path) -> None:
    selecting.select(ask(root, "one", "per_class=3", "neighbours=4"))
    selecting.select(ask(root, "one", "method=random"))
    selecting.select(ask(root, "two", "per_class=2", like="one"))
    selecting.select(ask(root, "three", like="infomap"))
    found = {name: (s.method, s.per_class, s.neighbours) for name, s in kept(root).items()}
    assert found == {"one": ("random", 3, 4), "two": ("random", 2, 4), "three": ("infomap", 5, 4)}
    record = runner.Run(root, "tiny", 0).record()
    assert record["selection/three"]["folder"] == record["selection/infomap"]["folder"], "the same result, not another"
    with pytest.raises(UserError, match=r"no selection 'twoo'. Did you mean two\?"):
        selecting.select(ask(root, "four", like="twoo"))


@pytest.mark.parametrize(
    ("name", "words", "fault"),
    [
        ("x", ["metod=leiden"], r"unknown key 'selections.x.metod'; did you mean 'method'\?"),
        ("x", ["gate.neighbors=4"], r"unknown key 'selections.x.gate.neighbors'; did you mean 'neighbours'\?"),
        ("x", ["per_class"], "takes key=value"),
        ("x", ["per_class=13"], "has only 12 different candidates"),
        ("x", ["candidates.per_class=11"], r"candidates is stale \(setting per_class: 12 -> 11\).*--until embedding"),
        ("x", ["embedding.encoder=squeezenet"], "embedding is stale"),
        ("infomap", ["per_class=3"], "infomap is a selection of .* itself, with other settings"),
        ("all_real", [], "names two contestants"),
        ("No", [], "String should match pattern"),
    ],
)
def test_what_cannot_be_chosen_is_said_and_nothing_is_kept(
    tiny_root: Path, tmp_path: Path, name: str, words: list[str], fault: str
) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny_root, root, symlinks=True)
    with pytest.raises(UserError, match=fault):
        selecting.select(ask(root, name, *words))
    assert kept(root) == {} and seals_below(root) == seals_below(tiny_root)


def test_the_recipes_own_selection_can_be_asked_for_as_it_is(root: Path) -> None:
    assert "infomap, 5 of each class" in selecting.select(ask(root, "infomap", "per_class=5"))
    assert kept(root) == {}


def test_what_is_stale_before_it_is_run_where_this_is_asked_for(root: Path) -> None:
    selecting.select(ask(root, "x", "per_class=2", "embedding.compared=20", upstream=True))
    states = {s.step.node: s.word for s in runner.states(*_story(root, ["embedding.compared=20"]))}
    assert states["embedding"] == states["selection/x"] == "sealed" and states["selection/infomap"] == "stale"


def _story(root: Path, words: list[str]) -> Any:
    from pipeline import config as configs
    from pipeline import story

    config = configs.load(TINY, words, kept(root))
    return runner.Run(root, "tiny", config.seed), story.tell(config)


def test_a_dropped_selection_is_forgotten_and_its_result_can_be_cleaned(root: Path) -> None:
    selecting.select(ask(root, "x", "per_class=2"))
    folder = (root / "runs" / "tiny" / "results" / "selection" / "x").resolve()
    assert folder not in [path.resolve() for path, _ in cleaning.unused(root)]
    told = histodistill("select", TINY, "x", "--drop", root=root)
    assert (told.code, "forgotten" in told.out) == (0, True), told.err
    assert kept(root) == {} and not (root / "runs" / "tiny" / "results" / "selection" / "x").exists()
    assert folder in [path.resolve() for path, _ in cleaning.unused(root)]
    with pytest.raises(UserError, match="keeps no selection 'x'"):
        selecting.drop(ask(root, "x"))
    with pytest.raises(UserError, match="Take it out there"):
        selecting.drop(ask(root, "infomap"))


def test_a_selection_that_ships_by_the_recipe_cannot_be_dropped(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    text = (
        TINY.read_text().replace("selection: infomap", "selection: x").replace("../data", str(TINY.parents[1] / "data"))
    )
    recipe.write_text(text)
    selecting.select(selecting.Asked(recipe, root, "tiny", "x", ["per_class=2"]))
    with pytest.raises(UserError, match="release.selection is 'x'"):
        selecting.drop(selecting.Asked(recipe, root, "tiny", "x"))
    assert list(kept(root)) == ["x"]
