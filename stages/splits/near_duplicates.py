"""Which tiles show the same original: copies, turned, mirrored, cropped, zoomed or recoloured.

Landmarks find likely pairs, registration scores them, and joining makes clusters. Everything is computed on
distinct pictures in the order of their digests, in pieces of a fixed size: neither the order of the tiles nor who
computes a piece changes the result.

Shapes: n tiles, p pairs.
"""

import functools
import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.splits import landmarks, lookalikes
from stages.splits.joining import Clusters, Lines, above_background, join, line_of_chance
from stages.splits.landmarks import Landmarks
from stages.splits.pieces import Pieces, Share
from stages.splits.registration import Side, agreement

Ints = npt.NDArray[np.int64]
TILES_AT_ONCE = 128
PAIRS_AT_ONCE = 1024
RANDOM_PAIRS = 3000
"""Pairs, at most, that show how alike unrelated tiles look."""
SURE_BY_CHANCE = 0.002
"""Links above the line of the sure that chance may make per tile, over all pairs of tiles there are."""
LIKELY_BY_CHANCE = 0.005
"""The share of unrelated pairs above the line of the likely; one such link joins nothing."""
LEAST_SURE, LEAST_LIKELY = 0.45, 0.25
"""The lines are never below. Chosen on half the originals of LC25000's lung tiles."""
COPIES = 0.5
"""Scores above are mostly copies and tell nothing of how a tile looks like others."""
RELATED = 0.8
"""Copies for certain: what one of them resembles, the others are compared with, too."""


class Limits(NamedTuple):
    """How hard to look, and what may be joined."""

    neighbours: int = 12
    """Likely partners of each tile that are compared with it."""
    largest: int = 1 << 60
    """The most tiles of a cluster."""


class Found(NamedTuple):
    """The near-duplicates among n tiles."""

    number_n: Ints
    """The cluster of each tile, 0, 1, … by the smallest digest in it."""
    cluster_u: Ints
    """The cluster of each distinct picture, in the order of the digests."""
    pair_p2: Ints
    """The pairs above the lower line, the most alike first, as numbers of distinct pictures."""
    score_p: npt.NDArray[np.float32]
    lines: Lines
    compared: int
    """Pairs that were compared."""
    refused: int
    """Links not followed, because a cluster would have become too large."""


def digest(pixels_hwc: npt.NDArray[np.uint8]) -> str:
    """A name of a picture's pixels that decides the order of work."""
    return hashlib.sha256(repr(pixels_hwc.shape).encode() + np.ascontiguousarray(pixels_hwc).tobytes()).hexdigest()


def near_duplicates(
    name_n: list[str], described: Iterable[Landmarks], limits: Limits, rng: np.random.Generator, share: Share
) -> Found:
    """Group the tiles.

    Args:
        name_n: a digest of each tile's pixels; equal ones are exact copies.
        described: their landmarks, in the order of the *distinct* digests, sorted, in pieces of any size.
        limits: how hard to look.
        rng: for the cells of the search and the random pairs.
        share: how work is spread; `map` will do. What it runs should hold torch to one thread.
    """
    names, row_n, weight_u = np.unique(np.asarray(name_n), return_inverse=True, return_counts=True)
    marks = Landmarks(*(np.concatenate(part) for part in zip(*described, strict=True)))
    assert len(marks.place_bk3) == len(names), "landmarks are wanted of each distinct picture, once"
    vector_ukv = lookalikes.compress(marks.invariant_bkd)
    compare = functools.partial(_scores, marks, vector_ukv, share)
    random_r2 = _random_pairs(len(names), rng)
    lines = _lines(compare(random_r2), len(names))
    pair_p2 = lookalikes.likely_pairs(vector_ukv, limits.neighbours, rng, share)
    score_p = compare(pair_p2)
    more_q2 = _second_look(pair_p2, score_p, lines, limits.neighbours)
    pair_p2, score_p = np.concatenate([pair_p2, more_q2]), np.concatenate([score_p, compare(more_q2)])
    score_p = above_background(pair_p2, score_p, len(names), max(COPIES, lines.sure))
    clusters: Clusters = join(pair_p2, score_p, weight_u, lines, limits.largest)
    number_u = np.unique(clusters.number_n, return_inverse=True)[1]
    shown = np.flatnonzero(score_p > lines.likely)
    shown = shown[np.lexsort((pair_p2[shown, 1], pair_p2[shown, 0], -score_p[shown]))]
    return Found(number_u[row_n], number_u, pair_p2[shown], score_p[shown], lines, len(pair_p2), clusters.refused)


def _lines(score_r: npt.NDArray[np.float32], tiles: int) -> Lines:
    sure = line_of_chance(score_r, 2 * SURE_BY_CHANCE / max(1, tiles - 1), LEAST_SURE)
    return Lines(sure, min(sure, line_of_chance(score_r, LIKELY_BY_CHANCE, LEAST_LIKELY)))


def _random_pairs(n: int, rng: np.random.Generator) -> Ints:
    drawn = rng.integers(0, n, (min(RANDOM_PAIRS, 300 + n), 2)) if n > 1 else np.zeros((0, 2), np.int64)
    pairs: Ints = np.unique(np.sort(drawn[drawn[:, 0] != drawn[:, 1]], axis=1), axis=0)
    return pairs


def _second_look(pair_p2: Ints, score_p: npt.NDArray[np.float32], lines: Lines, most: int) -> Ints:
    """Pairs not yet compared: a tile with the certain copies of those it resembles; for each tile at most `most`.

    Of the copies of an original, the search may have found but one; the others may fit better.
    """
    near: dict[int, list[tuple[float, int]]] = {}
    for (a, b), score in zip(pair_p2.tolist(), score_p.tolist(), strict=True):
        if score > 0.8 * lines.likely:
            near.setdefault(a, []).append((-score, b))
            near.setdefault(b, []).append((-score, a))
    known = set(map(tuple, pair_p2.tolist()))
    found: set[tuple[int, int]] = set()
    for tile, resembled in near.items():
        added = 0
        for score, other in sorted(resembled):
            if -score > RELATED:
                continue
            for closeness, third in sorted(near.get(other, [])):
                pair = (min(tile, third), max(tile, third))
                if -closeness <= RELATED or added == most:
                    break
                if tile != third and pair not in known and pair not in found:
                    found.add(pair)
                    added += 1
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _scores(
    marks: Landmarks, vector_ukv: npt.NDArray[np.float32], share: Share, pair_p2: Ints
) -> npt.NDArray[np.float32]:
    """The agreement of pairs, in pieces of PAIRS_AT_ONCE."""

    def sides(piece: int) -> tuple[Side, Side]:
        part = pair_p2[piece * PAIRS_AT_ONCE : (piece + 1) * PAIRS_AT_ONCE]
        return _side(marks, vector_ukv, part[:, 0]), _side(marks, vector_ukv, part[:, 1])

    found = list(share(score_piece, Pieces(-(-len(pair_p2) // PAIRS_AT_ONCE), sides)))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _side(marks: Landmarks, vector_ukv: npt.NDArray[np.float32], row_p: Ints) -> Side:
    return Side(marks.place_bk3[row_p], marks.rings_bkra[row_p], vector_ukv[row_p], marks.band_b4hw[row_p])


def score_piece(sides: tuple[Side, Side]) -> npt.NDArray[np.float32]:
    """The agreement of some pairs."""
    return agreement(*sides)


def group(pixels: Any, limits: Limits, rng: np.random.Generator, share: Share = map) -> Found:
    """`near_duplicates` of tiles that are all in memory, RGB, of any sizes.

    Args:
        pixels: array (n, h, w, 3) or a list of arrays (h, w, 3), uint8.
        limits: how hard to look.
        rng: as there.
        share: as there.
    """
    names = [digest(tile) for tile in pixels]
    row_of = {name: row for row, name in reversed(list(enumerate(names)))}
    distinct = [pixels[row_of[name]] for name in sorted(row_of)]
    pieces = Pieces(-(-len(distinct) // TILES_AT_ONCE), lambda i: distinct[i * TILES_AT_ONCE : (i + 1) * TILES_AT_ONCE])
    return near_duplicates(names, share(describe_piece, pieces), limits, rng, share)


def describe_piece(pixels: list[npt.NDArray[np.uint8]]) -> Landmarks:
    """The landmarks of some tiles, which may differ in size."""
    shapes = {tile.shape for tile in pixels}
    if len(shapes) == 1:
        return landmarks.describe(np.stack(pixels))
    each = [landmarks.describe(tile[None]) for tile in pixels]
    return Landmarks(*(np.concatenate(part) for part in zip(*each, strict=True)))
