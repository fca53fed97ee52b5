"""The explorer in a real browser: what a pathologist does, from the first look to the list the selection obeys."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import Page, browser
from PIL import Image
from planted_candidates import SETTINGS, Results, explorable, select

from pipeline import explorer
from stages import images

TALLY = "document.getElementById('count').textContent"
SAID = "document.getElementById('said').textContent"
FOCUSED = "document.activeElement.dataset.i"
PICTURE = "document.querySelector('#tip canvas').toDataURL()"
REASON = 'not tissue; "odd", blurred'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return explorable(tmp_path_factory.mktemp("explorable"))


@pytest.fixture(scope="module")
def written(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    path.write_text(explorer.render(results, "planted", "ab" * 32, "tiny"), encoding="utf-8")
    return path


@pytest.fixture
def page(written: Path, tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path, "--window-size=1400,1000") as page:
        page.open(written.as_uri())
        yield page
        assert page.complaints() == []


@pytest.fixture(scope="module")
def data(written: Path) -> dict[str, Any]:
    text = written.read_text(encoding="utf-8")
    return dict(json.loads(text.partition('id="data">')[2].partition("</script>")[0]))


def filter_class(page: Page, first_letter: str) -> None:
    page.evaluate("document.getElementById('class').focus()")
    page.press(first_letter)


def on_the_map(page: Page, data: dict[str, Any], tile: int, shown: list[int]) -> tuple[float, float]:
    """Where a tile lies in the window while the map shows all of `shown`, by the map's own rule."""
    page.evaluate("document.getElementById('map').scrollIntoView({block: 'center'})")
    x, y, wide, high = page.evaluate("(b => [b.x, b.y, b.width, b.height])(map.getBoundingClientRect())")
    xs, ys = [data["x"][i] for i in shown], [data["y"][i] for i in shown]
    scale = 0.94 * min(wide / (max(xs) - min(xs)), high / (max(ys) - min(ys)))
    right = (data["x"][tile] - (max(xs) + min(xs)) / 2) * scale + wide / 2
    return x + right, y + (data["y"][tile] - (max(ys) + min(ys)) / 2) * scale + high / 2


def test_a_veto_goes_from_a_click_into_the_next_selection(
    page: Page, data: dict[str, Any], results: Results, tmp_path: Path
) -> None:
    filter_class(page, "b")
    names = page.evaluate("[...document.querySelectorAll('.community .name')].map(one => one.textContent)")
    assert names == [f"b · {number}" for number in range(6)]

    of_b = [i for i, label in enumerate(data["label"]) if label == 1]
    other = next(i for i in of_b if data["community"][i] == 2)
    page.click_at(*on_the_map(page, data, other, of_b))
    assert page.evaluate("document.getElementById('tiles-h').textContent") == "b · 2"
    page.click("#communities button:nth-child(4)")
    assert page.evaluate("document.getElementById('detail-h').textContent") != f"Tile {data['id'][other]}"
    members = [i for i in of_b if data["community"][i] == 3]
    shown = page.evaluate("[...document.querySelectorAll('#tiles .tile')].map(one => Number(one.dataset.i))")
    assert shown == members == sorted(members, key=lambda i: -data["centrality"][i])

    veto = next(i for i in members if data["rank"][i] >= 0)
    page.click(f"#tiles .tile[data-i='{veto}']")
    page.press("x")
    page.press("Enter")
    page.write(REASON)
    page.press("Enter")
    assert page.evaluate(FOCUSED) == str(veto)
    page.press("ArrowRight")
    page.press("k")
    assert page.evaluate(TALLY) == "1 left out, 1 kept; 1 without a reason."

    path = page.download("#save-exclude", "exclude.csv")
    assert path.read_text() == f'tile_id,reason\n{data["id"][veto]},"not tissue; ""odd"", blurred"\n'
    before = images.read_table(results["selection/planted"] / "images")[0]["tile_id"]
    out = select(results, tmp_path / "out", SETTINGS.model_copy(update={"exclude": path}))
    after = images.read_table(out / "images")[0]["tile_id"]
    assert data["id"][veto] in set(before) and data["id"][veto] not in set(after) and len(after) == len(before)
    reasons = pd.read_parquet(out / "communities.parquet")["reason"]
    assert reasons[reasons.str.startswith("left out")].tolist() == [f"left out by hand: {REASON}"]


def test_marks_survive_a_reload_and_a_list_can_be_read_back_in(
    page: Page, data: dict[str, Any], written: Path, tmp_path: Path
) -> None:
    page.click("#communities button")
    page.click("#tiles .tile")
    page.press("k")
    page.open(written.as_uri())
    assert page.evaluate(TALLY) == "0 left out, 1 kept; 1 without a reason."
    lines = ["tile_id;reason", f'{data["id"][7]};"a; ""b"""', f"{data['id'][9]};", "feedfeedfeedfeed;gone"]
    (tmp_path / "given.csv").write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    page.give_file("#read-exclude", tmp_path / "given.csv")
    page.until(f"{TALLY}.startsWith('2 left out')")
    told = page.evaluate("document.getElementById('told').textContent")
    assert told == "2 tiles read; 1 are no candidates of this selection and were not taken."
    path = page.download("#save-exclude", "exclude.csv")
    assert path.read_text() == f'tile_id,reason\n{data["id"][7]},"a; ""b"""\n{data["id"][9]},\n'


def test_pointing_at_a_tile_shows_it_and_says_what_it_is(page: Page, data: dict[str, Any], results: Results) -> None:
    tile = next(i for i in range(96) if data["rank"][i] == 0)
    page.mouse("mouseMoved", *on_the_map(page, data, tile, list(range(96))))
    page.until("!document.getElementById('tip').hidden")
    said = page.evaluate("document.querySelector('#tip span').textContent")
    name, community = data["classes"][data["label"][tile]], data["community"][tile]
    assert said == f"{name} · community {community} · centrality {data['centrality'][tile]} · rank 1"
    pixels = images.read(results["candidates"] / "images", tile_id=data["id"][tile]).pixels_nhwc[0]
    page.until(f"{PICTURE}.length > 150")  # an empty one has fewer letters
    picture = Image.open(io.BytesIO(base64.b64decode(page.evaluate(PICTURE).partition(",")[2]))).convert("RGB")
    assert np.abs(np.asarray(picture).mean((0, 1)) - pixels.mean((0, 1))).max() < 12
    page.mouse("mouseMoved", 3, 3)
    page.until("document.getElementById('tip').hidden")


def test_the_keyboard_alone_is_enough(page: Page, data: dict[str, Any]) -> None:
    page.evaluate("document.getElementById('map').focus()")
    page.press("ArrowRight")
    first = page.evaluate(SAID)
    page.press("ArrowRight")
    assert first and page.evaluate(SAID) not in ("", first)
    page.press("x")
    assert page.evaluate(TALLY).startswith("1 left out, 0 kept")
    page.press("x")
    assert page.evaluate(TALLY).startswith("0 left out, 0 kept")
    page.press("Enter")
    start = int(page.evaluate(FOCUSED))
    page.press("ArrowLeft" if start > 0 and data["community"][start - 1] == data["community"][start] else "ArrowRight")
    assert abs(int(page.evaluate(FOCUSED)) - start) == 1
    page.press("x")
    page.press("k")
    assert page.evaluate(TALLY).startswith("0 left out, 1 kept")


def test_a_tile_is_found_by_the_first_digits_of_its_id(page: Page, data: dict[str, Any]) -> None:
    page.click("#find")
    page.write(data["id"][50][:9])
    assert page.evaluate("document.getElementById('found').textContent") == "1 found"
    page.press("Enter")
    assert page.evaluate("document.getElementById('detail-h').textContent") == f"Tile {data['id'][50]}"


@pytest.mark.parametrize("width", [400, 700, 1400])
def test_the_page_is_no_wider_than_its_window_also_at_twice_the_size(page: Page, width: int) -> None:
    sizes = {"width": width, "height": 900, "deviceScaleFactor": 2, "mobile": False}
    page.ask("Emulation.setDeviceMetricsOverride", **sizes)
    page.click("#communities button")
    page.click("#leave")
    assert page.evaluate(TALLY).startswith("1 left out")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_browser_that_keeps_nothing_says_so_and_the_marks_still_work(written: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as page:  # a page without an origin of its own has no storage
        page.open("data:text/html;base64," + base64.b64encode(written.read_bytes()).decode())
        page.click("#communities button")
        page.click("#leave")
        assert "download the lists before you close it" in page.evaluate("document.querySelector('#unkept').innerText")
        assert page.evaluate(TALLY).startswith("1 left out")
        assert page.download("#save-exclude", "exclude.csv").read_text().count("\n") == 2


def test_a_browser_refuses_what_was_smuggled_in(written: Path, tmp_path: Path) -> None:
    smuggled = "<script>document.title = 'smuggled'</script><img src='https://example.org/x.png' alt=''></body>"
    path = tmp_path / "page.html"
    path.write_text(written.read_text(encoding="utf-8").replace("</body>", smuggled), encoding="utf-8")
    with browser(tmp_path) as page:
        page.open(path.as_uri())
        assert len(page.complaints()) == 2
        assert page.evaluate("document.title") != "smuggled"
