"""Pseudo-slides by stain: tiles of one class whose colours are alike, for data that names no slides.

A slide is cut and stained as one, so tiles of like colour are likely of one slide. Clusters of colour are no slides:
they cannot be called patients, and morphology that goes with colour is torn apart with it. They do keep a classifier
from scoring on validation tiles by having seen their very stain.

Shapes: n tiles, c = 3 channels, 6 features.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
FEWEST = 8
"""Clusters of a class at the least, twice the number of roles, where it has as many tiles."""
STARTS = 4


def stain_features(pixels_nhwc: npt.NDArray[np.uint8]) -> Floats:
    """Mean and standard deviation of each channel's optical density −log10((I + 1) / 256), n × 6 (Beer and Lambert)."""
    density_of_level = -np.log10((np.arange(256) + 1) / 256)
    features_nd = np.empty((len(pixels_nhwc), 6))
    for row, tile_hwc in enumerate(pixels_nhwc):
        density_pc = density_of_level[tile_hwc.reshape(-1, 3)]
        features_nd[row] = np.concatenate([density_pc.mean(0), density_pc.std(0)])
    return features_nd


def stain_groups(features_nd: Floats, label_n: Sequence[str], tiles_each: int) -> Ints:
    """Number the clusters of stain, 0, 1, …: k-means within each class on standardised features.

    Equal rows fall into one cluster. The result depends on the order of the rows only through rounding; give them in
    an order of their own (by digest).

    Args:
        features_nd: result of `stain_features`.
        label_n: the class of each tile.
        tiles_each: how many tiles a cluster should hold on average.
    """
    labels = np.asarray(label_n)
    number_n, used = np.empty(len(labels), np.int64), 0
    for label in sorted(set(label_n)):
        rows = np.flatnonzero(labels == label)
        x_nd = StandardScaler().fit_transform(features_nd[rows])
        wanted = max(FEWEST, round(len(rows) / tiles_each))
        count = min(wanted, len(np.unique(x_nd, axis=0)))
        cluster = KMeans(count, n_init=STARTS, random_state=0, algorithm="lloyd").fit_predict(x_nd)
        number_n[rows] = used + np.unique(cluster, return_inverse=True)[1]
        used += count
    return number_n


def united(*numbers: Ints) -> Ints:
    """The finest grouping that keeps every group of each of the given ones whole, numbered by first appearance."""
    n = len(numbers[0])
    offset, rows, columns = n, [], []
    for number_n in numbers:
        rows.append(np.arange(n))
        columns.append(offset + number_n)
        offset += int(number_n.max(initial=-1)) + 1
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=(offset, offset))
    component_n = connected_components(graph, directed=False)[1][:n]
    _, first, inverse = np.unique(component_n, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    result: Ints = rank[inverse]
    return result
