"""The whole story on the tiny recipe, as a person runs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from telling import HERE, TINY, changed, histodistill, seals_below

STAGES = [
    *("tiles", "autoencoder", "judge", "denoiser", "candidates", "embedding"),
    *("selection", "experts", "condensation", "benchmark", "audit_images", "release"),
]


def test_every_stage_is_sealed_and_the_report_is_written(tiny_root: Path) -> None:
    assert {name.split("/")[1] for name in seals_below(tiny_root)} == set(STAGES)
    page = (tiny_root / "runs" / "tiny" / "report.html").read_text()
    assert "<html" in page and len(page) > 10_000


def test_a_second_run_does_nothing(tiny_root: Path) -> None:
    before = seals_below(tiny_root)
    stamps = {p: p.stat().st_mtime_ns for p in tiny_root.rglob("seal.json")}
    told = histodistill("run", TINY, root=tiny_root)
    assert told.code == 0, told.err
    assert "done in" not in told.err
    assert seals_below(tiny_root) == before
    assert {p: p.stat().st_mtime_ns for p in tiny_root.rglob("seal.json")} == stamps


@pytest.mark.parametrize("words", [("--workers", "1"), ("--workers", "2", "--engine", "processes")])
def test_the_story_told_by_other_workers_gives_equal_bytes(
    words: tuple[str, ...], tiny_root: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_root / ".key", tmp_path)
    told = histodistill("run", TINY, *words, root=tmp_path)
    assert told.code == 0, told.err[-3000:]
    assert changed(seals_below(tiny_root), seals_below(tmp_path)) == []


def test_under_another_key_only_the_ids_of_the_groups_are_others(tiny_root: Path, tmp_path: Path) -> None:
    told = histodistill("run", TINY, "--until", "tiles", root=tmp_path)
    assert told.code == 0, told.err[-3000:]
    one, two = (json.loads(next(root.glob("store/tiles/*/seal.json")).read_bytes()) for root in (tiny_root, tmp_path))
    assert one["causes"].pop("secrets") != two["causes"].pop("secrets") and one["causes"] == two["causes"]
    assert one["files"].pop("groups.parquet") != two["files"].pop("groups.parquet") and one["files"] == two["files"]


def test_a_story_killed_in_every_stage_continues_to_the_same_bytes(tiny_root: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_root / ".key", tmp_path)
    environment = os.environ | {"HISTODISTILL_ROOT": str(tmp_path)}
    command = [sys.executable, "-m", "pipeline.cli", "run", str(TINY)]
    killed = []
    for stage in STAGES:
        with (tmp_path / "log").open("a") as log:
            process = subprocess.Popen(command, env=environment, cwd=HERE, stdout=log, stderr=log)
            deadline = time.monotonic() + 120
            while process.poll() is None and not list(tmp_path.glob(f"store/{stage}/*.scratch")):
                assert time.monotonic() < deadline, f"{stage} never began"
                time.sleep(0.002)
            time.sleep(0.05)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed.append(stage)
            process.wait()
    assert len(killed) >= 9, f"only {killed} were caught at work"
    assert histodistill("run", TINY, root=tmp_path).code == 0
    assert changed(seals_below(tiny_root), seals_below(tmp_path)) == []
    assert not list(tmp_path.rglob("*.work")) and not list(tmp_path.rglob("*.scratch"))


def test_another_selection_reuses_everything_before_it(tiny_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(tiny_root, root, symlinks=True)
    words = ["selections.other.method=kmeans", "selections.other.per_class=4", "release.selection=other"]
    told = histodistill(
        "run", TINY, "--until", "release", "--set", "release.benchmark=false",
        *[w for word in words for w in ("--set", word)], root=root,
    )  # fmt: skip
    assert told.code == 0, told.err
    made = [line.split("]")[1].split(":")[0].strip() for line in told.err.splitlines() if "done in" in line]
    assert made == ["selection/other", "audit_images/other", "release"]
    card = (root / "runs" / "tiny" / "results" / "release" / "dataset" / "README.md").read_text()
    assert "benchmark: none" in card.lower()


def test_the_release_is_whole_and_others_can_load_it(tiny_root: Path) -> None:
    import datasets

    release = tiny_root / "runs" / "tiny" / "results" / "release" / "dataset"
    told = histodistill("verify", release)
    assert (told.code, "whole" in told.out) == (0, True), told.out
    data = datasets.load_dataset("imagefolder", data_dir=str(release), split="train")
    assert set(data.features["label"].names) == {"lung_aca", "lung_n", "lung_scc"}


def test_a_run_is_verified_in_full(tiny_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(tiny_root, root, symlinks=True)
    assert histodistill("verify", root / "runs" / "tiny").code == 0
    path = next(root.glob("store/selection/*/facts.json"))
    path.write_bytes(path.read_bytes()[:-2] + b" \n")
    told = histodistill("verify", root / "runs" / "tiny")
    assert told.code == 2
    assert "facts.json is not what was sealed" in told.out


def test_no_path_and_no_name_of_an_original_is_in_any_result(tiny_root: Path) -> None:
    """Originals are called lung_aca-17; released files lung_aca-00017.png."""
    telltale = re.compile(rb"/tmp/|/root|/home|lung_(aca|n|scc)-(?!0\d{4})\d|" + re.escape(bytes(HERE)))
    assert telltale.search(b"lung_aca-0,") and not telltale.search(b"lung_aca-00017.png")
    for path in (tiny_root / "store").rglob("*"):
        if path.is_file() and not path.name.startswith(".") and ".logs" not in str(path):
            assert not telltale.search(path.read_bytes()), path
