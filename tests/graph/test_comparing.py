import numpy as np
import pytest

from stages.graph.comparing import community_reach, overlap


def test_overlap_by_hand_and_what_chance_would_share() -> None:
    found = overlap(np.array([1, 2, 3, 4]), np.array([4, 9, 2]), candidates=20)
    assert (found.shared, found.jaccard, found.expected) == (2, 2 / 5, 12 / 20)
    assert overlap(np.array([3, 1]), np.array([1, 3]), 5).jaccard == 1.0
    assert overlap(np.array([3, 1]), np.array([2, 0]), 5).jaccard == 0.0


def test_random_selections_share_what_is_expected_of_them() -> None:
    rng = np.random.default_rng(0)
    draws = [overlap(rng.permutation(100)[:20], rng.permutation(100)[:30], 100) for _ in range(500)]
    assert np.mean([draw.shared for draw in draws]) == pytest.approx(draws[0].expected, abs=0.3)


@pytest.mark.parametrize("rows", [[], [1, 1]])
def test_what_is_no_selection_is_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one candidate, and none twice"):
        overlap(np.array(rows, int), np.array([1]), 5)


def test_reach_counts_communities_candidates_and_flow_by_hand() -> None:
    community_n = np.array([0, 0, 0, 1, 1, 2])
    flow_n = np.array([0.2, 0.2, 0.1, 0.2, 0.1, 0.2])
    found = community_reach(community_n, flow_n, np.array([0, 2, 5]))
    assert found == pytest.approx((2 / 3, 4 / 6, 0.7))
    assert community_reach(community_n, flow_n, np.arange(6)) == pytest.approx((1, 1, 1))
