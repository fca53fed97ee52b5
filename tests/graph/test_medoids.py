import itertools
from collections import Counter

import numpy as np
import pytest

from stages.graph.medoids import kmeans_medoids, random_choice


def test_medoids_of_three_blobs_are_their_middles_the_largest_first() -> None:
    x_nd = np.array([0, 1, 2, 100, 101, 102, 103, 104, 200], float)[:, None]
    assert kmeans_medoids(x_nd, 3, seed=0).tolist() == [5, 1, 8]


def test_medoids_are_distinct_even_among_copies_and_the_same_seed_gives_the_same() -> None:
    x_nd = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 4, axis=0)
    chosen = kmeans_medoids(x_nd, 12, seed=2**40)
    assert len(set(chosen.tolist())) == 12
    assert np.array_equal(chosen, kmeans_medoids(x_nd, 12, seed=2**40))
    assert sorted(kmeans_medoids(x_nd, 20, seed=1).tolist()) == list(range(20))


def test_random_choice_gives_every_subset_equally_often() -> None:
    rng = np.random.default_rng(1)
    found = Counter(frozenset(random_choice(5, 2, rng).tolist()) for _ in range(10_000))
    assert set(found) == {frozenset(pair) for pair in itertools.combinations(range(5), 2)}
    chi2 = sum((count - 1000) ** 2 / 1000 for count in found.values())
    assert chi2 < 27.9  # 99.9 % point of chi-square with 9 degrees of freedom


def test_random_choice_follows_its_generator() -> None:
    first, again, other = (random_choice(50, 10, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("wanted", [0, 7])
def test_impossible_numbers_of_medoids_are_refused(wanted: int) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        kmeans_medoids(np.zeros((6, 2)), wanted, seed=0)
