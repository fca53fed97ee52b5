import itertools

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from stages.distill.coresets import herding_rows
from stages.graph.baselines import choose, facility_location, k_center_greedy, probability_cover, pure_radius
from stages.graph.greedy import farthest_first, lazy_greedy
from stages.graph.medoids import random_choice

BASELINES = ["random", "kmeans", "k_center", "herding", "facility_location", "probability_cover"]


def cloud(seed: int, n: int = 60, d: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 1.0, size=(n, d))


def test_farthest_first_on_a_line_by_hand_with_ties_to_the_earlier() -> None:
    x_nd = np.array([0.0, 4.0, 10.0, 6.0, 4.0])[:, None]
    assert farthest_first(x_nd, 5, first=0).tolist() == [0, 2, 1, 3, 4]


@pytest.mark.parametrize("seed", range(4))
def test_farthest_first_equals_the_plain_loop_and_covers_within_twice_the_best(seed: int) -> None:
    x_nd = cloud(seed, n=14)
    d_nn = pairwise_distances(x_nd)
    taken = [3]
    while len(taken) < 4:
        gap_n = d_nn[taken].min(axis=0)
        taken.append(int(np.argmax(gap_n)))
    assert farthest_first(x_nd, 4, first=3).tolist() == taken
    best = min(d_nn[list(chosen)].min(axis=0).max() for chosen in itertools.combinations(range(14), 4))
    assert d_nn[taken].min(axis=0).max() <= 2 * best + 1e-12


def test_farthest_first_takes_equal_rows_last_whatever_the_rounding() -> None:
    x_nd = np.random.default_rng(5).normal(100.0, 1.0, size=(6, 64))
    chosen = farthest_first(np.concatenate([x_nd, x_nd]), 12, first=0)
    assert sorted(chosen[:6] % 6) == list(range(6)) and sorted(chosen.tolist()) == list(range(12))
    assert chosen[6:].tolist() == sorted(chosen[6:].tolist())


def test_k_center_starts_at_the_row_nearest_to_the_mean() -> None:
    assert k_center_greedy(np.array([0.0, 9.0, 4.0, 5.0, 10.0])[:, None], 3).tolist() == [3, 0, 4]


@pytest.mark.parametrize("seed", range(4))
def test_facility_location_equals_the_plain_greedy_loop(seed: int) -> None:
    x_nd = cloud(seed)
    d_nn = pairwise_distances(x_nd)
    taken: list[int] = []
    for _ in range(8):
        cost_n = [d_nn[[*taken, row]].min(axis=0).sum() for row in range(60)]
        taken.append(int(np.argmin(cost_n)))
    assert facility_location(x_nd, 8).tolist() == taken


def test_facility_location_is_within_its_guarantee_of_the_best() -> None:
    x_nd = cloud(9, n=16)
    d_nn = pairwise_distances(x_nd)
    gain = {s: (d_nn.max() - d_nn[list(s)].min(axis=0)).sum() for s in itertools.combinations(range(16), 3)}
    found = gain[tuple(sorted(facility_location(x_nd, 3).tolist()))]
    assert found >= (1 - 1 / np.e) * max(gain.values())


@pytest.mark.parametrize("seed", range(4))
def test_probability_cover_equals_the_plain_greedy_loop_and_starts_anew_when_all_is_covered(seed: int) -> None:
    x_nd = cloud(seed)
    near_nn = pairwise_distances(x_nd) <= 1.3
    taken: list[int] = []
    open_n = np.ones(60, bool)
    restarts = 0
    while len(taken) < 45:
        gain_n = (near_nn & open_n).sum(axis=1).astype(float)
        gain_n[taken] = -1
        if gain_n.max() <= 0:
            open_n, restarts = ~np.isin(np.arange(60), taken), restarts + 1
            continue
        taken.append(int(np.argmax(gain_n)))
        open_n &= ~near_nn[taken[-1]]
    assert restarts >= 1
    assert probability_cover(x_nd, 45, 1.3).tolist() == taken


def test_a_ball_that_covers_everything_leads_to_every_row_in_turn() -> None:
    assert probability_cover(np.arange(5.0)[:, None], 5, radius=100.0).tolist() == [0, 1, 2, 3, 4]


def test_the_pure_radius_is_the_largest_at_which_so_many_balls_are_pure() -> None:
    x_nd, label_n = np.array([0.0, 1.0, 2.0, 5.0, 6.0])[:, None], np.array([0, 0, 0, 1, 1])
    # nearest of the other label: 5, 4, 3, 3, 4
    for purity, limit in ((1.0, 3.0), (0.7, 3.0), (0.6, 4.0), (0.2, 5.0)):
        assert pure_radius(x_nd, label_n, purity) == pytest.approx(limit) and pure_radius(x_nd, label_n, purity) < limit
    assert pure_radius(x_nd, np.zeros(5, int)) == 6.0


def test_the_lazy_greedy_choice_asks_for_few_gains_and_takes_the_same() -> None:
    rng = np.random.default_rng(3)
    covers_nu = rng.random((200, 300)) < 0.05
    open_u, asked = np.ones(300, bool), []

    def gains_of(rows_b: np.ndarray) -> np.ndarray:
        asked.append(len(rows_b))
        return (covers_nu[rows_b] & open_u).sum(axis=1).astype(float)

    def take(row: int) -> None:
        open_u[covers_nu[row]] = False

    chosen = lazy_greedy(covers_nu.sum(axis=1).astype(float), gains_of, take, 20, np.zeros(200, bool))
    open_u[:] = True
    for row in chosen:
        assert row == np.argmax((covers_nu & open_u).sum(axis=1))
        open_u[covers_nu[row]] = False
    assert sum(asked) < 0.5 * 200 * 20


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_gives_distinct_rows_the_same_for_the_same_generator(baseline: str) -> None:
    x_nd = cloud(6)
    one, two = (choose(baseline, x_nd, 20, np.random.default_rng(8)) for _ in range(2))
    assert np.array_equal(one, two) and len(set(one.tolist())) == 20
    assert sorted(choose(baseline, x_nd, 60, np.random.default_rng(0)).tolist()) == list(range(60))
    assert len(choose(baseline, x_nd, 1, np.random.default_rng(0))) == 1


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_copes_with_equal_rows(baseline: str) -> None:
    chosen = choose(baseline, np.ones((8, 3)), 5, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 5


@pytest.mark.parametrize("baseline", ["k_center", "facility_location", "probability_cover", "kmeans"])
def test_every_one_of_a_few_clear_blobs_is_represented(baseline: str) -> None:
    rng = np.random.default_rng(7)
    blob_n = np.repeat(np.arange(6), [30, 30, 10, 10, 5, 5])
    x_nd = 20.0 * np.eye(6)[blob_n] + rng.normal(size=(90, 6))
    assert set(blob_n[choose(baseline, x_nd, 6, np.random.default_rng(0))]) == set(range(6))


def test_random_and_herding_are_those_that_exist_already() -> None:
    x_nd = cloud(8)
    assert np.array_equal(choose("herding", x_nd, 9, np.random.default_rng(0)), herding_rows(x_nd, 9))
    expected = random_choice(60, 9, np.random.default_rng(4))
    assert np.array_equal(choose("random", x_nd, 9, np.random.default_rng(4)), expected)


@pytest.mark.parametrize("wanted", [0, 61])
@pytest.mark.parametrize("baseline", BASELINES)
def test_impossible_numbers_are_refused(baseline: str, wanted: int) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        choose(baseline, cloud(9), wanted, np.random.default_rng(0))
