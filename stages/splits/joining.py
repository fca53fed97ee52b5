"""From scored pairs to clusters: two lines that chance seldom passes, and links from the strongest to the weakest.

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
"""A line above would refuse even copies that are merely mirrored, whose score is 2.99."""
LEAST_BACKGROUND = 3
"""Fewer look-alikes of a tile tell nothing of its background."""
MOST_LESS, MOST_MORE = 0.15, 0.1
SUPPORT = 2
"""Links that two clusters need between them if none is sure."""
SUPPORT_SHARE = 0.35
"""And what share of the pairs between them these must be."""


class Lines(NamedTuple):
    """Scores that tell copies from chance."""

    sure: float
    """One link above joins two clusters."""
    likely: float
    """Links above join two clusters if they are several."""


class Clusters(NamedTuple):
    """Tiles that belong together."""

    number_n: Ints
    """The cluster of each tile: the first of its tiles."""
    linked: int
    """Pairs above the line."""
    refused: int
    """Links not followed, because the cluster would have become too large."""


def above_background(pair_p2: Ints, score_p: Floats, tiles: int, copies: float) -> Floats:
    """Scores less what each of the two tiles scores with tiles that merely look alike, where that is more than usual.

    A tile of even texture resembles many a little: without this such tiles become hubs that chain clusters. A tile's
    background is the median of its scores below `copies`; each tile's excess over the usual is taken off, at most
    MOST_LESS (or added, at most MOST_MORE).
    """
    below = score_p < copies
    tile_e = np.concatenate([pair_p2[below, 0], pair_p2[below, 1]])
    score_e = np.concatenate([score_p[below], score_p[below]])
    order = np.lexsort((score_e, tile_e))
    tile_e, score_e = tile_e[order], score_e[order]
    first = np.searchsorted(tile_e, np.arange(tiles + 1))
    count = np.diff(first)
    known = count >= LEAST_BACKGROUND
    if not known.any():
        return score_p
    background = np.zeros(tiles, np.float32)
    background[known] = score_e[(first[:-1] + count // 2)[known]]
    excess = np.where(known, background - np.median(background[known]), 0.0).clip(-MOST_MORE, MOST_LESS)
    found: Floats = (score_p - excess[pair_p2[:, 0]] - excess[pair_p2[:, 1]]).astype(np.float32)
    return found


def line_of_chance(score_r: Floats, rate: float, least: float) -> float:
    """The score that a share `rate` of unrelated pairs is expected to pass.

    Unrelated tiles' scores are near normal; their centre and spread are taken from the median and the upper quartile
    of random pairs, so that the copies among these do not lift the line (Efron 2004, JASA 99, "central matching").

    Args:
        score_r: scores of random pairs.
        rate: a share, below one half.
        least: the line is never below; it is the line where random pairs are too few.
    """
    if len(score_r) < LEAST_RANDOM:
        return least
    middle, high = np.quantile(score_r.astype(np.float64), [0.5, 0.75])
    normal = NormalDist()
    spread = (high - middle) / normal.inv_cdf(0.75)
    return float(np.clip(middle + spread * normal.inv_cdf(1 - min(rate, 0.5)), least, HIGHEST_LINE))


def join(pair_p2: Ints, score_p: Floats, weight_n: Ints, lines: Lines, largest: int) -> Clusters:
    """Join clusters by links, strongest first, until none is left that joins.

    A sure link joins; likely ones if there are SUPPORT of them and they are SUPPORT_SHARE of all pairs between the two
    clusters. None joins if the cluster would hold more than `largest` tiles: so a chain of chance links is cut where it
    is weakest. A tie goes to the earlier pair.

    Args:
        pair_p2: pairs of rows, each once.
        score_p: their scores.
        weight_n: how many tiles each row stands for.
        lines: what is sure, and what is likely.
        largest: the most tiles of a cluster; a row that stands for more is alone.
    """
    strong = np.flatnonzero(score_p > lines.likely)
    order = strong[np.lexsort((pair_p2[strong, 1], pair_p2[strong, 0], -score_p[strong]))]
    links = list(zip(*pair_p2[order].T.tolist(), (score_p[order] > lines.sure).tolist(), strict=True))
    neighbours: list[list[int]] = [[] for _ in weight_n]
    for a, b, _ in links:
        neighbours[a].append(b)
        neighbours[b].append(a)
    root = list(range(len(weight_n)))
    members = {node: [node] for node in root}
    size = weight_n.tolist()
    refused: set[tuple[int, int]] = set()
    waiting, joined = links, True
    while joined:
        joined = False
        undecided = []
        for a, b, sure in waiting:
            first, second = sorted((root[a], root[b]), key=lambda node: (-len(members[node]), node))
            if first == second:
                continue
            if not (sure or _supported(members[first], members[second], neighbours, root)):
                undecided.append((a, b, sure))
            elif size[first] + size[second] > largest:
                refused.add((a, b))
            else:
                for node in members[second]:
                    root[node] = first
                members[first] += members.pop(second)
                size[first] += size[second]
                joined = True
        waiting = undecided
    smallest = {node: min(nodes) for node, nodes in members.items()}
    return Clusters(np.array([smallest[node] for node in root], np.int64), len(links), len(refused))


def _supported(large: list[int], small: list[int], neighbours: list[list[int]], root: list[int]) -> bool:
    """Whether enough links run between two clusters."""
    other = root[large[0]]
    count = sum(root[b] == other for a in small for b in neighbours[a])
    return count >= max(SUPPORT, SUPPORT_SHARE * len(large) * len(small))
