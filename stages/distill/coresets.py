"""Coresets of real tiles: a random draw and herding.

Copies of one original are near-duplicates, so both can spread over groups first: no group gives its (r + 1)-th tile
before every group has given its r-th. Shapes: n tiles of one class, d features.
"""

from typing import cast

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def random_rows(
    groups_n: npt.NDArray[np.int64], count: int, generator: np.random.Generator, spread: bool = True
) -> Rows:
    """`count` rows drawn without replacement, in the order of the draw: the first m are a draw of m.

    Args:
        groups_n: the group of every tile.
        count: how many rows, at most n.
        generator: draws them.
        spread: whether to spread over groups first; otherwise every tile is equally likely.

    Raises:
        ValueError: more rows wanted than there are.
    """
    _check(count, len(groups_n))
    order_n = generator.permutation(len(groups_n))
    if spread:
        turn_n = _turns(groups_n[order_n])
        order_n = order_n[np.argsort(turn_n, kind="stable")]
    return cast(Rows, order_n[:count].astype(np.int64))


def _turns(groups_n: npt.NDArray[np.int64]) -> Rows:
    """For every row, how many rows of its group come before it."""
    order_n = np.argsort(groups_n, kind="stable")
    sorted_n = groups_n[order_n]
    starts_n = np.maximum.accumulate(np.where(np.r_[True, sorted_n[1:] != sorted_n[:-1]], np.arange(len(order_n)), 0))
    turn_n = np.empty(len(order_n), np.int64)
    turn_n[order_n] = np.arange(len(order_n)) - starts_n
    return turn_n


def herding_rows(
    x_nd: npt.NDArray[np.floating],
    count: int,
    groups_n: npt.NDArray[np.int64] | None = None,
) -> Rows:
    """`count` rows whose mean follows the mean of all, by herding (Welling 2009), in the order they are taken.

    Features are scaled to unit length first, φ = x / |x|. With μ their mean and w_0 = μ, step t takes
    argmax_i ⟨w_{t−1}, φ_i⟩ among the rows not taken yet and sets w_t = w_{t−1} + μ − φ_i. For vectors of equal length
    this is also the row that brings the mean of those taken nearest to μ. Ties go to the lower row.

    Args:
        x_nd: feature vectors.
        count: how many rows, at most n.
        groups_n: the group of every tile, to spread over groups first; None not to.

    Raises:
        ValueError: more rows wanted than there are.
    """
    _check(count, len(x_nd))
    phi_nd = x_nd.astype(np.float64)
    phi_nd /= np.maximum(np.linalg.norm(phi_nd, axis=1, keepdims=True), 1e-12)
    mean_d = phi_nd.mean(0)
    w_d = mean_d.copy()
    index_n = np.arange(len(x_nd)) if groups_n is None else np.unique(groups_n, return_inverse=True)[1]
    left_n = np.ones(len(x_nd), bool)
    taken_g = np.zeros(int(index_n.max()) + 1, np.int64)
    rows: list[int] = []
    for _ in range(count):
        open_n = left_n & (taken_g[index_n] == taken_g[index_n[left_n]].min())
        row = int(np.argmax(np.where(open_n, phi_nd @ w_d, -np.inf)))
        rows.append(row)
        w_d += mean_d - phi_nd[row]
        left_n[row] = False
        taken_g[index_n[row]] += 1
    return np.array(rows, np.int64)


def _check(count: int, available: int) -> None:
    if count > available:
        raise ValueError(f"{count} tiles were asked for, but the class has {available}; ask for at most that many")
