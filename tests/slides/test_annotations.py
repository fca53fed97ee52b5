"""Annotations: QuPath's forms are read, shares of tiles are exact, ties and overlaps have one answer."""

import math
from typing import Any

import numpy as np
import pytest
import shapely

from stages.slides.annotations import Region, labels_of, regions, shares, unclassified


def ring(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(properties: dict[str, Any], *rings: list[list[float]], kind: str = "Polygon") -> dict[str, Any]:
    coordinates: list[Any] = list(rings) if kind == "Polygon" else [[r] for r in rings]
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def classed(name: str) -> dict[str, Any]:
    return {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}}


def rectangle(name: str, x0: float, y0: float, x1: float, y1: float) -> Region:
    return Region(name, shapely.box(x0, y0, x1, y1))


def grid(n: int, side: int) -> np.ndarray:
    return np.array([[x * side, y * side] for y in range(n) for x in range(n)])


def share_of(name: str, found: list[Region], positions: Any, side: int) -> list[float]:
    names, share_nk = shares(found, np.asarray(positions), side)
    return share_nk[:, names.index(name)].tolist()


SQUARE = ring(0, 0, 10, 10)


def test_rectangles_cover_exact_shares() -> None:
    found = regions([feature(classed("tumour"), ring(5, 2, 25, 10))])
    assert share_of("tumour", found, [[0, 0], [10, 0], [20, 0], [30, 0], [0, 10]], 10) == [0.4, 0.8, 0.4, 0, 0]


def test_a_hole_is_not_covered() -> None:
    found = regions([feature(classed("tumour"), ring(0, 0, 30, 30), ring(12, 12, 17, 18))])
    assert share_of("tumour", found, [[0, 0], [10, 10], [20, 20]], 10) == [1, 0.7, 1]


def test_a_square_on_its_corner_covers_what_geometry_says() -> None:
    diamond = [[10, 0], [20, 10], [10, 20], [0, 10], [10, 0]]
    found = regions(feature(classed("a"), diamond))
    assert share_of("a", found, grid(2, 10), 10) == [0.5] * 4
    assert share_of("a", found, [[5, 5], [0, 5], [8, 8]], 10) == [
        1.0,
        0.75,
        0.82,
    ]  # less corners: 2 of 5²/2, 1 of 6²/2


def test_a_turned_square_in_a_large_tile_covers_its_own_area() -> None:
    for turn in np.linspace(0, 90, 19):
        square = shapely.affinity.rotate(shapely.box(40, 40, 60, 60), turn)
        assert share_of("a", [Region("a", square)], [[0, 0]], 100) == pytest.approx([0.04], abs=1e-9)


def test_a_long_outline_cut_in_pieces_covers_as_much_as_each_tile_cut_by_itself() -> None:
    angle = np.linspace(0, 2 * math.pi, 5000, endpoint=False)
    radius = 300 * (1 + 0.3 * np.sin(17 * angle))
    shape = shapely.Polygon(500 + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None])
    shape = shape.difference(shapely.Point(480, 510).buffer(70))
    positions = np.random.default_rng(0).integers(0, 950, (300, 2))
    expected = [shape.intersection(shapely.box(x, y, x + 40, y + 40)).area / 1600 for x, y in positions.tolist()]
    np.testing.assert_allclose(share_of("a", [Region("a", shape)], positions, 40), expected, atol=2e-9)
    assert min(expected) == 0 and max(expected) > 1 - 1e-9
    assert 1.0 in share_of("a", [Region("a", shape)], positions, 40)


def test_the_class_that_covers_more_names_the_tile() -> None:
    found = [rectangle("stroma", 0, 0, 6, 10), rectangle("tumour", 5, 0, 20, 10)]
    assert labels_of(found, grid(2, 10), 10, 0.5) == ["stroma", "tumour", None, None]
    assert labels_of(found, np.array([[2, 0], [3, 0]]), 10, 0.5) == ["tumour", "tumour"]


def test_overlaps_within_a_class_count_once() -> None:
    twice = [rectangle("b", 0, 0, 4, 10), rectangle("b", 0, 0, 4, 10), rectangle("b", 2, 0, 4, 10)]
    assert share_of("b", twice, [[0, 0]], 10) == [0.4]
    assert labels_of([*twice, rectangle("c", 5, 0, 10, 10)], np.array([[0, 0]]), 10, 0.1) == ["c"]


def test_a_share_of_exactly_the_least_is_enough_and_less_is_not() -> None:
    found = [rectangle("a", 0, 0, 3, 10)]
    tile = np.array([[0, 0]])
    assert labels_of(found, tile, 10, 0.3) == ["a"]
    assert labels_of(found, tile, 10, 0.301) == [None]


def test_a_tie_goes_to_the_alphabetically_first_whatever_the_order() -> None:
    found = [rectangle("b", 0, 0, 5, 10), rectangle("a", 5, 0, 10, 10), rectangle("c", 0, 0, 5, 10)]
    for order in (found, found[::-1]):
        assert labels_of(order, np.array([[0, 0]]), 10, 0.5) == ["a"]


def test_a_tie_of_broken_numbers_is_a_tie() -> None:
    third = 10 / 3
    found = [rectangle("b", 0, 0, third, 10), Region("a", shapely.Polygon([(third, 0), (10, 0), (10, 5), (third, 5)]))]
    assert labels_of(found, np.array([[0, 0]]), 10, 0) == ["a"]


def test_a_tile_nothing_touches_has_no_class_even_when_nothing_is_asked() -> None:
    assert labels_of([rectangle("a", 0, 0, 10, 10)], np.array([[10, 0], [50, 50]]), 10, 0.0) == [None, None]
    assert labels_of([], grid(2, 10), 10, 0.0) == [None] * 4
    assert labels_of([rectangle("a", 0, 0, 10, 10)], np.zeros((0, 2), np.int64), 10, 0.5) == []


def test_a_multipolygon_is_one_region_and_covers_all_its_parts() -> None:
    both = feature(classed("a"), ring(0, 0, 10, 5), ring(20, 0, 30, 10), kind="MultiPolygon")
    found = regions([both])
    assert [region.name for region in found] == ["a"]
    assert share_of("a", found, [[0, 0], [10, 0], [20, 0]], 10) == [0.5, 0, 1]


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        (classed("Tumor"), "Tumor"),
        ({"classification": {"name": "Tumor", "colorRGB": -3670016}, "isLocked": False}, "Tumor"),
        ({"classification": {"names": ["Tumor", "Positive"]}}, "Tumor: Positive"),
        ({"classification": "Tumor"}, "Tumor"),
        ({"name": "my third one", "classification": {"name": "Tumor"}}, "Tumor"),
    ],
)
def test_every_form_of_a_class_that_qupath_wrote_is_read(properties: dict[str, Any], name: str) -> None:
    assert [region.name for region in regions([feature(properties, SQUARE)])] == [name]


def test_features_without_a_class_are_left_out_and_counted() -> None:
    without = [
        feature({}, SQUARE),
        {**feature({}, SQUARE), "properties": None},
        feature({"classification": {}}, SQUARE),
        feature({"name": "ROI of Erika Mustermann", "classification": None}, SQUARE),
    ]
    collection = {"type": "FeatureCollection", "features": [*without, feature(classed("a"), SQUARE)]}
    assert [region.name for region in regions(collection)] == ["a"]
    assert unclassified(collection) == 4


def test_a_collection_a_list_and_a_single_feature_say_the_same() -> None:
    one = feature(classed("a"), SQUARE)
    for given in (one, [one], {"type": "FeatureCollection", "features": [one]}):
        (region,) = regions(given)
        assert region.name == "a" and region.shape.equals(shapely.box(0, 0, 10, 10))


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "MultiPoint", "coordinates": [[1, 2]]},
        {"type": "LineString", "coordinates": [[1, 2], [3, 4]]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [9, 9], [0, 0]]]},
    ],
)
def test_what_has_no_area_is_left_out(geometry: Any) -> None:
    assert regions([{"type": "Feature", "geometry": geometry, "properties": classed("a")}]) == []


def test_a_ring_that_crosses_itself_is_mended_and_keeps_both_lobes() -> None:
    eight = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
    (region,) = regions([feature(classed("a"), eight)])
    assert region.shape.is_valid and region.shape.area == 50


def test_polygons_in_a_collection_of_geometries_and_heights_are_understood() -> None:
    flat = {"type": "Polygon", "coordinates": [[[*corner, 7.0] for corner in SQUARE]]}
    mixed = {"type": "GeometryCollection", "geometries": [flat, {"type": "Point", "coordinates": [50, 50]}]}
    (region,) = regions([{"type": "Feature", "geometry": mixed, "properties": classed("a")}])
    assert region.shape.equals(shapely.box(0, 0, 10, 10)) and not region.shape.has_z


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [2, 2], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [math.nan, 1], [2, 0], [0, 0]]]},
        {"type": "Polygon", "coordinates": 5},
        {"type": "Ellipse", "coordinates": [[[0, 0], [1, 1]]]},
        "Polygon",
    ],
)
def test_a_broken_geometry_is_refused_by_its_number(geometry: Any) -> None:
    broken = {"type": "Feature", "geometry": geometry, "properties": classed("a")}
    with pytest.raises(ValueError, match="feature 1 of the annotations .* broken geometry"):
        regions([feature(classed("a"), SQUARE), broken])


@pytest.mark.parametrize("given", [{"type": "Topology"}, {"features": 3}, "text", {"type": "FeatureCollection"}])
def test_what_is_no_collection_is_refused_with_what_to_do(given: Any) -> None:
    with pytest.raises(ValueError, match="Export objects as GeoJSON"):
        regions(given)


def test_a_list_of_something_else_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="feature 1 of the annotations"):
        regions([feature(classed("a"), SQUARE), 7])
