"""Feature vectors on a plane, for pictures only: nothing is selected by it.

Shapes: n vectors, d features.
"""

from stages.features.distances import Vectors
from stages.features.reduction import Short, principal_components, umap_layout


def pca_plane(x_nd: Vectors) -> Short:
    """The two principal components; each axis points to where its largest loading is positive."""
    return principal_components(x_nd, 2)


def umap_plane(x_nd: Vectors, seed: int, neighbours: int = 15) -> Short:
    """UMAP in two dimensions. Fewer than `neighbours` + 2 vectors get their principal components."""
    if len(x_nd) < neighbours + 2:
        return pca_plane(x_nd)
    return umap_layout(x_nd, 2, seed, neighbours, min_dist=0.1).x_nr
