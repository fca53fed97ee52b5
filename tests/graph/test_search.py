import numpy as np
import pytest
import torch

from stages.graph import search
from stages.graph.knn import Neighbours, exact_neighbours
from stages.graph.search import descended_neighbours, nearest, recall


def curved_cloud(n: int, seed: int = 0) -> np.ndarray:
    """Vectors in 64 dimensions that vary along few, as features of images do."""
    rng = np.random.default_rng(seed)
    z_nr = 3.0 * rng.normal(size=(20, 8))[rng.integers(0, 20, n)] + rng.normal(size=(n, 8))
    return np.maximum(z_nr @ rng.normal(size=(8, 64)), 0.0) + 0.05 * rng.normal(size=(n, 64))


def test_few_rows_are_searched_exactly_and_say_so() -> None:
    x_nd = curved_cloud(300)
    found = nearest(x_nd, 6, seed=1, exact_to=300)
    assert found.exact and found.recall == 1.0 and found.sampled == 0
    assert all(np.array_equal(a, b) for a, b in zip(found.neighbours, exact_neighbours(x_nd, 6), strict=True))
    assert not nearest(x_nd, 6, seed=1, exact_to=299).exact


def test_the_descent_finds_what_the_exact_search_finds() -> None:
    x_nd = curved_cloud(3000)
    found, exact = nearest(x_nd, 10, seed=2, exact_to=100, sample=200), exact_neighbours(x_nd, 10)
    assert found.recall >= 0.98 and found.sampled == 200
    same_nk = found.neighbours.index_nk == exact.index_nk
    assert same_nk.mean() >= 0.98
    assert np.array_equal(found.neighbours.distance_nk[same_nk], exact.distance_nk[same_nk])
    assert (np.diff(found.neighbours.distance_nk, axis=1) >= 0).all()
    assert not (found.neighbours.index_nk == np.arange(3000)[:, None]).any()


def test_the_same_seed_finds_the_same_neighbours_whatever_the_global_generator() -> None:
    x_nd = curved_cloud(1500, seed=3)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must not matter
    one = descended_neighbours(x_nd, 8, seed=2**40)
    np.random.seed(2)  # noqa: NPY002
    two = descended_neighbours(x_nd, 8, seed=2**40)
    assert np.array_equal(one.index_nk, two.index_nk) and np.array_equal(one.distance_nk, two.distance_nk)


def test_equal_rows_lie_at_distance_zero_and_no_row_is_its_own_neighbour() -> None:
    x_nd = np.repeat(curved_cloud(40, seed=4), 30, axis=0)
    found = descended_neighbours(x_nd, 5, seed=0)
    assert (found.distance_nk == 0.0).mean() > 0.95
    assert not (found.index_nk == np.arange(1200)[:, None]).any()
    assert all(len(set(row)) == 5 for row in found.index_nk.tolist())


def test_recall_is_the_share_of_true_neighbours_found_by_hand() -> None:
    found = Neighbours(np.zeros((3, 2), int), np.array([[1.0, 2.0], [1.0, 5.0], [7.0, 9.0]]))
    exact = Neighbours(np.zeros((2, 2), int), np.array([[1.0, 2.0], [6.0, 8.0]]))
    assert recall(found, exact, np.array([0, 2])) == 0.75


def test_rows_of_which_the_descent_lost_neighbours_are_searched_exactly() -> None:
    x_nd = curved_cloud(50, seed=5)
    empty = Neighbours(np.zeros((50, 4), int), np.zeros((50, 4)))
    mended, exact = search._with_exact(np.array([3, 30]), empty, x_nd, 4), exact_neighbours(x_nd, 4)
    assert np.array_equal(mended.index_nk[[3, 30]], exact.index_nk[[3, 30]])
    assert np.array_equal(mended.distance_nk[[3, 30]], exact.distance_nk[[3, 30]])
    assert not mended.index_nk[4].any()


@pytest.mark.parametrize(
    ("x_nd", "k", "said"), [(np.zeros((40, 2)), 0, "at least 1"), (np.full((40, 2), np.nan), 2, "NaN or infinite")]
)
def test_vectors_that_have_no_neighbours_are_refused(x_nd: np.ndarray, k: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        descended_neighbours(x_nd, k, seed=0)


def test_torch_computes_with_as_many_threads_as_before() -> None:
    """numba sets the threads of all who use OpenMP, and the last bits of a training depend on their number."""
    torch.set_num_threads(1)
    (torch.ones(300, 300) @ torch.ones(300, 300)).sum()  # its threads are there
    nearest(np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32), 5, 0, exact_to=100)
    assert torch.get_num_threads() == 1
