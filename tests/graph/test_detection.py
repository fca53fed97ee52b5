import random

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from stages.graph import detection
from stages.graph.detection import detect, leiden, louvain, seeded_globals, spectral
from stages.graph.knn import Graph, exact_neighbours, neighbour_graph
from stages.graph.partition_report import quality
from stages.graph.variants import symmetric

DETECTORS = ["infomap", "leiden", "louvain", "label_propagation", "spectral"]


def two_cliques(weak: float = 1.0) -> Graph:
    A_nn = np.kron(np.eye(2), np.ones((5, 5))) - np.eye(10)
    A_nn[4, 5] = A_nn[5, 4] = weak
    source_e, target_e = np.nonzero(A_nn)
    return Graph(10, source_e, target_e, A_nn[source_e, target_e])


def blobs(count: int, size: int, seed: int, dim: int = 64) -> tuple[Graph, np.ndarray]:
    rng = np.random.default_rng(seed)
    blob_n = np.repeat(np.arange(count), size)
    x_nd = 6.0 * rng.normal(size=(count, dim))[blob_n] + rng.normal(size=(count * size, dim))
    return neighbour_graph(exact_neighbours(x_nd, 10)), blob_n


def shapeless(seed: int, nodes: int = 300) -> Graph:
    return neighbour_graph(exact_neighbours(np.random.default_rng(seed).normal(size=(nodes, 3)), 8))


@pytest.mark.parametrize("detector", DETECTORS)
def test_two_cliques_joined_by_a_weak_link_are_two_communities(detector: str) -> None:
    found = detect(two_cliques(0.1), detector, seed=1, communities=2)
    assert found.community_n.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize("detector", DETECTORS)
def test_forty_planted_blobs_in_64_dimensions_are_found(detector: str) -> None:
    graph, blob_n = blobs(40, 25, seed=6)
    found = detect(graph, detector, seed=4, communities=40)
    assert adjusted_rand_score(blob_n, found.community_n) >= 0.99


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_same_seed_finds_the_same_whatever_the_global_generators_and_leaves_them_alone(detector: str) -> None:
    graph = shapeless(1)
    found = []
    for state in (1, 2):
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002 - the global generator is what must not matter
        before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        found.append(detect(graph, detector, seed=2**40, communities=7).community_n)
        after = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        assert after == before
    assert np.array_equal(*found)


@pytest.mark.parametrize("detector", ["infomap", "leiden", "louvain", "label_propagation"])
def test_another_seed_searches_anew(detector: str) -> None:
    graph = shapeless(2)
    found = {tuple(detect(graph, detector, seed=seed, trials=1).community_n.tolist()) for seed in range(5)}
    assert len(found) > 1


@pytest.mark.parametrize("detector", ["leiden", "louvain", "label_propagation"])
def test_weights_are_heeded(detector: str) -> None:
    # a ring of eight with links that are strong and weak in turn: the strong pairs belong together
    ends = np.arange(8), (np.arange(8) + 1) % 8
    A_nn = np.zeros((8, 8))
    A_nn[ends] = np.where(np.arange(8) % 2 == 0, 1.0, 0.01)
    source_e, target_e = np.nonzero(A_nn + A_nn.T)
    weights = (A_nn + A_nn.T)[source_e, target_e]
    found = detect(Graph(8, source_e, target_e, weights), detector, seed=1)
    pairs = found.community_n.reshape(4, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all() and len(np.unique(pairs)) == 4


def test_leiden_reaches_at_least_the_modularity_of_louvain() -> None:
    graph = symmetric(shapeless(3))
    ours, theirs = (quality(graph, find(graph, 1)).modularity for find in (leiden, louvain))
    assert ours >= theirs - 0.01 and ours > 0.7


def test_a_higher_resolution_makes_more_communities() -> None:
    graph = shapeless(4)
    counts = [leiden(graph, 1, resolution).max() + 1 for resolution in (0.2, 1.0, 5.0)]
    assert counts[0] < counts[1] < counts[2]


def test_the_normalised_cut_of_parts_without_links_between_them_is_the_parts() -> None:
    assert adjusted_rand_score(spectral(two_cliques(1e-12), 2, seed=0), np.repeat([0, 1], 5)) == 1.0
    apart = Graph(4, np.array([0, 1, 2, 3]), np.array([1, 0, 3, 2]), np.ones(4))
    assert adjusted_rand_score(spectral(apart, 2, seed=0), [0, 0, 1, 1]) == 1.0
    assert spectral(apart, 1, seed=0).tolist() == [0] * 4
    with pytest.raises(ValueError, match="fewer than there are nodes"):
        spectral(apart, 4, seed=0)


@pytest.mark.parametrize("detector", DETECTORS)
def test_nodes_without_links_stand_alone_and_so_does_everyone_in_a_graph_without_links(detector: str) -> None:
    bare = Graph(4, np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    assert detect(bare, detector, seed=1, communities=2).community_n.tolist() == [0, 1, 2, 3]
    if detector != "spectral":
        one_alone = two_cliques()._replace(nodes=11)
        assert (
            detect(one_alone, detector, seed=1).community_n == detect(one_alone, detector, 1).community_n[10]
        ).sum() == 1


def test_the_global_generators_are_put_back_even_after_a_mistake() -> None:
    random.seed(5)
    expected = random.getstate()
    with pytest.raises(RuntimeError, match="on purpose"), seeded_globals(1):
        random.random()
        raise RuntimeError("on purpose")
    assert random.getstate() == expected


def test_importing_cdlib_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    detection._cdlib_algorithms()
    assert capsys.readouterr().out == ""
