import numpy as np
import pytest
from sklearn.decomposition import PCA

from stages.features.reduction import principal_components, umap_layout


def blobs(count: int, apart: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat(apart * rng.normal(size=(count, 12)), 20, axis=0) + rng.normal(size=(20 * count, 12))


def test_principal_components_are_those_of_scikit_learn_up_to_sign() -> None:
    x_nd = blobs(3, 4.0)
    ours_nr, theirs_nr = principal_components(x_nd, 4), PCA(4).fit_transform(x_nd)
    np.testing.assert_allclose(np.abs(ours_nr), np.abs(theirs_nr), rtol=1e-4, atol=1e-4)


def test_components_that_are_not_there_are_nought() -> None:
    x_nr = principal_components(np.array([[0.0, 1.0], [0.0, 3.0]]), 3)
    np.testing.assert_allclose(x_nr, [[-1, 0, 0], [1, 0, 0]])


@pytest.mark.slow  # numba compiles it anew in every process
def test_umap_keeps_blobs_apart_counts_them_and_repeats_itself() -> None:
    x_nd = blobs(3, 50.0)
    found = umap_layout(x_nd, 4, seed=1, neighbours=6, min_dist=0.05)
    assert found.x_nr.shape == (60, 4) and found.components == 3
    distance_nn = np.linalg.norm(found.x_nr[:, None] - found.x_nr[None], axis=2)
    same_nn = np.repeat(np.arange(3), 20)[:, None] == np.repeat(np.arange(3), 20)
    nearest_n = np.where(np.eye(60, dtype=bool), np.inf, distance_nn).argmin(1)
    assert same_nn[np.arange(60), nearest_n].all()
    np.testing.assert_array_equal(found.x_nr, umap_layout(x_nd, 4, seed=1, neighbours=6, min_dist=0.05).x_nr)
    assert not np.array_equal(found.x_nr, umap_layout(x_nd, 4, seed=2, neighbours=6, min_dist=0.05).x_nr)


@pytest.mark.slow
def test_one_cloud_is_in_one_piece() -> None:
    assert umap_layout(blobs(2, 0.0), 3, seed=1, neighbours=10, min_dist=0.05).components == 1


def test_too_few_vectors_for_umap_are_refused() -> None:
    with pytest.raises(ValueError, match="needs at least 12 vectors, and there are 10"):
        umap_layout(np.zeros((10, 3)), 2, seed=0, neighbours=10, min_dist=0.1)
