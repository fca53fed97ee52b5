"""Greedy choices: the farthest next, and the one that gains most next (lazily, for gains that only shrink).

Shapes: n nodes, d features, s chosen, b rows asked about at once.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stages.features.distances import Floats
from stages.graph.knn import Ints

AT_ONCE = 16


def farthest_first(x_nd: Floats, wanted: int, first: int) -> Ints:
    """`first`, then again and again the row farthest from all taken so far (Gonzalez 1985), ties to the earlier.

    Within twice the best possible largest distance of a row to its nearest chosen one. The head of a longer choice is
    the shorter one.
    """
    chosen_s = np.full(wanted, first, np.int64)
    x2_n = np.einsum("nd,nd->n", x_nd, x_nd)
    slack = 1e-12 * float(x2_n.max())
    gap2_n = np.full(len(x_nd), np.inf)
    for place in range(1, wanted):
        last = int(chosen_s[place - 1])
        d2_n = x2_n + x2_n[last] - 2.0 * (x_nd @ x_nd[last])
        gap2_n = np.minimum(gap2_n, np.where(d2_n > slack, d2_n, 0.0))  # rounding: equal rows are at distance 0
        gap2_n[last] = -1.0
        chosen_s[place] = int(np.argmax(gap2_n))
    return chosen_s


def lazy_greedy(
    bound_n: Floats,
    gains_of: Callable[[Ints], Floats],
    take: Callable[[int], None],
    wanted: int,
    taken_n: npt.NDArray[np.bool_],
    least: float = 0.0,
) -> Ints:
    """Up to `wanted` rows, each the one that gains most given those before it, ties to the earlier (Minoux 1978).

    Gains may only shrink as rows are taken (submodularity), so an old gain bounds the new one, and few are asked for
    anew in every step.

    Args:
        bound_n: no less than the gain of every row; overwritten.
        gains_of: the gains of some rows now.
        take: called with every row that is taken.
        wanted: how many rows, at most those that are free.
        taken_n: rows that are not free; those taken are marked in it.
        least: stop where the best gain is less.
    """
    chosen: list[int] = []
    while len(chosen) < wanted:
        fresh_n = taken_n.copy()
        while not fresh_n[best := int(np.argmax(np.where(taken_n, -np.inf, bound_n)))]:
            stale_b = _largest_stale(bound_n, fresh_n, best)
            bound_n[stale_b] = gains_of(stale_b)
            fresh_n[stale_b] = True
        if bound_n[best] < least:
            break
        take(best)
        taken_n[best] = True
        chosen.append(best)
    return np.array(chosen, np.int64)


def _largest_stale(bound_n: Floats, fresh_n: npt.NDArray[np.bool_], best: int) -> Ints:
    """`best` and some more rows with the largest bounds, in the order of rows: asked for together, they cost less."""
    stale = np.flatnonzero(~fresh_n)
    if len(stale) > AT_ONCE:
        top = np.argpartition(-bound_n[stale], AT_ONCE)[:AT_ONCE]
        stale = np.union1d(stale[top], [best])
    return stale
