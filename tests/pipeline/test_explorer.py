"""The explorer's page: what is in it, and what is not."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planted_candidates import SETTINGS, Results, candidates_of, explorable
from reporting import Tags
from telling import TINY, histodistill

from pipeline import explorer
from stages import images

DIGEST = "ab" * 32


def render(results: Results, at_most: int = explorer.TILES_AT_MOST) -> str:
    return explorer.render(results, "planted", DIGEST, "tiny", at_most)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def sheets_of(page: str) -> list[np.ndarray]:
    uris = re.findall(r'<script type="text/plain" class="sheet">(.*?)</script>', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) for uri in uris]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return explorable(tmp_path_factory.mktemp("explorable"))


@pytest.fixture(scope="module")
def page(results: Results) -> str:
    return render(results)


def test_every_candidate_is_there_with_what_the_selection_says_of_it(results: Results, page: str) -> None:
    data = data_of(page)
    table, _ = images.read_table(results["candidates"] / "images")
    frame = pd.read_parquet(results["selection/planted"] / "communities.parquet").assign(tile_id=table["tile_id"])
    chosen = images.read_table(results["selection/planted"] / "images")[0].set_index("tile_id")["rank"]
    wanted = frame.set_index("tile_id")
    assert sorted(data["id"]) == sorted(table["tile_id"])
    assert data["label"] == wanted.loc[data["id"], "label"].tolist()
    assert data["community"] == wanted.loc[data["id"], "community"].tolist()
    assert data["centrality"] == pytest.approx(wanted.loc[data["id"], "centrality"].tolist(), rel=1e-3)
    assert data["rank"] == [int(chosen.get(one, -1)) for one in data["id"]]
    assert [data["reasons"][k] for k in data["reason"]] == wanted.loc[data["id"], "reason"].tolist()
    assert (data["selection"], data["digest"], data["classes"], data["available"]) == (
        "planted",
        DIGEST,
        ["a", "b"],
        96,
    )


def test_a_community_is_a_run_of_neighbours_by_centrality(page: str) -> None:
    data = data_of(page)
    keys = list(zip(data["label"], data["community"], [-value for value in data["centrality"]], strict=True))
    assert keys == sorted(keys)


def test_the_map_keeps_its_shape_and_points_up(results: Results, page: str) -> None:
    data = data_of(page)
    plane = pd.read_parquet(results["embedding"] / "map.parquet")
    tile_ids = images.read_table(results["candidates"] / "images")[0]["tile_id"]
    xy = plane.set_index(tile_ids)[["x", "y"]].loc[data["id"]].to_numpy() * [1, -1]
    found = np.array([data["x"], data["y"]], float).T
    scale = np.ptp(xy, axis=0).max() / explorer.PLANE
    np.testing.assert_allclose(found * scale - found[0] * scale, xy - xy[0], atol=scale)


def test_every_tile_has_its_own_thumbnail(tmp_path: Path) -> None:
    grey = np.arange(2, 255, 2)
    pixels = np.repeat(grey, 16 * 16 * 3).reshape(-1, 16, 16, 3).astype(np.uint8)
    columns = {"index": np.arange(len(grey))}
    images.write(tmp_path, images.make(pixels, np.zeros(len(grey), int), ["a"], columns))
    rows = np.random.default_rng(0).permutation(len(grey))
    found = explorer.sheets(tmp_path, rows)
    assert (found.edge_px, found.across, len(found.uris)) == (16, 96, 1)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.uris[0].partition(",")[2]))).convert("L"))
    middles = sheet[8::16, 8::16].ravel()[: len(rows)].astype(int)
    assert np.abs(middles - grey[rows]).max() <= 2


def test_thumbnails_shrink_so_that_the_page_stays_within_bounds() -> None:
    assert [explorer.edge_px(n, 224) for n in (100, 2000, 5000, 20_000, 50_000)] == [128, 128, 96, 48, 48]
    assert [explorer.edge_px(600, size) for size in (28, 64, 224)] == [28, 64, 128]


def test_of_too_many_candidates_the_chosen_and_the_pinned_stay(results: Results, tmp_path: Path) -> None:
    data = data_of(render(results, at_most=40))
    everyone = data_of(render(results))
    chosen = {one for one, rank in zip(everyone["id"], everyone["rank"], strict=True) if rank >= 0}
    assert len(data["id"]) == 40 and chosen <= set(data["id"]) and data["available"] == 96
    assert len(data_of(render(results, at_most=3))["id"]) == 20
    assert "This page shows 40 of them" in render(results, at_most=40)


def test_pins_of_the_selection_are_the_marks_the_page_begins_with(tmp_path: Path) -> None:
    tile_ids = candidates_of(np.random.default_rng(0))[0].table["tile_id"].tolist()
    (tmp_path / "x.csv").write_text(f"tile_id,reason\n{tile_ids[3]},not tissue\n{tile_ids[60]},\n")
    (tmp_path / "k.csv").write_text(f"tile_id,reason\n{tile_ids[5]},typical\n")
    given = {"exclude": tmp_path / "x.csv", "keep": tmp_path / "k.csv"}
    data = data_of(render(explorable(tmp_path / "in", SETTINGS.model_copy(update=given))))
    assert sorted(data["pins"]) == sorted(
        [["exclude", tile_ids[3], "not tissue"], ["exclude", tile_ids[60], ""], ["keep", tile_ids[5], "typical"]]
    )


def test_the_page_says_that_it_shows_synthetic_tiles_alone(page: str) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<(style|script).*?</\1>", " ", page, flags=re.DOTALL)))
    assert "Synthetic tiles only: every picture here was drawn by a model." in text[:400]


def test_every_picture_is_one_of_a_candidate(results: Results, page: str) -> None:
    """Thumbnails are the candidates, in the order of the data; there is no other picture and no other source of one."""
    data, (sheet,) = data_of(page), sheets_of(page)
    pixels = images.read(results["candidates"] / "images")
    by_id = dict(zip(pixels.table["tile_id"], pixels.pixels_nhwc, strict=True))
    edge, across = data["edge"], data["across"]
    assert sheet.shape[0] * sheet.shape[1] >= 96 * edge**2 and page.count("data:image/") == 1
    for place, one in enumerate(data["id"]):
        top, left = place // across * edge, place % across * edge
        near = np.abs(sheet[top : top + edge, left : left + edge].mean((0, 1)) - by_id[one].mean((0, 1)))
        assert near.max() < 12, one
    assert not [tag for tag, _ in Tags(page).tags if tag in ("img", "svg", "picture", "iframe", "object", "video")]


def test_the_page_refers_to_nothing_outside_and_names_no_path(results: Results, page: str) -> None:
    tags = Tags(page).tags
    links = [str(a[name]) for _, a in tags for name in ("src", "href", "srcset", "data", "action") if name in a]
    assert links == ["data:,"]
    bare = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"https?:|file:|//[a-z]+\.|url\(|@import|fetch\(|XMLHttp|WebSocket|sendBeacon", bare)
    for folder in results.values():
        assert str(folder) not in page and folder.parent.name not in page
    policy = next(str(a["content"]) for _, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy


def test_hostile_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    hostile = ("</script><script>alert(1)</script>", "<!--<script>\"'&\u2028")
    page = render(explorable(tmp_path, classes=hostile))
    assert tuple(data_of(page)["classes"]) == hostile
    kinds = [a.get("type") for tag, a in Tags(page).tags if tag == "script"]
    assert kinds == ["text/plain", "application/json", None]
    assert "alert(1)</script><" not in page and "<!--" not in page


def test_equal_results_give_an_equal_page(results: Results, page: str) -> None:
    assert render(results) == page


def test_the_command_writes_the_page_of_a_sealed_selection_and_refuses_others(tiny_root: Path, tmp_path: Path) -> None:
    told = histodistill("explore", TINY, "random", "--out", tmp_path / "page.html", root=tiny_root)
    assert told.code == 0, told.err
    written = (tmp_path / "page.html").read_text()
    assert data_of(written)["selection"] == "random" and len(data_of(written)["id"]) == 36
    assert str(tiny_root) not in written
    assert "Did you mean selection/random" in histodistill("explore", TINY, "randm", root=tiny_root).err
    stale = histodistill("explore", TINY, "random", "--set", "selections.random.per_class=4", root=tiny_root)
    assert stale.code == 2 and "selection/random is stale" in stale.err and "--until selection/random" in stale.err
