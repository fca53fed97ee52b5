import numpy as np
import pytest

from stages.privacy.intervals import holm, mean_by_group, upper_bound


def test_tiles_in_sixfold_groups_get_a_wider_interval_than_as_if_alone() -> None:
    rng = np.random.default_rng(0)
    value_n = np.repeat(rng.random(40), 6)  # six equal tiles per group say no more than one
    grouped = mean_by_group(value_n, np.repeat(np.arange(40), 6), np.random.default_rng(1))
    alone = mean_by_group(value_n, np.arange(240), np.random.default_rng(1))
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(6**0.5, rel=0.15)
    assert grouped.value == alone.value == pytest.approx(value_n.mean())


@pytest.mark.parametrize(("tiles", "bound"), [(30, 0.095), (32, 0.0894), (300, 0.00994), (1000, 0.00299)])
def test_no_copy_among_n_supports_the_known_bounds(tiles: int, bound: float) -> None:
    assert upper_bound(0, tiles) == pytest.approx(bound, rel=0.005)
    assert upper_bound(0, tiles) == pytest.approx(1 - 0.05 ** (1 / tiles))
    assert upper_bound(tiles, tiles) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_family_at_its_level() -> None:
    rng = np.random.default_rng(0)
    alarms = [min(holm(rng.random(3))) <= 0.05 for _ in range(4000)]
    assert np.mean(alarms) == pytest.approx(1 - (1 - 0.05 / 3) ** 3, abs=0.012)
