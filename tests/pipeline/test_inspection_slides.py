"""What `inspect` tells of whole slides: what they hold, what they hide, what would be taken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from laid_slides import BARE, HEIGHT, LITTLE, TAKEN, TILE, WIDTH, boxed, lay, piece, write_regions
from made_slides import PRIVATE, Slide, aperio_slide, generic_slide
from made_tiles import Serial
from painted_tissue import INKS, Box, Scene, scene
from PIL import Image
from telling import histodistill

from pipeline import inspection, inspection_slides
from pipeline.engine import Threads
from stages.contracts import UserError

T = TILE


def inspected(source: Path, previews: Path | None = None, engine: Any = None, **given: Any) -> dict[str, Any]:
    settings, _ = inspection.settings_of(str(source), {"format": "slides", **given}, {"tile_px": T})
    assert inspection.of_slides(settings)
    found = inspection_slides.inspect(settings, engine or Serial(), previews)
    page = inspection_slides.page(found)
    assert max(map(len, page.splitlines())) <= 100 and "\x1b" not in page
    return json.loads(json.dumps(found))


def told(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["slides"] if one["name"] == name)


def inked() -> Scene:
    """The piece of tissue, and blue ink over two tiles of it and one of glass."""
    return scene(WIDTH, HEIGHT, piece(0).pieces, {"blue": Box(2 * T, 2 * T, 4 * T, 3 * T), "green": Box(0, 0, T, T)})


@pytest.fixture
def aperio(tmp_path: Path) -> Slide:
    (tmp_path / "in").mkdir()
    return aperio_slide(tmp_path / "in" / "S21-04711.svs", inked())


def test_an_aperio_slide_is_told_with_what_it_holds_and_every_word_and_picture_it_hides(aperio: Slide) -> None:
    one = told(inspected(aperio.path), "S21-04711.svs")
    assert one["size_px"] == [WIDTH, HEIGHT] and one["levels"] == [1, 4] and one["mpp0"] == 0.5
    assert (one["vendor"], one["objective"]) == ("aperio", "20")
    assert one["hides"]["pictures"] == ["label", "macro", "thumbnail"]
    hidden = one["hides"]["properties"]
    assert {f"aperio.{name}": value for name, value in PRIVATE.items()}.items() <= hidden.items()
    with openslide.OpenSlide(aperio.path) as slide:
        said = {name for name, value in slide.properties.items() if any(word in value for word in PRIVATE.values())}
        assert said <= set(hidden) and one["properties"] == len(slide.properties)
    assert not [name for name in hidden if name.startswith(("openslide.level", "openslide.mpp", "aperio.MPP"))]


def test_the_page_says_what_is_hidden_and_that_it_is_never_copied(aperio: Slide) -> None:
    page = inspection_slides.page(inspected(aperio.path))
    for words in ("hides pictures      label, macro, thumbnail: never read", "never copied:", *PRIVATE.values()):
        assert words in page
    assert f"{WIDTH} × {HEIGHT} px, 0.5 µm per pixel, objective 20×, aperio, levels 1, 4" in page


@pytest.mark.parametrize(
    ("name", "value", "telling"),
    [
        ("hamamatsu.Created", "2021/03/14", True),
        ("hamamatsu.NDP.S/N", "000198", True),
        ("mirax.GENERAL.SLIDE_ID", "AB12", True),
        ("leica.barcode", "MjEwMDQ3MTE=", True),
        ("leica.creation-date", "2021-03-14T09:26:53.00Z", True),
        ("philips.DICOM_DEVICE_SERIAL_NUMBER", "FMT0017", True),
        ("dicom.PatientName", "MUSTERMANN^ERIKA", True),
        ("tiff.DateTime", "2021:03:14 09:26:53", True),
        ("ventana.Whatever", "scanned 14.03.2021", True),
        ("openslide.level[0].tile-width", "256", False),
        ("openslide.mpp-x", "0.2527", False),
        ("openslide.vendor", "aperio", False),
        ("aperio.AppMag", "40", False),
        ("tiff.XResolution", "20000.0", False),
    ],
)
def test_a_property_is_telling_by_its_name_or_by_a_date_in_it(name: str, value: str, telling: bool) -> None:
    assert inspection_slides.tells(name, value) == telling


def test_what_would_be_taken_is_counted_by_reason_as_tiling_does(aperio: Slide) -> None:
    taken = told(inspected(aperio.path), "S21-04711.svs")["taken"]
    assert (taken["positions"], taken["background"]) == (TAKEN + LITTLE + BARE, BARE - 1)
    assert taken["rejected"] == {"pen": 3, "too little tissue": LITTLE} and taken["tiles"] == TAKEN - 2
    assert taken["by_class"] == {"(no class)": TAKEN - 2} and taken["level"] == 0 and taken["mpp"] == 0.5
    share = piece(0).tissue_hw.mean() - 2 * T * T / (WIDTH * HEIGHT)
    assert abs(taken["tissue"] - share) < 0.02


def test_a_generic_slide_hides_nothing_but_its_digest_and_is_read_at_the_wanted_level(tmp_path: Path) -> None:
    slide = generic_slide(tmp_path / "a.tiff", piece(1), mpp=0.25, downsamples=(1, 2, 8))
    one = told(inspected(slide.path), "a.tiff")
    assert (one["vendor"], one["objective"], one["mpp0"]) == ("generic-tiff", None, 0.25)
    assert one["hides"]["pictures"] == [] and set(one["hides"]["properties"]) == {"openslide.quickhash-1"}
    assert (one["taken"]["level"], one["taken"]["positions"]) == (1, 3 * 3)


def test_regions_beside_a_slide_of_a_folder_give_the_classes_of_its_tiles(tmp_path: Path) -> None:
    lay(tmp_path, ["a.tiff"])
    write_regions(
        tmp_path / "a.geojson",
        ("tumour", boxed(Box(T, T, 3 * T, 5 * T))),
        ("normal", boxed(Box(3 * T, T, 5 * T, 5 * T))),
    )
    taken = told(inspected(tmp_path), "a.tiff")["taken"]
    assert taken["by_class"] == {"tumour": 8, "normal": 8, "(no class)": 4} and taken["annotated_regions"] == 2
    assert "annotation          2 regions" in inspection_slides.page(inspected(tmp_path))


def test_a_folder_is_told_slide_by_slide_the_broken_ones_too(tmp_path: Path, aperio: Slide) -> None:
    folder = aperio.path.parent
    lay(folder, ["normal/N1_a.tiff", "tumour/T1_a.tiff"])
    generic_slide(folder / "tumour" / "T2_a.tiff", piece(1), mpp=None)
    (folder / "normal" / "broken.svs").write_bytes(aperio.path.read_bytes()[:9000])
    (folder / "normal" / "N1_a.geojson").write_text("{")
    (tmp_path / "table.csv").write_text("file,group\nN1_a,N1\nT1_a,T1\nT2_a,T2\nbroken,N2\nS21-04711,N3\ngone.svs,N4\n")
    found = inspected(folder, table=tmp_path / "table.csv", engine=Threads(2))
    refused = {one["name"]: one["refused"] for one in found["slides"]}
    annotation = refused.pop("normal/N1_a.tiff")
    assert annotation.startswith("its annotation cannot be read (Expecting property name")
    assert refused == {
        "S21-04711.svs": None,
        "normal/broken.svs": "damaged, or not what its name says",
        "tumour/T1_a.tiff": None,
        "tumour/T2_a.tiff": "unknown micrometres per pixel",
    }
    assert found["not_there"] == [["gone.svs", "not there"]]
    assert found["patients"] == 5 and found["labels"] == {"normal": 2, "tumour": 2}
    page = inspection_slides.page(found)
    assert f"{2 * TAKEN - 2} tiles would be read" in page and "gone.svs: not there" in page


def test_previews_lie_apart_though_slides_share_a_name_and_show_where_the_ink_is(tmp_path: Path) -> None:
    source, previews = tmp_path / "in", tmp_path / "previews"
    lay(source, ["x/a.tiff", "y/a.tiff"])
    generic_slide(source / "y" / "b.tiff", inked())
    inspected(source, previews)
    assert sorted(p.relative_to(previews).as_posix() for p in previews.rglob("*.png")) == [
        *("x/a.tiff.png", "y/a.tiff.png", "y/b.tiff.png")
    ]
    with Image.open(previews / "y" / "b.tiff.png") as preview:
        drawn = np.asarray(preview.convert("RGB")).astype(int)
    middle = drawn[2 * T // 4 + 4 : 3 * T // 4 - 4, 2 * T // 4 + 4 : 4 * T // 4 - 4].reshape(-1, 3)
    assert np.abs(np.median(middle, axis=0) - INKS["blue"]).max() < 12


def test_the_command_prints_a_page_or_json_and_draws_previews(tmp_path: Path, aperio: Slide) -> None:
    words = ("inspect", aperio.path.parent, "--size", str(T))
    plain = histodistill(*words, "--previews", tmp_path / "previews")
    assert plain.code == 0 and "MUSTERMANN" in plain.out and f"{TAKEN - 2} tiles would be read" in plain.out
    assert [p.name for p in (tmp_path / "previews").iterdir()] == ["S21-04711.svs.png"]
    as_json = histodistill(*words, "--json", "--mpp", "1")
    assert as_json.code == 0, as_json.err
    found = json.loads(as_json.out)
    assert (found["mpp"], found["tile_px"]) == (1, T) and found["slides"][0]["taken"]["positions"] == 3 * 3


def test_a_folder_without_slides_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UserError, match=r"No slide was found in .*\.svs, \.ndpi"):
        inspected(tmp_path)
