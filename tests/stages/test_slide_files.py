"""Which files are slides, and what a table, folders and names tell of each."""

from pathlib import Path

import pandas as pd
import pytest

from stages.contracts import UserError
from stages.sources.slide_files import GLASS, holds_slides, open_slides, slide_files
from stages.sources.table import Columns

COLUMNS = Columns("image", "file", "label", "patient", "role")


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def opened(
    folder: Path,
    table: str | None = None,
    site: str | None = None,
    pattern: str | None = None,
    annotations: Path | None = None,
    refused: bool = True,
) -> pd.DataFrame:
    path = None
    if table is not None:
        path = folder.parent / "table.csv"
        path.write_text(table)
    columns = COLUMNS._replace(site=site)
    return open_slides(folder, path, columns, pattern, annotations, refused)[0].set_index("name")


def test_companions_of_a_slide_are_not_slides_of_their_own(tmp_path: Path) -> None:
    folder = lay(
        tmp_path / "in",
        *("b.mrxs", "b/Data0000.dat", "b/picture.jpg", "a.svs", "c.SVS", "notes.txt", ".hidden.svs", "._a.svs"),
        *("dicom/1.dcm", "dicom/2.dcm", "hama/x.vms", "hama/x.jpg", "plain/photo.png", ".cache/z.svs"),
    )
    wanted = ["a.svs", "b.mrxs", "c.SVS", "dicom/1.dcm", "hama/x.vms", "plain/photo.png"]
    assert slide_files(folder) == wanted
    assert slide_files(folder / "a.svs") == ["a.svs"]


def dicom(uid: bytes, pixels: bytes) -> bytes:
    """The head of a DICOM file as PS3.10 writes it, as far as the series goes."""
    series = b"\x20\x00\x0e\x00UI" + len(uid).to_bytes(2, "little") + uid
    return bytes(128) + b"DICM" + b"\x20\x00\x0d\x00UI\x04\x001.2\0" + series + pixels


def test_each_series_of_a_dicom_folder_is_a_slide(tmp_path: Path) -> None:
    folder = lay(tmp_path / "in", *(f"x/{n}.dcm" for n in range(5)))
    for n, uid in enumerate((b"1.2.3\0", b"1.2.3\0", b"1.2.34", b"1.2.3\0", b"1.2.34")):
        (folder / f"x/{n}.dcm").write_bytes(dicom(uid, bytes([n])))
    assert slide_files(folder) == ["x/0.dcm", "x/2.dcm"]


def test_tiffs_alone_are_tiles_until_somebody_says_slides(tmp_path: Path) -> None:
    assert not holds_slides(lay(tmp_path / "tiles", "x/1.tif", "x/2.png"))
    assert holds_slides(lay(tmp_path / "slides", "x/1.tif", "x/2.ndpi"))


def test_folders_tell_classes_and_roles(tmp_path: Path) -> None:
    folder = lay(tmp_path / "in", "train/tumour/p1/a.svs", "train/normal/b.svs", "test/tumour/c.svs")
    rows = opened(folder)
    assert rows["label"].to_dict() == {
        "train/tumour/p1/a.svs": "tumour",
        "train/normal/b.svs": "normal",
        "test/tumour/c.svs": "tumour",
    }
    assert rows["role"].tolist() == ["test", "train", "train"]
    assert opened(lay(tmp_path / "flat", "a.svs"))["label"].tolist() == [None]


def test_without_a_patient_every_slide_is_its_own_group_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = opened(lay(tmp_path / "in", "x/a.svs", "x/b.svs"))
    assert rows["group"].tolist() == ["x/a.svs", "x/b.svs"]
    assert "slides of one patient may lie in two roles" in caplog.text


def test_a_table_of_slides_may_call_them_by_path_by_name_or_without_the_suffix(tmp_path: Path) -> None:
    folder = lay(tmp_path / "in", "x/a.svs", "x/b.svs", "c.ndpi")
    rows = opened(
        folder,
        "file,patient,label,mpp,hospital\nx/a.svs,P1,t,0.25,north\nb.svs,P1,n,,north\nc,P2,t,0.5,south\n",
        site="hospital",
    )
    assert rows.loc["x/a.svs", ["group", "label", "mpp", "site"]].tolist() == ["P1", "t", "0.25", "north"]
    assert rows.loc["x/b.svs", ["group", "label", "mpp"]].tolist() == ["P1", "n", None]
    assert rows.loc["c.ndpi", ["group", "label", "site"]].tolist() == ["P2", "t", "south"]


def test_a_table_of_patients_needs_a_way_from_slide_to_patient(tmp_path: Path) -> None:
    folder = lay(tmp_path / "in", "S12-7_HE.svs", "S12-7_2.svs", "S13-1.svs")
    table = "patient,label\nS12-7,tumour\nS13-1,normal\n"
    rows = opened(folder, table, pattern=r"^(S\d+-\d+)")
    assert rows[["group", "label"]].to_dict("index") == {
        "S12-7_HE.svs": {"group": "S12-7", "label": "tumour"},
        "S12-7_2.svs": {"group": "S12-7", "label": "tumour"},
        "S13-1.svs": {"group": "S13-1", "label": "normal"},
    }
    with pytest.raises(UserError, match="nothing tells which slides are whose"):
        opened(folder, table)
    with pytest.raises(UserError, match="two rows for the patient S13-1"):
        opened(folder, table + "S13-1,tumour\n", pattern=r"^(S\d+-\d+)")
    with pytest.raises(UserError, match="finds no patient in any name"):
        opened(folder, table, pattern=r"^(T\d+)")


def test_a_row_without_its_slide_is_set_aside_and_a_slide_without_a_row_is_refused_or_left_out(tmp_path: Path) -> None:
    folder = lay(tmp_path / "in", "a.svs", "b.svs")
    table = "file,patient,label\na.svs,P1,t\ngone.svs,P2,n\n"
    with pytest.raises(UserError, match="says nothing of 1 slides: b.svs"):
        opened(folder, table)
    rows = opened(folder, table, refused=False)
    assert rows["reason"].to_dict() == {"a.svs": None, "gone.svs": "not there"}
    assert rows.loc["gone.svs", "group"] == "P2"


def test_ambiguous_rows_are_refused(tmp_path: Path) -> None:
    folder = lay(tmp_path / "in", "x/a.svs", "y/a.svs")
    with pytest.raises(UserError, match="'a.svs', which 2 slides are called"):
        opened(folder, "file,patient\na.svs,P1\n")
    with pytest.raises(UserError, match="two rows for the slide x/a.svs"):
        opened(folder, "file,patient\nx/a.svs,P1\nx/a,P1\ny/a,P1\n")
    with pytest.raises(UserError, match=r"neither the column 'file' .* nor 'patient'"):
        opened(folder, "slide,case\nx/a.svs,P1\n")


def test_a_slide_of_no_patient_is_set_aside_where_others_have_one(tmp_path: Path) -> None:
    rows = opened(lay(tmp_path / "in", "P1_a.svs", "other.svs"), pattern=r"^(P\d+)_")
    assert rows["reason"].to_dict() == {"P1_a.svs": None, "other.svs": "no patient"}


def test_annotations_lie_beside_the_slides_or_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = lay(tmp_path / "in", "x/a.svs", "x/a.geojson", "x/b.svs", "x/b.svs.geojson", "x/c.svs")
    found = opened(folder)["regions"]
    assert [None if path is None else path.name for path in found] == ["a.geojson", "b.svs.geojson", None]
    others = lay(tmp_path / "drawn", "c.geojson")
    assert opened(folder, annotations=others)["regions"].tolist() == [None, None, others / "c.geojson"]
    with pytest.raises(UserError, match=r"named after a slide, as in a\.geojson"):
        opened(folder, annotations=lay(tmp_path / "none", "z.geojson"))
    alone = open_slides(folder / "x" / "a.svs", None, COLUMNS, None, None, True)[0]
    assert alone["regions"].tolist() == [None]


def test_exported_pictures_of_the_label_or_the_glass_are_set_aside_by_their_names(tmp_path: Path) -> None:
    beside = ("S1_label.png", "S1-macro.jpg", "macro.TIF", "thumbs/S1.thumbnail.jpeg", "S1_Barcode_1.png")
    slides = ("S1.svs", "macrophages.png", "labelled.tif", "tumour/label_1.svs")
    folder = lay(tmp_path / "in", *beside, *slides)
    rows = opened(folder, "patient,file\n" + "".join(f"p,{name}\n" for name in slides))
    assert set(rows.index[rows["reason"] == GLASS]) == set(beside)
    assert set(rows.index[rows["reason"].isna()]) == set(slides)


def test_no_slide_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No slide was found in .* \.svs, \.ndpi"):
        opened(lay(tmp_path / "in", "readme.txt"))
