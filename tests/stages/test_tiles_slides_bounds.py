"""Slides whose scanned area lies somewhere on a larger plane, as those of Leica, MIRAX and Ventana do."""

from pathlib import Path

import numpy as np
import pandas as pd
from laid_slides import (
    BARE,
    COHORT,
    HEIGHT,
    LITTLE,
    TAKEN,
    TILE,
    WIDTH,
    boxed,
    coordinates,
    cut_slides,
    lay,
    piece,
    places,
    write_regions,
)
from made_slides import leica_slide
from made_tiles import digests
from painted_tissue import Box
from PIL import Image

from pipeline import inspection_slides
from stages import store
from stages.slide_settings import SlidesSettings
from stages.slide_survey import Asked, survey
from stages.sources import slide_reading

T = TILE
ORIGIN = (302, 201)


def test_the_facts_are_of_what_was_scanned_and_around_it_all_is_white(tmp_path: Path) -> None:
    slide = leica_slide(tmp_path / "a.scn", piece(0), ORIGIN)
    facts = slide_reading.facts(slide.path)
    assert (facts.width, facts.height, facts.origin) == (WIDTH, HEIGHT, ORIGIN) and facts.mpp == 0.5
    seen = slide_reading.region(slide.path, ORIGIN[0] - 10, ORIGIN[1] - 20, 0, 30, 40)
    assert (seen[:20] == 255).all() and (seen[:, :10] == 255).all()
    np.testing.assert_array_equal(seen[20:, 10:], slide.levels[0][:20, :20])


def test_the_thumbnail_is_of_the_scanned_area_alone(tmp_path: Path) -> None:
    slide = leica_slide(tmp_path / "a.scn", piece(0), ORIGIN)
    thumbnail, scale = slide_reading.thumbnail(slide.path, 4)
    assert scale == 4
    np.testing.assert_array_equal(thumbnail, slide.levels[1])


def test_tiles_lie_where_openslide_finds_them_and_are_those_of_the_same_slide_without_a_plane(tmp_path: Path) -> None:
    lay(tmp_path / "plain")
    lay(tmp_path / "slides", COHORT)
    twin = "normal/N1_a.scn"
    (tmp_path / "slides" / COHORT[0]).unlink()
    leica_slide(tmp_path / "slides" / twin, piece(0), ORIGIN)
    plain, out = cut_slides(tmp_path / "a", tmp_path / "plain"), cut_slides(tmp_path / "b", tmp_path / "slides")
    moved, still = coordinates(out, twin), coordinates(plain, COHORT[0])
    assert places(moved) == {(x + ORIGIN[0], y + ORIGIN[1]) for x, y in places(still)} and len(moved) == TAKEN + LITTLE
    same = ["side_px", "mpp", "tissue", "label", "role", "tile_id", "reason"]
    pd.testing.assert_frame_equal(moved[same], still[same])
    assert digests(out)["images/data-00000.arrow"] == digests(plain)["images/data-00000.arrow"]
    told = [store.read_json(folder / "facts.json")["slides"] for folder in (out, plain)]
    assert told[0] == told[1] and told[0]["background"] == BARE * len(COHORT)
    drawn = [sorted(path.read_bytes() for path in (folder / "previews").iterdir()) for folder in (out, plain)]
    assert drawn[0] == drawn[1]


def test_regions_are_counted_from_the_corner_of_what_was_scanned(tmp_path: Path) -> None:
    slide = leica_slide(tmp_path / "a.scn", piece(0), ORIGIN)
    file = write_regions(tmp_path / "a.geojson", ("tumour", boxed(Box(T, T, 2 * T, 5 * T))))
    table = survey(Asked(slide.path, None, file, None), SlidesSettings(tile_px=T)).table
    labelled = table[table["label"] == "tumour"]
    assert set(zip(labelled["x"], labelled["y"], strict=True)) == {
        (T + ORIGIN[0], y * T + ORIGIN[1]) for y in range(1, 5)
    }


def test_pieces_that_play_patients_are_cut_from_the_scanned_area(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    slide = leica_slide(tmp_path / "slides" / "a.scn", piece(0), ORIGIN)
    write_regions(
        slide.path.with_suffix(".geojson"),
        ("top", boxed(Box(0, 0, WIDTH, 3 * T))),
        ("below", boxed(Box(0, 3 * T, WIDTH, HEIGHT))),
    )
    out = cut_slides(tmp_path / "out", tmp_path / "slides", slides={"pseudo_patients": (2, 7), "patient_pattern": None})
    table = coordinates(out, "a.scn").query("reason.isnull()")
    assert len(table) == TAKEN
    column, row = (table["x_px"] - ORIGIN[0]) // T, (table["y_px"] - ORIGIN[1]) // (3 * T)
    assert (table.groupby([column, row])["role"].nunique() == 1).all()
    assert len(pd.read_parquet(out / "groups.parquet")) == 5 * 2


def test_inspect_draws_the_scanned_area_and_tells_the_barcode(tmp_path: Path) -> None:
    slide = leica_slide(tmp_path / "a.scn", piece(0), ORIGIN)
    told = inspection_slides.look(("a.scn", Asked(slide.path, None, None, None)), SlidesSettings(tile_px=T), tmp_path)
    assert told["size_px"] == [WIDTH, HEIGHT] and told["taken"]["tiles"] == TAKEN
    assert told["hides"]["properties"]["leica.barcode"] == "MUSTERMANN^ERIKA"
    assert "leica.creation-date" in told["hides"]["properties"]
    with Image.open(tmp_path / "a.scn.png") as preview:
        drawn = np.asarray(preview.convert("RGB"))[: HEIGHT // 4, : WIDTH // 4]
    np.testing.assert_array_equal(drawn[:10], slide.levels[1][:10])  # no tile lies there
