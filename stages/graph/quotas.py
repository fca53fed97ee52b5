"""How many tiles each community may send, and which.

Shapes: m communities, n nodes, s chosen.
"""

from typing import Literal, NamedTuple

import numpy as np

from stages.features.distances import Floats
from stages.graph.knn import Ints

Quota = Literal["equal", "proportional", "sqrt", "uncertainty"]


class Quotas(NamedTuple):
    """Seats per community."""

    seats_m: Ints
    """Nodes each community sends in all."""
    fair_m: Ints
    """Of these, its fair share; the rest fills what smaller communities could not."""


def quotas(size_m: Ints, wanted: int, smallest: int = 1, weight_m: Floats | None = None) -> Quotas:
    """Seats per community, for communities in order of precedence (the largest flow first).

    Communities with fewer than `smallest` nodes are outliers and have no share. The others share by weight, by the
    method of largest remainders (Hamilton; ties to the earlier): with equal weights each gets wanted // M, and the
    remainder goes one each to the first. When they outnumber the seats, the first `wanted` of them alone share. What a
    community cannot fill is taken from the largest one (ties: the earlier) as far as it goes, then from the next
    largest; so from outliers only when all others are used up.

    Args:
        size_m: nodes that can be taken, per community.
        wanted: seats in all.
        smallest: of a community that has a share.
        weight_m: of every community, from 0; a community of weight 0 is an outlier as well. None for equal weights.

    Raises:
        ValueError: more are wanted than there are nodes, or fewer than none; weights that are negative or not finite.
    """
    if not 0 <= wanted <= int(size_m.sum()):
        raise ValueError(f"wanted {wanted} of {int(size_m.sum())} nodes; wanted must lie between 0 and that")
    weight_m = np.ones(len(size_m)) if weight_m is None else weight_m
    if not (np.isfinite(weight_m).all() and (weight_m >= 0).all()):
        raise ValueError(f"the weights of communities must be finite and at least 0, got {weight_m.tolist()}")
    regular_m = (size_m >= smallest) & (weight_m > 0)
    first = np.flatnonzero(regular_m)[:wanted]
    share_m = np.zeros(len(size_m), np.int64)
    share_m[first] = _largest_remainders(weight_m[first], wanted)
    fair_m = np.minimum(share_m, size_m)
    seats_m = fair_m.copy()
    for community in np.lexsort((np.arange(len(size_m)), -size_m, ~regular_m)):
        seats_m[community] += min(wanted - int(seats_m.sum()), int(size_m[community] - seats_m[community]))
    return Quotas(seats_m, fair_m)


def _largest_remainders(weight_m: Floats, wanted: int) -> Ints:
    """`wanted` seats by weight: the whole parts of the exact shares, then one each to the largest remainders."""
    if len(weight_m) == 0:
        return np.zeros(0, np.int64)
    exact_m = np.round(wanted * weight_m / weight_m.sum(), 9)  # rounding must not cost a whole seat
    seats_m: Ints = np.floor(exact_m).astype(np.int64)
    order_m = np.argsort(seats_m - exact_m, kind="stable")
    seats_m[order_m[: wanted - int(seats_m.sum())]] += 1
    return seats_m


def share_weights(quota: Quota, size_m: Ints, smallest: int, uncertainty_m: Floats | None = None) -> Floats:
    """What the share of every community goes by; 0 for outliers, which are those with fewer than `smallest` nodes.

    `equal` is the rule of the paper; `proportional` to the number of nodes; `sqrt` between the two; `uncertainty` by
    the score the caller gives per community, such as a classifier's mean entropy there.

    Raises:
        ValueError: `uncertainty` without one score per community.
    """
    if quota == "uncertainty" and (uncertainty_m is None or uncertainty_m.shape != size_m.shape):
        given = "none" if uncertainty_m is None else f"shape {uncertainty_m.shape}"
        raise ValueError(f"the quota by uncertainty needs one score for each of {len(size_m)} communities, got {given}")
    match quota:
        case "equal":
            weight_m = np.ones(len(size_m))
        case "proportional":
            weight_m = size_m.astype(np.float64)
        case "sqrt":
            weight_m = np.sqrt(size_m)
        case "uncertainty":
            assert uncertainty_m is not None
            weight_m = uncertainty_m
    return np.where(size_m >= smallest, weight_m, 0.0)


def by_centrality(community_n: Ints, centrality_n: Floats, flow_n: Floats) -> Ints:
    """Place of every node in its community, from 0: by modular centrality, then flow, then the earlier node.

    Numbers that differ by rounding alone (1e-12) count as equal.
    """
    n = len(community_n)
    order_n = np.lexsort((np.arange(n), -np.round(flow_n, 12), -np.round(centrality_n, 12), community_n))
    first_m = np.searchsorted(community_n[order_n], np.arange(int(community_n.max()) + 1))
    place_n = np.empty(n, np.int64)
    place_n[order_n] = np.arange(n) - first_m[community_n[order_n]]
    return place_n


def in_turn(community_n: Ints, place_n: Ints, seats_m: Ints) -> Ints:
    """The nodes that have a seat: the first of every community, then the second of every one, and so on.

    So the head of a selection is itself a fair, smaller selection.
    """
    chosen_s = np.flatnonzero(place_n < seats_m[community_n])
    return chosen_s[np.lexsort((community_n[chosen_s], place_n[chosen_s]))]
