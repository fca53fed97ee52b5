"""From communities to the chosen: the most central of every one, spread out, no two nearly the same, by quota.

The order inside a community is fixed before any quota is: so the head of a selection is the smaller selection (where
the shares are equal). Near-identical nodes are dropped in that order, whatever their communities.
Shapes: n nodes, d features, k neighbours, m communities, s chosen, p pairs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stages.features.distances import Floats, Vectors, check_clouds, squared_distance_blocks
from stages.graph.greedy import farthest_first
from stages.graph.knn import Ints, Neighbours, pair_distances
from stages.graph.quotas import in_turn, quotas

Bools = npt.NDArray[np.bool_]


class Chosen(NamedTuple):
    """Who was chosen, in turn, and why the others were not."""

    chosen_s: Ints
    place_n: Ints
    """Place of every node in its community, from 0, among those that are not near-identical to an earlier one."""
    fair_n: Bools
    """Whether a node is within the fair share of its community."""
    outlier_n: Bools
    """Whether its community is one that has no share."""
    twin_n: Bools
    """Whether it was dropped for being near-identical to one that comes before it."""


def represent(
    x_nd: Vectors,
    neighbours: Neighbours,
    community_n: Ints,
    place_n: Ints,
    weight_m: Floats,
    wanted: int,
    apart: float = 0.0,
) -> Chosen:
    """`wanted` nodes, by quota from communities in order of precedence, no two of them closer than `apart`.

    Args:
        x_nd: vectors.
        neighbours: of the same vectors; near-identical nodes are looked for here first.
        community_n: community of every node; the numbers are the order of precedence.
        place_n: place of every node in its community, from 0.
        weight_m: what the share of every community goes by; 0 for outliers.
        wanted: how many nodes.
        apart: least distance between two chosen nodes; 0 to allow any.

    Raises:
        ValueError: there are not `wanted` nodes that far apart.
    """
    x_nd, _ = check_clouds(x_nd, x_nd)
    twin_n = near_identical(neighbours, np.lexsort((community_n, place_n)), apart)
    while True:
        left = int((~twin_n).sum())
        if left < wanted:
            raise ValueError(
                f"wanted {wanted} of {len(x_nd)} nodes, but only {left} are at least {apart:.4g} apart: want fewer, or "
                "let them be closer"
            )
        chosen = _in_turn_without(twin_n, community_n, place_n, weight_m, wanted)
        close_s = later_of_close_pairs(x_nd[chosen.chosen_s], apart)
        if not close_s.any():
            return chosen
        twin_n[chosen.chosen_s[close_s]] = True  # more twins than the neighbours listed: take the next instead


def _in_turn_without(twin_n: Bools, community_n: Ints, place_n: Ints, weight_m: Floats, wanted: int) -> Chosen:
    """Seats by quota among the nodes that are not twins."""
    count = len(weight_m)
    open_n = np.flatnonzero(~twin_n)
    order = open_n[np.lexsort((place_n[open_n], community_n[open_n]))]
    size_m = np.bincount(community_n[open_n], minlength=count)
    new_n = np.full(len(twin_n), len(twin_n), np.int64)  # a twin's place is beyond every seat
    new_n[order] = np.arange(len(order)) - (np.cumsum(size_m) - size_m)[community_n[order]]
    shares = quotas(size_m, wanted, smallest=1, weight_m=weight_m)
    return Chosen(
        chosen_s=in_turn(community_n, new_n, shares.seats_m),
        place_n=new_n,
        fair_n=new_n < shares.fair_m[community_n],
        outlier_n=weight_m[community_n] == 0,
        twin_n=twin_n,
    )


def spread_places(x_nd: Vectors, community_n: Ints, place_n: Ints, central: float, most: int) -> Ints:
    """Places by farthest-first among the central nodes of every community, so that ten of them are not ten twins.

    The most central node stays first. Of the most central share of its community, each next one is the farthest from
    those before it (ties to the more central), up to `most` places; all others follow by centrality.

    Args:
        x_nd: vectors.
        community_n: community of every node.
        place_n: place of every node in its community by centrality, from 0.
        central: share of a community, between 0 and 1, that counts as central; at 0 nothing changes.
        most: places that are spread; no community can need more than there are seats.

    Raises:
        ValueError: `central` is not a share.
    """
    if not 0 <= central <= 1:
        raise ValueError(f"the central share of a community lies between 0 and 1, got {central}")
    x_nd, _ = check_clouds(x_nd, x_nd)
    new_n, order_n = place_n.copy(), np.lexsort((place_n, community_n))
    size_m = np.bincount(community_n)
    for start, size in zip(np.cumsum(size_m) - size_m, size_m, strict=True):
        pool = order_n[start : start + int(np.ceil(central * size))]
        if len(pool) > 2:
            ahead = farthest_first(x_nd[pool], min(most, len(pool)), 0)
            rest = np.setdiff1d(np.arange(len(pool)), ahead)
            new_n[pool[np.concatenate([ahead, rest])]] = np.arange(len(pool))
    return new_n


def typical_gap(neighbours: Neighbours) -> float:
    """The median distance to the nearest other node: the unit in which `apart` is best given. 0 for a node alone."""
    distance_nk = neighbours.distance_nk
    return float(np.median(distance_nk[:, 0])) if distance_nk.shape[1] else 0.0


def near_identical(neighbours: Neighbours, order_n: Ints, apart: float) -> Bools:
    """Nodes closer than `apart` to a kept one that comes before them in `order_n`, among the neighbours listed.

    The first of a group of twins is kept; a node whose only close nodes are dropped themselves is kept as well.
    """
    n = len(neighbours.index_nk)
    dropped_n = np.zeros(n, bool)
    source_p, column_p = np.nonzero(neighbours.distance_nk < apart)
    if len(source_p) == 0:
        return dropped_n
    ends = source_p, neighbours.index_nk[source_p, column_p]
    close_nn = sparse.csr_array((np.ones(len(source_p), bool), ends), shape=(n, n))
    close_nn = sparse.csr_array(close_nn + close_nn.T)
    has_twins_n = np.diff(close_nn.indptr) > 0
    for node in order_n[has_twins_n[order_n]]:
        if not dropped_n[node]:
            twins = close_nn.indices[close_nn.indptr[node] : close_nn.indptr[node + 1]]
            dropped_n[twins] = True
    return dropped_n


def later_of_close_pairs(x_sd: Floats, apart: float) -> Bools:
    """Of rows in order: which are closer than `apart` to an earlier row not marked itself; all pairs are seen."""
    marked_s = np.zeros(len(x_sd), bool)
    if apart <= 0:
        return marked_s
    slack = 1e-12 * float(np.einsum("sd,sd->s", x_sd, x_sd).max())
    for block, d2_bs in squared_distance_blocks(x_sd, x_sd):
        row_p, other_p = np.nonzero(d2_bs < apart**2 + slack)
        earlier_p = other_p < row_p + block.start
        row_p, other_p = row_p[earlier_p] + block.start, other_p[earlier_p]
        close_p = pair_distances(x_sd, row_p, other_p) < apart
        for row, other in zip(
            row_p[close_p], other_p[close_p], strict=True
        ):  # rows ascend, so earlier ones are settled
            marked_s[row] |= not marked_s[other]
    return marked_s
