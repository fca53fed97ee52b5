"""From feature vectors to a directed, weighted graph: every node points at its k nearest neighbours.

The graph is scale-free: multiplying all vectors by a number changes no weight, and it means the same at any n (the
rule of the InfoDist code, softmax(1/d) over all nodes with edges under 0.001 dropped, is complete at n = 500 and empty
at n = 2,000). Rows should come in an order that is the content's own (by `tile_id`): ties go to the earlier row, so
then nothing depends on the order in which candidates were made.
Shapes: n nodes, d features, k neighbours, e = n·k edges, b rows of a block, p pairs, q rows asked about.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.features.distances import BLOCK_ROWS, Floats, Vectors, check_clouds, squared_distance_blocks
from stages.graph.near_pairs import near_pairs

Ints = npt.NDArray[np.int64]
PAIRS_AT_ONCE = 1 << 8
"""So few that their rows stay in the processor's cache: many more take five times as long, with equal numbers."""


class Neighbours(NamedTuple):
    """The k nearest other nodes of every node, nearest first; from an exact or an approximate search."""

    index_nk: Ints
    distance_nk: Floats


class Graph(NamedTuple):
    """A directed graph as a list of edges, sorted by source, then target."""

    nodes: int
    source_e: Ints
    target_e: Ints
    weight_e: Floats
    """Above 0. In the plain neighbour graph the weights that leave a node sum to 1."""


def exact_neighbours(x_nd: Vectors, k: int) -> Neighbours:
    """The k nearest other rows of every row (all n − 1 if there are fewer), ties to the earlier row.

    Bounds in float32 find the pairs that count; their distances are computed from differences in float64, so the answer
    is that of `exact_neighbours_of`, to the bit, in half the time or less. Rows that float32 leaves unsure go that way.

    Raises:
        ValueError: k < 1, not a matrix, or numbers that are not finite.
    """
    if k < 1:
        raise ValueError(f"a node needs at least 1 neighbour, got k = {k}")
    x_nd, _ = check_clouds(x_nd, x_nd)
    k = min(k, len(x_nd) - 1)
    index_nk, distance_nk = np.zeros((len(x_nd), k), np.int64), np.zeros((len(x_nd), k))
    if k == 0:
        return Neighbours(index_nk, distance_nk)
    near = near_pairs(x_nd, k)
    of_first, of_second = near.of_first_p, near.of_second_p
    distance_p = pair_distances(x_nd, near.first_p, near.second_p)
    row_e = np.concatenate([near.first_p[of_first], near.second_p[of_second]])
    column_e = np.concatenate([near.second_p[of_first], near.first_p[of_second]])
    distance_e = np.concatenate([distance_p[of_first], distance_p[of_second]])
    sure_q, unsure_q = np.flatnonzero(~near.unsure_n), np.flatnonzero(near.unsure_n)
    index_nk[sure_q], distance_nk[sure_q] = _nearest_of_each(row_e, column_e, distance_e, sure_q, k)
    if len(unsure_q):
        index_nk[unsure_q], distance_nk[unsure_q] = exact_neighbours_of(unsure_q, x_nd, k)
    return Neighbours(index_nk, distance_nk)


def exact_neighbours_of(rows_q: Ints, x_nd: Vectors, k: int) -> Neighbours:
    """The k nearest other rows of the rows listed (all n − 1 if there are fewer), ties to the earlier row.

    A matrix product finds the few that can be among the nearest; their distances are then computed anew from
    differences. So equal rows are at distance exactly 0, a distance depends on its two rows alone, and the
    blocks keep the memory far below n × n.

    Raises:
        ValueError: k < 1, not a matrix, or numbers that are not finite.
    """
    if k < 1:
        raise ValueError(f"a node needs at least 1 neighbour, got k = {k}")
    x_nd, _ = check_clouds(x_nd, x_nd)
    k = min(k, len(x_nd) - 1)
    if k == 0:
        return Neighbours(np.zeros((len(rows_q), 0), np.int64), np.zeros((len(rows_q), 0)))
    index_qk, distance_qk = np.empty((len(rows_q), k), np.int64), np.empty((len(rows_q), k))
    slack = 1e-12 * float(np.einsum("nd,nd->n", x_nd, x_nd).max())
    for start in range(0, len(rows_q), BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, len(rows_q)))
        ((_, d2_bn),) = squared_distance_blocks(x_nd[rows_q[block]], x_nd)  # so that no copy of all rows is made
        d2_bn[np.arange(len(d2_bn)), rows_q[block]] = np.inf
        limit_b = np.partition(d2_bn, k - 1, axis=1)[:, k - 1] + slack
        row_p, column_p = np.nonzero(d2_bn <= limit_b[:, None])
        distance_p = pair_distances(x_nd, rows_q[block][row_p], column_p)
        index_qk[block], distance_qk[block] = _nearest_of_each(row_p, column_p, distance_p, np.arange(len(d2_bn)), k)
    return Neighbours(index_qk, distance_qk)


def _nearest_of_each(row_e: Ints, column_e: Ints, distance_e: Floats, rows_q: Ints, k: int) -> Neighbours:
    """The k nearest of every row asked about, ties to the earlier; of each at least k are listed, in any order."""
    order_e = np.lexsort((column_e, distance_e, row_e))
    first_q = np.searchsorted(row_e[order_e], rows_q)
    chosen_qk = order_e[first_q[:, None] + np.arange(k)]
    return Neighbours(column_e[chosen_qk], distance_e[chosen_qk])


def pair_distances(x_nd: Floats, a_p: Ints, b_p: Ints) -> Floats:
    """|x_a − x_b| for listed pairs, a slice at a time: many rows may be equal, and then there are many pairs."""
    distance_p = np.empty(len(a_p))
    for start in range(0, len(a_p), PAIRS_AT_ONCE):
        pairs = slice(start, start + PAIRS_AT_ONCE)
        difference_pd = x_nd[a_p[pairs]] - x_nd[b_p[pairs]]
        distance_p[pairs] = np.sqrt((difference_pd * difference_pd).sum(axis=1))
    return distance_p


def neighbour_graph(neighbours: Neighbours) -> Graph:
    """The directed graph with w_ij = softmax_j(−d_ij / σ_i) over the neighbours j of i.

    σ_i is the mean distance from i to its k neighbours, so dense and thin regions are treated alike and the unit of
    distance cancels; where all of them are at distance 0, the weights are equal.
    """
    index_nk, distance_nk = neighbours
    n, k = index_nk.shape
    if k == 0:
        return Graph(n, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    scale_n1 = distance_nk.mean(axis=1, keepdims=True)
    relative_nk = distance_nk / np.where(scale_n1 > 0, scale_n1, 1.0)
    weight_nk = np.exp(relative_nk.min(axis=1, keepdims=True) - relative_nk)
    weight_nk /= weight_nk.sum(axis=1, keepdims=True)
    source_e = np.repeat(np.arange(n), k)
    order_e = np.lexsort((index_nk.ravel(), source_e))
    return Graph(n, source_e, index_nk.ravel()[order_e], weight_nk.ravel()[order_e])
