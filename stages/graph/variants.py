"""Undirected forms of the neighbour graph: mutual, symmetric, and the fuzzy graph of UMAP.

A directed graph lets an odd tile point at a dense region that does not point back. The mutual graph keeps what both
ends want, and so leaves outliers alone; the symmetric one keeps what either wants. All list every edge both ways.
Shapes: n nodes, k neighbours, e edges.
"""

import warnings

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from stages.graph.knn import Graph, Neighbours


def mutual(graph: Graph) -> Graph:
    """The edges that go both ways, with the mean of both weights."""
    A_nn = matrix(graph)
    both_nn = A_nn.minimum(A_nn.T).sign()
    return from_matrix((A_nn + A_nn.T).multiply(both_nn) / 2.0)


def symmetric(graph: Graph) -> Graph:
    """Every edge in both directions, with the mean of both weights (0 where there was none)."""
    A_nn = matrix(graph)
    return from_matrix((A_nn + A_nn.T) / 2.0)


def fuzzy(neighbours: Neighbours) -> Graph:
    """UMAP's fuzzy graph (McInnes et al. 2018, arXiv 1802.03426, algorithms 2 and 3), without any layout.

    Towards its j-th neighbour a node has the strength exp(−max(0, d_ij − ρ_i) / σ_i), where ρ_i is the distance to the
    nearest and σ_i makes the strengths, one of them its own, sum to log2(k + 1); both directions meet by fuzzy union
    a + b − ab. The neighbours are those given, so nothing is drawn at random.
    """
    index_nk, distance_nk = neighbours
    n, k = index_nk.shape
    if k == 0:
        return Graph(n, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    with warnings.catch_warnings():
        # on import: TensorFlow, which only the parametric variant needs, is not installed
        warnings.filterwarnings("ignore", category=ImportWarning)
        from umap.umap_ import fuzzy_simplicial_set

    # UMAP counts a node as the first of its own neighbours
    index_nl = np.concatenate([np.arange(n)[:, None], index_nk], axis=1)
    distance_nl = np.concatenate([np.zeros((n, 1)), distance_nk], axis=1).astype(np.float32)
    with threadpool_limits(1):  # numba sets the threads of all who use OpenMP, torch too: put back
        strength_nn, _, _ = fuzzy_simplicial_set(
            np.zeros((n, 1), np.float32), k + 1, None, "euclidean", knn_indices=index_nl, knn_dists=distance_nl
        )
    return from_matrix(strength_nn)


def matrix(graph: Graph) -> sparse.csr_array:
    """The weights as a sparse n × n matrix, row to column."""
    ends = (graph.source_e.astype(np.int32), graph.target_e.astype(np.int32))  # as scikit-learn wants them
    return sparse.csr_array((graph.weight_e, ends), shape=(graph.nodes, graph.nodes))


def from_matrix(A_nn: sparse.sparray | sparse.spmatrix) -> Graph:
    """The graph of a sparse matrix of weights; zeros and the diagonal are no edges."""
    found = sparse.coo_array(sparse.csr_array(A_nn))
    kept_e = (found.data > 0) & (found.row != found.col)
    source_e, target_e, weight_e = (a[kept_e] for a in (found.row, found.col, found.data))
    order_e = np.lexsort((target_e, source_e))
    ends = source_e[order_e].astype(np.int64), target_e[order_e].astype(np.int64)
    return Graph(A_nn.shape[0], *ends, weight_e[order_e].astype(np.float64))
