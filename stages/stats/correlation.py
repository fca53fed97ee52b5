"""Correlation of two measures over tasks that come in clusters: Pearson's, Spearman's, their intervals and power.

Tasks of one source (class subsets of one data set) are no independent evidence. A resample therefore draws sources,
and of each drawn source its tasks, both with replacement; all points of a task (methods, sizes) stay together.
Field & Welsh, *Bootstrapping clustered data*, JRSS B 69 (2007), 369–390 (the two-stage bootstrap).
Shapes: n points, b resamples.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from stages.stats.intervals import Interval, percentiles

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]
LEAST_SOURCES = 4
"""Sources without which a correlation has no limits. With two every resample is ±1 or nothing, with three most are near
it: limits would look sure and, simulated as `COVERED`, cover the truth in 43 to 60 of 100 studies."""
COVERED = {4: (0.74, 0.87), 5: (0.84, 0.89), 6: (0.87, 0.91), 8: (0.90, 0.91), 15: (0.91, 0.92), 30: (0.92, 0.93)}
"""Studies, of one, whose 95 % interval covers the truth, by the number of sources: from so many to so many. Simulated:
normal pairs, r .9 and .5, one task a source; 2,000 studies of 1,000 resamples each."""


def pearson(x_n: Floats, y_n: Floats) -> float:
    """Pearson's r; NaN where either measure is constant, or of fewer than two points."""
    x, y = x_n - x_n.mean(), y_n - y_n.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(np.clip(x @ y / norm, -1, 1)) if norm > 1e-12 else math.nan


def spearman(x_n: Floats, y_n: Floats) -> float:
    """Spearman's ρ: Pearson's r of the ranks, ties at their mean rank."""
    return pearson(stats.rankdata(x_n), stats.rankdata(y_n))


def clustered(
    statistic: Callable[[Floats, Floats], float],
    x_n: Floats,
    y_n: Floats,
    sources_n: Names,
    tasks_n: Names,
    generator: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
    least: int = LEAST_SOURCES,
) -> Interval:
    """A correlation with its percentile interval over sources and their tasks.

    Resamples in which the statistic is not defined (one task drawn again and again) are left out. Where the statistic
    itself is not defined all three numbers are NaN; of fewer than `least` sources the limits are.

    Args:
        statistic: `pearson` or `spearman`.
        x_n: one measure of every point.
        y_n: the other.
        sources_n: the source of every point's task.
        tasks_n: the task of every point.
        generator: draws the resamples.
        resamples: how many.
        level: coverage aimed at; what 0.95 gives is in `COVERED`.
        least: sources, two or more, from which on there are limits.
    """
    rows = []
    for source in np.unique(sources_n):
        here_n = sources_n == source
        rows.append([np.flatnonzero(here_n & (tasks_n == task)) for task in np.unique(tasks_n[here_n])])
    value = statistic(x_n, y_n)
    if len(rows) < max(least, 2) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    drawn_b = np.array([statistic(x_n[rows_m], y_n[rows_m]) for rows_m in _resampled(rows, generator, resamples)])
    known = drawn_b[np.isfinite(drawn_b)]
    return Interval(value, *percentiles(known, level)) if len(known) else Interval(value, math.nan, math.nan)


def _resampled(
    rows: list[list[npt.NDArray[np.intp]]], generator: np.random.Generator, resamples: int
) -> list[npt.NDArray[np.intp]]:
    """The points of each resample, by source and task."""
    drawn = []
    for _ in range(resamples):
        sources = [rows[place] for place in generator.integers(len(rows), size=len(rows))]
        tasks = [tasks[place] for tasks in sources for place in generator.integers(len(tasks), size=len(tasks))]
        drawn.append(np.concatenate(tasks))
    return drawn


def covered(sources: int, level: float = 0.95) -> tuple[int, float, float] | None:
    """The entry of `COVERED` for so many sources or the next fewer: how many, from, to; None where there is none."""
    known = [count for count in COVERED if count <= sources]
    return (max(known), *COVERED[max(known)]) if known and level == 0.95 else None


def effective_clusters(sizes: list[int]) -> float:
    """How many clusters of equal size would tell as much: (Σ m)² / Σ m² (Kish 1965), where a cluster is all alike."""
    return sum(sizes) ** 2 / sum(size**2 for size in sizes)


def detectable(clusters: float, power: float = 0.8, level: float = 0.95) -> float:
    """The smallest |r| that a two-sided test of no correlation finds with `power`, by Fisher's z.

    tanh((z_{1−α/2} + z_power) / √(n − 3)), n independent pairs: Fisher 1915; Cohen 1988, chapter 3. With three or
    fewer, nothing can be found: 1.
    """
    if clusters <= 3:
        return 1.0
    z = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    return math.tanh(z / math.sqrt(clusters - 3))
