"""The slide that ships: its annotation fits it, and the painted tissue of other tests costs what its tissue does."""

import io
import json
from pathlib import Path

import numpy as np
import openslide
import pytest
import shapely
from painted_tissue import tissue
from PIL import Image
from shapely.geometry import shape

SLIDE = Path(__file__).resolve().parent.parent / "data" / "sample_slide" / "CMU-1-Small-Region.svs"
TILE_PX = 64


@pytest.fixture(scope="module")
def classes() -> dict[str, list[shapely.Polygon]]:
    features = json.loads(SLIDE.with_suffix(".geojson").read_text())["features"]
    found: dict[str, list[shapely.Polygon]] = {"epithelium": [], "stroma": []}
    for feature in features:
        assert feature["properties"]["objectType"] == "annotation"
        found[feature["properties"]["classification"]["name"]].append(shape(feature["geometry"]))
    return found


@pytest.fixture(scope="module")
def pixels_hwc() -> np.ndarray:
    with openslide.OpenSlide(SLIDE) as file:
        assert file.dimensions == (2220, 2967)
        assert float(file.properties["openslide.mpp-x"]) == 0.499
        return np.asarray(file.read_region((0, 0), 0, file.dimensions).convert("RGB"))


def tiles_of(polygons: list[shapely.Polygon], least: float) -> list[tuple[int, int]]:
    """Upper left corners of the tiles that have at least this share inside the polygons."""
    x, y = np.meshgrid(np.arange(0, 2220 - TILE_PX + 1, TILE_PX), np.arange(0, 2967 - TILE_PX + 1, TILE_PX))
    squares = shapely.box(x.ravel(), y.ravel(), x.ravel() + TILE_PX, y.ravel() + TILE_PX)
    shares = shapely.area(shapely.intersection(squares, shapely.union_all(polygons))) / TILE_PX**2
    return [(int(a), int(b)) for a, b in zip(x.ravel()[shares >= least], y.ravel()[shares >= least], strict=True)]


def test_every_polygon_is_valid_and_lies_in_the_slide(classes: dict[str, list[shapely.Polygon]]) -> None:
    frame = shapely.box(0, 0, 2220, 2967)
    assert [len(polygons) for polygons in classes.values()] == [3, 7]
    for polygon in [*classes["epithelium"], *classes["stroma"]]:
        assert polygon.is_valid and frame.covers(polygon)
    assert any(polygon.interiors for polygon in classes["epithelium"])


def test_no_pixel_has_two_classes(classes: dict[str, list[shapely.Polygon]]) -> None:
    every = [*classes["epithelium"], *classes["stroma"]]
    assert shapely.union_all(every).area == pytest.approx(sum(polygon.area for polygon in every), abs=1)


def test_there_are_as_many_tiles_as_the_readme_says(classes: dict[str, list[shapely.Polygon]]) -> None:
    counts = [len(tiles_of(classes[name], 0.5)) for name in ("epithelium", "stroma")]
    assert counts == [149, 280]
    text = (SLIDE.parent / "README.md").read_text()
    assert all(f"{count}" in text for count in counts)


def test_tiles_of_epithelium_are_purple_and_those_of_stroma_pink(
    classes: dict[str, list[shapely.Polygon]], pixels_hwc: np.ndarray
) -> None:
    """A swapped or shifted annotation fails: of a tile of each, stroma's is the redder one in 99 of 100 pairs."""
    redness = {}
    for name, polygons in classes.items():
        tiles = [pixels_hwc[y : y + TILE_PX, x : x + TILE_PX].astype(float) for x, y in tiles_of(polygons, 0.75)]
        redness[name] = np.array([(tile[..., 0] - tile[..., 2]).mean() for tile in tiles])
    assert (redness["stroma"][:, None] > redness["epithelium"]).mean() > 0.98


def test_painted_tissue_costs_png_what_real_tissue_does(pixels_hwc: np.ndarray) -> None:
    real = np.median([png_bytes(pixels_hwc[y : y + 256, 1000:1256]) for y in range(1024, 2700, 256)])
    assert png_bytes(tissue()[:256, :256]) == pytest.approx(real, rel=0.2)


def png_bytes(tile_hwc: np.ndarray) -> int:
    buffer = io.BytesIO()
    Image.fromarray(tile_hwc).save(buffer, "PNG", compress_level=1)
    return buffer.getbuffer().nbytes
