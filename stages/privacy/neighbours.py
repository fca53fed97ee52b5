"""Two classical ratios beside the control: nearest to second nearest (NNDR), and authenticity.

Both need the second nearest, or a neighbour's own neighbour, within the compared groups; so equal numbers of groups
are drawn from both sides (seeded), and the result averaged over the draws. The p-value sets that average against
single draws of exchanged roles, which scatter more: it errs on the side of no alarm.

Authenticity: Alaa et al. 2022 (arXiv 2102.08921), in the form that loops over the audited tiles; a tile is
inauthentic when it is nearer to its nearest real tile than that one is to any real tile of another group.

Shapes: n audited tiles, g groups, r real tiles, l of the most similar groups.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.privacy.exchange import Comparison, Groups, deal_roles
from stages.privacy.similarity import Nearness

Floats = npt.NDArray[np.float64]
DEPTH = 128
"""Of so many most similar groups two are almost always among the drawn ones."""
ROWS_AT_ONCE = 256


class Ratios(NamedTuple):
    """Both comparisons, from the same draws."""

    nndr: Comparison
    """`train_n`: how often the ratio of distances is smaller within train groups; `control_n` the opposite."""
    inauthentic: Comparison
    """How often a tile is inauthentic against train groups, and against control groups."""


class Ranking(NamedTuple):
    """Groups of each row, the most similar first: the nearest of any drawn groups is found without looking at all."""

    similarity_ng: npt.NDArray[np.float32]
    order_nl: npt.NDArray[np.int64]
    """The `DEPTH` most similar groups of each row."""


def rank(similarity_ng: npt.NDArray[np.float32], depth: int = DEPTH) -> Ranking:
    """Sort the most similar groups of each row; of equals the one with the smaller number comes first."""
    depth = min(depth, similarity_ng.shape[1])
    order = [np.zeros((0, depth), np.int64)]
    for start in range(0, len(similarity_ng), ROWS_AT_ONCE):
        block_bg = -similarity_ng[start : start + ROWS_AT_ONCE]
        top_bl = np.sort(np.argpartition(block_bg, depth - 1, axis=1)[:, :depth], axis=1)
        place_bl = np.argsort(np.take_along_axis(block_bg, top_bl, 1), axis=1, kind="stable")
        order.append(np.take_along_axis(top_bl, place_bl, 1))
    return Ranking(similarity_ng, np.concatenate(order))


class Nearest(NamedTuple):
    """Of each row, among the groups that count."""

    column_n: npt.NDArray[np.int64]
    """The nearest."""
    first_n: npt.NDArray[np.float32]
    """Its similarity."""
    second_n: npt.NDArray[np.float32]
    """The similarity of the second nearest."""


def nearest_of(ranking: Ranking, members_g: npt.NDArray[np.bool_], rows_n: npt.NDArray[np.int64]) -> Nearest:
    """The two nearest of the groups in `members_g` (at least two), for the rows `rows_n` of a ranking."""
    order_nl, rows = ranking.order_nl[rows_n], np.arange(len(rows_n))
    inside_nl = members_g[order_nl]
    short = np.flatnonzero(inside_nl.sum(1) < 2)
    places = []
    for _ in range(2):
        places.append(inside_nl.argmax(1))
        inside_nl[rows, places[-1]] = False
    column_n, other_n = (order_nl[rows, place_n] for place_n in places)
    if len(short):  # few were drawn, and none of them is near
        member_m = np.flatnonzero(members_g)
        away_km = -ranking.similarity_ng[rows_n[short]][:, member_m]
        nearest_km = member_m[np.argsort(away_km, axis=1, kind="stable")]
        column_n[short], other_n[short] = nearest_km[:, 0], nearest_km[:, 1]
    return Nearest(column_n, *(ranking.similarity_ng[rows_n, column] for column in (column_n, other_n)))


def nearest_ratio(first_n: npt.NDArray[np.float32], second_n: npt.NDArray[np.float32]) -> Floats:
    """Distance (1 − similarity) to the nearest group over the distance to the second nearest; 1 where both are 0."""
    near_n, far_n = (np.maximum(1.0 - similarity_n.astype(np.float64), 0.0) for similarity_n in (first_n, second_n))
    return np.divide(near_n, far_n, out=np.ones(len(far_n)), where=far_n > 1e-9)


def inauthentic(
    found: Nearest, tile_ng: npt.NDArray[np.int64], own: Ranking, members_g: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Whether each tile is nearer to its nearest tile of the chosen groups than that tile is to the other groups.

    Args:
        found: the nearest of the chosen groups.
        tile_ng: as in `Nearness`.
        own: similarity of every real tile to every group, −1 to its own.
        members_g: the groups that count.
    """
    neighbour_n = tile_ng[np.arange(len(tile_ng)), found.column_n]
    result: npt.NDArray[np.bool_] = found.first_n > nearest_of(own, members_g, neighbour_n).first_n
    return result


def ratios(
    near: Nearness, own_rg: npt.NDArray[np.float32], groups: Groups, rng: np.random.Generator, draws: int, deals: int
) -> Ratios | None:
    """Compare both ratios in `draws` equal-size draws, and with `deals` − 1 exchanged ones; None below 2 groups."""
    if groups.drawn_s.sum() < 2:
        return None
    ranked, own = rank(near.similarity_ng), rank(own_rg)
    true = [_once(near, ranked, own, groups, groups.is_train_g, rng) for _ in range(draws)]
    dealt_gb = deal_roles(groups, rng, deals)[:, 1:]
    other = [_once(near, ranked, own, groups, dealt_g, rng) for dealt_g in dealt_gb.T]
    mean_4n = np.mean(true, axis=0)
    found = []
    for train, control in ((0, 1), (2, 3)):
        gaps = [float((once[train] - once[control]).mean()) for once in [mean_4n, *other]]
        found.append(Comparison(mean_4n[train], mean_4n[control], np.array(gaps)))
    return Ratios(*found)


def _once(
    near: Nearness,
    ranked: Ranking,
    own: Ranking,
    groups: Groups,
    is_train_g: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Floats:
    """One equal-size draw: NNDR smaller in train, in control, inauthentic in train, in control: (4, n)."""
    rows_n = np.arange(len(near.tile_ng))
    ratio, copied = [], []
    for side_g in (is_train_g, ~is_train_g):
        members_g = _draw(groups, side_g, rng)
        found = nearest_of(ranked, members_g, rows_n)
        ratio.append(nearest_ratio(found.first_n, found.second_n))
        copied.append(inauthentic(found, near.tile_ng, own, members_g))
    smaller_n = np.where(ratio[0] == ratio[1], 0.5, ratio[0] < ratio[1])
    return np.stack([smaller_n, 1.0 - smaller_n, *copied]).astype(np.float64)


def _draw(groups: Groups, members_g: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """As many groups of each class as the smaller side has, from the members."""
    drawn_g = np.zeros(len(members_g), bool)
    for stratum, drawn in enumerate(groups.drawn_s):
        here = np.flatnonzero(members_g & (groups.stratum_g == stratum))
        drawn_g[rng.choice(here, int(drawn), replace=False)] = True
    return drawn_g
