import numpy as np
import pytest

from stages.features.plane import pca_plane, umap_plane


def test_the_plane_of_points_on_a_plane_keeps_every_distance() -> None:
    rng = np.random.default_rng(0)
    flat_n2 = rng.normal(size=(30, 2))
    turn_2d = np.linalg.qr(rng.normal(size=(5, 2)))[0].T
    plane_n2 = pca_plane(flat_n2 @ turn_2d + 3.0)
    expected = np.linalg.norm(flat_n2[:, None] - flat_n2[None], axis=2)
    assert np.linalg.norm(plane_n2[:, None] - plane_n2[None], axis=2) == pytest.approx(expected, abs=1e-5)


def test_one_vector_and_one_feature_have_a_plane_too() -> None:
    assert pca_plane(np.ones((1, 4))).tolist() == [[0, 0]]
    assert pca_plane(np.array([[1.0], [3.0]])).tolist() == [[-1, 0], [1, 0]]
    assert umap_plane(np.ones((3, 4)), seed=0).shape == (3, 2)


@pytest.mark.slow  # umap compiles for up to half a minute
def test_umap_keeps_blobs_apart_and_the_same_seed_gives_the_same_plane() -> None:
    rng = np.random.default_rng(1)
    blob_n = np.repeat(np.arange(4), 30)
    x_nd = rng.normal(size=(4, 16))[blob_n] * 20 + rng.normal(size=(120, 16))
    plane_n2 = umap_plane(x_nd, seed=5)
    assert np.array_equal(plane_n2, umap_plane(x_nd, seed=5))
    centre_42 = np.stack([plane_n2[blob_n == blob].mean(axis=0) for blob in range(4)])
    nearest_n = np.linalg.norm(plane_n2[:, None] - centre_42[None], axis=2).argmin(axis=1)
    assert np.array_equal(nearest_n, blob_n)
