"""Every format of a source gives the same tiles; what does not agree with itself is told."""

from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_tiles import CLASSES, as_files, as_folder, as_parquet, digests, rows, run, table_of

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
