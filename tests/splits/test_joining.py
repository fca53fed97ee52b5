"""Joining: exact small cases of links, support, the cap, and the line that chance seldom passes."""

import numpy as np
import pytest

from stages.splits.joining import HIGHEST_LINE, Lines, above_background, join, line_of_chance

LINES = Lines(sure=0.6, likely=0.3)


def joined(pairs: list[tuple[int, int, float]], tiles: int, largest: int = 100) -> tuple[list[int], int]:
    pair = np.array([p[:2] for p in pairs], np.int64).reshape(-1, 2)
    score = np.array([p[2] for p in pairs], np.float32)
    found = join(pair, score, np.ones(tiles, np.int64), LINES, largest)
    return found.number_n.tolist(), found.refused


def test_a_sure_link_joins_and_a_likely_one_alone_does_not() -> None:
    assert joined([(0, 1, 0.7), (2, 3, 0.5)], 4) == ([0, 0, 2, 3], 0)


def test_two_likely_links_join_clusters_if_they_are_a_good_part_of_all_between_them() -> None:
    assert joined([(0, 1, 0.9), (0, 2, 0.4), (1, 2, 0.4)], 3)[0] == [0, 0, 0]
    one_of_four = [(0, 1, 0.9), (2, 3, 0.9), (0, 2, 0.5)]
    assert joined(one_of_four, 4)[0] == [0, 0, 2, 2]
    assert joined([*one_of_four, (1, 3, 0.5)], 4)[0] == [0, 0, 0, 0]
    big = [(i, i + 1, 0.9) for i in (0, 1, 2, 4, 5, 6)]
    assert joined([*big, (0, 4, 0.5), (1, 5, 0.5)], 8)[0] == [0, 0, 0, 0, 4, 4, 4, 4]  # 2 of 16


def test_a_chain_is_cut_at_its_weakest_link_where_it_would_grow_too_large() -> None:
    chain = [(0, 1, 0.9), (1, 2, 0.8), (2, 3, 0.61), (3, 4, 0.85), (4, 5, 0.95)]
    assert joined(chain, 6, largest=4) == ([0, 0, 0, 3, 3, 3], 1)
    assert joined(chain, 6, largest=6)[0] == [0] * 6


def test_exact_copies_count_towards_the_cap() -> None:
    found = join(np.array([[0, 1]]), np.array([0.9], np.float32), np.array([3, 3]), LINES, 5)
    assert found.number_n.tolist() == [0, 1] and found.refused == 1


def test_the_order_of_the_pairs_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    pair = np.unique(np.sort(rng.integers(0, 40, (120, 2)), axis=1), axis=0)
    pair = pair[pair[:, 0] < pair[:, 1]]
    score = rng.choice([0.2, 0.4, 0.5, 0.7], len(pair)).astype(np.float32)
    known = join(pair, score, np.ones(40, np.int64), LINES, 12).number_n
    order = rng.permutation(len(pair))
    np.testing.assert_array_equal(join(pair[order], score[order], np.ones(40, np.int64), LINES, 12).number_n, known)
    assert 1 < np.bincount(known).max() <= 12


def test_the_line_of_chance_is_a_quantile_of_the_normal_and_few_copies_do_not_lift_it() -> None:
    score = np.random.default_rng(0).normal(0.2, 0.05, 20_000).astype(np.float32)
    assert line_of_chance(score, 0.001, 0.0) == pytest.approx(0.2 + 0.05 * 3.0902, abs=0.005)
    score[:200] = 2.9
    assert line_of_chance(score, 0.001, 0.0) == pytest.approx(0.2 + 0.05 * 3.0902, abs=0.01)
    assert line_of_chance(score, 0.001, 0.6) == 0.6 and line_of_chance(score[:5], 0.001, 0.4) == 0.4
    assert line_of_chance(score * 50, 1e-9, 0.4) == HIGHEST_LINE


def test_a_tile_that_resembles_many_a_little_is_marked_down_and_a_copy_is_not() -> None:
    pair = np.array([(0, i) for i in range(1, 8)] + [(i, j) for i in range(8, 12) for j in range(i + 1, 12)])
    score = np.array([0.44] * 7 + [0.3] * 5 + [2.0], np.float32)
    found = above_background(pair, score, 12, copies=0.5)
    assert (found[:7] < 0.4).all() and found[-1] == pytest.approx(2.0, abs=0.05)
