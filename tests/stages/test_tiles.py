"""Tiles: every format gives the same set, whole groups in one role, nothing of the source's names left."""

import io
import logging
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages import compute, images, store, tiles
from stages.contracts import Interrupted, UserError
from stages.tables import ROLES, check

TELLTALE = "MUSTERMANN"
CLASSES = ("benign", "tumour")
GROUPS, PER_GROUP = 10, 3


class Serial:
    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


class TwoProcesses:
    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            yield from pool.map(function, items)


def rows() -> pd.DataFrame:
    """Two classes of ten groups of three 16-px tiles, under names that must not travel."""
    rng = np.random.default_rng(0)
    found = []
    for label in CLASSES:
        for group in range(GROUPS):
            for tile in range(PER_GROUP):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                exif = Image.Exif()
                exif[0x010E] = f"{TELLTALE} exif"
                Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
                found.append(
                    {
                        "file": f"{TELLTALE}/{label}-{group}-{tile}.png",
                        "label": label,
                        "group": f"{TELLTALE}-{label}-{group}",
                        "content": buffer.getvalue(),
                    }
                )
    return pd.DataFrame(found)


def as_parquet(frame: pd.DataFrame, path: Path, **options: Any) -> Path:
    cells = [{"bytes": content, "path": file} for content, file in zip(frame["content"], frame["file"], strict=True)]
    others = {name: frame[name].tolist() for name in frame if name not in ("content", "file")}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": cells, **others}), path, **options)
    return path


def as_files(frame: pd.DataFrame, folder: Path, file: str = "file") -> Path:
    for name, content in zip(frame[file], frame["content"], strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def as_folder(frame: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    table = folder.parent / f"{folder.name}.csv"
    source = as_files(frame, folder)
    frame.drop(columns="content").to_csv(table, index=False)
    return source, table


def table_of(folder: Path) -> pd.DataFrame:
    return images.read_table(folder)[0]


def run(out: Path, engine: Any = None, seed: int = 5, **settings: Any) -> Path:
    out.mkdir(parents=True)
    tiles.run(tiles.TilesSettings(**settings), {}, out, seed, engine or Serial())
    return out


def digests(out: Path) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in store.digest_folder(out).items()}


def roles_csv(frame: pd.DataFrame, path: Path, plan: str = "ttttttvxxc") -> Path:
    """A table of roles by the `plan` for each class's groups: t train, v val, x test, c control, p public."""
    names = {"t": "train", "v": "val", "x": "test", "c": "control", "p": "public"}
    table = frame[["group", "label"]].drop_duplicates()
    table["role"] = [names.get(plan[i % GROUPS], plan[i % GROUPS]) for i in range(len(table))]
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    return as_parquet(rows(), tmp_path / "in" / "tiles.parquet")


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


def test_all_formats_give_the_same_bytes(tmp_path: Path, parquet: Path) -> None:
    frame = rows()
    wanted = digests(run(tmp_path / "a", source=parquet))
    source, table = as_folder(frame, tmp_path / "in" / "folder")
    assert digests(run(tmp_path / "b", source=source, table=table)) == wanted
    flat = tmp_path / "in" / "hf_csv" / "train"
    as_files(frame, flat)
    frame.rename(columns={"file": "file_name"}).drop(columns="content").to_csv(flat / "metadata.csv", index=False)
    assert digests(run(tmp_path / "c", source=flat.parent)) == wanted
    lines = frame.rename(columns={"file": "file_name"}).drop(columns="content").to_json(orient="records", lines=True)
    (flat / "metadata.csv").unlink()
    (flat / "metadata.jsonl").write_text(lines)
    assert digests(run(tmp_path / "d", source=flat.parent)) == wanted
    parts = tmp_path / "in" / "parts"
    as_parquet(frame[:25], parts / "one.parquet", row_group_size=7)
    as_parquet(frame[25:], parts / "two.parquet", row_group_size=11)
    assert digests(run(tmp_path / "e", source=parts, chunk_tiles=4)) == wanted


def test_a_hugging_face_imagefolder_by_class_folders_and_one_written_by_datasets(tmp_path: Path) -> None:
    frame = rows()
    frame["file_name"] = [f"train/{label}/{i}.png" for i, label in enumerate(frame["label"])]
    folder = as_files(frame, tmp_path / "classes", "file_name")
    found = table_of(run(tmp_path / "a", source=folder, group_column=None) / "images")
    assert len(found) == len(frame) and found["group"].nunique() == len(frame)
    features = datasets.Features(
        {"file_name": datasets.Value("string"), "label": datasets.ClassLabel(names=CLASSES[::-1])}
    )
    numbers = [CLASSES[::-1].index(label) for label in frame["label"]]
    table = pa.table({"file_name": frame["file_name"].tolist(), "label": numbers}, schema=features.arrow_schema)
    pq.write_table(table, folder / "metadata.parquet")
    again = run(tmp_path / "b", source=folder, group_column=None)
    assert digests(again) == digests(tmp_path / "a")


def test_class_numbers_written_by_datasets_become_names(tmp_path: Path) -> None:
    frame = rows()
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=CLASSES[::-1]),
            "group": datasets.Value("string"),
        }
    )
    cells = [{"bytes": content, "path": None} for content in frame["content"]]
    numbers = [CLASSES[::-1].index(label) for label in frame["label"]]
    data = datasets.Dataset.from_dict({"image": cells, "label": numbers, "group": frame["group"].tolist()}, features)
    data.to_parquet(str(tmp_path / "hf.parquet"))
    out = run(tmp_path / "a", source=tmp_path / "hf.parquet")
    assert digests(out) == digests(run(tmp_path / "b", source=as_parquet(frame, tmp_path / "plain.parquet")))


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


def without(frame: pd.DataFrame, group: int) -> pd.DataFrame:
    return frame[~frame["group"].str.endswith(f"tumour-{group}")]


ERRORS: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "no source": (lambda t: {"source": t / "none.parquet"}, "There is nothing at .*none.parquet"),
    "no table": (lambda t: {"source": t, "table": t / "none.csv"}, "There is nothing at .*none.csv"),
    "no roles": (
        lambda t: {"source": as_parquet(rows(), t / "t.parquet"), "roles": t / "none.csv"},
        "no table of roles",
    ),
    "no parquet": (lambda t: {"source": Path(__file__)}, "cannot be read as Parquet"),
    "an empty folder": (lambda t: {"source": t}, "No image was found"),
    "a missing column": (
        lambda t: {"source": as_parquet(rows().rename(columns={"label": "lable"}), t / "t.parquet")},
        "no column 'label'. Did you mean 'lable'",
    ),
    "no groups": (
        lambda t: {"source": as_parquet(rows().drop(columns="group"), t / "t.parquet")},
        "no column 'group'.*set tiles.group_column to null",
    ),
    "a missing role column": (
        lambda t: {"source": as_parquet(rows().assign(part="train"), t / "t.parquet"), "role_column": "parts"},
        "no column 'parts'. Did you mean 'part'",
    ),
    "an unknown role": (
        lambda t: {
            "source": as_parquet(rows(), t / "t.parquet"),
            "roles": roles_csv(rows().replace({"label": {}}), t / "r.csv", ["trian", *"tttttvxxc"]),
        },
        "the list of roles has no 'trian'. Did you mean 'train'.*leave_out",
    ),
    "groups without a role": (
        lambda t: {"source": as_parquet(rows(), t / "t.parquet"), "roles": roles_csv(without(rows(), 3), t / "r.csv")},
        "r.csv lacks 1 of the 20 groups: MUSTERMANN-tumour-3",
    ),
    "roles of another label": (
        lambda t: {
            "source": as_parquet(rows(), t / "t.parquet"),
            "roles": roles_csv(rows().replace({"label": {"tumour": "normal"}}), t / "r.csv"),
        },
        "10 groups have another label in r.csv",
    ),
    "a group in two roles": (
        lambda t: {"source": as_parquet(rows().assign(role=["train", "val"] * 30), t / "t.parquet")},
        "20 of 20 groups have tiles in two or more roles",
    ),
    "no tile of a class in a role": (
        lambda t: {
            "source": as_parquet(rows(), t / "t.parquet"),
            "roles": roles_csv(rows(), t / "r.csv", "ttttttvttc"),
        },
        "no tile of benign in test, tumour in test",
    ),
    "too few groups": (
        lambda t: {"source": as_parquet(rows()[lambda f: (f["label"] == "benign") | (f.index < 39)], t / "t.parquet")},
        "needs a group for each of the 4 roles .* but tumour has 3",
    ),
    "a group of two classes": (
        lambda t: {"source": as_parquet(rows().assign(label=["a", "b"] * 30), t / "t.parquet")},
        "20 of 20 groups hold tiles of two or more classes",
    ),
    "one class": (lambda t: {"source": as_parquet(rows()[:30], t / "t.parquet")}, "has one class"),
    "no tile left": (
        lambda t: {"source": as_parquet(rows().assign(content=b"x"), t / "t.parquet")},
        "No tile of .* could be used: 60 × not an image",
    ),
    "no label at all": (
        lambda t: {"source": as_parquet(rows().assign(label=""), t / "t.parquet")},
        "No tile is left to decode in .*: 60 × no label",
    ),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_a_users_mistake_is_told(tmp_path: Path, fault: str) -> None:
    settings, message = ERRORS[fault]
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", **settings(tmp_path / "in"))


def test_files_and_table_must_agree(tmp_path: Path) -> None:
    source, table = as_folder(rows(), tmp_path / "folder")
    full = pd.read_csv(table)
    full[2:].to_csv(table, index=False)
    with pytest.raises(UserError, match=r"2 images in .* are not in folder.csv: MUSTERMANN/benign-0-0.png"):
        run(tmp_path / "a", source=source, table=table)
    out = run(tmp_path / "b", source=source, table=table, unlisted="leave_out")
    assert len(table_of(out / "images")) == len(full) - 2
    full.assign(file=full["file"].str.replace("tumour-9-2", "gone")).to_csv(table, index=False)
    with pytest.raises(UserError, match=r"lists 1 files that are not in .*gone.png"):
        run(tmp_path / "c", source=source, table=table)
    pd.concat([full, full[:1]]).to_csv(table, index=False)
    with pytest.raises(UserError, match="lists 1 files more than once"):
        run(tmp_path / "d", source=source, table=table)


def test_files_may_be_given_with_the_sources_own_path_but_never_outside(tmp_path: Path) -> None:
    source, table = as_folder(rows(), tmp_path / "folder")
    wanted = digests(run(tmp_path / "a", source=source, table=table))
    full = pd.read_csv(table)
    full.assign(file=[str(source / name) for name in full["file"]]).to_csv(table, index=False)
    assert digests(run(tmp_path / "b", source=source, table=table)) == wanted
    for outside in ("../other.png", "/somewhere/other.png"):
        full.assign(file=[outside, *full["file"][1:]]).to_csv(table, index=False)
        with pytest.raises(UserError, match=f"folder.csv lists {outside}, which is not inside"):
            run(tmp_path / outside.replace("/", "_"), source=source, table=table)


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.parquet", "metadata.csv"])
def test_damaged_metadata_is_told(tmp_path: Path, name: str) -> None:
    as_files(rows(), tmp_path / "in")
    (tmp_path / "in" / name).write_bytes(b"\xff\xfe{broken")
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        run(tmp_path / "out", source=tmp_path / "in")


def test_tables_from_spreadsheets_are_read(tmp_path: Path) -> None:
    source, table = as_folder(rows(), tmp_path / "folder")
    wanted = digests(run(tmp_path / "a", source=source, table=table))
    pd.read_csv(table).to_csv(table, index=False, sep=";", encoding="utf-8-sig")
    assert digests(run(tmp_path / "b", source=source, table=table)) == wanted


def test_fractions_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("sum to 1.1, not to 1")):
        tiles.TilesSettings(source=tmp_path, fractions={"train": 0.7})


def test_asked_to_stop_it_keeps_what_is_decoded_and_goes_on_later(
    tmp_path: Path, parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = digests(run(tmp_path / "whole", source=parquet, chunk_tiles=10))
    monkeypatch.setattr(compute, "stop_asked", lambda: True)
    out = tmp_path / "store" / "out.scratch"
    for _ in range(5):
        with pytest.raises(Interrupted):
            run(out, source=parquet, chunk_tiles=10)
        out.rmdir()
    assert len(list(store.work_folder(out).iterdir())) == 5
    assert digests(run(out, source=parquet, chunk_tiles=10)) == wanted


CHILD = """
    import sys, time
    from pathlib import Path
    from stages import tiles
    class Slow:
        def map(self, function, items):
            for item in items:
                time.sleep(float(sys.argv[3]))
                yield function(item)
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    tiles.run(tiles.TilesSettings(source=sys.argv[1], chunk_tiles=6), {}, out, 5, Slow())
"""


def test_killed_at_any_moment_it_continues_to_the_same_bytes(tmp_path: Path, parquet: Path) -> None:
    wanted = digests(run(tmp_path / "whole", source=parquet, chunk_tiles=6))
    out = tmp_path / "store" / "out.scratch"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(parquet), str(out)]
    child = subprocess.Popen([*command, "0.1"], stderr=subprocess.DEVNULL, cwd=Path(tiles.__file__).parents[1])
    work = store.work_folder(out)
    while len(list(work.glob("tiles-*.arrow"))) < 3:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in work.glob("tiles-*.arrow")}
    assert 3 <= len(kept) < 10
    tiles.run(tiles.TilesSettings(source=parquet, chunk_tiles=6), {}, out, 5, Serial())
    assert digests(out) == wanted
    assert {path.name: path.stat().st_mtime_ns for path in work.glob("tiles-*.arrow")}.items() >= kept.items()
