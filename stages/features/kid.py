"""Kernel inception distance: how far apart two clouds of feature vectors are (Bińkowski et al. 2018, arXiv 1801.01401).

KID is the unbiased estimate of the squared maximum mean discrepancy with the kernel k(x, y) = (x·y / d + 1)^3. It is
0 on average when both clouds come from one distribution, at any number of images, so it may come out below 0.
Shapes: n and m vectors, d features, r resamples, b rows of a block.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.features.distances import BLOCK_ROWS, Floats, Vectors, check_clouds


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


def polynomial_kernel(x_nd: Floats, y_md: Floats, degree: int = 3) -> Floats:
    """(x·y / d + 1)^degree for every pair: n × m."""
    k_nm: Floats = (x_nd @ y_md.T / x_nd.shape[1] + 1.0) ** degree
    return k_nm


def kid(x_nd: Vectors, y_md: Vectors, degree: int = 3) -> float:
    """The unbiased squared maximum mean discrepancy between two clouds (Gretton et al. 2012, eq. 3).

    Raises:
        ValueError: fewer than two vectors on a side, unequal widths, or numbers that are not finite.
    """
    x_nd, y_md = check_clouds(x_nd, y_md, least=2)
    ones_n1, ones_m1 = np.ones((len(x_nd), 1)), np.ones((len(y_md), 1))
    return float(_weighted_kid(x_nd, y_md, ones_n1, ones_m1, degree)[0])


def kid_interval(
    x_nd: Vectors,
    y_md: Vectors,
    generator: np.random.Generator,
    resamples: int = 200,
    level: float = 0.95,
    degree: int = 3,
    group_n: npt.NDArray[np.int64] | None = None,
    group_m: npt.NDArray[np.int64] | None = None,
) -> Estimate:
    """KID with a percentile bootstrap interval, both clouds drawn anew, whole groups at a time.

    A vector drawn twice is never paired with itself, and vectors of one group never with each other: such pairs
    are more alike than strangers and would push every resample (and, for groups, the value itself) upwards. When both
    clouds have one distribution the interval is wider than its level says (the statistic is degenerate there).

    Args:
        x_nd: n vectors.
        y_md: m vectors.
        generator: where the draws come from.
        resamples: how many draws.
        level: coverage wanted, between 0 and 1.
        degree: of the kernel.
        group_n: the group of every x (an original, a slide, a patient); every vector its own group if None.
        group_m: the group of every y.

    Raises:
        ValueError: fewer than two vectors or groups on a side, unequal widths, or numbers that are not finite.
    """
    x_nd, y_md = check_clouds(x_nd, y_md, least=2)
    member_n, member_m = _group_numbers(group_n, len(x_nd)), _group_numbers(group_m, len(y_md))
    w_nr = _group_weights(member_n, resamples, generator)
    w_mr = _group_weights(member_m, resamples, generator)
    kid_r = _weighted_kid(x_nd, y_md, w_nr, w_mr, degree, member_n, member_m)
    tail = (1.0 - level) / 2.0
    low, high = np.nanquantile(kid_r[1:], [tail, 1.0 - tail])
    return Estimate(float(kid_r[0]), float(low), float(high))


def _group_numbers(group_n: npt.NDArray[np.int64] | None, count: int) -> npt.NDArray[np.int64]:
    """Groups as numbers 0, 1, …; every vector its own group if None."""
    if group_n is None:
        return np.arange(count)
    if len(group_n) != count:
        raise ValueError(f"{count} vectors need {count} groups, got {len(group_n)}")
    return np.unique(group_n, return_inverse=True)[1].astype(np.int64)


def _group_weights(member_n: npt.NDArray[np.int64], resamples: int, generator: np.random.Generator) -> Floats:
    """How often each vector was drawn: a first column of ones (no resampling), then one column per resample."""
    groups = int(member_n.max()) + 1
    if groups < 2:
        raise ValueError("an interval needs at least two groups on each side, got one")
    drawn_rg = generator.multinomial(groups, np.full(groups, 1.0 / groups), size=resamples)
    return np.concatenate([np.ones((len(member_n), 1)), drawn_rg.T[member_n]], axis=1)


def _weighted_kid(
    x_nd: Floats,
    y_md: Floats,
    w_nr: Floats,
    w_mr: Floats,
    degree: int,
    member_n: npt.NDArray[np.int64] | None = None,
    member_m: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """KID under every column of weights; pairs of one member (by default a vector with itself) do not count."""
    cross_r = _pair_sum(x_nd, y_md, w_nr, w_mr, degree) / (w_nr.sum(0) * w_mr.sum(0))
    kid_r: Floats = _within(x_nd, w_nr, degree, member_n) + _within(y_md, w_mr, degree, member_m) - 2.0 * cross_r
    return kid_r


def _within(x_nd: Floats, w_nr: Floats, degree: int, member_n: npt.NDArray[np.int64] | None) -> Floats:
    """Mean kernel over pairs of different members of one cloud, for every column of weights."""
    total_r, pairs_r = _pair_sum(x_nd, x_nd, w_nr, w_nr, degree), w_nr.sum(0) ** 2
    if member_n is None or len(np.unique(member_n)) == len(x_nd):
        self_n = (np.einsum("nd,nd->n", x_nd, x_nd) / x_nd.shape[1] + 1.0) ** degree
        return _mean(total_r - self_n @ w_nr**2, pairs_r - (w_nr**2).sum(0))
    order_n = np.argsort(member_n, kind="stable")
    for rows_g in np.split(order_n, np.flatnonzero(np.diff(member_n[order_n])) + 1):
        total_r -= _pair_sum(x_nd[rows_g], x_nd[rows_g], w_nr[rows_g], w_nr[rows_g], degree)
        pairs_r -= w_nr[rows_g].sum(0) ** 2
    return _mean(total_r, pairs_r)


def _mean(total_r: Floats, pairs_r: Floats) -> Floats:
    """The mean over pairs; NaN where there are none, as when a resample drew a single group."""
    mean_r: Floats = np.where(pairs_r > 0, total_r, np.nan) / np.where(pairs_r > 0, pairs_r, 1.0)
    return mean_r


def _pair_sum(x_nd: Floats, y_md: Floats, w_nr: Floats, w_mr: Floats, degree: int) -> Floats:
    """Σ_ij w_i w_j k(x_i, y_j) for every column of weights, a block of rows at a time."""
    sum_r = np.zeros(w_nr.shape[1])
    for start in range(0, len(x_nd), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        sum_r += np.einsum("br,br->r", w_nr[block], polynomial_kernel(x_nd[block], y_md, degree) @ w_mr)
    return sum_r
