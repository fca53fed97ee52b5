"""Tiles: whole groups in one role, every pixel as it was, nothing of the source's names left."""

import io
import logging
import re
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from made_tiles import (
    CLASSES,
    GROUPS,
    PER_GROUP,
    TELLTALE,
    TwoProcesses,
    as_folder,
    as_parquet,
    digests,
    roles_csv,
    rows,
    run,
    table_of,
)
from PIL import Image

from stages import images, store
from stages.contracts import UserError
from stages.tables import ROLES, check


def test_every_tile_arrives_with_its_pixels_class_group_and_role(tmp_path: Path, parquet: Path) -> None:
    out = run(tmp_path / "out", source=parquet)
    found = images.read(out / "images")
    check(found.table, "tiles")
    frame = rows()
    pixels = [np.asarray(Image.open(io.BytesIO(content))) for content in frame["content"]]
    known = zip(pixels, frame["label"], frame["group"], strict=True)
    by_id = {images.tile_id(p): (p, label, group) for p, label, group in known}
    assert found.classes == CLASSES and len(found.table) == len(frame) == len(by_id)
    assert not (out / "quarantine.csv").read_text().splitlines()[1:]
    groups: dict[int, set[str]] = {}
    for i, row in found.table.iterrows():
        wanted, label, group = by_id[row["tile_id"]]
        np.testing.assert_array_equal(found.pixels_nhwc[i], wanted)
        assert found.classes[row["label"]] == label
        groups.setdefault(row["group"], set()).add(group)
    assert sorted(groups) == list(range(2 * GROUPS)) and all(len(names) == 1 for names in groups.values())
    assert (found.table.groupby("group")["role"].nunique() == 1).all()


def test_the_facts_count_what_is_there(tmp_path: Path, parquet: Path) -> None:
    out = run(tmp_path / "out", source=parquet)
    facts, table = store.read_json(out / "facts.json"), table_of(out / "images")
    assert facts["groups"] == {r: dict.fromkeys(CLASSES, n) for r, n in zip(ROLES, (6, 1, 2, 1), strict=True)}
    for role in ROLES:
        for number, name in enumerate(facts["classes"]):
            assert facts["counts"][role][name] == ((table["role"] == role) & (table["label"] == number)).sum()
    assert (facts["size_px"], facts["colour"], facts["roles"], facts["left_out"]) == (16, "rgb", "drawn", 0)


def test_rows_lie_by_role_class_group_and_tile_and_group_numbers_follow_pixels(tmp_path: Path, parquet: Path) -> None:
    table = table_of(run(tmp_path / "out", source=parquet) / "images")
    rank = table.assign(rank=table["role"].map(ROLES.index))
    ordered = rank.sort_values(["rank", "label", "group", "tile_id"], ignore_index=True)
    pd.testing.assert_frame_equal(rank, ordered)
    first = table.groupby("group")["tile_id"].min()
    assert first.is_monotonic_increasing


def test_number_classes_are_ordered_as_numbers(tmp_path: Path) -> None:
    frame = rows()
    frame["label"] = frame["label"].map({"benign": 10, "tumour": 9})
    out = run(tmp_path / "out", source=as_parquet(frame, tmp_path / "t.parquet"))
    assert store.read_json(out / "facts.json")["classes"] == ["9", "10"]


def test_the_order_of_the_rows_the_chunks_and_the_workers_change_no_byte(tmp_path: Path, parquet: Path) -> None:
    wanted = digests(run(tmp_path / "a", source=parquet))
    shuffled = rows().sample(frac=1, random_state=3)
    other = as_parquet(shuffled, tmp_path / "in2" / "t.parquet", row_group_size=9)
    assert digests(run(tmp_path / "b", source=other, chunk_tiles=5)) == wanted
    assert digests(run(tmp_path / "c", TwoProcesses(), source=parquet, chunk_tiles=13)) == wanted
    assert digests(run(tmp_path / "d", source=parquet, seed=6)) != wanted


def test_given_roles_are_obeyed_and_public_groups_left_out_and_counted(tmp_path: Path, parquet: Path) -> None:
    frame = rows()
    csv = roles_csv(frame, tmp_path / "roles.csv", "tttppxvxcc")
    out = run(tmp_path / "out", source=parquet, roles=csv)
    facts = store.read_json(out / "facts.json")
    assert facts["left_out"] == 2 * 2 * PER_GROUP and facts["roles"] == "given"
    assert {role: n["tumour"] for role, n in facts["groups"].items()} == {"train": 3, "val": 1, "test": 2, "control": 2}
    column = frame.merge(pd.read_csv(csv)[["group", "role"]], on="group")
    same = run(tmp_path / "same", source=as_parquet(column, tmp_path / "roles.parquet"))
    assert digests(same) == digests(out)


def test_patients_with_several_classes_are_divided_whole(tmp_path: Path) -> None:
    frame = rows().assign(group=[f"p{i // 3 % 12}" for i in range(60)])
    out = run(tmp_path / "out", source=as_parquet(frame, tmp_path / "t.parquet"))
    table = table_of(out / "images")
    assert table["group"].nunique() == 12 and (table.groupby("group")["role"].nunique() == 1).all()
    assert (table.groupby("group")["label"].nunique() == 2).sum() == 8
    assert set(zip(table["role"], table["label"], strict=True)) == {(role, k) for role in ROLES for k in (0, 1)}
    shuffled = as_parquet(frame.sample(frac=1, random_state=1), tmp_path / "in2" / "t.parquet")
    assert digests(run(tmp_path / "again", source=shuffled)) == digests(out)


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_sites_play_one_role_and_patients_stay_the_groups(tmp_path: Path, kind: str) -> None:
    frame = rows().assign(hospital=[f"h{i // 3 % 10 % 5}" for i in range(60)])
    if kind == "parquet":
        given = {"source": as_parquet(frame, tmp_path / "t.parquet")}
    else:
        given = dict(zip(("source", "table"), as_folder(frame, tmp_path / "in"), strict=True))
    table = table_of(run(tmp_path / "out", site_column="hospital", **given) / "images")
    assert table["group"].nunique() == 20
    pixels = [np.asarray(Image.open(io.BytesIO(content))) for content in frame["content"]]
    site_of = dict(zip(map(images.tile_id, pixels), frame["hospital"], strict=True))
    roles = table.assign(site=table["tile_id"].map(site_of)).groupby("site")["role"].unique()
    assert sorted(map(tuple, roles)) == [("control",), ("test",), ("train",), ("train",), ("val",)]


def test_a_role_column_may_be_ignored(tmp_path: Path) -> None:
    path = as_parquet(rows().assign(role="train"), tmp_path / "t.parquet")
    assert store.read_json(run(tmp_path / "a", source=path, role_column=None) / "facts.json")["roles"] == "drawn"


def test_caps_hold_and_do_not_depend_on_the_order_of_the_rows(tmp_path: Path, parquet: Path) -> None:
    caps = {"max_per_group": 2, "max_groups": 4}
    out = run(tmp_path / "a", source=parquet, **caps)
    table = table_of(out / "images")
    assert table.groupby("group").size().max() == 2
    assert table.groupby(["role", "label"])["group"].nunique().max() == 4
    assert sorted(table["group"].unique()) == list(range(table["group"].nunique()))
    other = as_parquet(rows().sample(frac=1, random_state=1), tmp_path / "in2" / "t.parquet")
    assert digests(run(tmp_path / "b", source=other, **caps)) == digests(out)


def test_resizing_makes_unequal_tiles_equal(tmp_path: Path) -> None:
    frame = rows()
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(buffer, "PNG")
    frame.at[0, "content"] = buffer.getvalue()
    path = as_parquet(frame, tmp_path / "t.parquet")
    with pytest.raises(UserError, match=re.escape("2 sizes, in pixels: 16×16 (59), 40×40 (1). Set tiles.size_px")):
        run(tmp_path / "a", source=path)
    found = images.read(run(tmp_path / "b", source=path, size_px=8) / "images")
    assert found.pixels_nhwc.shape == (60, 8, 8, 3)


def test_grey_tiles_are_told(tmp_path: Path) -> None:
    frame = rows()
    for i, content in enumerate(frame["content"]):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("L").save(buffer, "PNG")
        frame.at[i, "content"] = buffer.getvalue()
    out = run(tmp_path / "out", source=as_parquet(frame, tmp_path / "t.parquet"))
    assert store.read_json(out / "facts.json")["colour"] == "grey"


def test_bad_files_are_named_set_aside_and_the_rest_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = rows()
    frame.at[0, "content"] = b"not a picture"
    frame.at[1, "content"] = b""
    frame.at[7, "content"] = frame.at[7, "content"][:200]
    frame.at[9, "label"] = ""
    path = as_parquet(frame, tmp_path / "t.parquet")
    with caplog.at_level(logging.WARNING):
        out = run(tmp_path / "out", source=path)
    aside = pd.read_csv(out / "quarantine.csv")
    reasons = ["not an image", "empty", "damaged or truncated", "no label"]
    assert sorted(aside["reason"]) == sorted(reasons)
    assert aside.set_index("tile").loc[f"row 7 ({TELLTALE}/benign-2-1.png)", "reason"] == "damaged or truncated"
    assert store.read_json(out / "facts.json")["set_aside"] == dict.fromkeys(sorted(reasons), 1)
    assert f"row 0 ({TELLTALE}/benign-0-0.png) is set aside: not an image" in caplog.text
    assert len(table_of(out / "images")) == len(frame) - 4


def test_one_picture_in_two_classes_or_two_roles_is_set_aside_wherever_it_lies(tmp_path: Path) -> None:
    frame = rows()
    frame.at[30, "content"] = frame.at[0, "content"]  # benign and tumour
    frame.at[27, "content"] = frame.at[3, "content"]  # group 9 (control) and group 1 (train)
    frame.at[7, "content"] = frame.at[6, "content"]  # twice in one group: harmless
    csv = roles_csv(frame, tmp_path / "roles.csv")
    out = run(tmp_path / "out", source=as_parquet(frame, tmp_path / "t.parquet"), roles=csv)
    facts = store.read_json(out / "facts.json")
    assert facts["set_aside"] == {"the same picture in two classes": 2, "the same picture in two roles": 2}
    assert facts["copies"] == 1
    table = table_of(out / "images")
    assert (table.groupby("tile_id")["role"].nunique() == 1).all()
    assert len(table) == len(frame) - 4


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_nothing_of_the_sources_names_travels_but_in_the_quarantine(tmp_path: Path, kind: str) -> None:
    frame = rows()
    frame.at[0, "content"] = b"not a picture"
    if kind == "parquet":
        out = run(tmp_path / "out", source=as_parquet(frame, tmp_path / "in" / f"{TELLTALE}.parquet"))
    else:
        source, table = as_folder(frame, tmp_path / "in" / TELLTALE)
        out = run(tmp_path / "out", source=source, table=table)
    assert TELLTALE in (out / "quarantine.csv").read_text()
    names = [TELLTALE, *frame["group"], *(Path(f).stem for f in frame["file"]), str(tmp_path)]
    for path in out.rglob("*"):
        if path.is_file() and path.name != "quarantine.csv":
            content = path.read_bytes()
            assert not [name for name in names if name.encode() in content], path.name
    for cell in datasets.load_from_disk(str(out / "images")).cast_column("image", datasets.Image(decode=False))[
        "image"
    ]:
        assert cell["path"] is None and set(re.findall(rb"(?:IHDR|eXIf|tEXt|iTXt|zTXt|tIME)", cell["bytes"])) == {
            b"IHDR"
        }
