import numpy as np
import pytest
from scipy import stats

from stages.stats import intervals, paired


def mean_of(values_gs: np.ndarray) -> intervals.Weighted:
    return lambda w_bg: (w_bg @ values_gs) / w_bg.sum(1, keepdims=True)


def test_what_is_hard_for_both_cancels() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(40, 1)) * 5
    first, second = mean_of(hard + 1), mean_of(hard)
    found = paired.difference((first, 1), (second, 1), 40, np.random.default_rng(1))
    assert found == pytest.approx((1, 1, 1))
    assert paired.ratio((mean_of(hard * 3), 1), (second, 1), 40, np.random.default_rng(1)) == pytest.approx((3, 3, 3))


def test_one_seed_each_is_the_bootstrap_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 1)), rng.normal(size=(50, 1))
    found = paired.difference((mean_of(a), 1), (mean_of(b), 1), 50, np.random.default_rng(1), 4000)
    theirs = stats.bootstrap(
        ((a - b)[:, 0],), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.04)


def test_what_makes_a_seed_hard_for_both_cancels_only_where_seeds_are_paired() -> None:
    rng = np.random.default_rng(0)
    hard_gs = rng.normal(size=(30, 1)) + 5 * rng.normal(size=(1, 6))
    first, second = mean_of(hard_gs + 1), mean_of(hard_gs)
    found = paired.difference_of_pairs(first, second, 30, 6, np.random.default_rng(1))
    assert found == pytest.approx((1, 1, 1))
    loose = paired.difference((first, 6), (second, 6), 30, np.random.default_rng(1))
    assert loose.value == pytest.approx(1) and loose.high - loose.low > 4


def test_swapping_the_contestants_swaps_the_sign() -> None:
    rng = np.random.default_rng(0)
    first, second = (mean_of(rng.normal(size=(20, 1))), 1), (mean_of(rng.normal(size=(20, 1))), 1)
    there = paired.difference(first, second, 20, np.random.default_rng(1))
    back = paired.difference(second, first, 20, np.random.default_rng(1))
    assert there == pytest.approx((-back.value, -back.high, -back.low))


def test_seeds_that_differ_widen_the_interval() -> None:
    groups = np.random.default_rng(0).normal(size=(200, 1)) * 0.01
    calm, wild = mean_of(groups + np.zeros(4)), mean_of(groups + np.array([-1, 0, 0, 1]))
    narrow = paired.difference((calm, 4), (calm, 4), 200, np.random.default_rng(1))
    wide = paired.difference((wild, 4), (calm, 4), 200, np.random.default_rng(1))
    assert narrow.high - narrow.low < 0.01 < 0.5 < wide.high - wide.low


def test_the_unpaired_ratio_covers_the_true_ratio() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        own = intervals.share_by_group(rng.random(150) < 0.6, np.arange(150))
        real = intervals.share_by_group(rng.random(100) < 0.8, np.arange(100))
        found = paired.ratio_unpaired((own, 150), (real, 100), np.random.default_rng(trial), 400)
        hits += found.low <= 0.75 <= found.high
    assert hits >= 180  # 0.95 of 200, less three standard errors


def test_a_second_that_is_nearly_always_wrong_gives_no_division_by_zero() -> None:
    own = intervals.share_by_group(np.ones(10, bool), np.arange(10))
    for right in (0, 1):
        real = intervals.share_by_group(np.arange(10) < right, np.arange(10))
        assert np.isfinite(paired.ratio_unpaired((own, 10), (real, 10), np.random.default_rng(0), 200)).all()
