import igraph
import numpy as np
import pytest

from stages.graph.centrality import (
    degree,
    mean_squared_distance,
    pagerank,
    scores,
    teleporting_flow,
    typicality,
)
from stages.graph.communities import infomap_partition
from stages.graph.knn import Graph, Neighbours, exact_neighbours, neighbour_graph
from stages.graph.variants import mutual

MEASURES = ["modular_centrality", "flow", "pagerank", "degree", "medoid", "typicality"]


def graph_of(A_nn: np.ndarray) -> Graph:
    source_e, target_e = np.nonzero(A_nn)
    return Graph(len(A_nn), source_e, target_e, A_nn[source_e, target_e])


def with_a_dead_end(seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    A_nn = rng.random((30, 30)) * (rng.random((30, 30)) < 0.15)
    np.fill_diagonal(A_nn, 0.0)
    A_nn[7] = 0.0
    return graph_of(A_nn)


def test_pagerank_of_three_nodes_by_hand() -> None:
    # 0 → 1 → 2 → 0 and 0 → 2, with teleport 0.15: the stationary state solves three linear equations
    found = pagerank(graph_of(np.array([[0, 1, 1], [0, 0, 1], [1, 0, 0.0]])))
    chain_nn = 0.85 * np.array([[0, 0.5, 0.5], [0, 0, 1], [1, 0, 0]]) + 0.05
    expected = np.linalg.solve(np.vstack([(chain_nn.T - np.eye(3))[:2], np.ones(3)]), [0, 0, 1])
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_pagerank_is_that_of_igraph_even_with_a_dead_end(seed: int) -> None:
    graph = with_a_dead_end(seed)
    drawn = igraph.Graph(n=30, edges=np.column_stack([graph.source_e, graph.target_e]), directed=True)
    assert pagerank(graph) == pytest.approx(np.array(drawn.pagerank(weights=graph.weight_e.tolist())), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_flow_on_tiny_graphs_is_the_stationary_state_of_the_same_chain_and_that_of_infomap(seed: int) -> None:
    graph = with_a_dead_end(seed)
    A_nn = np.zeros((30, 30))
    A_nn[graph.source_e, graph.target_e] = graph.weight_e
    strength_n = A_nn.sum(axis=1)
    T_nn = A_nn / np.where(strength_n > 0, strength_n, 1.0)[:, None]
    jump_n = np.where(strength_n > 0, 0.15, 1.0)
    chain_nn = (1 - jump_n)[:, None] * T_nn + jump_n[:, None] * (strength_n / strength_n.sum())
    values, vectors = np.linalg.eig(chain_nn.T)
    state_n = np.real(vectors[:, np.argmax(np.real(values))])
    expected_n = (state_n / state_n.sum()) @ T_nn
    found_n = teleporting_flow(graph)
    assert found_n == pytest.approx(expected_n / expected_n.sum(), rel=1e-9, abs=1e-15)
    assert infomap_partition(graph, seed=1).flow_n == pytest.approx(found_n, rel=1e-7, abs=1e-12)


def test_degree_is_the_weight_that_arrives() -> None:
    graph = Graph(3, np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([0.25, 0.75, 1.0]))
    assert degree(graph).tolist() == [0.0, 0.25, 1.75]


def test_the_mean_squared_distance_equals_that_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    x_nd, community_n = rng.normal(50.0, 1.0, size=(60, 5)), rng.integers(0, 4, 60)
    for node in range(60):
        members = x_nd[community_n == community_n[node]]
        expected = ((members - x_nd[node]) ** 2).sum(axis=1).mean()
        assert mean_squared_distance(x_nd, community_n)[node] == pytest.approx(expected)


def test_typicality_is_one_over_the_mean_distance() -> None:
    neighbours = Neighbours(np.array([[1, 2], [0, 2], [1, 0]]), np.array([[1.0, 3.0], [0.5, 0.5], [0.0, 0.0]]))
    assert typicality(neighbours).tolist() == [0.5, 2.0, np.inf]
    assert typicality(Neighbours(np.zeros((1, 0), int), np.zeros((1, 0)))).tolist() == [0.0]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_middle_of_a_blob_stands_for_it_by_every_measure(measure: str) -> None:
    x_nd = np.concatenate([np.eye(10), -np.eye(10), np.zeros((1, 10))])  # √2 or 2 from one another, 1 from the middle
    neighbours = exact_neighbours(x_nd, 8)
    graph = neighbour_graph(neighbours)
    partition = infomap_partition(graph, seed=1)._replace(community_n=np.zeros(21, int))
    assert int(np.argmax(scores(measure, x_nd, neighbours, graph, partition))) == 20


@pytest.mark.parametrize("measure", MEASURES)
def test_the_unit_of_distance_changes_no_score(measure: str) -> None:
    x_nd = np.random.default_rng(2).normal(size=(80, 4))
    found = []
    for unit in (1.0, 1024.0):
        neighbours = exact_neighbours(unit * x_nd, 6)
        graph = neighbour_graph(neighbours)
        found.append(scores(measure, unit * x_nd, neighbours, graph, infomap_partition(graph, seed=1)))
    assert np.array_equal(*found)


def test_nodes_without_links_have_scores_too() -> None:
    x_nd = np.random.default_rng(3).normal(size=(12, 3))
    neighbours = exact_neighbours(x_nd, 1)
    graph = mutual(neighbour_graph(neighbours))
    assert len(np.union1d(graph.source_e, graph.target_e)) < 12
    partition = infomap_partition(graph, seed=1)
    for measure in MEASURES:
        assert np.isfinite(scores(measure, x_nd, neighbours, graph, partition)).all()
