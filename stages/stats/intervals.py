"""Intervals: of a proportion (Clopper–Pearson, Wilson) and of a metric over groups and seeds (two-way bootstrap).

Tiles of one patient, slide or original are not independent, and neither are two networks on the same tiles:
what is resampled is groups and seeds, never tiles.
Shapes: b resamples, g groups, s seeds.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Weighted = Callable[[Floats], Floats]
"""From weights of groups, b × g, to a metric of every seed, b × s."""

RESAMPLES_AT_ONCE = 250
"""Weights of so many resamples lie in memory at a time; the result does not depend on it."""


class Interval(NamedTuple):
    """An estimate with its lower and upper limit."""

    value: float
    low: float
    high: float


def two_way(
    metric: Weighted,
    groups: int,
    seeds: int,
    generator: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of the mean over seeds of `metric`, resampling groups and seeds independently.

    The pigeonhole bootstrap of Owen (2007), which errs on the wide side where a seed and a group interact. With one
    seed nothing can be said of seeds: the interval then covers groups alone, and is narrower than the truth.

    Args:
        metric: from weights of groups (b × groups; ones for the sample itself) to the metric per seed (b × seeds).
        groups: how many groups.
        seeds: how many seeds.
        generator: draws the resamples.
        resamples: how many.
        level: coverage aimed at.

    Raises:
        ValueError: a count below 1, or a level outside (0, 1).
    """
    value = float(metric(np.ones((1, groups))).mean())
    low, high = percentiles(two_way_resamples(metric, groups, seeds, generator, resamples), level)
    return Interval(value, low, high)


def two_way_resamples(
    metric: Weighted, groups: int, seeds: int, generator: np.random.Generator, resamples: int
) -> Floats:
    """The bootstrap distribution behind `two_way`, b."""
    of_groups = np.concatenate([metric(w_bg) for w_bg in weights_in_blocks(groups, generator, resamples)])
    drawn_b: Floats = (of_groups * draw_weights(seeds, generator, resamples)).sum(1) / seeds
    return drawn_b


def weights_in_blocks(units: int, generator: np.random.Generator, resamples: int) -> Iterator[Floats]:
    """The rows of `draw_weights`, `RESAMPLES_AT_ONCE` at a time: the same draws, in a part of the memory."""
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        yield draw_weights(units, generator, min(RESAMPLES_AT_ONCE, resamples - start))


def draw_weights(units: int, generator: np.random.Generator, resamples: int) -> Floats:
    """How often each of `units` is drawn when as many are drawn with replacement, resamples × units.

    Raises:
        ValueError: no unit, or no resample.
    """
    if min(units, resamples) < 1:
        raise ValueError(f"a bootstrap needs at least one unit and one resample; got {units} and {resamples}")
    drawn_bu = generator.integers(units, size=(resamples, units))
    drawn_bu += units * np.arange(resamples)[:, None]
    return np.bincount(drawn_bu.ravel(), minlength=resamples * units).reshape(resamples, units).astype(np.float64)


def share_by_group(yes_n: npt.NDArray[np.bool_], groups_n: npt.NDArray[np.integer]) -> Weighted:
    """The share of tiles that are a yes, as a metric of one seed for `two_way`; groups in numerical order."""
    _, index_n = np.unique(groups_n, return_inverse=True)
    yes_g, total_g = np.bincount(index_n, yes_n), np.bincount(index_n)
    return lambda w_bg: ((w_bg @ yes_g) / (w_bg @ total_g))[:, None]


def percentiles(values_b: Floats, level: float) -> tuple[float, float]:
    """The limits that leave (1 − level) / 2 of the values outside on each side."""
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, not at {level}")
    low, high = np.quantile(values_b, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper & Pearson 1934): never covers less than `level`.

    Raises:
        ValueError: no trial, or successes outside 0 … trials.
    """
    _check_counts(successes, trials)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(stats.beta.ppf(1 - tail, successes + 1, trials - successes))
    return Interval(successes / trials, low, high)


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson 1927): covers `level` on average, and is shorter than the exact one.

    Raises:
        ValueError: no trial, or successes outside 0 … trials.
    """
    _check_counts(successes, trials)
    share, z = successes / trials, float(stats.norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def _check_counts(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"a proportion needs 0 ≤ successes ≤ trials and a trial; got {successes} of {trials}")
