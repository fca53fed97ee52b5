"""Versions of a release that go up by themselves, in a run as a person uses it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from telling import TINY, seals_below

from pipeline.cli import app
from stages import store


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    copy = tmp_path / "root"
    shutil.copytree(tiny_root, copy, symlinks=True)
    return copy


def released(root: Path, selection: str, version: str = "auto") -> tuple[str, str]:
    """Release a selection; the version and the card."""
    settings = (
        f"release.selection={selection}",
        f"release.version={version}",
        "release.benchmark=false",
        "audited=all",
    )
    words = ["run", str(TINY), "--until", "release", "--root", str(root), "--workers", "1"]
    app([*words, *(w for word in settings for w in ("--set", word))], standalone_mode=False)
    card = (root / "runs" / "tiny" / "results" / "release" / "dataset" / "README.md").read_text()
    return yaml.safe_load(card.split("---\n")[1])["version"], card


def records(root: Path) -> dict[str, Any]:
    return {
        path.stem.rpartition("-")[2]: store.read_json(path) for path in (root / "runs/tiny/releases").glob("*.json")
    }


def test_another_selection_makes_the_next_version_and_the_same_one_makes_none(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "runs" / "tiny" / "releases")
    assert released(root, "infomap")[0] == "1.0.0"
    before = seals_below(root)
    assert released(root, "infomap")[0] == "1.0.0" and seals_below(root) == before
    version, card = released(root, "random")
    assert version == "1.1.0" and "`random` (random) instead of `infomap` (infomap)" in card
    old, new = (records(root)[number]["tiles"] for number in ("1.0.0", "1.1.0"))
    for name in new:
        kept = len({*old[name]} & {*new[name]})
        assert f"| {name} | {kept} | {5 - kept} | {5 - kept} |" in card
    before = seals_below(root)
    assert released(root, "random")[0] == "1.1.0" and seals_below(root) == before, "nothing is left to do"
    assert released(root, "infomap")[0] == "1.2.0", "what went back is a version of its own"
    assert set(records(root)) == {"1.0.0", "1.1.0", "1.2.0"}
    assert records(root)["1.2.0"]["tiles"] == old


def test_a_fixed_version_stays_as_it_is_and_is_what_the_first_automatic_one_follows(root: Path) -> None:
    assert released(root, "infomap", "1.0.0")[0] == released(root, "random", "1.0.0")[0] == "1.0.0"
    assert records(root)["1.0.0"]["selection"] == "random" and records(root)["1.0.0"]["method"] == "random"
    version, card = released(root, "infomap")
    assert version == "1.1.0" and "instead of `random`" in card
