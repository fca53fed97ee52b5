import tracemalloc

import numpy as np
import pytest
from scipy import stats

from stages.stats import intervals


def mean_of(values_gs: np.ndarray) -> intervals.Weighted:
    """The weighted mean over groups of each seed's column, as a metric."""
    return lambda w_bg: (w_bg @ values_gs) / w_bg.sum(1, keepdims=True)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (1, 1), (240, 300)])
def test_clopper_pearson_and_wilson_are_scipys(successes: int, trials: int, level: float) -> None:
    test = stats.binomtest(successes, trials)
    for ours, method in ((intervals.clopper_pearson, "exact"), (intervals.wilson, "wilson")):
        theirs = test.proportion_ci(level, method)
        assert ours(successes, trials, level) == pytest.approx((successes / trials, theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("n", [5, 20, 60])
def test_clopper_pearson_covers_at_least_its_level_by_the_exact_sum(n: int) -> None:
    found = [intervals.clopper_pearson(x, n) for x in range(n + 1)]
    for p in np.linspace(0.01, 0.99, 49):
        covered = [i.low <= p <= i.high for i in found]
        assert stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum() >= 0.95


def test_wilson_covers_its_level_on_average_by_the_exact_sum() -> None:
    n = 40
    found = [intervals.wilson(x, n) for x in range(n + 1)]
    cover = [
        stats.binom.pmf(np.arange(n + 1), n, p)[[i.low <= p <= i.high for i in found]].sum()
        for p in np.linspace(0.02, 0.98, 97)
    ]
    assert 0.94 < np.mean(cover) < 0.965 and min(cover) < 0.95


def test_one_seed_and_one_tile_per_group_is_the_ordinary_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=(40, 1))
    found = intervals.two_way(mean_of(values), 40, 1, np.random.default_rng(1), 4000)
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_the_spread_is_that_of_groups_plus_that_of_seeds_in_closed_form() -> None:
    # value = a_g + b_s: the bootstrap variance of the mean is exactly var(a) / G + var(b) / S (population variances).
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(size=5)
    drawn = intervals.two_way_resamples(mean_of(a[:, None] + b), 30, 5, np.random.default_rng(1), 20000)
    assert drawn.var() == pytest.approx(a.var() / 30 + b.var() / 5, rel=0.05)


def test_copies_of_a_tile_do_not_narrow_the_interval_but_independent_groups_do() -> None:
    yes = np.random.default_rng(0).random(60) < 0.7
    once = intervals.share_by_group(yes, np.arange(60))
    copied = intervals.share_by_group(np.repeat(yes, 6), np.repeat(np.arange(60), 6))
    first, second = (intervals.two_way(m, 60, 1, np.random.default_rng(1)) for m in (once, copied))
    assert first == pytest.approx(second)
    as_tiles = intervals.share_by_group(np.repeat(yes, 6), np.arange(360))
    naive = intervals.two_way(as_tiles, 360, 1, np.random.default_rng(1))
    assert naive.high - naive.low < 0.6 * (first.high - first.low)


def test_groups_of_unequal_size_weigh_by_their_tiles() -> None:
    yes, groups = np.array([1, 1, 1, 0], bool), np.array([7, 7, 7, 3])
    metric = intervals.share_by_group(yes, groups)
    assert metric(np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 2.0]]))[:, 0] == pytest.approx([3 / 4, 3 / 5, 1])


def test_two_way_interval_covers_the_mean_of_groups_and_seeds() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        values = rng.normal(size=(50, 1)) + 0.1 * rng.normal(size=(1, 8)) + 0.3 * rng.normal(size=(50, 8))
        found = intervals.two_way(mean_of(values), 50, 8, np.random.default_rng(trial), 400)
        hits += found.low <= 0 <= found.high
    low, high = stats.binomtest(hits, 300).proportion_ci(0.99)
    assert low <= 0.97 and high >= 0.92, hits


def test_the_result_does_not_depend_on_how_many_resamples_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(9, 2))
    found = []
    for at_once in (7, 1000):
        monkeypatch.setattr(intervals, "RESAMPLES_AT_ONCE", at_once)
        found.append(intervals.two_way(mean_of(values), 9, 2, np.random.default_rng(1), 100))
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize(("groups", "seeds", "resamples"), [(9, 2, 1000), (31, 1, 249), (200, 3, 513), (1, 1, 251)])
def test_drawn_block_by_block_it_is_to_the_bit_what_it_is_drawn_at_once(
    groups: int, seeds: int, resamples: int
) -> None:
    yes = np.random.default_rng(0).random((groups, seeds)) < 0.6
    at_once = np.random.default_rng(1)
    w_bg = intervals.draw_weights(groups, at_once, resamples)
    wanted = (mean_of(yes)(w_bg) * intervals.draw_weights(seeds, at_once, resamples)).sum(1) / seeds
    found = intervals.two_way_resamples(mean_of(yes), groups, seeds, np.random.default_rng(1), resamples)
    assert np.array_equal(found, wanted)


def test_eight_times_the_resamples_of_many_groups_take_no_more_memory() -> None:
    values = np.random.default_rng(0).normal(size=(4000, 1))
    peaks = []
    for resamples in (250, 2000):
        tracemalloc.start()
        intervals.two_way(mean_of(values), len(values), 1, np.random.default_rng(1), resamples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.6 * peaks[0] < 1.6 * 5 * 250 * 4000 * 8


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        intervals.clopper_pearson(successes, trials)
    with pytest.raises(ValueError, match="successes"):
        intervals.wilson(successes, trials)


def test_no_group_and_an_impossible_level_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        intervals.draw_weights(0, np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match="level"):
        intervals.percentiles(np.arange(3.0), 1.0)
