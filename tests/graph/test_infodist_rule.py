import numpy as np
import pytest
from scipy.special import softmax

from stages.graph import infodist_rule
from stages.graph.infodist_rule import graph_degeneracies, infodist_original
from stages.graph.knn import Graph
from stages.graph.variants import matrix


def dense_rule(x_nd: np.ndarray) -> np.ndarray:
    """softmax_j(1 / d_ij) with 0 for the node itself, from its words."""
    d_nn = np.linalg.norm(x_nd[:, None] - x_nd[None], axis=2)
    inverse_nn = np.where(np.eye(len(x_nd)) > 0, 0.0, 1.0 / np.where(d_nn > 0, d_nn, 1.0))
    return softmax(inverse_nn, axis=1)


@pytest.mark.parametrize("threshold", ["fixed", "median"])
def test_the_graph_is_that_of_the_formula_across_blocks(threshold: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.features.distances.BLOCK_ROWS", 64)
    x_nd = np.random.default_rng(0).normal(size=(900, 4))
    w_nn = dense_rule(x_nd)
    limit_n = np.full(900, 0.001) if threshold == "fixed" else np.median(w_nn, axis=1)
    np.fill_diagonal(w_nn, 0.0)
    w_nn[w_nn < limit_n[:, None]] = 0.0
    assert 0 < (w_nn > 0).mean() < 1
    found_nn = matrix(infodist_original(x_nd, threshold)).toarray()
    assert found_nn == pytest.approx(w_nn, rel=1e-8)


def test_three_nodes_on_a_line_by_hand() -> None:
    graph = infodist_original(np.array([[0.0], [1.0], [3.0]]), "median")
    e = np.exp([1.0, 0.5, 1 / 3])
    assert list(zip(graph.source_e.tolist(), graph.target_e.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
    ]
    assert graph.weight_e[:2] == pytest.approx(e[[0, 2]] / (1 + e[0] + e[2]))


def test_the_fixed_threshold_is_complete_at_500_and_empty_at_2000() -> None:
    rng = np.random.default_rng(1)
    few, many = (infodist_original(rng.normal(0.0, 10.0, size=(n, 32))) for n in (500, 2000))
    assert len(few.source_e) == 500 * 499 and len(many.source_e) == 0
    assert graph_degeneracies(few)[0].startswith("the graph is complete: every possible edge")
    assert graph_degeneracies(many)[0].startswith("the graph is empty")


def test_the_median_keeps_half_of_all_pairs_at_any_number_of_nodes() -> None:
    for nodes in (200, 1001):
        graph = infodist_original(np.random.default_rng(2).normal(size=(nodes, 8)), "median")
        assert len(graph.source_e) / nodes**2 == pytest.approx(0.5, abs=0.01)
        assert graph_degeneracies(graph) == []


def test_equal_rows_share_all_the_weight() -> None:
    x_d = np.random.default_rng(4).normal(100.0, 1.0, size=64)  # so long that a matrix product rounds
    A_nn = matrix(infodist_original(np.array([x_d, x_d, x_d, x_d + 5.0 / 8.0]))).toarray()
    assert A_nn[0].tolist() == [0.0, 0.5, 0.5, 0.0]
    assert A_nn[3, :3] == pytest.approx([np.exp(0.2) / (3 * np.exp(0.2) + 1)] * 3)


def test_the_rule_depends_on_the_unit_of_distance_unlike_the_neighbour_graph() -> None:
    x_nd = np.random.default_rng(3).normal(size=(800, 4))
    assert len(infodist_original(x_nd).source_e) != len(infodist_original(10.0 * x_nd).source_e)


def test_a_graph_in_which_most_nodes_stand_alone_is_told_and_an_ordinary_one_is_not() -> None:
    ends = np.array([0, 1]), np.array([1, 0])
    assert graph_degeneracies(Graph(5, *ends, np.ones(2))) == ["3 of 5 candidates have no edge at all, and stand alone"]
    assert graph_degeneracies(Graph(4, *ends, np.ones(2))) == []
    assert graph_degeneracies(Graph(1, np.zeros(0, int), np.zeros(0, int), np.zeros(0))) == []


def test_almost_every_edge_counts_as_complete() -> None:
    source_e, target_e = np.nonzero(~np.eye(30, dtype=bool))
    told = graph_degeneracies(Graph(30, source_e[1:], target_e[1:], np.ones(869)))
    assert infodist_rule.NEARLY_ALL < 869 / 870 and told[0].startswith("the graph is complete: 869 of 870")
