"""How many tiles each community may send, and which.

Shapes: m communities, n nodes, s chosen.
"""

from typing import NamedTuple

import numpy as np

from stages.features.distances import Floats
from stages.graph.knn import Ints


class Quotas(NamedTuple):
    """Seats per community."""

    seats_m: Ints
    """Nodes each community sends in all."""
    fair_m: Ints
    """Of these, its fair share; the rest fills what smaller communities could not."""


def quotas(size_m: Ints, wanted: int, smallest: int = 1) -> Quotas:
    """Seats per community, for communities in order of precedence (the largest flow first).

    Communities with fewer than `smallest` nodes are outliers and have no share. Each other one gets wanted // M, the
    remainder goes one each to the first. When M exceeds `wanted`, the first `wanted` get one each. What a community
    cannot fill is taken from the largest one (ties: the earlier) as far as it goes, then from the next largest; so from
    outliers only when all others are used up.

    Raises:
        ValueError: more are wanted than there are nodes, or fewer than none.
    """
    if not 0 <= wanted <= int(size_m.sum()):
        raise ValueError(f"wanted {wanted} of {int(size_m.sum())} nodes; wanted must lie between 0 and that")
    regular = np.flatnonzero(size_m >= smallest)
    share_m = np.zeros(len(size_m), np.int64)
    if len(regular):
        share_m[regular] = wanted // len(regular)
        share_m[regular[: wanted % len(regular)]] += 1
    fair_m = np.minimum(share_m, size_m)
    seats_m = fair_m.copy()
    for community in np.argsort(-size_m, kind="stable"):  # outliers are the smallest, so their turn comes last
        seats_m[community] += min(wanted - int(seats_m.sum()), int(size_m[community] - seats_m[community]))
    return Quotas(seats_m, fair_m)


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
