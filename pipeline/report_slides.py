"""What the report says of whole slides: how many there were, what became of every place on them, and a few pictures.

The pictures show real tissue, so they stay inside like the page itself. Slides have no names here.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import report_pictures as pictures
from pipeline.report_numbers import Results, facts

SHOWN = 6
"""Previews on the page, at most."""
WORDS = {"no class": "no class, left out"}
"""Reasons as people say them here; others are said as they are."""


class Fate(NamedTuple):
    """What became of some of the places where a tile could lie."""

    what: str
    tiles: int
    share: float
    """Of all places."""


class Preview(NamedTuple):
    """One slide from afar, with its tiles."""

    uri: str
    alt: str


class Slides(NamedTuple):
    """Everything the report says of whole slides."""

    tiled: int
    patients: str
    """In words: how many there were, or that pieces of slides stood for them."""
    aside: list[tuple[str, int]]
    """Why slides were set aside, and how many."""
    positions: int
    fates: list[Fate]
    """They add up to the positions."""
    mpp: str
    """Effective micrometres per pixel of the tiles, in words."""
    previews: list[Preview]
    available: int
    """How many previews there are; not all are shown."""


def slides(results: Results) -> Slides | None:
    """What the tiles' facts tell of whole slides; None where the tiles are from elsewhere."""
    of_tiles = facts(results, "tiles")
    told = of_tiles.get("slides")
    if not told:
        return None
    previews = sorted((results["tiles"] / "previews").glob("*.png"))
    chosen = [previews[n] for n in pictures.spread(np.arange(len(previews)), SHOWN)]
    pieces = " pieces of slides that stand for patients" if told["pseudo_patients"] else ""
    return Slides(
        tiled=told["slides"],
        patients=f"{told['patients']:,}{pieces}",
        aside=sorted(told["slides_set_aside"].items()),
        positions=told["positions"],
        fates=_fates(told, sum(sum(of_role.values()) for of_role in of_tiles["counts"].values())),
        mpp=_between(*told["effective_mpp"]),
        previews=[_preview(path, number) for number, path in enumerate(chosen, 1)],
        available=len(previews),
    )


def _fates(told: dict[str, Any], taken: int) -> list[Fate]:
    """Background first, then what was rejected, most frequent first; what is used comes last."""
    rejected = sorted(told["rejected"].items(), key=lambda pair: (-pair[1], pair[0]))
    rejected = [(WORDS.get(reason, reason), count) for reason, count in rejected]
    rows = [("background", told["background"]), *rejected]
    rows += [("no class, kept for an autoencoder that is trained", told["unlabelled"])]
    rows = [row for row in rows if row[1]] + [("tiles with a class", taken)]
    return [Fate(what, count, count / max(told["positions"], 1)) for what, count in rows]


def _between(low: float, high: float) -> str:
    """A range of scales; one number where both ends look the same."""
    words = [f"{value:.4g}" for value in (low, high)]
    return f"{' to '.join(dict.fromkeys(words))} µm per pixel"


def _preview(path: Path, number: int) -> Preview:
    uri = pictures.figure(path)
    assert uri is not None, path.name
    return Preview(uri, f"Slide {number} from afar: its tiles by class, and those that were rejected by reason")
