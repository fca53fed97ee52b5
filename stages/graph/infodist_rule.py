"""The graph rule of the InfoDist code, for reproduction, and the ways in which it degenerates.

Li & Kainz, MICCAI 2024 (arXiv 2406.13536): w_ij = softmax_j(1 / d_ij) over all candidates of a class, the term of i
itself 0 before the softmax; edges under 0.001, or under the median of their row, are dropped. Since the weights of a
row sum to 1, the fixed threshold depends on n: up to about 500 candidates the graph is complete, at 2,000 it is empty.
The median keeps half of all pairs at any n, so memory and time grow with n². Use the neighbour graph instead, unless to
reproduce.
Shapes: n nodes, d features, b rows of a block, e edges.
"""

from typing import Literal

import numpy as np

from stages.features.distances import Floats, Vectors, check_clouds, squared_distance_blocks
from stages.graph.knn import Graph, pair_distances

FIXED = 0.001
NEARLY_ALL = 0.99


def infodist_original(x_nd: Vectors, threshold: Literal["fixed", "median"] = "fixed") -> Graph:
    """The directed graph of the published rule; `fixed` drops edges under 0.001, `median` those under their row's.

    A node's edge to itself, which the walk would only wait on, is left out. Where rows are equal their weight is the
    rule's limit for d → 0: they share all of it.

    Raises:
        ValueError: not a matrix, no vectors, or numbers that are not finite.
    """
    x_nd, _ = check_clouds(x_nd, x_nd)
    slack = 1e-12 * float(np.einsum("nd,nd->n", x_nd, x_nd).max())
    parts = []
    for block, d2_bn in squared_distance_blocks(x_nd, x_nd):
        self_b = np.arange(len(d2_bn)), np.arange(block.start, block.stop)
        d_bn = np.sqrt(d2_bn)
        row_p, near_p = np.nonzero(d2_bn <= slack)  # rounding: equal rows are at distance exactly 0
        d_bn[row_p, near_p] = pair_distances(x_nd, row_p + block.start, near_p)
        w_bn = _row_weights(d_bn, self_b)
        limit_b = np.full(len(w_bn), FIXED) if threshold == "fixed" else np.median(w_bn, axis=1)
        w_bn[self_b] = 0.0
        row_e, target_e = np.nonzero((w_bn >= limit_b[:, None]) & (w_bn > 0))
        parts.append((row_e + block.start, target_e, w_bn[row_e, target_e]))
    source_e, target_e, weight_e = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Graph(len(x_nd), source_e, target_e, weight_e)


def _row_weights(d_bn: Floats, self_b: tuple[np.ndarray, np.ndarray]) -> Floats:
    """softmax_j(1 / d_ij) with 0 for a node itself, the largest exponent taken out first."""
    with np.errstate(divide="ignore"):
        near_bn = 1.0 / d_bn
    near_bn[self_b] = 0.0
    top_b1 = near_bn.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        w_bn = np.where(np.isinf(top_b1), np.isinf(near_bn).astype(np.float64), np.exp(near_bn - top_b1))
    return np.asarray(w_bn / w_bn.sum(axis=1, keepdims=True), np.float64)


def graph_degeneracies(graph: Graph) -> list[str]:
    """Warnings, in words, about a graph that says little: complete, or empty, or nearly so; empty when all is well."""
    pairs = graph.nodes * (graph.nodes - 1)
    if pairs == 0:
        return []
    edges, alone = len(graph.source_e), graph.nodes - len(np.union1d(graph.source_e, graph.target_e))
    if edges == 0:
        return [f"the graph is empty: none of the {pairs} possible edges is left, every candidate stands alone"]
    if edges >= NEARLY_ALL * pairs:
        kept = "every possible edge" if edges == pairs else f"{edges} of {pairs} possible edges"
        return [f"the graph is complete: {kept} is kept, so it says almost nothing about who is near to whom"]
    if alone * 2 > graph.nodes:
        return [f"{alone} of {graph.nodes} candidates have no edge at all, and stand alone"]
    return []
