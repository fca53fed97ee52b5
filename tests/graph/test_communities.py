import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from stages.graph.communities import described, infomap_partition, modular_centrality, number_by_flow
from stages.graph.knn import Graph, exact_neighbours, neighbour_graph


def graph_of(A_nn: np.ndarray) -> Graph:
    """A graph from its matrix of weights."""
    source_e, target_e = np.nonzero(A_nn)
    return Graph(len(A_nn), source_e, target_e, A_nn[source_e, target_e])


def two_cliques(size: int = 5) -> np.ndarray:
    """Two cliques with every link both ways, joined by one link each way."""
    A_nn = np.kron(np.eye(2), np.ones((size, size))) - np.eye(2 * size)
    A_nn[size - 1, size] = A_nn[size, size - 1] = 1.0
    return A_nn


def flow_by_linear_algebra(A_nn: np.ndarray, teleport: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Flow of links and nodes: the stationary state of the teleporting chain, then one step along links."""
    strength_n = A_nn.sum(axis=1)
    T_nn = A_nn / strength_n[:, None]
    chain_nn = (1 - teleport) * T_nn + teleport * strength_n / strength_n.sum()
    values, vectors = np.linalg.eig(chain_nn.T)
    state_n = np.real(vectors[:, np.argmax(np.real(values))])
    link_nn = (state_n / state_n.sum())[:, None] * T_nn
    return link_nn, link_nn.sum(axis=0)


def codelength_by_definition(A_nn: np.ndarray, community_n: np.ndarray) -> float:
    """Map equation: q H(Q) + Σ_m p_m H(P_m) (Rosvall & Bergstrom 2008), in bits."""

    def entropy_times_rate(rates: list[float]) -> float:
        rates = np.array([rate for rate in rates if rate > 0])
        return float(-(rates * np.log2(rates / rates.sum())).sum()) if len(rates) else 0.0

    link_nn, flow_n = flow_by_linear_algebra(A_nn)
    leaves_nn = link_nn * (community_n[:, None] != community_n[None])
    modules = range(community_n.max() + 1)
    bits = entropy_times_rate([leaves_nn[:, community_n == m].sum() for m in modules])
    for m in modules:
        bits += entropy_times_rate([leaves_nn[community_n == m].sum(), *flow_n[community_n == m]])
    return bits


def random_graph(seed: int, nodes: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    A_nn = rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < 0.2)
    A_nn[np.arange(nodes), (np.arange(nodes) + 1) % nodes] = 0.5  # so that every node has a way out
    np.fill_diagonal(A_nn, 0.0)
    return A_nn


def test_two_cliques_joined_by_a_link_are_two_communities_and_the_bridge_heads_are_most_central() -> None:
    found = infomap_partition(graph_of(two_cliques()), seed=1)
    assert found.community_n.tolist() == [0] * 5 + [1] * 5
    assert found.sizes_m.tolist() == [5, 5]
    assert found.flow_m == pytest.approx([0.5, 0.5])
    assert found.centrality_n[[4, 5]].min() > found.centrality_n[[0, 1, 2, 3, 6, 7, 8, 9]].max()
    assert found.codelength < found.one_level_codelength


@pytest.mark.parametrize("A_nn", [two_cliques(), random_graph(0), random_graph(1)], ids=["cliques", "a", "b"])
def test_flow_is_that_of_the_teleporting_walk(A_nn: np.ndarray) -> None:
    assert infomap_partition(graph_of(A_nn), seed=3).flow_n == pytest.approx(flow_by_linear_algebra(A_nn)[1], rel=1e-8)


@pytest.mark.parametrize("A_nn", [two_cliques(), random_graph(2)], ids=["cliques", "random"])
def test_the_codelength_is_that_of_the_map_equation(A_nn: np.ndarray) -> None:
    found = infomap_partition(graph_of(A_nn), seed=3)
    assert found.codelength == pytest.approx(codelength_by_definition(A_nn, found.community_n), rel=1e-8)
    one = codelength_by_definition(A_nn, np.zeros(len(A_nn), int))
    assert found.one_level_codelength == pytest.approx(one, rel=1e-8)


def test_modular_centrality_is_that_of_infomap() -> None:
    import infomap

    graph = neighbour_graph(exact_neighbours(np.random.default_rng(5).normal(size=(150, 3)), 5))
    network = infomap.Network()
    network.add_links(np.column_stack([graph.source_e, graph.target_e, graph.weight_e]))
    found = network.run(directed=True, two_level=True, seed=2)
    nodes = sorted((node.node_id, node.module_id, node.flow, node.modular_centrality) for node in found.nodes())
    _, module_n, flow_n, centrality_n = (np.array(column) for column in zip(*nodes, strict=True))
    assert len(np.unique(module_n)) > 5
    assert modular_centrality(flow_n, module_n) == pytest.approx(centrality_n, abs=1e-15)


def test_modular_centrality_is_that_of_the_published_table() -> None:
    # Blöcker, Nieves & Rosvall 2022, Table 1: visit rates of eight nodes under one and under two modules
    flow_n = np.array([0.15, 0.10, 0.10, 0.20, 0.20, 0.10, 0.10, 0.05])
    one = modular_centrality(flow_n, np.zeros(8, int))
    two = modular_centrality(flow_n, np.repeat([0, 1], 4))
    assert one.round(2).tolist() == [0.20, 0.14, 0.14, 0.26, 0.26, 0.14, 0.14, 0.07]
    assert two.round(3).tolist() == [0.184, 0.130, 0.130, 0.228, 0.212, 0.127, 0.127, 0.068]
    assert modular_centrality(np.array([0.3, 0.7]), np.array([0, 1])).tolist() == [0.0, 0.0]


def test_forty_planted_blobs_in_64_dimensions_are_found() -> None:
    rng = np.random.default_rng(6)
    blob_n = np.repeat(np.arange(40), 25)
    x_nd = 6.0 * rng.normal(size=(40, 64))[blob_n] + rng.normal(size=(1000, 64))
    found = infomap_partition(neighbour_graph(exact_neighbours(x_nd, 10)), seed=4)
    assert adjusted_rand_score(blob_n, found.community_n) >= 0.99


def test_the_same_seed_gives_the_same_partition_and_any_seed_is_taken() -> None:
    graph = neighbour_graph(exact_neighbours(np.random.default_rng(7).normal(size=(300, 4)), 8))
    first, again = infomap_partition(graph, seed=11), infomap_partition(graph, seed=11)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for seed in (0, 2**31 - 1, 2**62):
        assert infomap_partition(graph, seed=seed, trials=1).flow_n == pytest.approx(first.flow_n)


def test_a_graph_without_links_is_all_singletons() -> None:
    found = infomap_partition(Graph(3, np.zeros(0, int), np.zeros(0, int), np.zeros(0)), seed=1)
    assert found.community_n.tolist() == [0, 1, 2]
    assert found.flow_n == pytest.approx([1 / 3] * 3)


def test_communities_are_numbered_by_flow_then_size_then_smallest_node() -> None:
    module_n = np.array([7, 7, 3, 3, 5, 9])
    assert number_by_flow(module_n, np.array([0.1, 0.1, 0.2, 0.2, 0.2, 0.2])).tolist() == [1, 1, 0, 0, 2, 3]


def test_a_partition_found_elsewhere_gets_the_flow_and_the_codelength_of_the_map_equation() -> None:
    A_nn, community_n = random_graph(4), np.arange(40) % 3
    found = described(graph_of(A_nn), community_n)
    assert adjusted_rand_score(found.community_n, community_n) == 1.0
    assert found.flow_n == pytest.approx(flow_by_linear_algebra(A_nn)[1], rel=1e-8)
    assert found.codelength == pytest.approx(codelength_by_definition(A_nn, found.community_n), rel=1e-8)
    assert found.flow_m.tolist() == sorted(found.flow_m, reverse=True)
    assert found.centrality_n == pytest.approx(modular_centrality(found.flow_n, found.community_n))


def test_a_described_partition_may_have_nodes_without_links_or_no_links_at_all() -> None:
    A_nn = np.pad(two_cliques(), (0, 2))
    found = described(graph_of(A_nn), np.repeat([0, 1, 2], [5, 5, 2]))
    assert found.community_n.tolist() == [0] * 5 + [1] * 5 + [2] * 2 and found.flow_n[10:].tolist() == [0.0, 0.0]
    bare = described(Graph(3, np.zeros(0, int), np.zeros(0, int), np.zeros(0)), np.array([4, 4, 2]))
    assert bare.community_n.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="each of 12 nodes"):
        described(graph_of(A_nn), np.zeros(11, int))


def test_infomap_itself_finds_no_worse_than_what_it_is_given() -> None:
    graph = neighbour_graph(exact_neighbours(np.random.default_rng(8).normal(size=(300, 3)), 8))
    found = infomap_partition(graph, seed=1)
    assert described(graph, found.community_n).codelength == pytest.approx(found.codelength, rel=1e-9)
    for other_n in (np.zeros(300, int), np.arange(300) // 30):
        assert described(graph, other_n).codelength > found.codelength


def nested_cliques() -> np.ndarray:
    """Eight groups of four cliques of five: strong links in a clique, weak ones in a group, one from group to group."""
    clique_n = np.arange(160) // 5
    A_nn = (clique_n[:, None] == clique_n[None]) * 1.0 + (clique_n[:, None] // 4 == clique_n[None] // 4) * 0.05
    A_nn[np.arange(160), (np.arange(160) + 20) % 160] += 0.02
    np.fill_diagonal(A_nn, 0.0)
    return A_nn


def test_of_nested_communities_the_coarsest_and_the_finest_level_can_be_had() -> None:
    graph = graph_of(nested_cliques())
    coarsest = infomap_partition(graph, seed=1, levels="coarsest")
    finest = infomap_partition(graph, seed=1, levels="finest")
    assert adjusted_rand_score(coarsest.community_n, np.arange(160) // 20) == 1.0
    assert adjusted_rand_score(finest.community_n, np.arange(160) // 5) == 1.0
    assert coarsest.codelength == finest.codelength < infomap_partition(graph, seed=1).codelength


def test_more_steps_of_the_walk_per_word_make_fewer_communities() -> None:
    graph = neighbour_graph(exact_neighbours(np.random.default_rng(9).normal(size=(600, 3)), 8))
    counts = [len(infomap_partition(graph, seed=1, markov_time=time).sizes_m) for time in (0.5, 1.0, 3.0)]
    assert counts[0] > counts[1] > counts[2] > 1


def test_without_directions_flow_is_the_share_of_weight_at_a_node() -> None:
    A_nn = random_graph(5)
    strength_n = A_nn.sum(axis=0) + A_nn.sum(axis=1)
    found = infomap_partition(graph_of(A_nn), seed=1, directed=False)
    assert found.flow_n == pytest.approx(strength_n / strength_n.sum(), rel=1e-9)
