"""What a release changes against the one before: its version and its list."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from releasing import CLASSES, PER_CLASS, make

from stages import images, release_check, store
from stages.contracts import UserError
from stages.release_changes import changes, left_out, next_version


def record(version: str = "1.0.0", **tiles: list[str]) -> dict[str, Any]:
    """A release before."""
    return {"name": "x", "version": version, "selection": "old", "method": "random", "checksums": "c", "tiles": tiles}


@pytest.mark.parametrize(("before", "after"), [("1.0.0", "1.1.0"), ("1.9.3", "1.10.0"), ("0.2.0", "0.3.0")])
def test_the_minor_version_goes_up_by_one(before: str, after: str) -> None:
    assert next_version(record(before)) == after and next_version(None) == "1.0.0"


def test_behind_a_version_of_another_kind_nothing_follows_by_rule() -> None:
    with pytest.raises(UserError, match="called '2026-spring'"):
        next_version(record("2026-spring"))


def test_tiles_are_kept_added_and_removed_class_by_class() -> None:
    before = record(a=["1", "2", "3"], gone=["9"])
    facts = {"method": "leiden", "gate": {"left_out": {"a": {"dull": 2, "odd": 0}, "b": {"dull": 3, "odd": 0}}}}
    found = changes(before, {"a": ["3", "4"], "b": ["1"]}, facts, "new")
    assert found["classes"] == {
        "a": {"kept": 1, "added": 1, "removed": 2},
        "gone": {"kept": 0, "added": 0, "removed": 1},
        "b": {"kept": 0, "added": 1, "removed": 0},
    }
    assert found["since"] == {"version": "1.0.0", "checksums": "c", "selection": "old", "method": "random"}
    assert (found["selection"], found["method"], found["left_out"]) == ("new", "leiden", {"dull": 5})
    assert left_out({"gate": None}) == left_out({}) == {}
    pins = {"excluded": {"tiles": 3, "reasons": [{"reason": "fold", "tiles": 2}, {"reason": "ink", "tiles": 1}]}}
    assert left_out({"pins": pins}) == {"by hand: fold": 2, "by hand: ink": 1}


def test_the_release_tells_its_changes_and_passes_its_own_check(story: dict[str, Path], tmp_path: Path) -> None:
    table, _ = images.read_table(story["selection"] / "images")
    ids = {name: table.loc[table["label"] == k, "tile_id"].tolist() for k, name in enumerate(CLASSES)}
    before = record("1.4.0", **{CLASSES[0]: [*ids[CLASSES[0]][:2], "0" * 16], CLASSES[1]: ids[CLASSES[1]]})
    store.write_json(tmp_path / "before.json", before)
    folder = make(story, tmp_path / "out", version="auto", previous=tmp_path / "before.json")
    card = (folder / "README.md").read_text()
    assert f"| {CLASSES[0]} | 2 | {PER_CLASS - 2} | 1 |" in card and f"| {CLASSES[1]} | {PER_CLASS} | 0 | 0 |" in card
    assert "## What changed since version 1.4.0" in card and "`infomap_6` (infomap) instead of `old` (random)" in card
    assert yaml.safe_load(card.split("---\n")[1])["version"] == "1.5.0" and release_check.verify(folder) == []
    provenance = store.read_json(folder / "provenance.json")
    assert provenance["release"]["version"] == "1.5.0" and provenance["changes"]["since"]["version"] == "1.4.0"
    told = store.read_json(folder.parent / "facts.json")["released"]
    assert told["tiles"].keys() == set(CLASSES) and sorted(told["tiles"][CLASSES[0]]) == sorted(ids[CLASSES[0]])
    assert not any(one in card for one in told["tiles"][CLASSES[0]])


def test_without_a_release_before_it_there_is_no_list(story: dict[str, Path], shipped: Path, tmp_path: Path) -> None:
    first = make(story, tmp_path / "out", version="auto")
    assert "What changed" not in (first / "README.md").read_text()
    assert (first / "README.md").read_bytes() == (shipped / "README.md").read_bytes()
