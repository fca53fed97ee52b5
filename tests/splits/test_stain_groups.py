import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import adjusted_rand_score

from stages.splits.stain_groups import LEAST, MOST, most_frequent, stain, stain_groups

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


def slides(count: int, tiles: int, seed: int = 0) -> tuple[Pixels, Numbers]:
    """`tiles` tiles of 8 px of each of `count` slides; every slide has a stain of its own. Pixels and slide numbers."""
    rng = np.random.default_rng(seed)
    stains = rng.permutation(np.stack(np.meshgrid(*[np.linspace(40, 220, 4)] * 3), -1).reshape(-1, 3))[:count]
    x = np.repeat(stains, tiles, 0)[:, None, None] + rng.normal(0, 6, (count * tiles, 8, 8, 3))
    return np.clip(x, 0, 255).astype(np.uint8), np.repeat(np.arange(count), tiles)


def same_partition(a_n: Numbers, b_n: Numbers) -> bool:
    return len(set(zip(a_n.tolist(), b_n.tolist(), strict=True))) == len(set(a_n.tolist())) == len(set(b_n.tolist()))


def test_slides_of_different_stain_are_found_again() -> None:
    x, slide_n = slides(12, 20)
    labels_n = (slide_n % 2).astype(np.int64)
    groups_n = stain_groups(stain(x), labels_n, per_group=10, seed=3)
    assert all(len(set(slide_n[groups_n == group])) == 1 for group in set(groups_n.tolist()))
    x, slide_n = slides(8, 20)
    assert adjusted_rand_score(slide_n, stain_groups(stain(x), np.zeros(160, np.int64), per_group=20, seed=3)) == 1


def test_the_order_of_the_tiles_changes_nothing_but_the_order_of_the_result() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    x[::7] = x[1]
    labels_n = rng.integers(0, 2, 300)
    order_n = rng.permutation(300)
    straight = stain_groups(stain(x), labels_n, per_group=20, seed=5)
    assert (stain_groups(stain(x[order_n]), labels_n[order_n], per_group=20, seed=5) == straight[order_n]).all()


def test_one_class_changes_nothing_for_another() -> None:
    x, slide_n = slides(20, 10)
    labels_n = (slide_n % 2).astype(np.int64)
    together, alone = (
        stain_groups(stain(x), labels_n, 9, 0),
        stain_groups(stain(x[labels_n == 1]), labels_n[labels_n == 1], 9, 0),
    )
    assert same_partition(together[labels_n == 1], alone)
    assert not set(together[labels_n == 0].tolist()) & set(together[labels_n == 1].tolist())


def test_numbers_are_without_gaps_and_as_many_as_asked_for_but_enough_for_four_roles() -> None:
    x = np.random.default_rng(2).integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)
    labels_n = np.zeros(600, np.int64)
    for per_group, wanted in ((20, 30), (1000, LEAST), (1, MOST)):
        groups_n = stain_groups(stain(x), labels_n, per_group, 0)
        assert sorted(set(groups_n.tolist())) == list(range(wanted))


def test_the_same_picture_is_never_in_two_groups_and_few_tiles_make_few_groups() -> None:
    x = np.repeat(np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8), 4, 0)
    groups_n = stain_groups(stain(x), np.zeros(20, np.int64), per_group=1, seed=0)
    assert same_partition(groups_n, np.repeat(np.arange(5), 4))


def test_stain_is_the_optical_density_of_ruifrok_and_johnston() -> None:
    x = np.full((1, 4, 4, 3), 255, np.uint8)
    x[..., 1] = 0
    x[0, :2, :, 2] = 24
    half = np.log10(256 / 25)
    np.testing.assert_allclose(stain(x), [[0, np.log10(256), half / 2, 0, 0, half / 2]], atol=1e-12)


def test_a_group_of_less_than_a_tile_or_a_tile_without_a_label_is_refused() -> None:
    x, slide_n = slides(2, 2)
    with pytest.raises(ValueError, match="1 tile a group or more"):
        stain_groups(stain(x), slide_n.astype(np.int64), 0, 0)
    with pytest.raises(ValueError, match="4 tiles and 3 labels"):
        stain_groups(stain(x), slide_n[:3].astype(np.int64), 1, 0)


def test_a_unit_moves_to_the_cluster_that_holds_most_of_it_and_joins_no_two() -> None:
    number_n = np.array([0, 0, 1, 1, 1, 2, 2])
    unit_n = np.array([5, 6, 6, 6, 7, 8, 7])
    assert most_frequent(number_n, unit_n).tolist() == [0, 1, 1, 1, 1, 2, 1]
