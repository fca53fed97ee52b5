"""Feature vectors on a plane, for pictures only: nothing is selected by it.

Shapes: n vectors, d features.
"""

import warnings

import numpy as np
import numpy.typing as npt

from stages.features.distances import Floats, Vectors

Plane = npt.NDArray[np.float32]


def pca_plane(x_nd: Vectors) -> Plane:
    """The two principal components; each axis points to where its largest loading is positive."""
    centred_nd: Floats = np.asarray(x_nd, np.float64) - np.asarray(x_nd, np.float64).mean(axis=0)
    _, _, axes_kd = np.linalg.svd(centred_nd, full_matrices=False)
    axes_2d = np.zeros((2, centred_nd.shape[1]))
    axes_2d[: len(axes_kd[:2])] = axes_kd[:2]
    largest = np.abs(axes_2d).argmax(axis=1)
    signs = np.where(axes_2d[[0, 1], largest] < 0, -1.0, 1.0)
    return (centred_nd @ (axes_2d * signs[:, None]).T).astype(np.float32)


def umap_plane(x_nd: Vectors, seed: int, neighbours: int = 15) -> Plane:
    """UMAP in two dimensions (McInnes et al. 2018, arXiv 1802.03426), started from the principal components.

    The usual spectral start is not reproducible when the neighbour graph falls apart (umap issue 544). Fewer than
    `neighbours` + 2 vectors get their principal components.
    """
    if len(x_nd) < neighbours + 2:
        return pca_plane(x_nd)
    with warnings.catch_warnings():
        # on import: TensorFlow, which only the parametric variant needs, is not installed
        warnings.filterwarnings("ignore", category=ImportWarning)
        import umap

    mapper = umap.UMAP(n_neighbors=neighbours, min_dist=0.1, init="pca", random_state=seed % 2**32, n_jobs=1)
    return np.asarray(mapper.fit_transform(np.asarray(x_nd, np.float32)), np.float32)
