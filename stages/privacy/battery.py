"""The attacks on one set of tiles, each a small finding with its interval, its guess and its p-value.

The same battery runs on the released tiles, on all candidates, on hold-out tiles in their place (negative control)
and on sets with planted copies (positive control).

Shapes: n audited tiles, g groups, r real tiles, b deals of the roles (`stages.privacy.exchange`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.privacy.copies import Tail, any_of, one_of
from stages.privacy.exchange import Comparison, Deals, Groups, closer_to_train, excess, gaps
from stages.privacy.intervals import holm, mean_by_group
from stages.privacy.neighbours import ratios
from stages.privacy.similarity import Nearness
from stages.stats.intervals import Interval, clopper_pearson

HARD = ("exact_copies", "near_copies", "excess_over_control")
"""A significant one of these is a NO-GO."""
SOFT = ("closer_to_train", "nearest_ratio", "inauthentic")
"""A significant one of these asks for a REVIEW: they react to a harmless likeness of the whole set as well."""
SHARES = ("closer_to_train", "nearest_ratio")
"""Told as the share of comparisons in which train is nearer; one half without influence."""


class Finding(NamedTuple):
    """What one attack found."""

    value: float
    low: float
    high: float
    guess: float
    """What tiles that owe nothing to any real tile would score."""
    p_value: float
    """Of a clean set doing as badly; one-sided."""


class Real(NamedTuple):
    """What every audited set is compared with."""

    groups: Groups
    own_rg: npt.NDArray[np.float32]
    """Similarity of every real tile to every group, −1 to its own."""
    tail: Tail
    """Of the nearest train similarity of real tiles, their own group left out."""
    line: float
    """The 95th percentile of the same."""


class Effort(NamedTuple):
    """How much is computed."""

    deals: int
    draws: int
    resamples: int
    level: float


def nearest(similarity_ng: npt.NDArray[np.float32], members_g: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Each tile's similarity to the nearest of some groups; −1 where there are none."""
    if not members_g.any():
        return np.full(len(similarity_ng), -1.0, np.float32)
    result: npt.NDArray[np.float32] = similarity_ng[:, members_g].max(1)
    return result


class NearCopies(NamedTuple):
    """Tiles nearer to a train tile than clean tiles come."""

    flagged_n: npt.NDArray[np.bool_]
    """Above the threshold, and not as near to a control tile."""
    common_n: npt.NDArray[np.bool_]
    """Above the threshold for a train and for a control tile: a picture that many tiles resemble."""
    threshold: float
    p_value: float


def near_copies(similarity_ng: npt.NDArray[np.float32], real: Real, level: float) -> NearCopies:
    """Judge the nearest pairs: the threshold is one that a clean set of this size exceeds with chance `level`."""
    train_n = nearest(similarity_ng, real.groups.is_train_g)
    control_n = nearest(similarity_ng, ~real.groups.is_train_g)
    threshold = real.tail.threshold(one_of(level, len(train_n)))
    common_n = (train_n >= threshold) & (control_n >= threshold)
    most = float(np.where(common_n, -1.0, train_n).max())
    return NearCopies(
        (train_n >= threshold) & ~common_n, common_n, threshold, any_of(real.tail.rate_above(most), len(train_n))
    )


def hard_p_values(
    similarity_ng: npt.NDArray[np.float32], real: Real, dealt_gb: Deals | None, level: float
) -> list[float]:
    """Holm-adjusted p-values of near copies and, where there are control groups, of the excess."""
    found = [near_copies(similarity_ng, real, level / 2).p_value]
    if dealt_gb is not None:
        found.append(excess(similarity_ng >= real.line, real.groups, dealt_gb).p_value)
    return holm(found)


def run(
    near: Nearness,
    exact_n: npt.NDArray[np.bool_],
    real: Real,
    dealt_gb: Deals | None,
    effort: Effort,
    rng: np.random.Generator,
    cluster_n: npt.NDArray[np.int64] | None = None,
) -> dict[str, Finding]:
    """All attacks on one set.

    Args:
        near: similarity of its tiles to the real groups.
        exact_n: whether a tile equals a train tile in some orientation.
        real: what it is compared with.
        dealt_gb: the true roles and exchanged ones; None without control groups, when only copies are sought.
        effort: how much is computed.
        rng: draws groups and resamples.
        cluster_n: which tiles belong together (their patient); None: tiles with the same nearest group do.
    """
    copies, n = near_copies(near.similarity_ng, real, effort.level / 2), len(exact_n)
    found = {
        "exact_copies": Finding(*clopper_pearson(int(exact_n.sum()), n), 0.0, 0.0 if exact_n.any() else 1.0),
        "near_copies": Finding(
            *clopper_pearson(int(copies.flagged_n.sum()), n), one_of(effort.level / 2, n), copies.p_value
        ),
    }
    if dealt_gb is None:
        return found
    cluster_n = near.similarity_ng.argmax(1).astype(np.int64) if cluster_n is None else cluster_n

    compared = {
        "excess_over_control": excess(near.similarity_ng >= real.line, real.groups, dealt_gb),
        "closer_to_train": closer_to_train(near.similarity_ng, real.groups, dealt_gb),
    }
    both = ratios(near, real.own_rg, real.groups, rng, effort.draws, effort.deals)
    if both is not None:
        compared |= {"nearest_ratio": both.nndr, "inauthentic": both.inauthentic}
    for name, comparison in compared.items():
        found[name] = _finding(comparison, cluster_n, rng, effort)
        if name in SHARES:  # the share of comparisons that train wins, rather than won minus lost
            gap = found[name]
            value, low, high, guess = ((1.0 + number) / 2.0 for number in gap[:4])
            found[name] = Finding(value, low, high, guess, gap.p_value)
    return found


def _finding(
    compared: Comparison, cluster_n: npt.NDArray[np.int64], rng: np.random.Generator, effort: Effort
) -> Finding:
    """Train minus control, with an interval for both kinds of chance: which tiles, and which groups were trained on."""
    tiles = mean_by_group(compared.train_n - compared.control_n, cluster_n, rng, effort.resamples)
    return Finding(*compared.interval(tiles), 0.0, compared.p_value)


def adjust(found: dict[str, Finding]) -> dict[str, float]:
    """Holm-adjusted p-values: the hard statistical tests as one family, the soft ones as another.

    An exact copy is a fact, not a test of chance: it is not adjusted and takes no share of the level.
    """
    adjusted = {"exact_copies": found["exact_copies"].p_value}
    for family in (HARD[1:], SOFT):
        names = [name for name in family if name in found]
        adjusted |= dict(zip(names, holm([found[name].p_value for name in names]), strict=True))
    return adjusted


class Power(NamedTuple):
    """What the audit sees of planted copies."""

    alarm: Interval
    """Share of trials, each with some released tiles replaced by altered train tiles, in which a hard test alarms."""
    seen: Interval
    """Share of single planted tiles above the threshold of near copies."""
    seen_by_change: dict[str, float]


def power(
    clean_ng: npt.NDArray[np.float32],
    planted: dict[str, npt.NDArray[np.float32]],
    real: Real,
    dealt_gb: Deals | None,
    share: float,
    trials: int,
    level: float,
    rng: np.random.Generator,
) -> Power:
    """Plant copies in the released set and count the alarms.

    Args:
        clean_ng: similarities of the released tiles.
        planted: similarities (k, g) of altered train tiles, by the kind of alteration.
        real: what they are compared with.
        dealt_gb: as in `run`; fewer deals suffice here.
        share: of the released tiles replaced in a trial, at least one tile.
        trials: how many.
        level: of the hard tests together.
        rng: draws which tiles are replaced by which.
    """
    threshold = near_copies(clean_ng, real, level / 2).threshold
    seen = {name: nearest(rows, real.groups.is_train_g) >= threshold for name, rows in planted.items()}
    every_kg = np.concatenate(list(planted.values()))
    both_mg = np.concatenate([clean_ng, every_kg])
    gap_mb = None if dealt_gb is None else gaps(both_mg >= real.line, real.groups, dealt_gb)
    count = min(len(clean_ng), max(1, round(share * len(clean_ng))))
    alarms = 0
    for _ in range(trials):
        kept = rng.choice(len(clean_ng), len(clean_ng) - count, replace=False)
        rows = np.concatenate([kept, len(clean_ng) + rng.choice(len(every_kg), count)])
        found = [near_copies(both_mg[rows], real, level / 2).p_value]
        if gap_mb is not None:
            gap_b = gap_mb[rows].mean(0)
            found.append(Comparison(gap_b, gap_b, gap_b).p_value)
        alarms += min(holm(found)) <= level
    every_seen = np.concatenate(list(seen.values()))
    return Power(
        clopper_pearson(alarms, trials),
        clopper_pearson(int(every_seen.sum()), len(every_seen)),
        {name: float(rows.mean()) for name, rows in seen.items()},
    )
