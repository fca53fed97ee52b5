"""Long feature vectors as short ones: principal components, or UMAP.

Shapes: n vectors, d features, r features of the short vectors.
"""

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from stages.features.distances import Floats, Vectors

Short = npt.NDArray[np.float32]


class Layout(NamedTuple):
    """What UMAP made."""

    x_nr: Short
    components: int
    """Parts into which the neighbour graph falls. Where there are several, their places relative to one another mean
    nothing and differ from one version of UMAP to the next."""


def principal_components(x_nd: Vectors, dim: int) -> Short:
    """The first `dim` principal components; each axis points to where its largest loading is positive.

    Where there are fewer (of vectors or of features), the rest is 0.
    """
    centred_nd: Floats = np.asarray(x_nd, np.float64) - np.asarray(x_nd, np.float64).mean(axis=0)
    _, _, axes_kd = np.linalg.svd(centred_nd, full_matrices=False)
    axes_rd = np.zeros((dim, centred_nd.shape[1]))
    axes_rd[: len(axes_kd[:dim])] = axes_kd[:dim]
    largest_r = np.abs(axes_rd).argmax(axis=1)
    signs_r = np.where(axes_rd[np.arange(dim), largest_r] < 0, -1.0, 1.0)
    return (centred_nd @ (axes_rd * signs_r[:, None]).T).astype(np.float32)


def umap_layout(x_nd: Vectors, dim: int, seed: int, neighbours: int, min_dist: float) -> Layout:
    """UMAP (McInnes et al. 2018, arXiv 1802.03426) in `dim` dimensions, started from the principal components.

    The usual spectral start is not reproducible when the neighbour graph falls apart (umap issue 544). One thread, so
    that equal seeds give equal bytes.

    Raises:
        ValueError: fewer than `neighbours` + 2 or `dim` + 1 vectors.
    """
    if len(x_nd) < max(neighbours + 2, dim + 1):
        raise ValueError(
            f"UMAP with {neighbours} neighbours in {dim} dimensions needs at least {max(neighbours + 2, dim + 1)} "
            f"vectors, and there are {len(x_nd)}"
        )
    from scipy.sparse.csgraph import connected_components

    with warnings.catch_warnings():
        # on import: TensorFlow, which only the parametric variant needs, is not installed
        warnings.filterwarnings("ignore", category=ImportWarning)
        import umap

    start = "pca" if min(np.shape(x_nd)) >= dim else "random"
    mapper = umap.UMAP(
        n_neighbors=neighbours, n_components=dim, min_dist=min_dist, init=start, random_state=seed % 2**32, n_jobs=1
    )
    with threadpool_limits(1):  # numba sets the threads of all who use OpenMP, torch too: put back
        x_nr = np.asarray(mapper.fit_transform(np.asarray(x_nd, np.float32)), np.float32)
    return Layout(x_nr, int(connected_components(mapper.graph_, directed=False)[0]))
