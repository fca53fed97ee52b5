"""What the report shows: tiles side by side, the map of communities, training curves. For the template.

Real tiles come from the role `val` alone, but for pictures that a stage drew itself: reconstructions, nearest pairs.
Every function takes the result folders by node and returns None (or nothing) where what it needs is not there yet.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import report_pictures as pictures
from pipeline import report_plots as plots
from pipeline.report_numbers import Results, facts, said
from stages import images, scale_bar

PALETTE = 10
POINTS_AT_MOST = 900
GALLERY_AT_MOST = 180
CURVE_POINTS = 200
CURVES = {
    "loss": "loss",
    "kid": "KID against validation tiles",
    "val_loss": "validation loss",
    "val_bal_acc": "validation balanced accuracy",
    "val_psnr": "validation PSNR, dB",
}
"""Columns of curves that are drawn, in this order, and their names for people."""

_KINDS = {
    "tiles": ("real tile", "validation tiles, evenly spread over groups", False),
    "candidates": ("synthetic tile", "the first sampled, not picked", False),
    "selection": ("selected synthetic tile", "the first by rank", True),
    "condensation": ("learned image", "the first", False),
}
"""By stage: what its tiles are, which of them are shown, and whether the others can be seen as well."""

Ints = npt.NDArray[np.int64]


class Panel(NamedTuple):
    """Tiles of one class from one source."""

    title: str
    available: int
    """How many there are; not all are shown."""
    how: str
    """Which of them are shown."""
    tiles: list[pictures.Tile]


class Class(NamedTuple):
    """Everything to look at of one class."""

    name: str
    panels: list[Panel]
    rest: list[pictures.Tile]
    """The other tiles of the selection."""


class Scale(NamedTuple):
    """The scale bar of the tiles."""

    part: float
    """Its length as a share of a tile's side: tiles are as wide as the page has room for."""
    length: str
    told: str
    """The scale in words."""


class Community(NamedTuple):
    """One community of a class."""

    number: int
    colour: int
    size: int
    flow: float
    chosen: int


class Map(NamedTuple):
    """The map of one class."""

    name: str
    plot: Any
    communities: list[Community]
    shown: int
    available: int


class Maps(NamedTuple):
    """The maps of all classes, and the thumbnails of their points."""

    selection: str
    classes: list[Map]
    sprites: pictures.Sprites | None
    method: str


class Curve(NamedTuple):
    """One training curve."""

    stage: str
    name: str
    first: int
    last: int
    plot: Any


def look(results: Results, shipped: str | None) -> list[Class]:
    """Per class: real tiles of `val`, candidates, the selection that ships, and learned sets, as far as there."""
    sources = {"tiles": "Real", "candidates": "Synthetic candidates", f"selection/{shipped}": f"Selected: {shipped}"}
    learned = [node for node in results if facts(results, node).get("pixels") == "learned"]
    sources |= {node: f"Learned: {node.partition('/')[2]}" for node in learned}
    there = [node for node in sources if node in results]
    if not there:
        return []
    _, classes = images.read_table(results[there[0]] / "images")
    each = 12 if len(classes) <= 4 else 6
    shown = [Class(name, [], []) for name in classes]
    for node in there:
        of_class = _panels(results[node], node, sources[node], classes, each)
        for one, (panel, rest) in zip(shown, of_class, strict=True):
            one.panels.append(panel)
            one.rest.extend(rest)
    return shown


def scale(results: Results) -> Scale | None:
    """The scale bar that suits the tiles, where their scale is known."""
    of_tiles = facts(results, "tiles")
    if "mpp" not in of_tiles:
        return None
    side_um = float(of_tiles["mpp"]) * int(of_tiles["size_px"])
    length = scale_bar.length_um(side_um)
    return Scale(length / side_um, scale_bar.length_words(length), scale_bar.told(float(of_tiles["mpp"])))


def _panels(
    folder: Path, node: str, title: str, classes: tuple[str, ...], each: int
) -> list[tuple[Panel, list[pictures.Tile]]]:
    """For every class a panel of `each` tiles, and the tiles that come after those, where all are to be seen."""
    stage = node.partition("/")[0]
    what, how, more = _KINDS[stage]
    frame, _ = images.read_table(folder / "images")
    if stage == "tiles":
        frame = frame[frame["role"] == "val"]
    elif stage == "selection":
        frame = frame.sort_values("rank", kind="stable")
    of_class = [frame.index[frame["label"] == label].to_numpy(np.int64) for label in range(len(classes))]
    most = each + (GALLERY_AT_MOST // len(classes) if more else 0)
    rows = [pictures.spread(rows, each) if stage == "tiles" else rows[:most] for rows in of_class]
    # One read for all classes: an image set is opened as a whole.
    pixels = iter(images.read(folder / "images", rows=np.concatenate(rows)).pixels_nhwc)
    found = []
    for name, rows_all, rows_m in zip(classes, of_class, rows, strict=True):
        tiles = [pictures.tile(next(pixels), f"{what} of class {name}, {n}") for n in range(1, len(rows_m) + 1)]
        found.append((Panel(title, len(rows_all), how, tiles[:each]), tiles[each:]))
    return found


def maps(results: Results, shipped: str | None) -> Maps | None:
    """Candidates on a plane, coloured by community, the chosen ringed; thumbnails for pointing at them."""
    node = f"selection/{shipped}"
    if node not in results or "candidates" not in results:
        return None
    places = [results[n] / "map.parquet" for n in ("embedding", node) if n in results]
    paths = [path for path in places if path.is_file()]
    table_path = results[node] / "communities.parquet"
    if not paths or not table_path.is_file():
        return None
    table = pd.read_parquet(table_path).merge(pd.read_parquet(paths[0])[["row", "x", "y"]], on="row", how="inner")
    _, classes = images.read_table(results["candidates"] / "images")
    shown = _thinned(table, POINTS_AT_MOST)
    rows = np.sort(shown["row"].to_numpy(np.int64))
    place_of = {int(row): place for place, row in enumerate(rows)}
    pixels_nhwc = images.read(results["candidates"] / "images", rows=rows).pixels_nhwc
    sheet = pictures.sprites(list(pixels_nhwc)) if len(rows) else None
    panels = [
        _map(table[table["label"] == label], shown[shown["label"] == label], name, place_of)
        for label, name in enumerate(classes)
    ]
    return Maps(str(shipped), panels, sheet, str(facts(results, node).get("method", "")))


def _thinned(table: pd.DataFrame, at_most: int) -> pd.DataFrame:
    """The chosen and as many evenly spaced others as there is room for."""
    if len(table) <= at_most:
        return table
    others = np.flatnonzero(~table["chosen"].to_numpy(bool))
    kept = pictures.spread(others, max(at_most - int(table["chosen"].sum()), 0))
    return table.iloc[np.sort(np.concatenate([np.flatnonzero(table["chosen"].to_numpy(bool)), kept]))]


def _map(table: pd.DataFrame, shown: pd.DataFrame, name: str, place_of: dict[int, int]) -> Map:
    """The map of one class: `table` has all its candidates, `shown` those there is room for."""
    communities = _communities(table)
    colour_of = {c.number: c.colour for c in communities}
    columns = [shown[column].tolist() for column in ("row", "x", "y", "community", "chosen", "reason")]
    points = [
        plots.Point(x, y, colour_of[community], chosen, place_of[row], _told(row, community, chosen, reason))
        for row, x, y, community, chosen, reason in zip(*columns, strict=True)
    ]
    words = []
    for community in communities[:PALETTE]:
        members = shown[shown["community"] == community.number]
        if community.colour >= 0 and len(members):
            words.append((float(members["x"].median()), float(members["y"].median()), str(community.number)))
    chosen = int(table["chosen"].sum())
    told = f"Map of {len(shown)} candidates of class {name} in {len(communities)} communities, {chosen} chosen"
    return Map(name, plots.scatter(points, words, told), communities, len(shown), len(table))


def _told(row: int, community: int, chosen: bool, reason: str) -> str:
    """What is said of a candidate that is pointed at."""
    where = f"community {community}" if community >= 0 else "in no community"
    return f"candidate {row} · {where} · {'chosen' if chosen else 'not chosen'}: {reason}"


def _communities(table: pd.DataFrame) -> list[Community]:
    """Communities of one class, largest first; those without a graph (number below 0) have no colour and come last."""
    found = [
        Community(int(str(number)), -1, len(part), float(part["flow"].sum()), int(part["chosen"].sum()))
        for number, part in table.groupby("community")
    ]
    found.sort(key=lambda c: (c.number < 0, -c.size, c.number))
    return [c._replace(colour=place % PALETTE) if c.number >= 0 else c for place, c in enumerate(found)]


def curves(results: Results) -> list[Curve]:
    """The training curves of every stage that wrote some, one network after another."""
    found = []
    for stage in ("autoencoder", "judge", "denoiser"):
        path = results[stage] / "curves.parquet" if stage in results else None
        if path is None or not path.is_file():
            continue
        frame = pd.read_parquet(path)
        numeric = [str(c) for c in frame.select_dtypes("number").columns if str(c) in CURVES]
        parts = {stage: frame}
        if "network" in frame:
            parts = {f"{stage}, {network}": part for network, part in frame.groupby("network", sort=False)}
        for name, part in parts.items():
            drawn = [_curve(name, column, part) for column in sorted(numeric, key=list(CURVES).index)]
            found += [curve for curve in drawn if curve is not None]
    return found


def _curve(stage: str, column: str, frame: pd.DataFrame) -> Curve | None:
    """One curve; where there are many points, means of equal runs of them."""
    known = frame[["step", column]].dropna()
    known = known[np.isfinite(known[column])]
    if known.empty:
        return None
    pieces = np.array_split(np.arange(len(known)), min(len(known), CURVE_POINTS))
    xs = [float(known["step"].iloc[piece].mean()) for piece in pieces]
    ys = [float(known[column].iloc[piece].mean()) for piece in pieces]
    name = CURVES.get(column, column.replace("_", " "))
    first, last = int(known["step"].iloc[0]), int(known["step"].iloc[-1])
    return Curve(stage, name, first, last, plots.curve(xs, ys, f"{stage}, {name}"))


def figures(results: Results) -> list[tuple[str, str, str]]:
    """Pictures that stages wrote: (data URI, caption, alternative text)."""
    wanted = [
        ("autoencoder", "reconstruction.png", "What the autoencoder keeps: tiles above, their reconstruction below."),
        ("denoiser", "samples.png", "What the denoiser drew while it learned; later below."),
    ]
    found = []
    for node, name, caption in wanted:
        uri = pictures.figure(results[node] / name) if node in results else None
        if uri is not None:
            found.append((uri, caption, f"{node}: {name.partition('.')[0]}"))
    return found


def warnings(results: Results) -> list[str]:
    """What the stages themselves warn of, each with the name of its node."""
    return [f"{node}: {said(line)}" for node in results for line in facts(results, node).get("warnings") or []]
