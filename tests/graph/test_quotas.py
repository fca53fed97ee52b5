import numpy as np
import pytest

from stages.graph.quotas import by_centrality, in_turn, quotas, share_weights


@pytest.mark.parametrize(
    ("sizes", "wanted", "smallest", "seats"),
    [
        ([10, 10, 10], 9, 1, [3, 3, 3]),
        ([10, 10, 10], 11, 1, [4, 4, 3]),  # the remainder one each to the first
        ([10, 10, 10], 2, 1, [1, 1, 0]),  # more communities than places: those with most flow
        ([2, 10, 9], 12, 1, [2, 6, 4]),  # what the first cannot fill comes from the largest
        ([2, 5, 9], 14, 1, [2, 5, 7]),
        ([9, 3, 5], 16, 1, [8, 3, 5]),
        ([5, 1, 1, 6], 12, 1, [4, 1, 1, 6]),  # the largest until it is used up, then the next largest
        ([8, 8, 1], 9, 1, [5, 3, 1]),
        ([8, 2, 8], 9, 3, [5, 0, 4]),  # outliers have no share
        ([4, 2, 4], 9, 3, [4, 1, 4]),  # unless all others are used up
        ([2, 1, 2], 3, 3, [2, 0, 1]),  # nothing but outliers: the largest first
        ([5], 5, 1, [5]),
        ([5, 5], 0, 1, [0, 0]),
    ],
)
def test_seats_are_as_worked_out_by_hand(sizes: list[int], wanted: int, smallest: int, seats: list[int]) -> None:
    assert quotas(np.array(sizes), wanted, smallest).seats_m.tolist() == seats


def test_seats_always_sum_to_what_is_wanted_and_fit_the_communities() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        size_m = rng.integers(1, 12, size=rng.integers(1, 15))
        wanted, smallest = int(rng.integers(0, size_m.sum() + 1)), int(rng.integers(1, 5))
        found = quotas(size_m, wanted, smallest)
        assert found.seats_m.sum() == wanted
        assert (found.seats_m <= size_m).all() and (found.fair_m <= found.seats_m).all()
        if found.seats_m[size_m < smallest].any():
            assert (found.seats_m == size_m)[size_m >= smallest].all()


@pytest.mark.parametrize(
    ("sizes", "weights", "wanted", "seats"),
    [
        ([50, 30, 20], [5, 3, 2], 10, [5, 3, 2]),
        ([50, 30, 20], [5, 3, 2], 7, [4, 2, 1]),  # 3.5, 2.1, 1.4: the largest remainder gets the seat
        ([9, 9, 9, 9], [1, 1, 1, 1], 6, [2, 2, 1, 1]),  # equal remainders: the first
        ([2, 30, 30], [8, 1, 1], 10, [2, 7, 1]),  # what it cannot fill comes from the largest
        ([9, 9, 9], [1, 0, 1], 6, [3, 0, 3]),  # without weight, without a share
        ([3, 9, 3], [1, 0, 1], 9, [3, 3, 3]),  # unless all others are used up
        ([9, 9, 3], [0, 1, 1], 8, [0, 5, 3]),  # however large it is
        ([9, 9, 9], [1, 1, 8], 2, [1, 1, 0]),  # more communities than seats: those with most flow share alone
        ([9, 9, 9], [0, 1, 8], 2, [0, 0, 2]),
    ],
)
def test_seats_by_weight_are_as_worked_out_by_hand(
    sizes: list[int], weights: list[int], wanted: int, seats: list[int]
) -> None:
    assert quotas(np.array(sizes), wanted, weight_m=np.array(weights, float)).seats_m.tolist() == seats


def test_seats_by_weight_always_sum_and_no_share_is_off_by_more_than_one() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        weight_m = rng.random(rng.integers(1, 12)) + 0.01
        wanted = int(rng.integers(len(weight_m), 200))
        seats_m = quotas(np.full(len(weight_m), 500), wanted, weight_m=weight_m).seats_m
        assert seats_m.sum() == wanted
        assert (np.abs(seats_m - wanted * weight_m / weight_m.sum()) < 1 + 1e-6).all()


def test_weights_follow_the_rule_and_outliers_have_none() -> None:
    size_m = np.array([16, 9, 2])
    assert share_weights("equal", size_m, 3).tolist() == [1, 1, 0]
    assert share_weights("proportional", size_m, 3).tolist() == [16, 9, 0]
    assert share_weights("sqrt", size_m, 3).tolist() == [4, 3, 0]
    assert share_weights("uncertainty", size_m, 3, np.array([0.1, 0.7, 0.9])).tolist() == [0.1, 0.7, 0.0]
    for given in (None, np.ones(2)):
        with pytest.raises(ValueError, match="one score for each of 3 communities"):
            share_weights("uncertainty", size_m, 3, given)


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_weights_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        quotas(np.array([4, 2]), 2, weight_m=np.array([1.0, bad]))


@pytest.mark.parametrize("wanted", [-1, 7])
def test_more_than_there_are_is_refused(wanted: int) -> None:
    with pytest.raises(ValueError, match="of 6 nodes"):
        quotas(np.array([4, 2]), wanted)


def test_places_follow_centrality_then_flow_then_the_earlier_node() -> None:
    community_n = np.array([0, 1, 0, 1, 0, 0])
    centrality_n = np.array([0.1, 0.3, 0.2, 0.4, 0.2, 0.1 + 1e-16])
    flow_n = np.array([0.1, 0.1, 0.1, 0.1, 0.3, 0.1])
    assert by_centrality(community_n, centrality_n, flow_n).tolist() == [2, 1, 1, 0, 0, 3]


def test_the_first_of_every_community_come_before_the_second_of_any() -> None:
    community_n, place_n = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 0, 2, 1, 0, 0])
    assert in_turn(community_n, place_n, np.array([3, 1, 1])).tolist() == [1, 4, 5, 0, 2]


def test_the_head_of_a_selection_is_the_smaller_selection() -> None:
    rng = np.random.default_rng(1)
    community_n = np.sort(rng.integers(0, 4, size=60))
    place_n = by_centrality(community_n, rng.random(60), rng.random(60))
    size_m = np.bincount(community_n)
    small, large = (in_turn(community_n, place_n, quotas(size_m, wanted).seats_m) for wanted in (10, 30))
    assert small.tolist() == large[:10].tolist()
