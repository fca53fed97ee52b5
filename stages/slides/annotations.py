"""What a pathologist drew in QuPath (or anything that writes its GeoJSON), and which class each tile gets by it.

Areas are exact, of polygons with holes; shapes are in level-0 pixels, as QuPath exports them.
Shapes: n tiles, k classes, p pairs of a part of an annotation and a tile it touches.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import shape as to_shape

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

AREAL = ("Polygon", "MultiPolygon", "GeometryCollection")
WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
DIGITS = 9
"""Shares are compared to so many digits: what is equal on paper ties, whatever the order of the sums."""
MOST_CORNERS = 64
"""Larger polygons are cut in pieces first: otherwise each tile on a long outline pays for the whole of it."""


class Region(NamedTuple):
    """One annotated region of one class."""

    name: str
    """The class."""
    shape: shapely.Geometry
    """Polygon or MultiPolygon, valid, in level-0 pixels."""


def regions(collection: Mapping[str, Any] | Sequence[Any]) -> list[Region]:
    """The regions with a class, in the order of the file.

    Points, lines, features without a class and features without an area are left out; see `unclassified`. Rings that
    cross themselves are mended (shapely's make_valid: both lobes of an eight are kept).

    Args:
        collection: GeoJSON as parsed: a FeatureCollection, a list of features, or one feature.

    Raises:
        ValueError: no such thing, or a feature with a class has a broken geometry; says which, counted from 0.
    """
    found = []
    for index, feature in enumerate(_features(collection)):
        name = _class_of(feature)
        area = _area(feature.get("geometry"), index) if name else None
        if name and area is not None:
            found.append(Region(name, area))
    return found


def unclassified(collection: Mapping[str, Any] | Sequence[Any]) -> int:
    """How many features have no class.

    Raises:
        ValueError: as `regions`, when it is no collection.
    """
    return sum(_class_of(feature) is None for feature in _features(collection))


def _features(collection: Mapping[str, Any] | Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    """The features of a collection, a list or a single one."""
    features: Any = collection
    if isinstance(collection, Mapping):
        kind = collection.get("type")
        features = [collection] if kind == "Feature" else collection.get("features")
    if not isinstance(features, Sequence) or isinstance(features, str):
        raise ValueError(
            "the annotations are no GeoJSON FeatureCollection, list of features or feature. In QuPath: File, Export "
            "objects as GeoJSON."
        )
    for index, feature in enumerate(features):
        if not isinstance(feature, Mapping) or feature.get("type", "Feature") != "Feature":
            raise ValueError(
                f"feature {index} of the annotations (counted from 0) is no GeoJSON feature: {feature!r:.80}"
            )
    return features


def _class_of(feature: Mapping[str, Any]) -> str | None:
    """The class: classification.name, .names (several, joined as QuPath shows them), or a bare string.

    The annotation's own name is no class, even where there is none: people write into it what they like, patients too.
    """
    properties = feature.get("properties")
    if not isinstance(properties, Mapping):
        return None
    given = properties.get("classification")
    if isinstance(given, Mapping):
        given = given.get("name") or ": ".join(map(str, given.get("names") or []))
    return str(given).strip() or None if given else None


def _area(geometry: Any, index: int) -> shapely.Geometry | None:
    """The polygons of a geometry, valid and flat; None when it has none.

    Raises:
        ValueError: it cannot be understood.
    """
    kind = geometry.get("type") if isinstance(geometry, Mapping) else geometry
    if kind is None or kind in WITHOUT_AREA:
        return None
    try:
        if kind not in AREAL:
            raise ValueError(f"it is of type {kind!r:.40}")
        with np.errstate(invalid="ignore"):  # what is not finite is refused below
            made = shapely.force_2d(to_shape(geometry))
        if not np.isfinite(shapely.get_coordinates(made)).all():
            raise ValueError("a coordinate is no finite number")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ValueError(
            f"feature {index} of the annotations (counted from 0) has a broken geometry: {error}. Wanted is a Polygon "
            "or MultiPolygon of closed rings; mend or delete it in QuPath and export again."
        ) from error
    polygons = _polygons(shapely.make_valid(made))
    return shapely.union_all(polygons) if len(polygons) else None


def _polygons(geometry: shapely.Geometry) -> npt.NDArray[Any]:
    """The polygons a geometry consists of; lines and points are left behind."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    polygons: npt.NDArray[Any] = parts[(shapely.get_type_id(parts) == 3) & ~shapely.is_empty(parts)]
    return polygons


def labels_of(regions: Sequence[Region], positions_n2: Ints, side0_px: int, least: float) -> list[str | None]:
    """The class that covers most of each tile, when it covers at least `least` of it; None otherwise.

    Regions of one class that overlap count once. Where two classes cover the same share, the alphabetically first is
    taken. A tile that no class touches has none, even when `least` is 0.

    Args:
        regions: of any classes, in level-0 pixels.
        positions_n2: x, y of the tiles' upper left corners, at level 0.
        side0_px: their side, at level 0.
        least: share of the tile, 0 … 1.
    """
    names, share_nk = shares(regions, positions_n2, side0_px)
    if not names:
        return [None] * len(positions_n2)
    best_n = share_nk.argmax(axis=1)
    top_n = share_nk.max(axis=1)
    labelled_n = (top_n > 0) & (top_n >= round(least, DIGITS))
    return [names[best] if labelled else None for best, labelled in zip(best_n, labelled_n, strict=True)]


def shares(regions: Sequence[Region], positions_n2: Ints, side0_px: int) -> tuple[list[str], Floats]:
    """The classes, sorted, and the share of each tile that each covers, n × k."""
    names = sorted({region.name for region in regions})
    corner_n2 = np.asarray(positions_n2, np.float64).reshape(-1, 2)
    far_n2 = corner_n2 + side0_px
    tiles = shapely.STRtree(shapely.box(corner_n2[:, 0], corner_n2[:, 1], far_n2[:, 0], far_n2[:, 1]))
    area_nk = np.zeros((len(corner_n2), len(names)))
    for k, name in enumerate(names):
        united = shapely.union_all([region.shape for region in regions if region.name == name])
        area_nk[:, k] = _covered(_in_pieces(_polygons(united), side0_px), tiles, side0_px)
    return names, np.round(area_nk / side0_px**2, DIGITS)


def _in_pieces(parts: npt.NDArray[Any], side0_px: int) -> npt.NDArray[Any]:
    """The same area in polygons of few corners, or no larger than a tile: halved as often as it takes."""
    done = [parts[:0]]
    while len(parts):
        box_p4 = shapely.bounds(parts)
        extent_p = (box_p4[:, 2:] - box_p4[:, :2]).max(axis=1)
        long = (shapely.get_num_coordinates(parts) > MOST_CORNERS) & (extent_p > side0_px)
        done.append(parts[~long])
        parts = _halved(parts[long], box_p4[long])
    return np.concatenate(done)


def _halved(parts: npt.NDArray[Any], box_p4: Floats) -> npt.NDArray[Any]:
    """Each polygon, cut across the middle of its longer side."""
    left, top, right, below = box_p4.T
    wide = right - left >= below - top
    x, y = np.where(wide, (left + right) / 2, right), np.where(wide, below, (top + below) / 2)
    first = shapely.box(left, top, x, y)
    second = shapely.box(np.where(wide, x, left), np.where(wide, top, y), right, below)
    return _polygons(shapely.intersection(np.tile(parts, 2), np.concatenate([first, second])))


def _covered(parts: npt.NDArray[Any], tiles: shapely.STRtree, side0_px: int) -> Floats:
    """The area of each tile that disjoint parts cover; only tiles on a part's border are cut."""
    within_2p = tiles.query(parts, predicate="contains")
    touched_2p = tiles.query(parts, predicate="intersects")
    n = len(tiles.geometries)
    cut = np.isin(touched_2p[0] * n + touched_2p[1], within_2p[0] * n + within_2p[1], invert=True)
    part_p, tile_p = touched_2p[:, cut]
    area_p = shapely.area(shapely.intersection(parts[part_p], tiles.geometries[tile_p]))
    area_n: Floats = np.bincount(tile_p, area_p, n) + np.bincount(within_2p[1], minlength=n) * float(side0_px**2)
    return area_n
