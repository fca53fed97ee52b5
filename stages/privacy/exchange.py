"""Are audited tiles nearer to train groups than to control groups, beyond chance? Exact comparisons of equal size.

There are more train groups than control groups, and the nearest of many is nearer than the nearest of few. So the two
sides are compared with equal numbers of groups of every class: m_c = the smaller of the two. The average over *all*
ways to draw m_c groups is computed, not sampled: the chance that none of k given groups of N is among the m drawn is
C(N − k, m) / C(N, m) (hypergeometric).

The p-value comes from exchanging roles: had the roles been dealt otherwise (within each class, whole groups), how
often would train look at least as near? If the audited tiles owe nothing to the train groups themselves, the true
deal is one among equals, however the tiles depend on each other (Phipson and Smyth 2010 for the + 1).

Shapes: n audited tiles, g groups, s strata (classes), b deals of the roles, the first being the true one.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.stats.intervals import Interval, percentiles

Floats = npt.NDArray[np.float64]
Deals = npt.NDArray[np.bool_]
DEALS_AT_ONCE = 100
UNDECIDED = 1e-4


class Groups(NamedTuple):
    """The real groups an audited set is compared with."""

    is_train_g: npt.NDArray[np.bool_]
    """True for a train group, False for a control group."""
    stratum_g: npt.NDArray[np.int64]
    """The class of a group (of most of its tiles)."""

    @property
    def drawn_s(self) -> npt.NDArray[np.int64]:
        """Groups of each class compared on each side: as many as the smaller side has."""
        strata = int(self.stratum_g.max()) + 1
        train_s = np.bincount(self.stratum_g[self.is_train_g], minlength=strata)
        control_s = np.bincount(self.stratum_g[~self.is_train_g], minlength=strata)
        return np.minimum(train_s, control_s)


def deal_roles(groups: Groups, rng: np.random.Generator, deals: int) -> Deals:
    """The true roles and `deals` − 1 others, each a shuffle of the true ones within every class: (g, b)."""
    dealt_gb = np.repeat(groups.is_train_g[:, None], deals, axis=1)
    for stratum in np.unique(groups.stratum_g):
        rows = np.flatnonzero(groups.stratum_g == stratum)
        dealt_gb[rows, 1:] = rng.permuted(dealt_gb[rows, 1:], axis=0)
    return dealt_gb


def chance_of_none(total: int, drawn: int) -> Floats:
    """C(N − k, m) / C(N, m) for k = 0 … N: the chance that `drawn` of `total` groups avoid k given ones."""
    k = np.arange(total)
    steps = np.maximum(total - k - drawn, 0) / np.maximum(total - k, 1)
    return np.concatenate([[1.0], np.cumprod(steps)])


def chance_of_hit(hit_ng: npt.NDArray[np.bool_], members_gb: Deals, groups: Groups) -> Floats:
    """For each tile and deal: the chance that an equal-size draw of the members holds a group that the tile hits."""
    none_nb = np.ones((len(hit_ng), members_gb.shape[1]))
    for stratum, drawn in enumerate(groups.drawn_s):
        inside_g = groups.stratum_g == stratum
        counts_nb = hit_ng[:, inside_g].astype(np.float32) @ members_gb[inside_g].astype(np.float32)
        table = chance_of_none(int(members_gb[inside_g, 0].sum()), int(drawn))
        none_nb *= table[np.rint(counts_nb).astype(np.int64)]
    return 1.0 - none_nb


class Comparison(NamedTuple):
    """Train beside an equal-size control, tile by tile, and how unusual the sum is."""

    train_n: Floats
    control_n: Floats
    statistic_b: Floats
    """What is tested, under the true deal of the roles (first) and under others."""

    @property
    def p_value(self) -> float:
        """The share of deals at least as extreme as the true one, which counts itself; one-sided."""
        return float((self.statistic_b >= self.statistic_b[0] - 1e-12).mean())

    def interval(self, tiles: Interval, level: float = 0.95) -> Interval:
        """Widen an interval that knows only the sampling of tiles by the chance in which groups were trained on."""
        low, high = percentiles(self.statistic_b - self.statistic_b.mean(), level)
        value = float(self.statistic_b[0])
        return Interval(value, value - math.hypot(value - tiles.low, high), value + math.hypot(tiles.high - value, low))


def excess(hit_ng: npt.NDArray[np.bool_], groups: Groups, dealt_gb: Deals) -> Comparison:
    """Compare how many audited tiles have a train group among those they hit, with how many a control group.

    Args:
        hit_ng: whether a tile is more similar to a group than some line drawn beforehand.
        groups: the groups and their true roles.
        dealt_gb: result of `deal_roles`; one-sided p-value of the mean of train − control.
    """
    first_g1 = dealt_gb[:, :1]
    train_n, control_n = (chance_of_hit(hit_ng, side_g1, groups)[:, 0] for side_g1 in (first_g1, ~first_g1))
    return Comparison(train_n, control_n, gaps(hit_ng, groups, dealt_gb).mean(0))


def gaps(hit_ng: npt.NDArray[np.bool_], groups: Groups, dealt_gb: Deals) -> Floats:
    """What each tile adds to the excess under each deal, (n, b): its chance to hit train minus to hit control."""
    return chance_of_hit(hit_ng, dealt_gb, groups) - chance_of_hit(hit_ng, ~dealt_gb, groups)


def closer_to_train(similarity_ng: npt.NDArray[np.float32], groups: Groups, dealt_gb: Deals) -> Comparison:
    """The share of tiles whose nearest group is a train group, in equal-size draws of both sides (DCR share).

    `train_n` is each tile's chance, averaged over all draws; without influence of the roles its mean is one half.
    """
    order_ng = np.argsort(-similarity_ng, axis=1, kind="stable")
    gap_b, first = [], None
    for start in range(0, dealt_gb.shape[1], DEALS_AT_ONCE):
        closer_nb = _closer(order_ng, groups, dealt_gb[:, start : start + DEALS_AT_ONCE])
        gap_b.append(2.0 * closer_nb.mean(0) - 1.0)
        first = closer_nb[:, 0] if first is None else first
    assert first is not None
    return Comparison(first, 1.0 - first, np.concatenate(gap_b))


def _closer(order_ng: npt.NDArray[np.int64], groups: Groups, dealt_gb: Deals) -> Floats:
    """Walk down each tile's groups, nearest first, until a drawn one is met; sum where it is a train group.

    With k groups of this role and class passed, the next one is drawn, given that none was, with chance m / (N − k).
    """
    n, deals = len(order_ng), dealt_gb.shape[1]
    drawn_s = groups.drawn_s.astype(np.float64)
    left_rs = np.stack([_count(~dealt_gb[:, 0], groups), _count(dealt_gb[:, 0], groups)])
    left_rsnb = np.broadcast_to(left_rs[:, :, None, None], (*left_rs.shape, n, deals)).copy()
    none_rnb = np.ones((2, n, deals))
    closer_nb: Floats = np.zeros((n, deals))
    rows_n1, deals_1b = np.arange(n)[:, None], np.arange(deals)[None]
    for next_n in order_ng.T:
        role_nb = dealt_gb[next_n].astype(np.int64)
        stratum_n1 = groups.stratum_g[next_n][:, None]
        place = (role_nb, stratum_n1, rows_n1, deals_1b)
        taken_nb = np.minimum(drawn_s[stratum_n1] / left_rsnb[place], 1.0)
        left_rsnb[place] -= 1.0
        closer_nb += np.where(role_nb == 1, taken_nb * none_rnb[0] * none_rnb[1], 0.0)
        none_rnb[role_nb, rows_n1, deals_1b] *= 1.0 - taken_nb
        if (none_rnb[0] * none_rnb[1]).max() < UNDECIDED:
            break
    closer_nb += 0.5 * none_rnb[0] * none_rnb[1]
    return closer_nb


def _count(members_g: npt.NDArray[np.bool_], groups: Groups) -> Floats:
    strata = int(groups.stratum_g.max()) + 1
    return np.bincount(groups.stratum_g[members_g], minlength=strata).astype(np.float64)
