"""Communities of a directed graph by Infomap, and how central every node is in its own.

Infomap (Rosvall & Bergstrom 2008, PNAS 105, 1118; two-level, directed) looks for the partition that shortens the
description of a random walk most. The walk follows links by weight; with probability 0.15 it jumps to a node drawn by
its outgoing weight. Steps taken by a jump are not recorded (Lambiotte & Rosvall 2012, arXiv 1112.5252): flow is one
step along links from the stationary state of that walk.
Shapes: n nodes, e edges, m communities.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from stages.features.distances import Floats
from stages.graph.knn import Graph, Ints

Levels = Literal["two", "coarsest", "finest"]


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


def infomap_partition(
    graph: Graph,
    seed: int,
    trials: int = 5,
    *,
    levels: Levels = "two",
    directed: bool = True,
    markov_time: float = 1.0,
) -> Partition:
    """The best partition of `trials` runs of Infomap; the same graph and seed give the same one.

    Node numbers matter to the search: number the nodes by content before building the graph.

    Args:
        graph: weighted.
        seed: any integer from 0; reduced to what Infomap takes (1 to 2³¹ − 1).
        trials: runs, of which the shortest description wins.
        levels: `two` looks for one level of communities; the others let Infomap nest them (Rosvall & Bergstrom 2011,
            PLoS ONE 6, e18209) and take the `coarsest` or the `finest` level.
        directed: whether the walk heeds directions; if not, flow is the share of weight at a node, and nothing jumps.
        markov_time: steps of the walk per code word; more make fewer, larger communities (Kheirkhahzadeh et al. 2016).
    """
    options = {"two_level": levels == "two", "directed": directed, "markov_time": markov_time}
    return _walked(
        graph, "finest" if levels == "finest" else "coarsest", seed=_seed(seed), num_trials=trials, **options
    )


def described(graph: Graph, community_n: Ints, directed: bool = True) -> Partition:
    """A partition found by other means, as Infomap sees it: flow, centrality, and its codelength.

    Communities are numbered anew, by flow.

    Raises:
        ValueError: not one community per node.
    """
    if community_n.shape != (graph.nodes,):
        raise ValueError(f"wanted the community of each of {graph.nodes} nodes, got an array of {community_n.shape}")
    if len(graph.source_e) == 0:
        found = _without_links(graph.nodes)
        return found._replace(community_n=number_by_flow(community_n, found.flow_n))
    given = dict(enumerate(community_n.tolist()))
    return _walked(graph, "coarsest", initial_partition=given, no_infomap=True, two_level=True, directed=directed)


def _walked(graph: Graph, level: Literal["coarsest", "finest"], **options: Any) -> Partition:
    """Run Infomap and read what it found."""
    import infomap

    if len(graph.source_e) == 0:  # nothing to walk along: every node stands alone
        return _without_links(graph.nodes)
    network = infomap.Network()
    network.add_nodes(np.setdiff1d(np.arange(graph.nodes), [graph.source_e, graph.target_e]).tolist())  # no link's end
    network.add_links(np.column_stack([graph.source_e, graph.target_e, graph.weight_e]))
    result = network.run(**options)
    nodes = result.nodes(-1 if level == "finest" else 1)
    leaves = sorted((node.node_id, node.module_id, node.flow) for node in nodes)
    module_n, flow_n = np.array([leaf[1] for leaf in leaves]), np.array([leaf[2] for leaf in leaves])
    community_n = number_by_flow(module_n, flow_n)
    centrality_n = modular_centrality(flow_n, community_n)
    return Partition(community_n, flow_n, centrality_n, float(result.codelength), float(result.one_level_codelength))


def _without_links(nodes: int) -> Partition:
    flow_n = np.full(nodes, 1.0 / nodes)
    return Partition(np.arange(nodes), flow_n, np.zeros(nodes), float(np.log2(nodes)), 0.0)


def _seed(seed: int) -> int:
    return 1 + seed % (2**31 - 1)


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
