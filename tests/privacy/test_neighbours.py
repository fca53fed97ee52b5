import numpy as np
import pytest

from stages.privacy.exchange import Groups
from stages.privacy.neighbours import inauthentic, nearest_ratio, ratios
from stages.privacy.similarity import Nearness


def test_the_ratio_of_distances_by_hand() -> None:
    similarity = np.array([[0.9, 0.5, 0.8], [1.0, 1.0, 0.0], [0.2, 0.2, 0.2]], np.float32)
    assert nearest_ratio(similarity) == pytest.approx([0.1 / 0.2, 1.0, 1.0], rel=1e-5)


def test_authenticity_by_hand() -> None:
    near = Nearness(np.array([[0.9, 0.1], [0.3, 0.4]], np.float32), np.array([[0, 1], [0, 1]]))
    own = np.array([[-1.0, 0.5], [0.5, -1.0]], np.float32)
    # the first tile is nearer to real tile 0 (0.9) than that is to the other group (0.5); the second is not
    assert inauthentic(near, np.array([0, 1]), own).tolist() == [True, False]


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
