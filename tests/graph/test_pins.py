"""Seats for the kept."""

import numpy as np
import pytest

from stages.graph.pins import with_kept

COMMUNITY = np.array([0, 0, 0, 1, 1, 1, 2, 2])
CHOSEN = np.array([0, 3, 6, 1, 4])


def kept(*nodes: int, community_n: np.ndarray | None = COMMUNITY) -> list[int]:
    return with_kept(CHOSEN, np.array(nodes, np.int64), community_n).tolist()


def test_nothing_kept_changes_nothing() -> None:
    assert kept() == CHOSEN.tolist()


def test_a_kept_one_takes_the_last_seat_of_its_own_community() -> None:
    assert kept(2) == [2, 0, 3, 6, 4]
    assert kept(5) == [5, 0, 3, 6, 1]
    assert kept(7) == [7, 0, 3, 1, 4]


def test_one_that_was_chosen_anyway_comes_first_and_costs_nobody_a_seat() -> None:
    assert kept(4) == [4, 0, 3, 6, 1]


def test_without_a_seat_of_its_own_community_the_last_of_all_gives_way() -> None:
    assert kept(6, 7) == [6, 7, 0, 3, 1]
    assert kept(2, community_n=None) == [2, 0, 3, 6, 1]


def test_as_many_kept_as_seats_leave_no_other() -> None:
    assert kept(2, 5, 7, 6, 1) == [2, 5, 7, 6, 1]


def test_more_kept_than_seats_are_an_error() -> None:
    with pytest.raises(ValueError, match="6 are kept, but there are only 5 seats"):
        kept(0, 1, 2, 3, 4, 5)


def test_the_number_never_changes_and_nobody_has_two_seats() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 30))
        chosen_s = rng.permutation(n)[: rng.integers(1, n + 1)]
        kept_k = rng.permutation(n)[: rng.integers(0, len(chosen_s) + 1)]
        found_s = with_kept(chosen_s, kept_k, rng.integers(0, 4, n))
        assert len(found_s) == len(chosen_s) == len(set(found_s.tolist()))
        assert found_s[: len(kept_k)].tolist() == kept_k.tolist()
        assert set(found_s[len(kept_k) :].tolist()) <= set(chosen_s.tolist())
