import numpy as np
import pytest

from stages.privacy.exchange import Groups
from stages.privacy.neighbours import inauthentic, nearest_of, nearest_ratio, rank, ratios
from stages.privacy.similarity import Nearness


def test_the_ratio_of_distances_by_hand() -> None:
    first, second = np.array([0.9, 1.0, 0.2], np.float32), np.array([0.8, 1.0, 0.2], np.float32)
    assert nearest_ratio(first, second) == pytest.approx([0.1 / 0.2, 1.0, 1.0], rel=1e-5)


@pytest.mark.parametrize("depth", [2, 5, 40])
def test_the_two_nearest_of_drawn_groups_are_those_that_a_search_through_all_finds(depth: int) -> None:
    rng = np.random.default_rng(1)
    similarity = (rng.integers(0, 200, (30, 40)) / 200).astype(np.float32)
    members = rng.random(40) < 0.2
    rows = rng.integers(0, 30, 50)
    found = nearest_of(rank(similarity, depth), members, rows)
    top = np.sort(similarity[rows][:, members], axis=1)
    assert (found.first_n == top[:, -1]).all() and (found.second_n == top[:, -2]).all()
    assert members[found.column_n].all() and (similarity[rows, found.column_n] == top[:, -1]).all()


def test_authenticity_by_hand() -> None:
    near = Nearness(np.array([[0.9, 0.1], [0.3, 0.4]], np.float32), np.array([[0, 1], [0, 1]]))
    own = np.array([[-1.0, 0.5], [0.5, -1.0]], np.float32)
    # the first tile is nearer to real tile 0 (0.9) than that is to the other group (0.5); the second is not
    both = np.array([True, True])
    found = nearest_of(rank(near.similarity_ng), both, np.arange(2))
    assert inauthentic(found, near.tile_ng, rank(own), both).tolist() == [True, False]


def world(copies: int) -> tuple[Nearness, np.ndarray, Groups]:
    rng = np.random.default_rng(0)
    groups = Groups(np.repeat([True, False], [30, 10]), np.zeros(40, np.int64))
    similarity = rng.uniform(0, 0.5, (60, 40)).astype(np.float32)
    similarity[np.arange(copies), rng.integers(0, 30, copies)] = 0.95
    own = rng.uniform(0.6, 0.8, (40, 40)).astype(np.float32)
    np.fill_diagonal(own, -1)
    return Nearness(similarity, np.tile(np.arange(40), (60, 1))), own, groups


def test_copies_make_both_ratios_lean_to_train_and_clean_tiles_do_not() -> None:
    near, own, groups = world(copies=60)
    found = ratios(near, own, groups, np.random.default_rng(0), draws=20, deals=100)
    assert found is not None
    assert max(found.nndr.p_value, found.inauthentic.p_value) <= 0.03
    near, own, groups = world(copies=0)
    found = ratios(near, own, groups, np.random.default_rng(0), draws=20, deals=100)
    assert found is not None
    assert min(found.nndr.p_value, found.inauthentic.p_value) > 0.05
    assert found.inauthentic.train_n.max() == 0


def test_one_group_on_each_side_is_too_few() -> None:
    near, own, _ = world(copies=0)
    alone = Groups(np.repeat([True, False], [39, 1]), np.zeros(40, np.int64))
    assert ratios(near, own, alone, np.random.default_rng(0), 2, 10) is None
