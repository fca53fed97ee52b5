"""Communities by other means than Infomap: Leiden, Louvain, label propagation, spectral.

All of them know undirected graphs only, so a directed one is made symmetric first. Louvain and label propagation run
through cdlib, which takes no seed for them: the global generators they draw from are seeded for the call and put back.
Leiden runs in igraph: cdlib's needs the further package leidenalg and takes ten times as long. Spectral clustering is
scikit-learn's: cdlib's cuts along one eigenvector, so of eight planted blobs it finds two, and reads n² weights in a
loop.
Shapes: n nodes, e edges.
"""

import contextlib
import io
import random
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.graph.communities import Levels, Partition, described, infomap_partition
from stages.graph.knn import Graph, Ints
from stages.graph.variants import matrix, symmetric

if TYPE_CHECKING:
    import networkx as nx

Detector = Literal["infomap", "leiden", "louvain", "label_propagation", "spectral"]


def detect(
    graph: Graph,
    detector: Detector,
    seed: int,
    *,
    trials: int = 5,
    levels: Levels = "two",
    markov_time: float = 1.0,
    resolution: float = 1.0,
    communities: int = 10,
) -> Partition:
    """The communities that one of the detectors finds, with flow, centrality and codelength by Infomap's walk.

    Args:
        graph: weighted, directed or not.
        detector: which.
        seed: the same graph and seed give the same partition.
        trials, levels, markov_time: of `infomap` alone.
        resolution: of `leiden` alone; more makes more, smaller communities.
        communities: how many `spectral` makes.
    """
    match detector:
        case "infomap":
            return infomap_partition(graph, seed, trials, levels=levels, markov_time=markov_time)
        case "leiden":
            return described(graph, leiden(graph, seed, resolution))
        case "louvain":
            return described(graph, louvain(graph, seed))
        case "label_propagation":
            return described(graph, label_propagation(graph, seed))
        case "spectral":
            return described(graph, spectral(graph, communities, seed))


def leiden(graph: Graph, seed: int, resolution: float = 1.0) -> Ints:
    """The community of every node by Leiden (Traag, Waltman & van Eck 2019, Sci. Rep. 9, 5233), run until it is stable.

    It raises modularity Σ_ij [A_ij − γ k_i k_j / 2m] δ(c_i, c_j), with γ the resolution.
    """
    import igraph

    if len(graph.source_e) == 0:
        return np.arange(graph.nodes)
    both = symmetric(graph)
    once_e = both.source_e < both.target_e
    drawn = igraph.Graph(n=graph.nodes, edges=np.column_stack([both.source_e[once_e], both.target_e[once_e]]))
    with seeded_globals(seed):
        found = drawn.community_leiden(
            "modularity", weights=both.weight_e[once_e].tolist(), resolution=resolution, n_iterations=-1
        )
    return np.asarray(found.membership, np.int64)


def louvain(graph: Graph, seed: int) -> Ints:
    """The community of every node by Louvain (Blondel et al. 2008, J. Stat. Mech. P10008), through cdlib.

    At resolution 1 alone: python-louvain, which cdlib calls, moves nodes by one meaning of it and stops by its inverse.
    """
    return _by_cdlib("louvain", graph, seed, weight="weight")


def label_propagation(graph: Graph, seed: int) -> Ints:
    """The community of every node by weighted label propagation (Raghavan et al. 2007, PRE 76, 036106), by cdlib."""
    return _by_cdlib("label_propagation_raghavan", graph, seed, weights="weight")


def _by_cdlib(algorithm: str, graph: Graph, seed: int, **options: str) -> Ints:
    """The community of every node by one of cdlib's algorithms; without edges each is its own."""
    algorithms = _cdlib_algorithms()
    if len(graph.source_e) == 0:
        return np.arange(graph.nodes)
    with seeded_globals(seed):
        found = getattr(algorithms, algorithm)(_drawn(graph), **options)
    return _numbers(found.communities, graph.nodes)


def spectral(graph: Graph, communities: int, seed: int) -> Ints:
    """The community of every node by normalised cuts (von Luxburg 2007, Stat. Comput. 17, 395), `communities` of them.

    The first eigenvectors of the normalised Laplacian are cut by pivoted QR (Damle, Minden & Ying 2019), which draws
    nothing; the seed starts the search for the eigenvectors.

    Raises:
        ValueError: fewer than one community, or not fewer than there are nodes.
    """
    from sklearn.cluster import spectral_clustering

    if not 1 <= communities < graph.nodes:
        raise ValueError(
            f"wanted {communities} communities of {graph.nodes} nodes; take at least 1, and fewer than there are nodes"
        )
    if communities == 1 or len(graph.source_e) == 0:
        return np.zeros(graph.nodes, np.int64) if communities == 1 else np.arange(graph.nodes)
    with warnings.catch_warnings():  # parts without a link between them are what the cut should find
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        found_n = spectral_clustering(
            matrix(symmetric(graph)),
            n_clusters=communities,
            random_state=seed % 2**32,
            assign_labels="cluster_qr",
        )
    return np.asarray(found_n, np.int64)


@contextlib.contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators of Python (igraph draws from it) and NumPy for a while, and put back what they were.

    Only for libraries that take no seed.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what is put back
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - python-louvain draws from it
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


def _cdlib_algorithms() -> Any:
    """`cdlib.algorithms`; on import it prints which of its options are missing, which is of no interest here."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cdlib import algorithms
    return algorithms


def _drawn(graph: Graph) -> "nx.Graph[int]":
    """The symmetric graph in networkx, nodes and edges in order."""
    import networkx as nx

    both = symmetric(graph)
    once_e = both.source_e < both.target_e
    drawn: nx.Graph[int] = nx.Graph()
    drawn.add_nodes_from(range(graph.nodes))
    columns = (column[once_e].tolist() for column in both[1:])
    drawn.add_weighted_edges_from(zip(*columns, strict=True))
    return drawn


def _numbers(communities: list[list[int]], nodes: int) -> Ints:
    """The number of the community of every node, from lists of members."""
    community_n = np.full(nodes, -1, np.int64)
    for number, members in enumerate(communities):
        community_n[members] = number
    assert (community_n >= 0).all(), "every node is in a community"
    return community_n
