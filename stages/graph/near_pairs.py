"""Which pairs of rows can be among the nearest, from products in float32 whose error is bounded.

A product in float32 costs half of one in float64, and every pair is multiplied once, for both its ends. With a bound of
its error (Higham 2002, Accuracy and Stability of Numerical Algorithms, eq. 3.5, true in any order of summation) it
gives a lower and an upper bound of every squared distance. A row has k others within the k-th of its upper bounds, so
whoever's lower bound is above that is not among its k nearest. The few left are measured in float64 by others: the
low precision may let more through, and never loses one.
Shapes: n rows, d features, k neighbours, a and b rows of a tile, g groups of columns, p pairs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.features.distances import Floats

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
TILE_ROWS = 256
"""A tile of bounds stays in the processor's cache, and its product is near full speed."""
UNIT = 2.0**-24
"""Largest relative error of rounding to float32."""
TINY = 2.0**-120
"""More than a term of a product in float32 loses where it falls under the smallest normal number."""
LEAST, MOST = 1e-100, 1e100
"""Between these, the largest entry about the centre is such that no square that counts leaves the range of float64."""
WIDEST = 1 << 20
"""Most features: the error grows with them, and the bound holds up to 2²⁴."""
CROWD = 16
"""Others that a row may list, times k + 4: so equal rows by the thousand take no memory. About 5 k are usual."""


class NearPairs(NamedTuple):
    """Pairs of rows, each listed once, and the rows they do not settle."""

    first_p: Ints
    second_p: Ints
    of_first_p: Flags
    """Whether the second can be among the k nearest of the first."""
    of_second_p: Flags
    """Whether the first can be among the k nearest of the second."""
    unsure_n: Flags
    """Rows with so many others about as near that float32 is no help: search those in another way."""


class _Rounded(NamedTuple):
    """Rows about a centre, in a power of two as unit; and what bounds their squared distances from both sides."""

    y_nd: Singles
    low_n: Singles
    """low_i + low_j − 2 y_i·y_j is at most the squared distance, ..."""
    span_n: Singles
    """... and with span_i + span_j added at least."""


def near_pairs(x_nd: Floats, k: int, tile_rows: int = TILE_ROWS) -> NearPairs:
    """All pairs of which one can be among the k nearest other rows of the other, and few besides.

    Args:
        x_nd: finite numbers.
        k: neighbours of every row, from 1 to n − 1.
        tile_rows: rows multiplied at a time; the promise holds with any number.
    """
    rounded = _rounded(x_nd, tile_rows)
    if rounded is None:
        none_p = np.zeros(0, np.int64)
        return NearPairs(none_p, none_p, none_p > 0, none_p > 0, np.ones(len(x_nd), np.bool_))
    first_p, second_p, lower_p, limit_n = _listed(rounded, k, tile_rows)
    of_first_p, of_second_p = lower_p <= limit_n[first_p], lower_p <= limit_n[second_p]
    kept_p = of_first_p | of_second_p
    return NearPairs(first_p[kept_p], second_p[kept_p], of_first_p[kept_p], of_second_p[kept_p], np.isneginf(limit_n))


def _listed(rounded: _Rounded, k: int, tile_rows: int) -> tuple[Ints, Ints, Singles, Singles]:
    """Pairs that were near when their tile was met, with their lower bounds; and at last the limit of every row.

    The limit is −inf for a row that more were near to than `CROWD` allows: from then on it lists none.
    """
    n = len(rounded.y_nd)
    best_nk, found_n = np.full((n, k), np.inf, np.float32), np.zeros(n, np.int64)
    parts: list[tuple[Ints, Ints, Singles]] = []
    for a, b, lower_ab in _tiles(rounded, tile_rows):
        upper_ab = lower_ab + rounded.span_n[a, None]
        upper_ab += rounded.span_n[b]
        best_nk[a] = _with_best(best_nk[a], upper_ab)
        if a == b:
            lower_ab[np.tril_indices(len(lower_ab))] = np.inf  # every pair is listed once
        else:
            best_nk[b] = _with_best(best_nk[b], upper_ab.T)
        row_p, column_p = _at_most(lower_ab, best_nk[a, -1], best_nk[b, -1])
        lower_p = lower_ab[row_p, column_p]
        parts.append((row_p + a.start, column_p + b.start, lower_p))
        for block, end_p in ((a, row_p), (b, column_p)):
            own_p = end_p[lower_p <= best_nk[block, -1][end_p]]
            found_n[block] += np.bincount(own_p, minlength=block.stop - block.start)
            best_nk[block][found_n[block] > CROWD * (k + 4)] = -np.inf
    first_p, second_p, lower_p = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first_p, second_p, lower_p, best_nk[:, -1]


def _rounded(x_nd: Floats, rows: int) -> _Rounded | None:
    """The rows in float32; None where the bounds would not hold: all rows equal, vast or minute, or too many features.

    With u = 2⁻²⁴, the error of a pair in units of u S, S = 2 (|y_i|² + |y_j|²) ≥ (|y_i| + |y_j|)²: rounding the rows 2,
    the product d / 2 / (1 − d u), norms and sums 5, what float64 later makes of the distance far below 1; 16 for all
    but the product leaves room. The difference from the centre is rounded by 2⁻⁵³ of itself, wherever that is; it is
    the median of some rows, since one row far out would draw the mean away from all others, and blur them.
    """
    if not 0 < x_nd.shape[1] <= WIDEST or not -MOST <= x_nd.min() <= x_nd.max() <= MOST:
        return None
    centre_d = np.median(x_nd[:: 1 + len(x_nd) // 32], axis=0)
    peak = float(max((x_nd.max(axis=0) - centre_d).max(), (centre_d - x_nd.min(axis=0)).max()))
    if peak < LEAST:
        return None
    scale = 2.0 ** -float(np.frexp(peak)[1])
    y_nd = np.empty(x_nd.shape, np.float32)
    square_n = np.empty(len(x_nd))
    for start in range(0, len(x_nd), rows):
        block = slice(start, start + rows)
        y_nd[block] = (x_nd[block] - centre_d) * scale
        wide_bd = y_nd[block].astype(np.float64)
        square_n[block] = np.einsum("bd,bd->b", wide_bd, wide_bd)
    d = x_nd.shape[1]
    error_n = 2.0 * UNIT * (d / 2 / (1.0 - d * UNIT) + 16.0) * square_n + d * TINY
    return _Rounded(y_nd, (square_n - error_n).astype(np.float32), (2.0 * error_n).astype(np.float32))


def _tiles(rounded: _Rounded, rows: int) -> Iterator[tuple[slice, slice, Singles]]:
    """Yield (rows a, rows b, lower bounds a × b) for all b from a on; infinite from a row to itself."""
    n = len(rounded.y_nd)
    blocks = [slice(start, min(start + rows, n)) for start in range(0, n, rows)]
    for number, a in enumerate(blocks):
        twice_ad = np.float32(-2.0) * rounded.y_nd[a]
        for b in blocks[number:]:
            lower_ab: Singles = np.matmul(twice_ad, rounded.y_nd[b].T)
            lower_ab += rounded.low_n[a, None]
            lower_ab += rounded.low_n[b]
            if a == b:
                np.fill_diagonal(lower_ab, np.inf)
            yield a, b, lower_ab


def _with_best(best_ak: Singles, upper_ab: Singles) -> Singles:
    """The k best upper bounds of every row after one more tile, the greatest last.

    Columns are grouped while four times as many groups are left as are wanted, and of a group only the least bound
    counts. All that count are of different columns, so k others are within the last: more is not asked of it.
    """
    k = best_ak.shape[1]
    while (half := upper_ab.shape[1] // 2) >= 4 * k:
        upper_ab = np.minimum(upper_ab[:, :half], upper_ab[:, half : 2 * half])
    return np.partition(np.concatenate([best_ak, upper_ab], axis=1), k - 1, axis=1)[:, :k]


def _at_most(lower_ab: Singles, limit_a: Singles, limit_b: Singles) -> tuple[Ints, Ints]:
    """Row and column of the entries that are at most the limit of their row or that of their column."""
    near_ab = lower_ab <= np.maximum(limit_a[:, None], limit_b)
    near_p = np.flatnonzero(near_ab)
    return near_p // near_ab.shape[1], near_p % near_ab.shape[1]
