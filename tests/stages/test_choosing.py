"""How one class is chosen from: every graph, detector, representative and quota, on planted blobs."""

from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from stages.choosing import DETECTORS, WORDS, ChoosingSettings, choose
from stages.contracts import UserError

SETTINGS = ChoosingSettings(per_class=12, neighbours=8, trials=2, spectral_communities=6)
METHODS = get_args(ChoosingSettings.model_fields["method"].annotation)
GRAPHS = get_args(ChoosingSettings.model_fields["graph"].annotation)
REPRESENTATIVES = get_args(ChoosingSettings.model_fields["representative"].annotation)


def blobs(seed: int, sizes: tuple[int, ...] = (16, 14, 12, 12, 10, 10)) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and the blob of each."""
    rng = np.random.default_rng(seed)
    blob_n = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x_nd = 10.0 * rng.normal(size=(len(sizes), 16))[blob_n] + rng.normal(size=(len(blob_n), 16))
    return x_nd.astype(np.float32), blob_n


def test_every_method_is_a_detector_or_a_baseline_with_words() -> None:
    assert set(METHODS) == {*DETECTORS, *WORDS}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_chooses_as_many_distinct_ones_as_asked_with_a_reason_for_each(method: str) -> None:
    x_nd, blob_n = blobs(0)
    found = choose(SETTINGS.model_copy(update={"method": method}), x_nd, 3, "a")
    assert len(set(found.chosen_s.tolist())) == 12 and len(found.reason_n) == len(found.score_n) == 74
    taken = {found.reason_n[row] for row in found.chosen_s}
    assert not taken & {found.reason_n[row] for row in np.setdiff1d(np.arange(74), found.chosen_s)}
    if method in DETECTORS:
        assert adjusted_rand_score(blob_n, found.partition.community_n) >= 0.99
        assert np.bincount(blob_n[found.chosen_s]).tolist() == [2] * 6


@pytest.mark.parametrize("graph", ["directed", "mutual", "symmetric", "umap"])
@pytest.mark.parametrize("method", ["infomap", "leiden"])
def test_the_blobs_are_found_in_every_neighbour_graph(method: str, graph: str) -> None:
    x_nd, blob_n = blobs(1)
    found = choose(SETTINGS.model_copy(update={"method": method, "graph": graph}), x_nd, 3, "a")
    assert adjusted_rand_score(blob_n, found.partition.community_n) >= 0.99
    assert len(found.again) == 2


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_graph_can_be_chosen_from(graph: str) -> None:
    found = choose(SETTINGS.model_copy(update={"graph": graph}), blobs(2)[0], 3, "a")
    assert len(set(found.chosen_s.tolist())) == 12 and found.graph.nodes == 74


@pytest.mark.parametrize("representative", REPRESENTATIVES)
def test_the_chosen_have_the_best_scores_of_their_communities(representative: str) -> None:
    settings = SETTINGS.model_copy(update={"representative": representative, "near_identical": 0.0})
    found = choose(settings, blobs(3)[0], 3, "a")
    for community in range(6):
        members = np.flatnonzero(found.partition.community_n == community)
        best = members[np.argsort(-found.score_n[members], kind="stable")][:2]
        assert set(best) == set(found.chosen_s[found.partition.community_n[found.chosen_s] == community])


def test_quotas_follow_size_and_doubt() -> None:
    x_nd, blob_n = blobs(4)

    def seats(quota: str, wanted: int, doubt_n: np.ndarray | None = None) -> list[int]:
        settings = SETTINGS.model_copy(update={"quota": quota, "per_class": wanted})
        return np.bincount(blob_n[choose(settings, x_nd, 3, "a", doubt_n).chosen_s], minlength=6).tolist()

    assert seats("equal", 30) == [5] * 6
    assert seats("proportional", 30) == [6, 6, 5, 5, 4, 4]  # 6.49, 5.68, 4.86, 4.86, 4.05, 4.05
    assert sorted(seats("sqrt", 30)) == [4, 5, 5, 5, 5, 6]  # 5.72, 5.35, 4.95, 4.95, 4.52, 4.52
    assert seats("uncertainty", 12, np.where(blob_n == 3, 0.9, np.where(blob_n == 0, 0.3, 0.0))) == [3, 0, 0, 9, 0, 0]


def test_near_identical_candidates_are_never_both_chosen() -> None:
    x_nd, _ = blobs(5)
    rng = np.random.default_rng(0)
    twins_nd = np.concatenate([x_nd, x_nd + 1e-3 * rng.normal(size=x_nd.shape)]).astype(np.float32)
    settings = SETTINGS.model_copy(update={"per_class": 40, "near_identical": 0.5})
    allowed = choose(settings.model_copy(update={"near_identical": 0.0}), twins_nd, 3, "a")
    assert len(set((allowed.chosen_s % 74).tolist())) < 40
    # most nearest neighbours are twins, so the typical gap is that of twins; in a pool with a few twins it is not
    few_nd = np.concatenate([x_nd, twins_nd[74:94]])
    found = choose(settings, few_nd, 3, "a")
    assert len(set((found.chosen_s % 74).tolist())) == 40
    assert found.reason_n.count("near-identical to one before it") == 20
    with pytest.raises(UserError, match=r"class a: .*Lower selection.per_class or selection.near_identical \(0.5\)"):
        choose(settings.model_copy(update={"per_class": 75}), few_nd, 3, "a")


def test_spread_out_representatives_are_farther_apart() -> None:
    x_nd, _ = blobs(6)
    settings = SETTINGS.model_copy(update={"per_class": 24})
    plain, spread = (
        choose(settings.model_copy(update={"central_share": share}), x_nd, 3, "a").chosen_s for share in (0.0, 0.7)
    )
    nearest = [(pairwise_distances(x_nd[rows]) + 1e9 * np.eye(24)).min(axis=1).mean() for rows in (plain, spread)]
    assert nearest[1] > 1.1 * nearest[0]
    assert plain[:6].tolist() == spread[:6].tolist()


def test_above_the_limit_neighbours_are_searched_approximately_and_the_same_blobs_are_found() -> None:
    x_nd, blob_n = blobs(7, (20,) * 20)
    found = choose(SETTINGS.model_copy(update={"exact_to": 100}), x_nd, 3, "a")
    assert not found.search.exact and found.search.recall >= 0.98
    assert adjusted_rand_score(blob_n, found.partition.community_n) >= 0.99


def test_more_spectral_communities_than_candidates_are_refused() -> None:
    settings = SETTINGS.model_copy(update={"method": "spectral", "spectral_communities": 74})
    with pytest.raises(UserError, match="spectral_communities is 74, but a class has only 74"):
        choose(settings, blobs(8)[0], 3, "a")
