"""What the audits add to `stages.stats.intervals`: a mean by groups, the bound after no hit, and many tests at once.

Shapes: n tiles, g groups, b resamples.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from stages.stats.intervals import Interval, draw_weights, percentiles


def mean_by_group(
    value_n: npt.NDArray[np.float64],
    group_n: npt.NDArray[np.int64],
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The mean with a percentile bootstrap that draws whole groups (tiles of one group are not independent)."""
    _, index_n = np.unique(group_n, return_inverse=True)
    total_g, sum_g = np.bincount(index_n), np.bincount(index_n, weights=value_n)
    weights_bg = draw_weights(len(total_g), rng, resamples)
    return Interval(float(value_n.mean()), *percentiles((weights_bg @ sum_g) / (weights_bg @ total_g), level))


def upper_bound(hits: int, tries: int, level: float = 0.95) -> float:
    """The one-sided Clopper–Pearson bound of a share: after 0 hits 1 − (1 − level)^(1/tries), about 3/tries at 95 %."""
    return 1.0 if hits == tries else float(stats.beta.ppf(level, hits + 1, tries - hits))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979): judged by them, any false alarm at all stays below the level."""
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = floor
    return adjusted
