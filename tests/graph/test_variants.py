import numpy as np
import pytest

from stages.graph.knn import Graph, Neighbours, exact_neighbours, neighbour_graph
from stages.graph.variants import from_matrix, fuzzy, matrix, mutual, symmetric


def graph_of(weights: dict[tuple[int, int], float], nodes: int) -> Graph:
    source_e, target_e = (np.array(ends) for ends in zip(*sorted(weights), strict=True))
    return Graph(nodes, source_e, target_e, np.array([weights[ends] for ends in sorted(weights)]))


def edges_of(graph: Graph) -> dict[tuple[int, int], float]:
    ends = zip(graph.source_e.tolist(), graph.target_e.tolist(), strict=True)
    return dict(zip(ends, graph.weight_e.tolist(), strict=True))


ONE_WAY_AND_BOTH = graph_of({(0, 1): 0.75, (1, 0): 0.25, (0, 2): 0.25, (2, 1): 1.0}, nodes=4)


def test_the_mutual_graph_keeps_what_both_ends_want_with_the_mean_of_both_weights() -> None:
    assert edges_of(mutual(ONE_WAY_AND_BOTH)) == {(0, 1): 0.5, (1, 0): 0.5}
    assert mutual(ONE_WAY_AND_BOTH).nodes == 4


def test_the_symmetric_graph_keeps_what_either_end_wants() -> None:
    found = edges_of(symmetric(ONE_WAY_AND_BOTH))
    assert found == {(0, 1): 0.5, (1, 0): 0.5, (0, 2): 0.125, (2, 0): 0.125, (1, 2): 0.5, (2, 1): 0.5}


def test_an_outlier_has_no_edge_in_the_mutual_graph_and_keeps_all_in_the_others() -> None:
    x_nd = np.concatenate([np.random.default_rng(0).normal(size=(60, 5)), np.full((1, 5), 50.0)])
    neighbours = exact_neighbours(x_nd, 5)
    directed = neighbour_graph(neighbours)
    assert 60 not in mutual(directed).source_e
    assert (symmetric(directed).source_e == 60).sum() == 5 == (fuzzy(neighbours).source_e == 60).sum()


def test_undirected_graphs_equal_their_transposes_and_are_sorted() -> None:
    neighbours = exact_neighbours(np.random.default_rng(1).normal(size=(80, 4)), 6)
    directed = neighbour_graph(neighbours)
    for graph in (mutual(directed), symmetric(directed), fuzzy(neighbours)):
        A_nn = matrix(graph)
        assert abs(A_nn - A_nn.T).max() == 0.0
        assert np.array_equal(np.lexsort((graph.target_e, graph.source_e)), np.arange(len(graph.source_e)))
        assert (graph.weight_e > 0).all() and (graph.source_e != graph.target_e).all()


def test_fuzzy_strengths_follow_the_formula_of_umap() -> None:
    neighbours = exact_neighbours(np.random.default_rng(2).normal(size=(30, 3)), 4)
    w_nn = np.zeros((30, 30))
    for i in range(30):
        excess_k = neighbours.distance_nk[i] - neighbours.distance_nk[i, 0]
        low, high = 1e-6, 1e3
        for _ in range(200):  # σ by bisection: the k strengths sum to log2(k + 1)
            middle = (low + high) / 2
            low, high = (low, middle) if np.exp(-excess_k / middle).sum() > np.log2(5) else (middle, high)
        w_nn[i, neighbours.index_nk[i]] = np.exp(-excess_k / low)
    union_nn = w_nn + w_nn.T - w_nn * w_nn.T
    assert matrix(fuzzy(neighbours)).toarray() == pytest.approx(union_nn, abs=2e-4)


def test_the_fuzzy_graph_is_that_of_umap_itself() -> None:
    import umap

    x_nd = np.random.default_rng(3).normal(size=(100, 6)).astype(np.float32)
    reference = umap.UMAP(n_neighbors=8, transform_mode="graph", random_state=0, n_jobs=1).fit(x_nd).graph_
    assert abs(matrix(fuzzy(exact_neighbours(x_nd, 7))) - reference).max() < 1e-4


def test_nodes_without_neighbours_make_graphs_without_edges() -> None:
    alone = Neighbours(np.zeros((1, 0), int), np.zeros((1, 0)))
    for graph in (fuzzy(alone), mutual(neighbour_graph(alone)), symmetric(neighbour_graph(alone))):
        assert graph.nodes == 1 and len(graph.source_e) == 0


def test_a_graph_survives_the_way_through_its_matrix_and_loses_loops_and_zeros() -> None:
    again = from_matrix(matrix(ONE_WAY_AND_BOTH))
    assert all(np.array_equal(a, b) for a, b in zip(again, ONE_WAY_AND_BOTH, strict=True))
    assert edges_of(from_matrix(matrix(Graph(2, np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1.0, 2, 0]))))) == {
        (0, 1): 2.0
    }
