"""Who stands for a community: scores of nodes, of which the highest in a community comes first.

Shapes: n nodes, d features, k neighbours, e edges, m communities.
"""

from typing import Literal

import numpy as np
from scipy import sparse

from stages.features.distances import Floats, Vectors, check_clouds
from stages.graph.communities import Partition
from stages.graph.knn import Graph, Ints, Neighbours
from stages.graph.variants import matrix

Representative = Literal["modular_centrality", "flow", "pagerank", "degree", "medoid", "typicality"]


def scores(
    representative: Representative, x_nd: Vectors, neighbours: Neighbours, graph: Graph, partition: Partition
) -> Floats:
    """The score of every node by one of the measures below; higher stands better for its community."""
    match representative:
        case "modular_centrality":
            return partition.centrality_n
        case "flow":
            return partition.flow_n
        case "pagerank":
            return pagerank(graph)
        case "degree":
            return degree(graph)
        case "medoid":
            return _to_one(-mean_squared_distance(x_nd, partition.community_n))
        case "typicality":
            return _to_one(typicality(neighbours))


def teleporting_flow(graph: Graph, teleport: float = 0.15, tolerance: float = 1e-15, rounds: int = 1000) -> Floats:
    """Share of a walk's time at every node: what Infomap calls flow, by power iteration.

    The walk follows links by weight; with probability `teleport`, and always where there is no way out, it jumps to a
    node drawn by outgoing weight. Flow is one step along links from its stationary state, scaled to sum to 1
    (Lambiotte & Rosvall 2012, arXiv 1112.5252, "unrecorded" teleportation).
    """
    strength_n = np.bincount(graph.source_e, weights=graph.weight_e, minlength=graph.nodes)
    state_n = _stationary(graph, strength_n / strength_n.sum(), teleport, tolerance, rounds)
    flow_n: Floats = _steps(graph).T @ state_n
    return np.asarray(flow_n / flow_n.sum(), np.float64)


def pagerank(graph: Graph, damping: float = 0.85, tolerance: float = 1e-12, rounds: int = 1000) -> Floats:
    """PageRank (Page et al. 1999): the stationary state of a walk that jumps to any node with probability 1 − damping.

    Steps are drawn by weight; from a node without a way out the walk jumps. Sums to 1.
    """
    return _stationary(graph, np.full(graph.nodes, 1.0 / graph.nodes), 1.0 - damping, tolerance, rounds)


def _stationary(graph: Graph, landing_n: Floats, teleport: float, tolerance: float, rounds: int) -> Floats:
    """The stationary state of the chain that follows links or, with probability `teleport`, lands by `landing_n`."""
    T_nn = _steps(graph)
    stuck_n = T_nn.sum(axis=1) == 0
    backwards_nn, state_n = T_nn.T.tocsr(), landing_n
    for _ in range(rounds):
        jumping = teleport + (1.0 - teleport) * float(state_n[stuck_n].sum())
        new_n = (1.0 - teleport) * (backwards_nn @ state_n) + jumping * landing_n
        new_n /= new_n.sum()
        change, state_n = float(np.abs(new_n - state_n).sum()), new_n
        if change < tolerance:
            break
    return np.asarray(state_n, np.float64)


def _steps(graph: Graph) -> sparse.csr_array:
    """Probabilities of the walk's steps, row to column; rows without a way out are 0."""
    A_nn = matrix(graph)
    strength_n = A_nn.sum(axis=1)
    return sparse.csr_array(sparse.diags_array(1.0 / np.where(strength_n > 0, strength_n, 1.0)) @ A_nn)


def degree(graph: Graph) -> Floats:
    """Weight of the links that arrive at a node: how much others want it. (What leaves is 1 in the neighbour graph.)"""
    return np.asarray(np.bincount(graph.target_e, weights=graph.weight_e, minlength=graph.nodes), np.float64)


def mean_squared_distance(x_nd: Vectors, community_n: Ints) -> Floats:
    """Mean squared distance of every node to the members of its community; the medoid has the least.

    Equal to |x − μ|² + Σ_d var_d with μ the mean of the community, so it costs one pass, not all pairs.
    """
    x_nd, _ = check_clouds(x_nd, x_nd)
    size_m, order_n = np.bincount(community_n), np.argsort(community_n, kind="stable")
    start_m = np.concatenate([[0], np.cumsum(size_m)[:-1]])
    mean_md = np.add.reduceat(x_nd[order_n], start_m, axis=0) / size_m[:, None]
    off_nd = x_nd - mean_md[community_n]
    off2_n = np.einsum("nd,nd->n", off_nd, off_nd)
    return np.asarray(off2_n + (np.bincount(community_n, weights=off2_n) / size_m)[community_n], np.float64)


def typicality(neighbours: Neighbours) -> Floats:
    """1 / (mean distance to the k nearest neighbours): high in dense regions (Hacohen et al. 2022, TypiClust, eq. 4).

    Nodes whose neighbours all equal them get infinity; nodes without neighbours 0.
    """
    if neighbours.distance_nk.shape[1] == 0:
        return np.zeros(len(neighbours.distance_nk))
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / neighbours.distance_nk.mean(axis=1), np.float64)


def _to_one(score_n: Floats) -> Floats:
    """The same scores with the largest finite magnitude 1, so that they do not depend on the unit of distance."""
    top = float(np.abs(score_n[np.isfinite(score_n)]).max(initial=0.0))
    return score_n / top if top > 0 else score_n
