"""Communities of a directed graph by Infomap, and how central every node is in its own.

Infomap (Rosvall & Bergstrom 2008, PNAS 105, 1118; two-level, directed) looks for the partition that shortens the
description of a random walk most. The walk follows links by weight; with probability 0.15 it jumps to a node drawn by
its outgoing weight. Steps taken by a jump are not recorded (Lambiotte & Rosvall 2012, arXiv 1112.5252): flow is one
step along links from the stationary state of that walk.
Shapes: n nodes, e edges, m communities.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.features.distances import Floats
from stages.graph.knn import Graph, Ints


class Partition(NamedTuple):
    """Who belongs to whom. Communities are numbered by flow, largest first; then by size, then by smallest node."""

    community_n: Ints
    """Number of the community of every node, from 0."""
    flow_n: Floats
    """Share of the walk's time at every node; sums to 1 (all 1/n when there are no links)."""
    centrality_n: Floats
    """Modular centrality of every node, in bits."""
    codelength: float
    """Bits per step of the walk under this partition."""
    one_level_codelength: float
    """Bits per step without communities; a partition worth having is shorter."""

    @property
    def sizes_m(self) -> Ints:
        """Nodes per community."""
        size_m: Ints = np.bincount(self.community_n)
        return size_m

    @property
    def flow_m(self) -> Floats:
        """Flow per community."""
        return np.asarray(np.bincount(self.community_n, weights=self.flow_n), np.float64)


def infomap_partition(graph: Graph, seed: int, trials: int = 5) -> Partition:
    """The best two-level partition of `trials` runs of Infomap; the same graph and seed give the same one.

    Node numbers matter to the search: number the nodes by content before building the graph.

    Args:
        graph: directed, weighted.
        seed: any integer from 0; reduced to what Infomap takes (1 to 2³¹ − 1).
        trials: runs, of which the shortest description wins.
    """
    import infomap

    if len(graph.source_e) == 0:  # nothing to walk along: every node stands alone
        flow_n = np.full(graph.nodes, 1.0 / graph.nodes)
        return Partition(np.arange(graph.nodes), flow_n, np.zeros(graph.nodes), float(np.log2(graph.nodes)), 0.0)
    network = infomap.Network()
    network.add_nodes(range(graph.nodes))
    network.add_links(np.column_stack([graph.source_e, graph.target_e, graph.weight_e]))
    result = network.run(directed=True, two_level=True, seed=1 + seed % (2**31 - 1), num_trials=trials)
    leaves = sorted((node.node_id, node.module_id, node.flow) for node in result.nodes())
    module_n, flow_n = np.array([leaf[1] for leaf in leaves]), np.array([leaf[2] for leaf in leaves])
    community_n = number_by_flow(module_n, flow_n)
    centrality_n = modular_centrality(flow_n, community_n)
    return Partition(community_n, flow_n, centrality_n, float(result.codelength), float(result.one_level_codelength))


def number_by_flow(module_n: Ints, flow_n: Floats) -> Ints:
    """The same partition with communities numbered by flow, then size (largest first), then smallest node.

    Flows that differ by rounding alone count as equal.
    """
    _, first_m, community_n = np.unique(module_n, return_index=True, return_inverse=True)
    flow_m, size_m = np.bincount(community_n, weights=flow_n), np.bincount(community_n)
    order_m = np.lexsort((first_m, -size_m, -np.round(flow_m, 12)))
    number_m = np.empty(len(order_m), np.int64)
    number_m[order_m] = np.arange(len(order_m))
    return number_m[community_n]


def modular_centrality(flow_n: Floats, community_n: Ints) -> Floats:
    """Map equation centrality −(p_m − p) log2((p_m − p) / p_m) for flow p in a community with flow p_m, in bits.

    What silencing one node's code word would save (Blöcker, Nieves & Rosvall 2022, Map equation centrality, Applied
    Network Science 7, 56; the module's rate counted over node visits, as `infomap` reports it). It is 0 for a node
    alone in its community, and grows with p while p is less than 63 % of p_m.
    """
    module_n = np.bincount(community_n, weights=flow_n)[community_n]
    rest_n = np.where(np.bincount(community_n)[community_n] > 1, module_n - flow_n, 0.0)
    safe_n = np.where(rest_n > 0, rest_n, 1.0)
    centrality_n: Floats = np.where(rest_n > 0, -rest_n * np.log2(safe_n / np.where(rest_n > 0, module_n, 1.0)), 0.0)
    return centrality_n


class Quality(NamedTuple):
    """How good a partition is, by the measures of others."""

    modularity: float
    """Directed, weighted (Leicht & Newman 2008); 0 for one community, towards 1 for many separate ones."""
    coverage: float
    """Share of the edges (not weighted) that stay inside a community."""


def quality(graph: Graph, community_n: Ints) -> Quality:
    """Modularity and coverage of a partition, by networkx; both 0 where there are no edges."""
    import networkx as nx

    if len(graph.source_e) == 0:
        return Quality(0.0, 0.0)
    drawn: nx.DiGraph[int] = nx.DiGraph()
    drawn.add_nodes_from(range(graph.nodes))
    edges = zip(graph.source_e.tolist(), graph.target_e.tolist(), graph.weight_e.tolist(), strict=True)
    drawn.add_weighted_edges_from(edges)
    communities = [set(np.flatnonzero(community_n == number).tolist()) for number in range(int(community_n.max()) + 1)]
    coverage = np.mean(community_n[graph.source_e] == community_n[graph.target_e])
    return Quality(float(nx.community.modularity(drawn, communities, weight="weight")), float(coverage))


def degeneracies(community_n: Ints, smallest_community: int) -> list[str]:
    """Warnings, in words, about a partition that says little; empty when all is well."""
    size_m: npt.NDArray[np.int64] = np.bincount(community_n)
    if len(size_m) == len(community_n) and len(community_n) > 1:
        return ["every candidate is a community of its own: the graph has no structure, the choice follows flow alone"]
    warnings = []
    if len(size_m) == 1:
        warnings.append("one community only: the choice is the most central candidates, without a spread over kinds")
    outliers = int(size_m[size_m < smallest_community].sum())
    if outliers * 2 > len(community_n):
        warnings.append(
            f"{outliers} of {len(community_n)} candidates are in communities smaller than {smallest_community}: "
            "most count as outliers; more neighbours or a smaller smallest_community would change that"
        )
    return warnings
