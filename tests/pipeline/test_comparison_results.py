"""Selections of a finished run side by side, as a person asks for them."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from telling import TINY, histodistill

from pipeline import comparison_results, comparison_text, run_selections, runner, story
from pipeline import config as configs
from stages import images, store
from stages.contracts import UserError
from stages.selection import SelectionSettings


def told(root: Path, *names: str, words: tuple[str, ...] = ()) -> dict[str, Any]:
    config = configs.load(TINY, words, run_selections.read(root / "runs" / "tiny"))
    return comparison_results.compare(runner.Run(root, "tiny", config.seed), story.tell(config), config, names)


def result(root: Path, node: str) -> Path:
    return root / "runs" / "tiny" / "results" / node


@pytest.fixture(scope="module")
def found(tiny_root: Path) -> dict[str, Any]:
    return told(tiny_root, "random", "infomap")


def test_the_numbers_are_those_of_the_results(found: dict[str, Any], tiny_root: Path) -> None:
    sets = {
        name: images.read_table(result(tiny_root, f"selection/{name}") / "images")[0] for name in ("random", "infomap")
    }
    both = set(sets["random"]["candidate"]) & set(sets["infomap"]["candidate"])
    assert found["overlap"]["jaccard"][0][1] == len(both) / (30 - len(both))
    assert found["candidates"] == 36 and found["equal_count"] == 15 and found["val_tiles"] == 24
    for row in found["selections"]:
        assert (row["tiles"], set(row["per_class"].values())) == (15, {5})
        metrics = store.read_json(result(tiny_root, f"benchmark/{row['name']}") / "metrics.json")
        reached = {key: row["benchmark"][key] for key in ("value", "low", "high")}
        assert reached == metrics["convnet3"]["test"]["balanced_accuracy"]
        asked = store.read_json(result(tiny_root, f"benchmark/{row['name']}") / "facts.json")["agreement"]
        assert {name: value["value"] for name, value in row["judge"].items()} == {
            name: asked[name]["own"]["value"] for name in ("colour", "grey")
        }
        audit = store.read_json(result(tiny_root, f"audit_images/{row['name']}") / "audit.json")
        assert row["audit"] == audit["verdict"]
    first, second = (row["benchmark"] for row in found["selections"])
    assert second["difference"]["value"] == pytest.approx(second["value"] - first["value"])
    assert "difference" not in first


def test_the_first_reaches_what_its_own_facts_say(found: dict[str, Any], tiny_root: Path) -> None:
    of_class = store.read_json(result(tiny_root, "selection/random") / "facts.json")["classes"].values()
    row = found["selections"][0]
    reached, there = (sum(facts[key] for facts in of_class) for key in ("communities_reached", "communities"))
    assert row["communities"] == pytest.approx(reached / there)
    assert row["flow"] == pytest.approx(np.mean([facts["flow_reached"] for facts in of_class]))


def test_the_order_turns_the_sign_and_nothing_else(found: dict[str, Any], tiny_root: Path) -> None:
    turned = told(tiny_root, "infomap", "random")
    one, two = found["selections"][1]["benchmark"]["difference"], turned["selections"][1]["benchmark"]["difference"]
    assert one["value"] == pytest.approx(-two["value"])
    for key in ("kid", "precision", "recall", "vendi", "judge", "audit"):
        assert found["selections"][0][key] == turned["selections"][1][key]
    assert found["real"] == turned["real"]


def test_test_tiles_and_control_tiles_change_nothing_and_are_not_opened(
    found: dict[str, Any], tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    read = images.read

    def watched(folder: Path, *given: Any, **named: Any) -> images.ImageSet:
        opened.append(folder.resolve().parts[-3])
        return read(folder, *given, **named)

    monkeypatch.setattr(images, "read", watched)
    assert told(tiny_root, "random", "infomap") == found
    assert set(opened) == {"selection"}, "no picture of a real tile is decoded"


def test_the_page_is_at_most_100_columns_wide_and_says_what_was_not_run(tiny_root: Path, tmp_path: Path) -> None:
    root, name = tmp_path / "root", "a" * 41
    shutil.copytree(tiny_root, root, symlinks=True)
    run_selections.write(root / "runs" / "tiny", {name: SelectionSettings(method="random", per_class=2)})
    with pytest.raises(UserError, match=rf"selection/{name} is missing .*--until selection/{name}"):
        told(root, "infomap", name)
    histodistill("run", TINY, "--until", f"selection/{name}", root=root)
    told_text = histodistill("compare", TINY, "infomap", "random", name, root=root)
    assert told_text.code == 0, told_text.err
    assert max(map(len, told_text.out.splitlines())) <= 100
    for stage in ("benchmark", "audit_images"):
        assert f"not run: histodistill run RECIPE --until {stage}/{name}\n" in told_text.out
    released = told(root, "infomap", name, words=("audited=released",))
    assert f"--until audit_images/{name} --set audited=all" in " ".join(comparison_text.text(released).split())


def test_every_form_holds_the_same_numbers(found: dict[str, Any], tiny_root: Path, tmp_path: Path) -> None:
    for form in ("html", "md", "csv"):
        out = tmp_path / f"c.{form}"
        told = histodistill("compare", TINY, "random", "infomap", "--json", "--out", out, root=tiny_root)
        assert told.code == 0, told.err
        assert json.loads(told.out) == found
    rows = list(csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text())))
    cells = {(row["selection"], row["measure"]): row for row in rows}
    assert float(cells["infomap", "kid"]["low"]) == found["selections"][1]["kid"]["low"]
    assert cells["random", "audit"]["value"] == found["selections"][0]["audit"]
    page, text = (tmp_path / "c.html").read_text(), (tmp_path / "c.md").read_text()
    kid = f"{found['selections'][1]['kid']['value']:.4f}"
    assert (
        kid in page
        and kid in text
        and "http:" not in page
        and "https:" not in page
        and page.count("data:image/png") == 2
    )
    wide = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(wide) == 21 and "| infomap | infomap | 15 |" in text


def test_names_that_cannot_be_compared_are_said(tiny_root: Path, tmp_path: Path) -> None:
    for names, fault in [
        (("infomap",), "from two to 12"),
        (("infomap", "infomap"), "from two to 12"),
        (("infomap", "randm"), "Did you mean selection/random"),
    ]:
        with pytest.raises(UserError, match=fault):
            told(tiny_root, *names)
    said = histodistill("compare", TINY, "infomap", "random", "--out", tmp_path / "x.pdf", root=tiny_root)
    assert said.code == 2 and ".html, .md or .csv" in said.err


def test_a_name_in_a_page_is_text_and_never_markup(found: dict[str, Any]) -> None:
    bad = found | {"encoder": "<script>alert(1)</script>"}
    assert "<script>" not in comparison_text.page(bad, {}) and "&lt;script&gt;" in comparison_text.page(bad, {})
