import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from stages.features.manifold import precision_recall, squared_radii


def on_a_line(*places: float) -> np.ndarray:
    return np.array(places, float)[:, None]


def test_radii_on_a_line_are_the_distances_to_the_kth_neighbour() -> None:
    assert squared_radii(on_a_line(0, 1, 3, 7), k=1).tolist() == [1, 1, 4, 16]
    assert squared_radii(on_a_line(0, 1, 3, 7), k=2).tolist() == [9, 4, 9, 36]


def test_precision_and_recall_of_points_on_a_line() -> None:
    # real balls with k = 1: 0 ± 1, 1 ± 1, 3 ± 2, 7 ± 4
    found = precision_recall(on_a_line(0, 1, 3, 7), on_a_line(-2, 4, 12, 20), k=1)
    assert found.precision == 1 / 4  # only 4 is inside one
    assert found.recall == 1.0  # generated balls: -2 ± 6, 4 ± 6, 12 ± 8, 20 ± 8


def test_a_cloud_against_itself_is_perfect_and_against_a_far_one_nothing() -> None:
    x_nd = np.random.default_rng(0).normal(size=(40, 5))
    assert precision_recall(x_nd, x_nd) == (1.0, 1.0)
    assert precision_recall(x_nd, x_nd + 100.0) == (0.0, 0.0)


def test_a_generator_that_knows_one_of_two_kinds_has_full_precision_and_half_recall() -> None:
    rng = np.random.default_rng(1)
    one_nd, other_nd = rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + 1000.0
    found = precision_recall(np.concatenate([one_nd, other_nd]), one_nd)
    assert found == (1.0, 0.5)


def test_swapping_the_sides_swaps_precision_and_recall_and_scale_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    x_nd, y_md = rng.normal(size=(60, 4)), rng.normal(0.7, 0.6, size=(50, 4))
    found = precision_recall(x_nd, y_md)
    assert 0 < found.precision < 1 and 0 < found.recall < 1
    assert precision_recall(y_md, x_nd) == found[::-1]
    assert precision_recall(x_nd * 1024, y_md * 1024) == found


def test_precision_equals_a_count_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    x_nd, y_md = rng.normal(size=(700, 6)), rng.normal(0.5, size=(600, 6))
    radius_n = NearestNeighbors(n_neighbors=4).fit(x_nd).kneighbors(x_nd)[0][:, 3]
    distance_mn = np.linalg.norm(y_md[:, None] - x_nd[None], axis=2)
    assert precision_recall(x_nd, y_md, k=3).precision == (distance_mn <= radius_n).any(axis=1).mean()


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 vectors"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)), k=3)
