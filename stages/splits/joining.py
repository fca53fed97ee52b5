"""From scored pairs to clusters: a line that chance seldom passes, and links from the strongest to the weakest.

Shapes: n tiles, p pairs, r random pairs.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
LEAST_RANDOM = 30
"""Fewer random pairs tell too little of their spread."""
HIGHEST_LINE = 2.5
"""A line above would refuse even exact copies that are mirrored, whose score is 2.99 at most."""


class Clusters(NamedTuple):
    """Tiles that belong together."""

    number_n: Ints
    """The cluster of each tile: the first of its tiles."""
    linked: int
    """Pairs above the line."""
    refused: int
    """Links not followed, because the cluster would have become too large."""


def line_of_chance(score_r: Floats, tiles: int, false_links: float, least: float) -> float:
    """The score above which, if no tile were a copy, `false_links` links per tile would be expected among all pairs.

    Unrelated tiles' scores are near normal; their centre and spread are taken from the middle half of random pairs,
    so that the few copies among these do not lift the line (Efron 2004, JASA 99, "central matching").

    Args:
        score_r: scores of random pairs.
        tiles: how many tiles there are.
        false_links: expected links by chance, per tile.
        least: the line is never below.
    """
    if len(score_r) < LEAST_RANDOM:
        return least
    low, middle, high = np.quantile(score_r.astype(np.float64), [0.25, 0.5, 0.75])
    normal = NormalDist()
    spread = (high - low) / (2 * normal.inv_cdf(0.75))
    rate = min(0.5, 2 * false_links / max(1, tiles - 1))
    return float(np.clip(middle + spread * normal.inv_cdf(1 - rate), least, HIGHEST_LINE))


def join(pair_p2: Ints, score_p: Floats, weight_n: Ints, line: float, largest: int) -> Clusters:
    """Link pairs above the line, strongest first, unless the cluster would hold more than `largest` tiles.

    So a chain of chance links is cut where it is weakest (Kruskal's order). A tie goes to the earlier pair.

    Args:
        pair_p2: pairs, each smaller row first.
        score_p: their scores.
        weight_n: how many tiles each row stands for.
        line: links are above it.
        largest: the most tiles of a cluster; a row that stands for more is alone.
    """
    parent = list(range(len(weight_n)))
    size = weight_n.tolist()

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    strong = np.flatnonzero(score_p > line)
    order = strong[np.lexsort((pair_p2[strong, 1], pair_p2[strong, 0], -score_p[strong]))]
    refused = 0
    for first, second in pair_p2[order].tolist():
        a, b = sorted((root(first), root(second)))
        if a == b:
            continue
        if size[a] + size[b] > largest:
            refused += 1
            continue
        parent[b] = a
        size[a] += size[b]
    return Clusters(np.array([root(node) for node in range(len(parent))], np.int64), len(strong), refused)
