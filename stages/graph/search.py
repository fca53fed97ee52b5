"""Nearest neighbours of many vectors: exact while that is affordable, by NN-descent above, with its recall measured.

The exact search costs n² d; NN-descent (Dong, Moses & Li 2011, WWW, as pynndescent implements it) about n^1.1. It finds
most neighbours and not all, so a sample of rows is searched exactly as well, and the share found is returned.
Shapes: n nodes, d features, k neighbours, q sampled rows, p pairs.
"""

import warnings
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from stages.features.distances import Vectors, check_clouds
from stages.graph.knn import Ints, Neighbours, exact_neighbours, exact_neighbours_of, pair_distances

EXACT_TO = 20_000
SPARE = 10
"""Neighbours kept beyond those wanted while the descent goes on: a longer list misses fewer."""


class Search(NamedTuple):
    """Neighbours, and how they were found."""

    neighbours: Neighbours
    exact: bool
    recall: float
    """Share of the true nearest neighbours of the sampled rows that were found; 1 for an exact search."""
    sampled: int
    """Rows behind `recall`; 0 for an exact search."""


def nearest(x_nd: Vectors, k: int, seed: int, exact_to: int = EXACT_TO, sample: int = 500) -> Search:
    """The k nearest other rows of every row, exactly up to `exact_to` rows and approximately above.

    Args:
        x_nd: vectors, in the order of their content.
        k: neighbours of every row.
        seed: of the descent and of the sample; any integer from 0.
        exact_to: most rows that are searched exactly.
        sample: rows searched both ways, to measure the recall.

    Raises:
        ValueError: k < 1, not a matrix, or numbers that are not finite.
    """
    if len(x_nd) <= exact_to:
        return Search(exact_neighbours(x_nd, k), True, 1.0, 0)
    found = descended_neighbours(x_nd, k, seed)
    generator = np.random.default_rng(seed)
    rows_q = np.sort(generator.choice(len(x_nd), min(sample, len(x_nd)), replace=False))
    return Search(found, False, recall(found, exact_neighbours_of(rows_q, x_nd, k), rows_q), len(rows_q))


def descended_neighbours(x_nd: Vectors, k: int, seed: int) -> Neighbours:
    """About the k nearest other rows of every row by NN-descent: one thread, so that equal seeds give equal neighbours.

    Distances are computed anew from differences in float64, as in the exact search, and ties go to the earlier row. A
    row of which the descent lost neighbours is searched exactly.

    Raises:
        ValueError: k < 1, not a matrix, or numbers that are not finite.
    """
    if k < 1:
        raise ValueError(f"a node needs at least 1 neighbour, got k = {k}")
    x_nd, _ = check_clouds(x_nd, x_nd)
    # numba sets the number of threads of all who use OpenMP, torch too, and what torch computes depends on it: put back
    with threadpool_limits(1), warnings.catch_warnings():  # on a first import numba says its cache has nowhere to lie
        warnings.simplefilter("ignore")
        from pynndescent import NNDescent

        listed = 1 + k + SPARE  # pynndescent counts a row among its own neighbours
        index = NNDescent(x_nd.astype(np.float32), n_neighbors=listed, random_state=seed % 2**32, n_jobs=1)
        index_nl = np.asarray(index.neighbor_graph[0][:, 1:], np.int64)
    lost_n = (index_nl < 0).any(axis=1) | (index_nl == np.arange(len(x_nd))[:, None]).any(axis=1)
    index_nl[lost_n] = 0
    return _with_exact(np.flatnonzero(lost_n), _nearest_of_listed(x_nd, index_nl, k), x_nd, k)


def _nearest_of_listed(x_nd: Vectors, index_nl: Ints, k: int) -> Neighbours:
    """The k nearest of the rows listed for every row, nearest first."""
    source_p = np.repeat(np.arange(len(index_nl)), index_nl.shape[1])
    distance_nl = pair_distances(np.asarray(x_nd, np.float64), source_p, index_nl.ravel()).reshape(index_nl.shape)
    order_nk = np.lexsort((index_nl, distance_nl), axis=1)[:, :k]
    return Neighbours(np.take_along_axis(index_nl, order_nk, 1), np.take_along_axis(distance_nl, order_nk, 1))


def _with_exact(rows_q: Ints, found: Neighbours, x_nd: Vectors, k: int) -> Neighbours:
    """The same neighbours, with those of the listed rows searched exactly."""
    if len(rows_q):
        exact = exact_neighbours_of(rows_q, x_nd, k)
        found.index_nk[rows_q], found.distance_nk[rows_q] = exact
    return found


def recall(found: Neighbours, exact_of_rows: Neighbours, rows_q: Ints) -> float:
    """Share of the exact neighbours of the rows listed that were found.

    A neighbour at the same distance as a true one counts as one: among equals the choice is arbitrary.
    """
    limit_q = exact_of_rows.distance_nk[:, -1]
    return float((found.distance_nk[rows_q] <= limit_q[:, None]).mean())
