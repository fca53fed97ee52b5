"""The numbers behind a comparison of selections: closed forms and exact small cases."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from pipeline import comparison
from pipeline.comparison import Partition, Real
from stages.stats.intervals import Weighted


def draws() -> np.random.Generator:
    return np.random.default_rng(0)


def near(x_sd: np.ndarray, real: Real, count: int, group_s: np.ndarray | None = None) -> dict[str, object]:
    return comparison.nearness(x_sd, group_s, real, count, draws, resamples=50, level=0.95)


def test_any_head_of_tiles_in_turn_is_balanced_over_classes() -> None:
    label_s, rank_s = np.array([0, 0, 0, 1, 1, 1]), np.array([2, 0, 1, 0, 1, 2])
    order = comparison.in_turn(label_s, rank_s)
    assert label_s[order].tolist() == [0, 1, 0, 1, 0, 1] and rank_s[order].tolist() == [0, 0, 1, 1, 2, 2]


def test_overlaps_of_selections_by_hand() -> None:
    found = comparison.overlaps([np.array([0, 1, 2, 3]), np.array([2, 3, 9]), np.array([7])], 12)
    assert found["shared"] == [[4, 2, 0], [2, 3, 0], [0, 0, 1]]
    assert found["jaccard"] == [[1, 2 / 5, 0], [2 / 5, 1, 0], [0, 0, 1]]
    assert found["by_lot"][0][1] == pytest.approx(1 / 6)  # 4 · 3 / 12 = 1 of 7 − 1
    assert found["by_lot"] == np.transpose(found["by_lot"]).tolist()


def test_reach_counts_communities_by_class_and_flow_over_classes_alike() -> None:
    """Class 0: communities {0, 1} of 3 and 1; class 1: one of 2. A community 0 of another class is another one."""
    partition = Partition(
        row_n=np.array([0, 1, 2, 3, 10, 11]),
        label_n=np.array([0, 0, 0, 0, 1, 1]),
        community_n=np.array([0, 0, 0, 1, 0, 0]),
        flow_n=np.array([0.2, 0.2, 0.2, 0.4, 0.5, 0.5]),
    )
    assert comparison.reach(partition, np.array([1])) == pytest.approx(
        {"communities": 1 / 3, "candidates": 3 / 6, "flow": 0.3}
    )
    assert comparison.reach(partition, np.array([3, 11, 99])) == pytest.approx(
        {"communities": 2 / 3, "candidates": 3 / 6, "flow": 0.7}
    )
    assert comparison.reach(partition, np.array([99])) == {"communities": 0, "candidates": 0, "flow": 0}


def test_precision_and_recall_are_of_the_head_alone_and_go_by_balls_to_the_third_neighbour() -> None:
    rng = np.random.default_rng(1)
    real = Real(rng.normal(size=(30, 3)), np.arange(30))
    x_sd = np.concatenate([rng.normal(size=(12, 3)), 50 + rng.normal(size=(20, 3))])
    found = near(x_sd, real, 12)
    across = pairwise_distances(x_sd[:12], real.x_vd)
    radius_v = np.sort(pairwise_distances(real.x_vd), axis=1)[:, 3]
    radius_s = np.sort(pairwise_distances(x_sd[:12]), axis=1)[:, 3]
    assert found["precision"] == pytest.approx((across <= radius_v).any(axis=1).mean())
    assert found["recall"] == pytest.approx((radius_s >= across.T).any(axis=1).mean())
    assert found["vendi"] == near(x_sd[:12], real, 12)["vendi"]
    assert found["kid"] != near(x_sd[:12], real, 12)["kid"], "KID does not depend on the number, and sees all"


def test_orthogonal_tiles_count_in_full_and_equal_ones_as_one() -> None:
    real = Real(np.eye(6), np.arange(6))
    assert near(np.eye(6)[:4], real, 4)["vendi"] == pytest.approx(4)
    assert near(np.ones((4, 6)), real, 4)["vendi"] == pytest.approx(1)


def test_tiles_far_away_have_a_larger_kid_and_equal_draws_give_equal_intervals() -> None:
    rng = np.random.default_rng(2)
    real = Real(rng.normal(size=(40, 4)), np.arange(40) // 2)
    at_home, abroad = rng.normal(size=(30, 4)), 2 + rng.normal(size=(30, 4))
    one, two = near(at_home, real, 30)["kid"], near(abroad, real, 30)["kid"]
    assert one["low"] <= one["value"] <= one["high"] < two["low"]  # type: ignore[index]
    assert one == near(at_home, real, 30)["kid"]


def test_what_needs_more_tiles_or_groups_is_left_open() -> None:
    rng = np.random.default_rng(3)
    one_group = Real(rng.normal(size=(9, 4)), np.zeros(9, np.int64))
    assert near(rng.normal(size=(9, 4)), one_group, 9)["kid"] is None
    few = near(rng.normal(size=(3, 4)), Real(one_group.x_vd, np.arange(9)), 3)
    assert few["precision"] is few["recall"] is None and few["kid"] is not None
    zeros = np.concatenate([np.zeros((1, 4)), np.ones((4, 4))])
    assert near(zeros, one_group, 5)["vendi"] is None, "a vector of zeros has no direction"


def test_agreement_is_the_share_that_is_taken_for_its_class() -> None:
    p_sk = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    found = comparison.agreement(p_sk, np.array([0, 0, 1, 0]), 0.95)
    assert found["value"] == 0.75 and found["low"] == pytest.approx(0.194, abs=1e-3)  # Clopper–Pearson of 3 in 4


def test_differences_are_to_the_first_and_paired_by_test_tile() -> None:
    """Two contestants that are right on the same groups differ by nothing in every resample."""
    right_g = np.array([1.0, 0.0, 1.0, 0.0])

    def share(add: float) -> tuple[Weighted, int]:
        return (lambda w_bg: (w_bg @ right_g / w_bg.sum(1))[:, None] + add), 1

    found = comparison.differences({"a": share(0), "b": share(0.25), "c": share(0)}, "a", 4, draws, 200, 0.95)
    assert found["b"] == pytest.approx({"value": 0.25, "low": 0.25, "high": 0.25})
    assert found["c"] == pytest.approx({"value": 0, "low": 0, "high": 0}) and set(found) == {"b", "c"}
    assert comparison.differences({"b": share(0)}, "a", 4, draws, 200, 0.95) == {}
