"""What `inspect` tells of small sources with planted faults."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
from made_tiles import Serial, as_files, as_parquet, rows
from planted import copies, original, view
from telling import histodistill

from pipeline import cli, faults, inspection, inspection_text
from stages import images
from stages.contracts import UserError
from stages.tiles import TilesSettings


def inspected(source: Path, scratch: Path, near: bool = False, **given: Any) -> dict[str, Any]:
    settings, guess = inspection.settings_of(str(source), given)
    scratch.mkdir(exist_ok=True)
    found = inspection.inspect(settings, guess, Serial(), scratch, near)
    page = inspection_text.page(found)
    assert max(map(len, page.splitlines())) <= 100 and "\x1b" not in page
    return json.loads(json.dumps(found))


def stained(slide_count: int, tiles: int, by_class: bool) -> pd.DataFrame:
    """Two classes of slides; stain tells the class and nothing else, or the slide and nothing else."""
    rng = np.random.default_rng(4)
    found = []
    for slide in range(2 * slide_count):
        stain, spread = rng.uniform(60, 200, 3), rng.uniform(2, 25, 3)
        if by_class:
            stain, spread = np.array([80 if slide % 2 else 180, 120, 120]), np.full(3, 5)
        for _ in range(tiles):
            pixels = np.clip(stain + rng.normal(0, spread, (8, 8, 3)), 0, 255).astype(np.uint8)
            found.append({"label": "ab"[slide % 2], "group": f"s{slide}", "content": images.png(pixels)})
    return pd.DataFrame(found).assign(file=[f"{i}.png" for i in range(len(found))])


def picture(value: int, side: int = 16) -> npt.NDArray[np.uint8]:
    return np.full((side, side, 3), value, np.uint8)


def test_planted_copies_are_counted_and_named(tmp_path: Path) -> None:
    frame = rows().assign(role=["train", "val", "test"] * 20, group=[f"g{i}" for i in range(60)])
    contents = frame["content"].tolist()
    contents[1] = contents[0]  # another role and group
    contents[59] = contents[6]  # another class, the role of neither
    found = inspected(as_parquet(frame.assign(content=contents), tmp_path / "t.parquet"), tmp_path / "w")
    copies = found["duplicates"]
    assert copies["all"]["pictures"] == 2 and copies["all"]["tiles"] == 4
    assert [[name.split(" (")[0] for name in names] for names in copies["across_classes"]["names"]] == [
        ["row 59", "row 6"]
    ]
    assert copies["across_roles"]["pictures"] == copies["across_groups"]["pictures"] == 2
    assert found["set_aside"]["the same picture in two classes"]["tiles"] == 2
    assert found["set_aside"]["the same picture in two roles"]["tiles"] == 2
    assert found["usable"] == 56
    assert any(words.startswith("Pictures in two classes: 1") for words in found["warnings"])


def test_odd_files_are_named_with_their_reasons_and_a_folder_has_no_groups(tmp_path: Path) -> None:
    frame = rows().assign(file=lambda f: [f"{label}/{i}.png" for i, label in enumerate(f["label"])])
    source = as_files(frame, tmp_path / "tiles")
    (source / "tumour" / "torn.png").write_bytes(frame["content"][0][: len(frame["content"][0]) // 2])
    (source / "tumour" / "long.png").write_bytes(images.png(np.zeros((8, 30, 3), np.uint8)))
    (source / "tumour" / "large.png").write_bytes(images.png(picture(9, 32)))
    (source / "benign" / "grey.png").write_bytes(images.png(picture(7)))
    found = inspected(source, tmp_path / "w")
    assert found["set_aside"]["not square"] == {"tiles": 1, "names": ["tumour/long.png"]}
    assert found["set_aside"]["damaged or truncated"] == {"tiles": 1, "names": ["tumour/torn.png"]}
    assert found["sizes"] == {"16×16": 61, "32×32": 1} and found["formats"]["PNG"] == 64
    assert found["colour"] == {"grey": 2, "rgb": 60}
    assert found["classes"]["tumour"]["tiles"] == 31 and found["groups"] == {"given": False}
    section = yaml.safe_load(found["tiles_section"])["tiles"]
    assert section["size_px"] == 16 and section["group_column"] is None
    assert TilesSettings.model_validate(section).size_px == 16
    assert any("No groups are known" in words for words in found["warnings"])


def test_classes_that_colour_tells_apart_are_said_to_be(tmp_path: Path) -> None:
    found = inspected(as_parquet(stained(8, 10, True), tmp_path / "t.parquet"), tmp_path / "w")
    colour = found["colour_alone"]
    assert colour["chance"] == 0.5 and colour["tiles"] == 160
    for way in ("random_tiles", "groups", "stain_clusters"):
        assert colour[way]["linear"]["value"] > 0.9 and colour[way]["linear"]["low"] > 0.5
    assert any("Colour alone goes far" in words for words in found["warnings"])
    assert not any("random split" in words for words in found["warnings"])


@pytest.mark.parametrize("known", [True, False])
def test_slides_known_by_heart_make_a_random_split_leak_and_are_no_classes(known: bool, tmp_path: Path) -> None:
    frame = stained(20, 10, False)
    source = as_parquet(frame if known else frame.drop(columns="group"), tmp_path / "t.parquet")
    found = inspected(source, tmp_path / "w")
    colour = found["colour_alone"]
    assert colour["random_tiles"]["neighbours"]["value"] > 0.9
    assert colour["groups" if known else "stain_clusters"]["neighbours"]["value"] < 0.75
    assert ("groups" in colour) is known is found["groups"]["given"]
    leak = "A random split leaks" if known else "A random split may well leak"
    assert any(words.startswith(leak) for words in found["warnings"])
    assert yaml.safe_load(found["tiles_section"])["tiles"].get("grouping") == (None if known else "stain")
    assert not known or not any("Colour alone goes far" in words for words in found["warnings"])


def test_colour_models_do_not_see_the_given_test_and_control_tiles(tmp_path: Path) -> None:
    frame = rows()
    number = frame["group"].str.rsplit("-", n=1).str[1].astype(int)
    frame["role"] = [("test", "control", "val", "train")[min(n, 3)] for n in number]
    found = inspected(as_parquet(frame, tmp_path / "t.parquet"), tmp_path / "w")
    assert found["roles"]["given"] and found["roles"]["counts"]["test"] == {"benign": 3, "tumour": 3}
    assert found["colour_alone"]["tiles"] == 48
    assert found["warnings"] == []


def test_what_would_stop_a_run_is_told_and_the_rest_still_is(tmp_path: Path) -> None:
    frame = rows()
    small = frame[(frame["label"] == "benign") | frame["group"].str.endswith(("-0", "-1", "-2"))]
    found = inspected(as_parquet(small, tmp_path / "t.parquet"), tmp_path / "w")
    assert found["roles"]["small_classes"] == {"tumour": 3}
    assert "each class needs a group for each" in found["roles"]["trouble"]
    torn = frame.assign(role=["train", "test"] * 30)
    found = inspected(as_parquet(torn, tmp_path / "u.parquet"), tmp_path / "w")
    assert "tiles in two or more roles" in found["roles"]["trouble"] and found["usable"] == 60
    mixed = frame.assign(group=[f"g{i % 7}" for i in range(60)])
    found = inspected(as_parquet(mixed, tmp_path / "v.parquet"), tmp_path / "w")
    assert found["groups"]["of_two_classes"]["groups"] == 7


def test_the_order_of_the_rows_changes_no_score(tmp_path: Path) -> None:
    frame = stained(6, 6, False)
    one = inspected(as_parquet(frame, tmp_path / "a.parquet"), tmp_path / "w")
    other = inspected(as_parquet(frame.sample(frac=1, random_state=1), tmp_path / "b.parquet"), tmp_path / "w")
    assert one["colour_alone"]["random_tiles"] == other["colour_alone"]["random_tiles"]
    assert one["colour_alone"]["stain_clusters"] == other["colour_alone"]["stain_clusters"]


def test_an_npz_and_a_recipe_are_read_like_the_tiles_stage_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"{r}_images": rng.integers(0, 256, (12, 28, 28), dtype=np.uint8) for r in ("train", "val", "test")}
    labels = {f"{r}_labels": np.tile([0, 1], 6)[:, None].astype(np.uint8) for r in ("train", "val", "test")}
    np.savez(tmp_path / "t.npz", **arrays, **labels)
    found = inspected(tmp_path / "t.npz", tmp_path / "w")
    assert found["formats"] == {"array": 36} and found["colour"] == {"grey": 36, "rgb": 0}
    assert found["roles"]["drawn"] == ["control"] and found["roles"]["given"]
    (tmp_path / "r.yaml").write_text("tiles: {source: t.npz, size_px: 16}\nautoencoder: {mode: train}\n")
    found = inspected(tmp_path / "r.yaml", tmp_path / "v")
    assert found["sizes"] == {"16×16": 36}
    assert found["source"] == str(tmp_path / "t.npz")


def test_a_column_that_is_asked_for_must_be_there_and_one_that_is_guessed_need_not(tmp_path: Path) -> None:
    source = as_parquet(rows().drop(columns="group"), tmp_path / "t.parquet")
    assert not inspected(source, tmp_path / "w")["groups"]["given"]
    with pytest.raises(UserError, match="no column 'group'"):
        inspected(source, tmp_path / "w", group_column="group")
    with pytest.raises(UserError, match="size_px"):
        inspected(source, tmp_path / "w", size_px=3)


def test_the_command_prints_json_and_ends_with_2_where_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = as_parquet(rows(), tmp_path / "t.parquet")
    told = histodistill("inspect", source, "--json", "--fast", "--size", "8", "--group-column", "group")
    assert told.code == 0, told.err
    assert {"tiles", "usable", "classes", "groups", "duplicates", "colour_alone", "roles", "set_aside"} <= set(
        json.loads(told.out)
    )
    assert json.loads(told.out)["sizes"] == {"8×8": 60}
    assert faults.guarded(lambda: cli.app(args=["inspect", str(tmp_path / "gone.parquet")]), debug=False) == 2
    assert "There is nothing at" in capsys.readouterr().err


def test_inspecting_does_not_import_torch_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source = as_parquet(rows(), tmp_path / "in" / "t.parquet")
    code = (
        f"import sys, tempfile; tempfile.tempdir = {str(tmp_path)!r}; from pipeline import cli_looking; "
        f"cli_looking.inspect({str(source)!r}, fast=True); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "Classes (2)" in done.stdout, done.stderr
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "t.parquet"]


def test_near_copies_are_counted_named_and_told_across_roles(tmp_path: Path) -> None:
    views = [tile for seed in range(2) for tile in copies(seed)]
    alone = [view(original(seed)) for seed in range(100, 122)]
    frame = pd.DataFrame(
        {
            "file": [f"{n}.png" for n in range(len(views + alone))],
            "label": ["a"] * 9 + ["b"] * 9 + ["a", "b"] * 11,
            "role": ["train", "val", "test"] * 6 + ["train"] * 22,
            "content": [images.png(tile) for tile in views + alone],
        }
    )
    found = inspected(as_parquet(frame, tmp_path / "t.parquet"), tmp_path / "w", near=True)
    near = found["near_duplicates"]
    assert (near["near_duplicate_clusters"], near["tiles_in_them"], near["largest_cluster"]) == (2, 18, 9)
    assert near["across_classes"]["count"] == 0 and near["across_roles"]["count"] > 10
    assert all(int(name.split()[1]) < 18 for pair in near["pairs"]["names"] for name in pair)
    assert any("near copies lie in two of the given roles" in words for words in found["warnings"])
