"""What the report says of whole slides: the places add up, and few previews are shown without taste."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reporting import Results, about, make_results

from pipeline import report, report_slides
from stages import images, store

TOLD: dict[str, Any] = {
    "slides": 8,
    "patients": 5,
    "pseudo_patients": False,
    "slides_set_aside": {"empty": 2, "damaged": 1},
    "positions": 1200,
    "background": 900,
    "rejected": {"pen": 12, "over the cap": 150, "no class": 20, "blurred": 30},
    "unlabelled": 10,
    "effective_mpp": [0.4987, 0.5031],
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = make_results(tmp_path)
    tell(found, TOLD)
    for number in range(8):
        shown = np.full((20 + number, 40, 3), 30 * number, np.uint8)
        store.write_bytes(found["tiles"] / "previews" / f"{number:016x}.png", images.png(shown))
    return found


def tell(results: Results, told: dict[str, Any]) -> None:
    path = results["tiles"] / "facts.json"
    store.write_json(path, store.read_json(path) | {"slides": told})


def test_the_places_add_up_to_the_positions(results: Results) -> None:
    found = report_slides.slides(results)
    assert found is not None
    taken = 78  # as `make_results` counts them
    assert [(fate.what, fate.tiles) for fate in found.fates] == [
        *(("background", 900), ("over the cap", 150), ("blurred", 30), ("no class, left out", 20), ("pen", 12)),
        *(("no class, kept for an autoencoder that is trained", 10), ("tiles with a class", taken)),
    ]
    assert sum(fate.tiles for fate in found.fates) == 1200 and sum(fate.share for fate in found.fates) == 1


def test_the_page_tells_slides_patients_scale_and_what_was_set_aside(results: Results) -> None:
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", report.render(results, about(results))))
    for words in (
        "Slides cut into tiles 8 Slides set aside 1: damaged; 2: empty Patients 5 Scale",
        "0.4987 to 0.5031 µm per pixel",
        "What became of the 1,200 places where a tile could lie",
        "blurred 30 2.5%",
        "6 of 8 slides from afar, not picked by eye",
        "Real tissue: not for sharing.",
    ):
        assert words in page, words


def test_at_most_six_previews_are_shown_evenly_chosen_and_nothing_names_them(results: Results) -> None:
    found = report_slides.slides(results)
    assert found is not None and found.available == 8
    assert len({preview.uri for preview in found.previews}) == 6
    page = report.render(results, about(results))
    assert page.count(found.previews[-1].uri) == 1
    assert not re.search(r"\b0{15}[0-9a-f]\b", page)


def test_pieces_that_stand_for_patients_are_called_so_and_one_scale_is_one_number(results: Results) -> None:
    tell(results, TOLD | {"pseudo_patients": True, "effective_mpp": [0.49951, 0.49952], "slides_set_aside": {}})
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", report.render(results, about(results))))
    assert "Slides set aside none Patients 5 pieces of slides that stand for patients Scale" in page
    assert "Scale of the tiles 0.4995 µm per pixel" in page


def test_tiles_from_elsewhere_have_no_such_section(tmp_path: Path) -> None:
    found = make_results(tmp_path)
    assert report_slides.slides(found) is None and report_slides.slides({}) is None
    assert "Whole slides" not in report.render(found, about(found))
