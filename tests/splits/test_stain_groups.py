"""Stain groups: planted stains are told apart within a class, and every grouping asked for stays whole."""

import numpy as np

from stages.splits.stain_groups import FEWEST, stain_features, stain_groups, united

STAINS = np.array(
    [
        [60, 90, 60],
        [200, 120, 160],
        [150, 60, 140],
        [230, 200, 210],
        [90, 40, 120],
        [180, 160, 200],
        [120, 120, 60],
        [210, 90, 90],
    ]
)


def stained(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    stain = np.repeat(np.arange(len(STAINS)), 20)
    pixels = STAINS[stain][:, None, None] + rng.normal(0, 8, (len(stain), 12, 12, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), stain


def test_density_is_nought_where_it_is_white_and_one_decade_for_a_tenth_of_the_light() -> None:
    tile = np.full((1, 4, 4, 3), 255, np.uint8)
    tile[..., 0] = 25.6 - 1
    features = stain_features(tile)[0]
    np.testing.assert_allclose(features, [np.log10(256 / 25), 0, 0, 0, 0, 0], atol=1e-9)


def test_planted_stains_are_found_within_each_class() -> None:
    (first, stain), (second, _) = stained(0), stained(1)
    labels = ["a"] * len(first) + ["b"] * len(second)
    number = stain_groups(stain_features(np.concatenate([first, second])), labels, tiles_each=20)
    truth = np.concatenate([stain, stain + len(STAINS)])
    assert len(set(zip(number.tolist(), truth.tolist(), strict=True))) == 2 * len(STAINS) == len(set(number.tolist()))


def test_a_class_has_eight_stains_at_the_least_if_it_has_as_many_tiles() -> None:
    pixels, _ = stained(2)
    features = stain_features(pixels)
    assert len(set(stain_groups(features, ["a"] * len(pixels), tiles_each=10_000).tolist())) == FEWEST
    assert len(set(stain_groups(features[:3], ["a"] * 3, tiles_each=64).tolist())) == 3
    assert len(set(stain_groups(features[[0, 0, 0]], ["a"] * 3, tiles_each=64).tolist())) == 1


def test_the_same_stains_are_found_twice() -> None:
    features = stain_features(np.random.default_rng(0).integers(0, 256, (300, 6, 6, 3), dtype=np.uint8))
    labels = ["a", "b", "c"] * 100
    np.testing.assert_array_equal(stain_groups(features, labels, 20), stain_groups(features, labels, 20))


def test_united_groups_keep_every_group_whole_and_join_no_others() -> None:
    found = united(np.array([0, 0, 1, 2, 3, 4]), np.array([5, 6, 6, 7, 8, 7]))
    assert found.tolist() == [0, 0, 0, 1, 2, 1]
    assert united(np.array([3, 3, 1])).tolist() == [0, 0, 1]
