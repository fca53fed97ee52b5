"""A selection -> one HTML page on which a pathologist looks at all its candidates and marks them: the explorer.

The page holds synthetic tiles alone, loads nothing and sends nothing. Candidates lie in it by class, community and
centrality, so that a community is a run of neighbours; every sheet of thumbnails is decoded when it is first looked at.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from pipeline import pages
from stages import images, pins, store

if TYPE_CHECKING:
    from pipeline.runner import Run
    from pipeline.steps import Step

THUMBNAIL_PX = 48
LARGEST_THUMBNAIL_PX = 128
SHEET_PX = 1536
TILES_AT_MOST = 20_000
"""Candidates on a page; of more, the chosen, the pinned and evenly spaced others are shown."""
PLANE = 10_000
"""Places on the map are whole numbers from 0 to this."""
COLUMNS = ("tile_id", "label", "community", "centrality", "rank", "x", "y", "reason")

Ints = npt.NDArray[np.int64]


class Sheets(NamedTuple):
    """Thumbnails in pictures of equal build, row by row, `across` × `across` in each."""

    uris: list[str]
    edge_px: int
    across: int


def write(run: "Run", steps: "list[Step]", name: str, out: Path | None) -> Path:
    """Write the explorer of the selection `name` to `out`, or into the run's folder, and return its path.

    Raises:
        UserError: there is no such selection, or it is not sealed.
    """
    from pipeline.sealed import sealed

    node = f"selection/{name}"
    seals = sealed(run, steps, (node, "candidates", "embedding"))
    results = {of: seal.folder for of, seal in seals.items()}
    page = out or run.folder / f"explorer_{name}.html"
    store.write_text(page, render(results, name, seals[node].result, run.name))
    return page


def render(results: Mapping[str, Path], name: str, digest: str, run_name: str, at_most: int = TILES_AT_MOST) -> str:
    """The page as HTML.

    Args:
        results: folders of `candidates`, `embedding` and `selection/<name>`.
        name: of the selection.
        digest: of the selection's result; a browser keeps marks under it.
        run_name: of the run.
        at_most: candidates on the page.
    """
    everyone = gather(results, name)
    shown = thinned(everyone, at_most)
    _, classes = images.read_table(results["candidates"] / "images")
    thumbnails = sheets(results["candidates"] / "images", shown["row"].to_numpy(np.int64))
    facts = store.read_json(results[f"selection/{name}"] / "facts.json")
    about: dict[str, Any] = {
        "selection": name,
        "run": run_name,
        "digest": digest,
        "method": str(facts.get("method", "")),
    }
    about |= {"classes": list(classes), "available": len(everyone), "edge": thumbnails.edge_px}
    return pages.template("explorer.html.jinja").render(
        about=about,
        shown=len(shown),
        chosen=int((everyone["rank"] >= 0).sum()),
        data=_script_json(about | columns(shown) | {"pins": pinned(everyone), "across": thumbnails.across}),
        sheets=thumbnails.uris,
    )


def gather(results: Mapping[str, Path], name: str) -> pd.DataFrame:
    """One row per candidate with `row` and COLUMNS, by class, community (those in none last), centrality; rank −1: not
    chosen."""
    folder = results[f"selection/{name}"]
    table, _ = images.read_table(results["candidates"] / "images")
    chosen, _ = images.read_table(folder / "images")
    frame = pd.read_parquet(folder / "communities.parquet")
    frame["tile_id"] = table["tile_id"].to_numpy()[frame["row"]]
    frame = frame.merge(pd.read_parquet(results["embedding"] / "map.parquet")[["row", "x", "y"]], on="row")
    frame["rank"] = frame["row"].map(dict(zip(chosen["candidate"], chosen["rank"], strict=True))).fillna(-1)
    frame["alone"] = frame["community"] < 0
    order = ["label", "alone", "community", "centrality", "row"]
    frame = frame.sort_values(order, ascending=[True, True, True, False, True], ignore_index=True)
    return frame[["row", *COLUMNS]]


def thinned(frame: pd.DataFrame, at_most: int) -> pd.DataFrame:
    """At most so many rows, or as many as are chosen or pinned: these, and evenly spaced others."""
    if len(frame) <= at_most:
        return frame
    by_hand = frame["reason"].str.startswith((pins.LEFT_OUT, pins.KEPT))
    others = np.flatnonzero(~((frame["rank"] >= 0) | by_hand))
    room = max(at_most - (len(frame) - len(others)), 0)
    kept_n = np.ones(len(frame), bool)
    kept_n[np.setdiff1d(others, others[np.arange(room) * len(others) // max(room, 1)])] = False
    return frame[kept_n].reset_index(drop=True)


def columns(frame: pd.DataFrame) -> dict[str, Any]:
    """The candidates as columns of plain values; equal aspect on the map, reasons as numbers into a list."""
    xy_n2 = frame[["x", "y"]].to_numpy(np.float64)
    spread = max(float(np.ptp(xy_n2, axis=0).max()), 1e-12) if len(xy_n2) else 1.0
    place_n2 = np.rint((xy_n2 - xy_n2.min(axis=0)) / spread * PLANE).astype(int)
    number_n, reasons = pd.factorize(frame["reason"])
    return {
        "id": frame["tile_id"].tolist(),
        "label": frame["label"].astype(int).tolist(),
        "community": frame["community"].astype(int).tolist(),
        "centrality": [float(f"{value:.4g}") for value in frame["centrality"]],
        "rank": frame["rank"].astype(int).tolist(),
        "x": place_n2[:, 0].tolist(),
        "y": (PLANE - place_n2[:, 1]).tolist(),
        "reason": number_n.tolist(),
        "reasons": list(reasons),
    }


def pinned(frame: pd.DataFrame) -> list[list[str]]:
    """What was pinned when this selection was made, as (kind, tile id, reason): the marks the page begins with."""
    found = []
    for kind, head in (("exclude", pins.LEFT_OUT), ("keep", pins.KEPT)):
        of_kind = frame[frame["reason"].str.startswith(head)].drop_duplicates("tile_id")
        reasons = of_kind["reason"].str.removeprefix(head).replace(pins.NO_REASON, "")
        found += [[kind, one, reason] for one, reason in zip(of_kind["tile_id"], reasons, strict=True)]
    return found


def edge_px(count: int, size_px: int) -> int:
    """Side of a thumbnail: as large as the tile, within 48 px × 20,000 in all, but never above 128 px or below 48."""
    room = int((TILES_AT_MOST * THUMBNAIL_PX**2 / max(count, 1)) ** 0.5) // 16 * 16  # WebP works in blocks of 16
    return min(size_px, max(THUMBNAIL_PX, min(room, LARGEST_THUMBNAIL_PX)))


def sheets(folder: Path, rows_n: Ints) -> Sheets:
    """Thumbnails of the candidates at `rows_n`, in that order; a sheet's tiles are read at a time."""
    uris: list[str] = []
    edge, across = edge_px(len(rows_n), images.read(folder, rows=rows_n[:1]).pixels_nhwc.shape[1]), 1
    across = max(1, SHEET_PX // edge)
    for start in range(0, len(rows_n), across**2):
        uris.append(_sheet(images.read(folder, rows=rows_n[start : start + across**2]).pixels_nhwc, edge, across))
    return Sheets(uris, edge, across)


def _sheet(tiles: Sequence[images.Pixels] | images.Pixels, edge: int, across: int) -> str:
    """One sheet as a WebP data URI: two thirds of a JPEG's size."""
    picture = Image.new("RGB", (across * edge, -(-len(tiles) // across) * edge), "white")
    for place, pixels_hwc in enumerate(tiles):
        small = Image.fromarray(pixels_hwc).resize((edge, edge), Image.Resampling.BILINEAR)
        picture.paste(small, (place % across * edge, place // across * edge))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=75)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _script_json(value: Any) -> str:
    """JSON that no name can break out of: inside a script element only `<` could end it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
