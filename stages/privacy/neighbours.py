"""Two classical ratios beside the control: nearest to second nearest (NNDR), and authenticity.

Both need the second nearest, or a neighbour's own neighbour, within the compared groups; so equal numbers of groups
are drawn from both sides (seeded), and the result averaged over the draws. The p-value sets that average against
single draws of exchanged roles, which scatter more: it errs on the side of no alarm.

Authenticity: Alaa et al. 2022 (arXiv 2102.08921), in the form that loops over the audited tiles; a tile is
inauthentic when it is nearer to its nearest real tile than that one is to any real tile of another group.

Shapes: n audited tiles, g groups, r real tiles, m drawn groups.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.privacy.exchange import Comparison, Groups, deal_roles
from stages.privacy.similarity import Nearness

Floats = npt.NDArray[np.float64]


class Ratios(NamedTuple):
    """Both comparisons, from the same draws."""

    nndr: Comparison
    """`train_n`: how often the ratio of distances is smaller within train groups; `control_n` the opposite."""
    inauthentic: Comparison
    """How often a tile is inauthentic against train groups, and against control groups."""


def nearest_ratio(similarity_nm: npt.NDArray[np.float32]) -> Floats:
    """Distance (1 − similarity) to the nearest group over the distance to the second nearest; 1 where both are 0."""
    top_n2 = np.partition(similarity_nm, -2, axis=1)[:, -2:].astype(np.float64)
    first_n, second_n = np.maximum(1.0 - top_n2[:, 1], 0.0), np.maximum(1.0 - top_n2[:, 0], 0.0)
    return np.divide(first_n, second_n, out=np.ones(len(top_n2)), where=second_n > 1e-9)


def inauthentic(
    near: Nearness, chosen_m: npt.NDArray[np.int64], own_rg: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Whether each tile is nearer to its nearest tile of the chosen groups than that tile is to the other groups.

    Args:
        near: similarities of the audited tiles.
        chosen_m: the groups that count.
        own_rg: similarity of every real tile to every group, −1 to its own.
    """
    similarity_nm = near.similarity_ng[:, chosen_m]
    best_n = similarity_nm.argmax(1)
    rows = np.arange(len(best_n))
    neighbour_n = near.tile_ng[:, chosen_m][rows, best_n]
    result: npt.NDArray[np.bool_] = similarity_nm[rows, best_n] > own_rg[neighbour_n][:, chosen_m].max(1)
    return result


def ratios(
    near: Nearness, own_rg: npt.NDArray[np.float32], groups: Groups, rng: np.random.Generator, draws: int, deals: int
) -> Ratios | None:
    """Compare both ratios in `draws` equal-size draws, and with `deals` − 1 exchanged ones; None below 2 groups."""
    if groups.drawn_s.sum() < 2:
        return None
    true = [_once(near, own_rg, groups, groups.is_train_g, rng) for _ in range(draws)]
    dealt_gb = deal_roles(groups, rng, deals)[:, 1:]
    other = [_once(near, own_rg, groups, dealt_g, rng) for dealt_g in dealt_gb.T]
    mean_4n = np.mean(true, axis=0)
    found = []
    for train, control in ((0, 1), (2, 3)):
        gaps = [float((once[train] - once[control]).mean()) for once in [mean_4n, *other]]
        found.append(Comparison(mean_4n[train], mean_4n[control], np.array(gaps)))
    return Ratios(*found)


def _once(
    near: Nearness,
    own_rg: npt.NDArray[np.float32],
    groups: Groups,
    is_train_g: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Floats:
    """One equal-size draw: NNDR smaller in train, in control, inauthentic in train, in control: (4, n)."""
    train_m, control_m = _draw(groups, is_train_g, rng), _draw(groups, ~is_train_g, rng)
    ratio_train_n = nearest_ratio(near.similarity_ng[:, train_m])
    ratio_control_n = nearest_ratio(near.similarity_ng[:, control_m])
    smaller_n = np.where(ratio_train_n == ratio_control_n, 0.5, ratio_train_n < ratio_control_n)
    return np.stack(
        [smaller_n, 1.0 - smaller_n, inauthentic(near, train_m, own_rg), inauthentic(near, control_m, own_rg)]
    ).astype(np.float64)


def _draw(groups: Groups, members_g: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """As many groups of each class as the smaller side has, from the members."""
    chosen = [
        rng.choice(np.flatnonzero(members_g & (groups.stratum_g == stratum)), int(drawn), replace=False)
        for stratum, drawn in enumerate(groups.drawn_s)
    ]
    return np.sort(np.concatenate(chosen))
