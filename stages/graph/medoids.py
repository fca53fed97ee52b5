"""The two plain ways to choose: k-means medoids, and at random.

Shapes: n nodes, d features, s chosen.
"""

import numpy as np

from stages.features.distances import Floats, Vectors, check_clouds, squared_distance_blocks
from stages.graph.knn import Ints


def kmeans_medoids(x_nd: Vectors, wanted: int, seed: int, starts: int = 4) -> Ints:
    """`wanted` distinct rows, each the nearest free one to a centre of k-means (largest cluster first).

    Args:
        x_nd: vectors.
        wanted: number of clusters and of rows returned.
        seed: of the starting centres; any integer from 0.
        starts: runs of k-means, of which the tightest wins.

    Raises:
        ValueError: `wanted` is not between 1 and n.
    """
    x_nd, _ = check_clouds(x_nd, x_nd)
    centre_md, label_n = kmeans(x_nd, wanted, seed, starts)
    taken_n = np.zeros(len(x_nd), bool)
    size_m = np.bincount(label_n, minlength=wanted)
    medoid_m = np.zeros(wanted, np.int64)
    order = np.lexsort((np.arange(wanted), -size_m))
    for block, d2_bn in squared_distance_blocks(centre_md[order], x_nd):
        for centre, d2_n in zip(range(block.start, block.stop), d2_bn, strict=True):
            medoid_m[centre] = np.argmin(np.where(taken_n, np.inf, d2_n))
            taken_n[medoid_m[centre]] = True
    return medoid_m


def kmeans(x_nd: Vectors, clusters: int, seed: int, starts: int = 4) -> tuple[Floats, Ints]:
    """Centres (clusters × d), and the cluster of every row, by k-means; the tightest of `starts` runs.

    Raises:
        ValueError: `clusters` is not between 1 and n.
    """
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if not 1 <= clusters <= len(x_nd):
        raise ValueError(f"wanted {clusters} of {len(x_nd)} rows; wanted must lie between 1 and that")
    with warnings.catch_warnings():  # fewer distinct rows than clusters: the clusters left over are empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(clusters, n_init=starts, random_state=seed % 2**32).fit(x_nd)
    return np.asarray(fit.cluster_centers_, np.float64), np.asarray(fit.labels_, np.int64)


def random_choice(nodes: int, wanted: int, generator: np.random.Generator) -> Ints:
    """`wanted` distinct nodes, each subset and order equally likely."""
    if not 0 <= wanted <= nodes:
        raise ValueError(f"wanted {wanted} of {nodes} nodes; wanted must lie between 0 and that")
    chosen_s: Ints = generator.permutation(nodes)[:wanted]
    return chosen_s
