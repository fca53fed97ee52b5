"""Every format of a source gives the same tiles; what does not agree with itself is told."""

from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_tiles import CLASSES, as_files, as_folder, as_parquet, digests, rows, run, table_of

from stages import store
from stages.contracts import UserError


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


def splits(frame: pd.DataFrame, names: dict[str, str]) -> pd.Series:
    """A split for each tile, by the plan of `roles_csv`, under other names."""
    plan = ["train"] * 6 + ["val", "test", "test", "control"]
    groups = frame["group"].str.rpartition("-")[2].astype(int)
    return groups.map(lambda g: names.get(plan[g], plan[g]))


@pytest.mark.parametrize("names", [{}, {"train": "Training", "val": "validation", "test": "testing"}])
def test_folders_of_classes_below_folders_of_splits_have_these_roles(tmp_path: Path, names: dict[str, str]) -> None:
    frame = rows()
    split = splits(frame, names)
    frame["path"] = [f"{s}/{c}/{i}.png" for i, (s, c) in enumerate(zip(split, frame["label"], strict=True))]
    out = run(tmp_path / "out", source=as_files(frame, tmp_path / "in", "path"))
    facts = store.read_json(out / "facts.json")
    assert facts["roles"] == "given" and facts["drawn_from_train"] == [] and facts["classes"] == list(CLASSES)
    assert {role: n["tumour"] for role, n in facts["counts"].items()} == {
        "train": 18,
        "val": 3,
        "test": 6,
        "control": 3,
    }


def test_classes_called_as_roles_are_classes(tmp_path: Path) -> None:
    frame = rows()
    frame["path"] = [f"{'control' if c == 'benign' else 'train'}/{i}.png" for i, c in enumerate(frame["label"])]
    facts = store.read_json(run(tmp_path / "out", source=as_files(frame, tmp_path / "in", "path")) / "facts.json")
    assert facts["classes"] == ["control", "train"] and facts["roles"] == "drawn"


def test_a_folder_of_classes_needs_no_word_on_groups_and_none_are_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = rows()
    frame["path"] = [f"{c}/{i}.png" for i, c in enumerate(frame["label"])]
    out = run(tmp_path / "out", source=as_files(frame, tmp_path / "in", "path"))
    assert table_of(out / "images")["group"].nunique() == len(frame) and "no groups are given" in caplog.text


def test_splits_may_be_told_by_the_names_of_parquet_files_or_their_folders(tmp_path: Path) -> None:
    frame = rows()
    split = splits(frame, {"val": "validation"})
    wanted = run(tmp_path / "a", source=as_parquet(frame.assign(role=split), tmp_path / "one.parquet"))
    for number, name in enumerate(("data/{}-00000-of-00001.parquet", "default/{}/0000.parquet", "{}.parquet")):
        for one in split.unique():
            as_parquet(frame[split == one], tmp_path / f"in{number}" / name.format(one))
        assert digests(run(tmp_path / f"out{number}", source=tmp_path / f"in{number}")) == digests(wanted)


def test_splits_of_an_imagefolder_with_metadata_are_roles_unless_a_column_says_otherwise(tmp_path: Path) -> None:
    frame = rows()
    split = splits(frame, {"val": "valid"})
    frame["path"] = [f"{s}/{i}.png" for i, s in enumerate(split)]
    folder = as_files(frame, tmp_path / "in", "path")
    for one in split.unique():
        part = frame[split == one].drop(columns=["content", "file"])
        part.assign(file_name=[Path(p).name for p in part["path"]]).to_csv(folder / one / "metadata.csv", index=False)
    facts = store.read_json(run(tmp_path / "a", source=folder) / "facts.json")
    assert facts["roles"] == "given" and facts["groups"]["val"] == dict.fromkeys(CLASSES, 1)
    assert store.read_json(run(tmp_path / "b", source=folder, role_column=None) / "facts.json")["roles"] == "drawn"


def test_images_in_no_folder_have_no_class(tmp_path: Path) -> None:
    frame = rows()
    frame["path"] = [f"{i}.png" for i in range(len(frame))]
    with pytest.raises(UserError, match=r"The 60 images lie in .* itself, so no class is told"):
        run(tmp_path / "out", source=as_files(frame, tmp_path / "in", "path"))
