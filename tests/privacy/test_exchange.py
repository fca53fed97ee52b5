from itertools import combinations, product
from math import comb

import numpy as np
import pytest

from stages.privacy.exchange import (
    Groups,
    chance_of_none,
    closer_to_train,
    deal_roles,
    excess,
)
from stages.stats.intervals import Interval

# 5 train and 2 control groups of class 0, 2 train and 3 control groups of class 1: 2 + 2 groups on each side
GROUPS = Groups(np.array([1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0], bool), np.array([0] * 7 + [1] * 5))


def every_draw(is_train: bool) -> list[tuple[int, ...]]:
    """All equal-size draws of one side."""
    pools = [np.flatnonzero((GROUPS.is_train_g == is_train) & (GROUPS.stratum_g == s)) for s in (0, 1)]
    return [a + b for a, b in product(*(combinations(pool.tolist(), 2) for pool in pools))]


def true_roles() -> np.ndarray:
    return GROUPS.is_train_g[:, None]


def test_both_sides_are_drawn_in_equal_numbers_of_every_class() -> None:
    assert GROUPS.drawn_s.tolist() == [2, 2]


@pytest.mark.parametrize(("total", "drawn"), [(5, 2), (7, 7), (4, 0), (300, 80)])
def test_the_chance_to_miss_is_hypergeometric(total: int, drawn: int) -> None:
    wanted = [comb(total - k, drawn) / comb(total, drawn) for k in range(total + 1)]
    assert chance_of_none(total, drawn) == pytest.approx(wanted, rel=1e-9)


def test_the_excess_is_the_mean_over_all_equal_draws() -> None:
    hit_ng = np.random.default_rng(0).random((6, 12)) < 0.2
    found = excess(hit_ng, GROUPS, true_roles())
    for side, values in ((True, found.train_n), (False, found.control_n)):
        wanted = np.mean([hit_ng[:, list(draw)].any(1) for draw in every_draw(side)], axis=0)
        assert values == pytest.approx(wanted)


def test_the_share_nearer_to_train_is_the_mean_over_all_equal_draws() -> None:
    similarity_ng = np.random.default_rng(1).random((6, 12)).astype(np.float32)
    found = closer_to_train(similarity_ng, GROUPS, true_roles())
    wins = [
        similarity_ng[:, list(train)].max(1) > similarity_ng[:, list(control)].max(1)
        for train, control in product(every_draw(True), every_draw(False))
    ]
    assert found.train_n == pytest.approx(np.mean(wins, axis=0), abs=1e-4)


def test_exchanging_the_roles_mirrors_both_comparisons() -> None:
    similarity_ng = np.random.default_rng(2).random((9, 12)).astype(np.float32)
    mirrored = Groups(~GROUPS.is_train_g, GROUPS.stratum_g)
    for compare, value in ((closer_to_train, similarity_ng), (excess, similarity_ng > 0.8)):
        found = compare(value, GROUPS, true_roles())
        other = compare(value, mirrored, ~true_roles())
        assert found.statistic_b == pytest.approx(-other.statistic_b, abs=1e-4)


def test_deals_keep_the_counts_of_every_class_and_begin_with_the_truth() -> None:
    dealt = deal_roles(GROUPS, np.random.default_rng(0), 50)
    assert (dealt[:, 0] == GROUPS.is_train_g).all()
    assert (dealt[:7].sum(0) == 5).all()
    assert (dealt[7:].sum(0) == 2).all()
    assert len(np.unique(dealt, axis=1).T) > 10


def many_groups() -> Groups:
    return Groups(np.repeat([True, False], [60, 20]), np.zeros(80, np.int64))


def test_without_influence_the_p_values_are_uniform() -> None:
    groups, p_values = many_groups(), []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        # tiles that all cling to a few popular groups, whichever side these are on
        similarity_ng = (rng.normal(size=(40, 80)) + 2 * rng.normal(size=80)).astype(np.float32)
        p_values.append(closer_to_train(similarity_ng, groups, deal_roles(groups, rng, 60)).p_value)
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) + 0.02 <= 0.12
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


def test_tiles_drawn_from_train_groups_are_found_in_excess() -> None:
    groups, rng = many_groups(), np.random.default_rng(0)
    hit_ng = rng.random((100, 80)) < 0.001
    hit_ng[:8, :8] |= np.eye(8, dtype=bool)  # eight tiles, each near one train group
    dealt = deal_roles(groups, rng, 500)
    found = excess(hit_ng, groups, dealt)
    assert found.statistic_b[0] > 0.01
    assert found.p_value < 0.3  # eight hits on a quarter of the groups: little, and told as little
    hit_ng[:30, :30] |= np.eye(30, dtype=bool)
    assert excess(hit_ng, groups, dealt).p_value <= 0.01


def test_the_interval_grows_by_the_chance_of_the_deal() -> None:
    groups, rng = many_groups(), np.random.default_rng(0)
    found = closer_to_train(rng.random((50, 80)).astype(np.float32), groups, deal_roles(groups, rng, 200))
    value = float(found.statistic_b[0])
    tiles = Interval(value, value - 0.01, value + 0.01)
    wide = found.interval(tiles)
    assert wide.low < tiles.low and wide.high > tiles.high
