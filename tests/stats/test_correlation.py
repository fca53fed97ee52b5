import math

import numpy as np
import pytest
from scipy import stats

from stages.stats import correlation
from stages.stats.intervals import Interval


def clustered(
    x: np.ndarray,
    y: np.ndarray,
    sources: list[str],
    tasks: list[str] | None = None,
    resamples: int = 2000,
    least: int = correlation.LEAST_SOURCES,
) -> Interval:
    names = np.array(tasks or [str(n) for n in range(len(x))])
    generator = np.random.default_rng(0)
    return correlation.clustered(correlation.pearson, x, y, np.array(sources), names, generator, resamples, least=least)


def test_they_are_scipys_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.normal(size=40).round()
    assert correlation.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert correlation.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_a_line_is_one_a_falling_one_minus_one_and_a_constant_nothing() -> None:
    x = np.linspace(0.1, 0.9, 8)
    assert clustered(x, 0.2 + x / 2, list("aabbccdd")) == pytest.approx((1, 1, 1))
    assert correlation.pearson(x, 1 - x) == pytest.approx(-1)
    assert correlation.spearman(x, np.exp(9 * x)) == 1
    assert math.isnan(correlation.pearson(x, np.full(8, 0.3)))
    assert all(math.isnan(value) for value in clustered(x, np.full(8, 0.3), list("aabbccdd")))


def test_with_a_source_for_each_task_it_is_the_ordinary_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    found = clustered(x, y, [str(n) for n in range(30)], resamples=4000)
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b: stats.pearsonr(a, b).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_of_what_is_independent_the_interval_mostly_covers_nought() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        x, y = rng.normal(size=(2, 20))
        found = clustered(x, y, [str(n) for n in range(20)], resamples=200)
        covered += found.low <= 0 <= found.high
    assert covered >= 85


def test_tasks_that_are_copies_within_a_source_widen_the_interval_and_tasks_alone_would_not_see_it() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=8)
    y = x + rng.normal(size=8)
    many_x, many_y = np.repeat(x, 6), np.repeat(y, 6)
    apart = clustered(many_x, many_y, [str(n) for n in range(48)])
    together = clustered(many_x, many_y, [str(n) for n in np.repeat(np.arange(8), 6)])
    once = clustered(x, y, [str(n) for n in range(8)])
    assert together.high - together.low > 1.8 * (apart.high - apart.low)
    assert (together.low, together.high) == pytest.approx((once.low, once.high), abs=0.1)


def test_points_of_one_task_stay_together() -> None:
    # Within each of two tasks the points fall, between them they rise: a resample has either both tasks, or one twice.
    x, y = np.array([0.0, 0.1, 1.0, 1.1]), np.array([0.1, 0.0, 1.1, 1.0])
    found = clustered(x, y, list("aabb"), list("1122"), least=2)
    assert found == pytest.approx((correlation.pearson(x, y), -1, correlation.pearson(x, y)))
    within = clustered(x, y, list("aabb"), list("1111"), least=2)
    assert within == pytest.approx(found), "a task's name means nothing in another source"
    assert clustered(x, y, list("aabb"), list("1234"), least=2).high == pytest.approx(1), (
        "tasks of one point each come apart"
    )


@pytest.mark.parametrize("sources", [list("aaaaaa"), list("aaabbb"), list("aabbcc")])
def test_fewer_than_four_sources_have_a_value_and_no_limits(sources: list[str]) -> None:
    found = clustered(np.arange(6.0), np.arange(6.0), sources)
    assert found.value == pytest.approx(1) and math.isnan(found.low) and math.isnan(found.high)
    one = clustered(np.arange(6.0), np.arange(6.0), list("aaaaaa"), least=1)
    assert math.isnan(one.low), "of one source nothing can be said of sources, whatever is asked for"


@pytest.mark.parametrize(("sources", "r", "place"), [(4, 0.9, 1), (8, 0.5, 2)])
def test_intervals_cover_the_truth_as_often_as_is_said(sources: int, r: float, place: int) -> None:
    rng, names, hits = np.random.default_rng(7), [str(n) for n in range(sources)], 0
    for _ in range(200):
        x, noise = rng.normal(size=(2, sources))
        found = clustered(x, r * x + math.sqrt(1 - r * r) * noise, names, resamples=150)
        hits += found.low <= r <= found.high
    told = correlation.covered(sources)
    assert told is not None and hits / 200 == pytest.approx(told[place], abs=0.07)


def test_the_coverage_told_is_that_of_so_many_sources_or_the_next_fewer() -> None:
    assert correlation.covered(7) == correlation.covered(6) == (6, *correlation.COVERED[6])
    assert correlation.covered(1000) == (30, *correlation.COVERED[30])
    assert correlation.covered(3) is None and correlation.covered(6, 0.8) is None


def test_power_is_fishers_and_agrees_with_a_simulation() -> None:
    assert correlation.detectable(29) == pytest.approx(0.50, abs=0.005), "Cohen 1988, table 3.3.5: r .50 asks for 28"
    assert correlation.detectable(3) == 1 and correlation.detectable(4) == pytest.approx(math.tanh(2.8016), abs=1e-4)
    n, rng = 40, np.random.default_rng(5)
    r = correlation.detectable(n)
    draws = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=(4000, n))
    z = np.arctanh([correlation.pearson(d[:, 0], d[:, 1]) for d in draws]) * math.sqrt(n - 3)
    assert np.mean(np.abs(z) > stats.norm.ppf(0.975)) == pytest.approx(0.8, abs=0.03)


def test_effective_clusters_count_equal_sources_and_discount_a_large_one() -> None:
    assert correlation.effective_clusters([3, 3, 3, 3]) == 4
    assert correlation.effective_clusters([5]) == 1
    assert correlation.effective_clusters([4, 1, 1]) == pytest.approx(36 / 18)


def test_a_resample_has_as_many_sources_and_of_each_as_many_tasks_as_there_are() -> None:
    names = np.repeat(list("abc"), 4)
    tasks = np.array([str(n) for n in range(12)])
    points = np.arange(12.0)
    found = correlation.clustered(
        lambda x, _: float(len(x)), points, points, names, tasks, np.random.default_rng(0), 50, least=3
    )
    assert found == (12, 12, 12)
    few = correlation.clustered(
        lambda x, _: float(len(np.unique(x // 4))), points, points, names, tasks, np.random.default_rng(0), 200, least=3
    )
    assert (few.low, few.high) == (1, 3), "some resamples know one source alone, some all"
