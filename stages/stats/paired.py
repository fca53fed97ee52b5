"""Two contestants on the same test tiles: their difference and their ratio, with intervals that know they are paired.

The same groups are drawn for both in a resample, so what makes a group hard for both cancels; the seeds of the two
are drawn independently, as their networks were, except in `difference_of_pairs`. `ratio_unpaired` is for two sets of
tiles with nothing in common.
Shapes: b resamples, g groups, s seeds.
"""

import numpy as np
import numpy.typing as npt

from stages.stats.intervals import Interval, Weighted, draw_weights, percentiles, two_way, weights_in_blocks

Floats = npt.NDArray[np.float64]


def difference(
    first: tuple[Weighted, int],
    second: tuple[Weighted, int],
    groups: int,
    generator: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """First minus second, of the mean over seeds of a metric.

    Args:
        first: the first contestant's metric (from weights of groups, b × g, to b × s) and its number of seeds.
        second: the same of the second contestant, on the same groups in the same order.
        groups: how many groups.
        generator: draws the resamples.
        resamples: how many.
        level: coverage aimed at.
    """
    (a, b), (a_b, b_b) = _both(first, second, groups, generator, resamples)
    return Interval(a - b, *percentiles(a_b - b_b, level))


def difference_of_pairs(
    first: Weighted,
    second: Weighted,
    groups: int,
    seeds: int,
    generator: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """First minus second where the seeds belong together as well: what makes a seed hard for both cancels, too.

    So it is where the s-th of both stands on one pool of candidates and one random start. A resample draws pairs.

    Args:
        first: the first contestant's metric (from weights of groups, b × g, to b × s).
        second: the same of the second contestant, on the same groups and seeds in the same order.
        groups: how many groups.
        seeds: how many seeds.
        generator: draws the resamples.
        resamples: how many.
        level: coverage aimed at.
    """
    return two_way(lambda w_bg: first(w_bg) - second(w_bg), groups, seeds, generator, resamples, level)


def ratio(
    first: tuple[Weighted, int],
    second: tuple[Weighted, int],
    groups: int,
    generator: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """First divided by second, otherwise as `difference`. The metric of the second must be positive."""
    (a, b), (a_b, b_b) = _both(first, second, groups, generator, resamples)
    return Interval(a / b, *percentiles(a_b / b_b, level))


def _both(
    first: tuple[Weighted, int],
    second: tuple[Weighted, int],
    groups: int,
    generator: np.random.Generator,
    resamples: int,
) -> tuple[tuple[float, float], tuple[Floats, Floats]]:
    """The two estimates and their two bootstrap distributions over common groups."""
    blocks = [(first[0](w_bg), second[0](w_bg)) for w_bg in weights_in_blocks(groups, generator, resamples)]
    ones_1g = np.ones((1, groups))
    values, drawn = [], []
    for (metric, seeds), parts in zip((first, second), zip(*blocks, strict=True), strict=True):
        v_bs = draw_weights(seeds, generator, resamples)
        values.append(float(metric(ones_1g).mean()))
        drawn.append((np.concatenate(parts) * v_bs).sum(1) / seeds)
    return (values[0], values[1]), (drawn[0], drawn[1])


def ratio_unpaired(
    first: tuple[Weighted, int],
    second: tuple[Weighted, int],
    generator: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """First divided by second, each on its own groups (metric of one seed, number of groups), drawn independently.

    A resample in which the second is 0 counts with the ratio to the smallest positive value drawn; if the second is 0
    throughout, the ratio is that to 1.
    """
    value = [float(metric(np.ones((1, groups))).mean()) for metric, groups in (first, second)]
    drawn = [
        np.concatenate([metric(w_bg).mean(1) for w_bg in weights_in_blocks(groups, generator, resamples)])
        for metric, groups in (first, second)
    ]
    positive = drawn[1][drawn[1] > 0]
    floor = float(positive.min()) if len(positive) else 1.0
    return Interval(
        value[0] / (value[1] or floor), *percentiles(drawn[0] / np.where(drawn[1] > 0, drawn[1], floor), level)
    )
