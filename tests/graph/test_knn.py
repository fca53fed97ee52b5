import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from stages.graph import knn
from stages.graph.knn import Neighbours, exact_neighbours, neighbour_graph


def test_neighbours_on_a_line_are_known_and_ties_go_to_the_earlier_row() -> None:
    found = exact_neighbours(np.array([[0.0], [1.0], [2.0], [10.0]]), k=2)
    assert found.index_nk.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert found.distance_nk.tolist() == [[1, 2], [1, 1], [1, 2], [8, 9]]


def test_neighbours_equal_those_of_scikit_learn_across_tiles() -> None:
    x_nd = np.random.default_rng(0).normal(5.0, 1.0, size=(700, 32)).astype(np.float32)
    distance_nk, index_nk = NearestNeighbors(n_neighbors=8).fit(x_nd.astype(float)).kneighbors()
    found = exact_neighbours(x_nd, k=8)
    assert np.array_equal(found.index_nk, index_nk)
    assert found.distance_nk == pytest.approx(distance_nk)


def test_a_node_is_never_its_own_neighbour_and_equal_rows_are_at_distance_zero() -> None:
    x_nd = np.random.default_rng(1).normal(100.0, 1.0, size=(40, 64)).astype(np.float32)
    x_nd[20:] = x_nd[:20]
    found = exact_neighbours(x_nd, k=3)
    assert not (found.index_nk == np.arange(40)[:, None]).any()
    assert (found.distance_nk[:, 0] == 0.0).all()
    assert found.index_nk[:20, 0].tolist() == list(range(20, 40))


def test_ties_in_space_go_to_the_earliest_rows_whatever_the_rounding_of_a_matrix_product() -> None:
    centre_d = np.random.default_rng(5).integers(100 << 30, 200 << 30, size=48) / (1 << 30)
    corners_nd = centre_d + 0.125 * np.concatenate([np.eye(48), -np.eye(48)])  # all at exactly 1/8 from the centre
    found = exact_neighbours(np.concatenate([[centre_d], corners_nd]), k=4)
    assert found.index_nk[0].tolist() == [1, 2, 3, 4]
    assert found.distance_nk[0].tolist() == [0.125] * 4


def test_many_equal_rows_point_at_the_earliest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "PAIRS_AT_ONCE", 5)
    found = exact_neighbours(np.ones((6, 3)), k=2)
    assert found.index_nk.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]


def test_fewer_nodes_than_neighbours_point_at_all_others_and_one_alone_at_none() -> None:
    assert exact_neighbours(np.arange(3.0)[:, None], k=10).index_nk.shape == (3, 2)
    graph = neighbour_graph(exact_neighbours(np.zeros((1, 4)), k=10))
    assert graph.nodes == 1 and len(graph.source_e) == 0


def test_weights_are_the_softmax_of_distances_over_their_mean() -> None:
    neighbours = Neighbours(np.array([[1, 2], [0, 2], [1, 0]]), np.array([[1.0, 3.0], [1.0, 1.0], [0.0, 0.0]]))
    graph = neighbour_graph(neighbours)
    e = np.exp([-1 / 2, -3 / 2])
    assert list(zip(graph.source_e.tolist(), graph.target_e.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
    ]
    assert graph.weight_e == pytest.approx([*(e / e.sum()), 0.5, 0.5, 0.5, 0.5])


def test_the_unit_of_distance_changes_nothing() -> None:
    x_nd = np.random.default_rng(2).normal(size=(100, 7))
    graph, larger = (neighbour_graph(exact_neighbours(x_nd * scale, 6)) for scale in (1.0, 1024.0))
    assert np.array_equal(graph.target_e, larger.target_e)
    assert np.array_equal(graph.weight_e, larger.weight_e)
    odd = neighbour_graph(exact_neighbours(x_nd * 1e-6, 6))
    assert np.array_equal(graph.target_e, odd.target_e)
    assert odd.weight_e == pytest.approx(graph.weight_e, rel=1e-9)


def test_the_graph_keeps_its_density_at_any_number_of_nodes() -> None:
    for nodes in (50, 500, 2000):
        graph = neighbour_graph(exact_neighbours(np.random.default_rng(3).normal(size=(nodes, 8)), 10))
        assert len(graph.source_e) == 10 * nodes
        assert np.bincount(graph.source_e, weights=graph.weight_e) == pytest.approx(np.ones(nodes))


def test_shifting_and_turning_the_cloud_changes_no_neighbour() -> None:
    rng = np.random.default_rng(4)
    x_nd = rng.normal(size=(80, 5))
    turn_dd = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    moved = exact_neighbours(x_nd @ turn_dd + 3.0, 5)
    assert np.array_equal(moved.index_nk, exact_neighbours(x_nd, 5).index_nk)


@pytest.mark.parametrize(
    ("x_nd", "k", "said"), [(np.zeros((4, 2)), 0, "at least 1"), (np.full((4, 2), np.inf), 2, "NaN or infinite")]
)
def test_vectors_that_have_no_neighbours_are_refused(x_nd: np.ndarray, k: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        exact_neighbours(x_nd, k)
