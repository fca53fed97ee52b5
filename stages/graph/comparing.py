"""How two selections of the same candidates differ, and how much of the candidates one of them reaches.

Shapes: n candidates, s chosen, m communities.
"""

from typing import NamedTuple

import numpy as np

from stages.features.distances import Floats
from stages.graph.knn import Ints


class Overlap(NamedTuple):
    """How much two selections share."""

    shared: int
    """Candidates that are in both."""
    jaccard: float
    """Those in both over those in either: 1 for equal selections, 0 for disjoint ones."""
    expected: float
    """Candidates two random selections of these sizes would share on average."""


def overlap(one_s: Ints, other_s: Ints, candidates: int) -> Overlap:
    """Overlap of two selections from `candidates` candidates.

    Raises:
        ValueError: a selection holds a candidate twice, or is empty.
    """
    for rows_s in (one_s, other_s):
        if len(rows_s) == 0 or len(np.unique(rows_s)) != len(rows_s):
            raise ValueError("a selection to compare holds at least one candidate, and none twice")
    shared = len(np.intersect1d(one_s, other_s))
    return Overlap(shared, shared / (len(one_s) + len(other_s) - shared), len(one_s) * len(other_s) / candidates)


class Reach(NamedTuple):
    """How much of the candidates is represented; shares between 0 and 1."""

    communities: float
    """Communities with at least one chosen candidate."""
    candidates: float
    """Candidates in such communities."""
    flow: float
    """Flow in such communities."""


def community_reach(community_n: Ints, flow_n: Floats, chosen_s: Ints) -> Reach:
    """How much of the communities a selection reaches."""
    reached_m = np.bincount(community_n[chosen_s], minlength=int(community_n.max()) + 1) > 0
    size_m = np.bincount(community_n)
    inside_n = reached_m[community_n]
    return Reach(float(reached_m[size_m > 0].mean()), float(inside_n.mean()), float(flow_n[inside_n].sum()))
