"""Selections of the same candidates side by side, in numbers: what they share, hold and reach, how near to real tiles.

Pure: arrays in, numbers out. Precision, recall and the Vendi score depend on how many tiles there are, so they are of
equally many of each selection: the first by rank, class by class in turn, which are a fair selection themselves.
Shapes: n candidates, s chosen, v val tiles, d features, a selections, g groups.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.features.distances import Vectors
from stages.features.fidelity import NEIGHBOURS
from stages.features.kid import kid_interval
from stages.features.manifold import precision_recall
from stages.features.vendi import vendi_score
from stages.graph.comparing import community_reach, overlap
from stages.stats import intervals, paired

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Draws = Callable[[], np.random.Generator]
"""Gives a fresh generator at every call, always the same: two selections are compared under the same draws."""


class Partition(NamedTuple):
    """The communities that selections are held against."""

    row_n: Ints
    """Number of each of its candidates among all."""
    label_n: Ints
    community_n: Ints
    """Within its class."""
    flow_n: Floats
    """Sums to 1 within a class."""


class Real(NamedTuple):
    """Val tiles as vectors."""

    x_vd: Vectors
    group_v: Ints


def in_turn(label_s: Ints, rank_s: npt.NDArray[np.integer]) -> Ints:
    """The places of tiles by rank, class by class in turn: any head of them is as balanced as it can be."""
    return np.lexsort((label_s, rank_s)).astype(np.int64)


def overlaps(rows: Sequence[Ints], candidates: int) -> dict[str, list[list[float]]]:
    """Tiles shared, Jaccard index, and the Jaccard index that draws by lot would have, each a × a.

    Args:
        rows: candidates in each selection.
        candidates: how many there are.
    """
    shared, jaccard, by_lot = [], [], []
    for one_s in rows:
        found = [overlap(one_s, other_s, candidates) for other_s in rows]
        shared.append([float(part.shared) for part in found])
        jaccard.append([part.jaccard for part in found])
        sizes = [len(one_s) + len(other_s) for other_s in rows]
        by_lot.append([part.expected / (size - part.expected) for part, size in zip(found, sizes, strict=True)])
    return {"shared": shared, "jaccard": jaccard, "by_lot": by_lot}


def reach(partition: Partition, rows_s: Ints) -> dict[str, float]:
    """Shares of communities, of the candidates in them and of flow that a selection reaches.

    Chosen candidates that the partition does not know (copies, those left out) reach nothing.
    """
    names = np.stack([partition.label_n, partition.community_n], axis=1)
    _, community_n = np.unique(names, axis=0, return_inverse=True)
    flow_n = partition.flow_n / len(np.unique(partition.label_n))
    chosen_s = np.flatnonzero(np.isin(partition.row_n, rows_s))
    return community_reach(community_n.ravel().astype(np.int64), flow_n, chosen_s)._asdict()


def nearness(
    x_sd: Vectors, group_s: Ints | None, real: Real, count: int, draws: Draws, resamples: int, level: float
) -> dict[str, Any]:
    """How near tiles are to real ones, and how varied: KID with its interval; precision, recall and Vendi of `count`.

    What needs more tiles or groups than there are is None.

    Args:
        x_sd: vectors of the tiles, in turn.
        group_s: their groups if they are real; None: each its own.
        real: val tiles.
        count: how many of the tiles enter what depends on their number.
        draws: of the bootstrap.
        resamples: bootstrap resamples.
        level: coverage aimed at.
    """
    groups = [len(x_sd) if group_s is None else len(np.unique(group_s)), len(np.unique(real.group_v))]
    kid = manifold = vendi = None
    if min(groups) > 1:
        found = kid_interval(x_sd, real.x_vd, draws(), resamples, level, group_n=group_s, group_m=real.group_v)
        kid = found._asdict()
    head_sd = x_sd[:count]
    if min(len(head_sd), len(real.x_vd)) > NEIGHBOURS:
        manifold = precision_recall(real.x_vd, head_sd, NEIGHBOURS)
    if len(head_sd) == count and np.abs(head_sd).sum(axis=1).all():
        vendi = vendi_score(head_sd)
    return {
        "kid": kid,
        "precision": None if manifold is None else manifold.precision,
        "recall": None if manifold is None else manifold.recall,
        "vendi": vendi,
    }


def agreement(p_sk: Floats, label_s: Ints, level: float) -> dict[str, float]:
    """How often a classifier takes tiles for what their labels say, with the exact interval."""
    right = int((p_sk.argmax(axis=1) == label_s).sum())
    return intervals.clopper_pearson(right, len(label_s), level)._asdict()


def differences(
    contests: Mapping[str, tuple[intervals.Weighted, int]],
    first: str,
    groups: int,
    draws: Draws,
    resamples: int,
    level: float,
) -> dict[str, dict[str, float]]:
    """Of every contestant but the `first`: by how much its metric exceeds that of the first, paired by test tile.

    Args:
        contests: of each, the metric on the same groups (from weights b × g to b × seeds) and its number of seeds.
        first: the one the others are held against; without it nothing is told.
        groups: how many groups of test tiles.
        draws: of the bootstrap.
        resamples: bootstrap resamples.
        level: coverage aimed at.
    """
    if first not in contests:
        return {}
    return {
        name: paired.difference(metric, contests[first], groups, draws(), resamples, level)._asdict()
        for name, metric in contests.items()
        if name != first
    }
