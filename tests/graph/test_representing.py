import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from stages.graph.knn import exact_neighbours
from stages.graph.quotas import by_centrality, share_weights
from stages.graph.representing import (
    later_of_close_pairs,
    near_identical,
    represent,
    spread_places,
    typical_gap,
)


def blobs(seed: int, sizes: tuple[int, ...] = (20, 15, 10, 2)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, communities and places by a score drawn at random."""
    rng = np.random.default_rng(seed)
    community_n = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x_nd = 30.0 * rng.normal(size=(len(sizes), 5))[community_n] + rng.normal(size=(len(community_n), 5))
    return x_nd, community_n, by_centrality(community_n, rng.random(len(community_n)), np.zeros(len(community_n)))


def chosen_of(x_nd, community_n, place_n, wanted: int, apart: float = 0.0, quota: str = "equal"):  # noqa: ANN001, ANN201
    weight_m = share_weights(quota, np.bincount(community_n), 3)
    return represent(x_nd, exact_neighbours(x_nd, 5), community_n, place_n, weight_m, wanted, apart)


def test_the_most_central_of_every_community_come_in_turn_and_outliers_are_listed() -> None:
    x_nd, community_n, place_n = blobs(0)
    found = chosen_of(x_nd, community_n, place_n, 7)
    assert community_n[found.chosen_s].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert place_n[found.chosen_s].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert np.array_equal(found.outlier_n, community_n == 3)
    assert found.fair_n.sum() == 7 and found.fair_n[found.chosen_s].all() and not found.twin_n.any()
    assert np.array_equal(found.place_n, place_n)


def test_outliers_are_chosen_only_when_all_others_are_used_up() -> None:
    x_nd, community_n, place_n = blobs(1)
    assert (
        not chosen_of(x_nd, community_n, place_n, 45)
        .outlier_n[chosen_of(x_nd, community_n, place_n, 45).chosen_s]
        .any()
    )
    assert (community_n[chosen_of(x_nd, community_n, place_n, 46).chosen_s] == 3).sum() == 1


def test_the_quota_decides_how_many_each_community_sends() -> None:
    x_nd, community_n, place_n = blobs(2, (36, 16, 4, 2))
    seats = {
        quota: np.bincount(community_n[chosen_of(x_nd, community_n, place_n, 14, quota=quota).chosen_s], minlength=4)
        for quota in ("equal", "proportional", "sqrt")
    }
    assert seats["equal"].tolist() == [5, 5, 4, 0]
    assert seats["proportional"].tolist() == [9, 4, 1, 0]
    assert seats["sqrt"].tolist() == [7, 5, 2, 0]  # shares 7, 4⅔, 2⅓


@pytest.mark.parametrize("seed", range(10))
def test_no_two_chosen_are_closer_than_asked_whatever_their_communities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x_nd, community_n = rng.normal(size=(120, 2)), rng.integers(0, 5, 120)
    place_n = by_centrality(community_n, rng.random(120), np.zeros(120))
    found = chosen_of(x_nd, community_n, place_n, 20, apart=0.3)
    d_ss = pairwise_distances(x_nd[found.chosen_s])
    assert d_ss[~np.eye(20, dtype=bool)].min() >= 0.3
    assert not found.twin_n[found.chosen_s].any() and found.twin_n.any()
    # a twin is always near to someone who was kept and comes before it
    kept = np.flatnonzero(~found.twin_n)
    d_tk = pairwise_distances(x_nd[found.twin_n], x_nd[kept])
    assert (d_tk.min(axis=1) < 0.3).all()


def test_of_more_twins_than_the_neighbours_list_one_alone_is_chosen() -> None:
    rng = np.random.default_rng(3)
    x_nd = np.concatenate([rng.normal(0.0, 1e-4, size=(30, 3)), 10.0 + 5.0 * rng.normal(size=(10, 3))])
    community_n = np.repeat([0, 1], [30, 10])
    place_n = np.concatenate([np.arange(30), np.arange(10)])
    found = represent(x_nd, exact_neighbours(x_nd, 2), community_n, place_n, np.ones(2), 8, apart=0.1)
    assert (community_n[found.chosen_s] == 0).sum() == 1 and found.chosen_s[0] == 0
    with pytest.raises(ValueError, match=r"wanted 12 of 40 nodes, but only 11 are at least 0\.1 apart"):
        represent(x_nd, exact_neighbours(x_nd, 29), community_n, place_n, np.ones(2), 12, apart=0.1)


def test_the_first_in_turn_of_a_pair_of_twins_is_kept() -> None:
    x_nd = np.array([[0.0], [5.0], [0.01], [9.0], [20.0]])
    neighbours = exact_neighbours(x_nd, 3)
    assert near_identical(neighbours, np.array([2, 1, 0, 3, 4]), 0.1).tolist() == [True, False, False, False, False]
    assert near_identical(neighbours, np.arange(5), 0.1).tolist() == [False, False, True, False, False]
    assert not near_identical(neighbours, np.arange(5), 0.0).any()


def test_of_a_chain_of_close_nodes_every_other_one_is_kept() -> None:
    x_nd = np.arange(6.0)[:, None]
    assert near_identical(exact_neighbours(x_nd, 2), np.arange(6), 1.5).tolist() == [False, True] * 3
    assert later_of_close_pairs(x_nd, 1.5).tolist() == [False, True] * 3
    assert not later_of_close_pairs(x_nd, 1.0).any()


def test_close_pairs_are_found_across_blocks_and_equal_rows_are_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.features.distances.BLOCK_ROWS", 7)
    x_sd = np.random.default_rng(4).normal(100.0, 1.0, size=(30, 64))
    twice_sd = np.concatenate([x_sd, x_sd])
    assert later_of_close_pairs(twice_sd, 1e-9).tolist() == [False] * 30 + [True] * 30


def test_spreading_takes_the_most_central_first_and_then_the_farthest_of_the_central_ones() -> None:
    x_nd = np.array([0.0, 1.0, 5.0, 2.0, 100.0, 99.0])[:, None]  # in the order of centrality
    place_n, community_n = np.arange(6), np.zeros(6, int)
    assert np.argsort(spread_places(x_nd, community_n, place_n, 0.6, 9)).tolist() == [0, 2, 3, 1, 4, 5]
    assert np.argsort(spread_places(x_nd, community_n, place_n, 0.6, 2)).tolist() == [0, 2, 1, 3, 4, 5]
    assert np.argsort(spread_places(x_nd, community_n, place_n, 1.0, 9)).tolist() == [0, 4, 2, 3, 1, 5]
    assert np.array_equal(spread_places(x_nd, community_n, place_n, 0.0, 9), place_n)
    with pytest.raises(ValueError, match="between 0 and 1"):
        spread_places(x_nd, community_n, place_n, 1.1, 9)


def test_spreading_stays_inside_communities_and_its_picks_are_farther_apart() -> None:
    x_nd, community_n, place_n = blobs(5)
    spread_n = spread_places(x_nd, community_n, place_n, 0.5, 8)
    for community in range(4):
        members = community_n == community
        assert sorted(spread_n[members]) == list(range(members.sum()))
        assert spread_n[members & (place_n == 0)] == 0
    largest = community_n == 0
    gaps = [
        pairwise_distances(x_nd[largest & (places < 4)])[np.triu_indices(4, 1)].min() for places in (place_n, spread_n)
    ]
    assert gaps[1] > gaps[0]


def test_the_head_of_a_selection_is_the_smaller_selection_even_when_spread_and_free_of_twins() -> None:
    rng = np.random.default_rng(6)
    x_nd, community_n = rng.normal(size=(200, 3)), rng.integers(0, 6, 200)
    place_n = by_centrality(community_n, rng.random(200), np.zeros(200))
    spread_n = spread_places(x_nd, community_n, place_n, 0.5, 200)
    small, large = (chosen_of(x_nd, community_n, spread_n, wanted, apart=0.2).chosen_s for wanted in (9, 40))
    assert large[:9].tolist() == small.tolist()


def test_the_typical_gap_is_the_median_distance_to_the_nearest_other() -> None:
    assert typical_gap(exact_neighbours(np.array([0.0, 1.0, 10.0, 30.0])[:, None], 2)) == pytest.approx(5.0)
    assert typical_gap(exact_neighbours(np.zeros((1, 2)), 2)) == 0.0
