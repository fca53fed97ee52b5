import networkx as nx
import numpy as np
import pytest

from stages.graph.communities import described, infomap_partition
from stages.graph.knn import Graph, exact_neighbours, neighbour_graph
from stages.graph.partition_report import degeneracies, quality, report, stability


def graph_of(A_nn: np.ndarray) -> Graph:
    source_e, target_e = np.nonzero(A_nn)
    return Graph(len(A_nn), source_e, target_e, A_nn[source_e, target_e])


def two_triangles() -> Graph:
    """Two triangles with every link both ways, joined by one link each way."""
    A_nn = np.kron(np.eye(2), np.ones((3, 3))) - np.eye(6)
    A_nn[2, 3] = A_nn[3, 2] = 1.0
    return graph_of(A_nn)


def random_graph(seed: int, nodes: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    A_nn = rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < 0.2)
    np.fill_diagonal(A_nn, 0.0)
    return A_nn


def test_modularity_of_two_triangles_by_hand_and_coverage_is_the_share_of_inner_links() -> None:
    scores = quality(two_triangles(), np.array([0, 0, 0, 1, 1, 1]))
    assert scores.coverage == pytest.approx(12 / 14)
    assert scores.modularity == pytest.approx(12 / 14 - 2 * (7 / 14) ** 2)
    assert quality(two_triangles(), np.zeros(6, int)).modularity == pytest.approx(0.0)
    assert quality(Graph(2, np.zeros(0, int), np.zeros(0, int), np.zeros(0)), np.array([0, 1])) == (0.0, 0.0)


def test_modularity_and_coverage_of_a_weighted_directed_graph_are_those_of_networkx() -> None:
    A_nn, community_n = random_graph(3), np.arange(40) % 3
    drawn = nx.from_numpy_array(A_nn, create_using=nx.DiGraph)
    parts = [set(np.flatnonzero(community_n == m).tolist()) for m in range(3)]
    scores = quality(graph_of(A_nn), community_n)
    assert scores.modularity == pytest.approx(nx.community.modularity(drawn, parts, weight="weight"))
    assert scores.coverage == pytest.approx(nx.community.partition_quality(drawn, parts)[0])


def test_stability_is_one_for_equal_partitions_whatever_their_numbers_and_0_for_independent_ones() -> None:
    halves_n, turned_n = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    assert stability([halves_n, turned_n]) == pytest.approx(1.0)
    assert stability([halves_n, np.array([0, 1, 0, 1])]) == pytest.approx(0.0)


def test_stability_is_the_mean_over_pairs_of_the_formula_by_hand() -> None:
    halves_n, whole_n, single_n = np.array([0, 0, 1, 1]), np.zeros(4, int), np.arange(4)
    # I(halves; singletons) = ln 2; the mean of their entropies ln 2 and ln 4 is 1.5 ln 2
    assert stability([halves_n, single_n]) == pytest.approx(1 / 1.5)
    assert stability([halves_n, halves_n, whole_n]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="at least two"):
        stability([halves_n])


def test_a_report_holds_what_the_parts_say() -> None:
    graph = neighbour_graph(exact_neighbours(np.random.default_rng(0).normal(size=(200, 3)), 6))
    found = infomap_partition(graph, seed=1, trials=1)
    others = [infomap_partition(graph, seed=seed, trials=1).community_n for seed in (2, 3)]
    told = report(graph, found, others)
    assert told.communities == len(told.sizes) == len(np.unique(found.community_n)) and sum(told.sizes) == 200
    assert (told.modularity, told.coverage) == quality(graph, found.community_n)
    assert told.stability == stability([found.community_n, *others])
    assert 0 < told.codelength < told.one_level_codelength
    assert report(graph, described(graph, found.community_n)).stability is None


def test_a_partition_that_says_little_is_told() -> None:
    assert degeneracies(np.repeat(np.arange(4), 5), smallest_community=3) == []
    assert degeneracies(np.zeros(9, int), smallest_community=3)[0].startswith("one community only")
    assert "6 of 10 candidates" in degeneracies(np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 3]), smallest_community=3)[0]
    assert degeneracies(np.arange(3), smallest_community=2)[0].startswith("every candidate")
