import numpy as np
import pytest

from stages.privacy import battery
from stages.privacy.battery import Effort
from stages.privacy.exchange import Groups, deal_roles
from stages.privacy.reference import Calibration, calibrate
from stages.privacy.similarity import Nearness

EFFORT = Effort(deals=200, draws=5, resamples=100, level=0.05)


def clean_similarity(tiles: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """What unrelated tiles score against groups: the nearest of five tiles each."""
    return np.tanh(rng.normal(0, 0.1, (tiles, groups, 5)).max(2)).astype(np.float32)


def calibrated(rng: np.random.Generator, twin: bool = False) -> Calibration:
    """60 train and 20 control groups of five tiles."""
    number_r = np.repeat(np.arange(80), 5)
    own = clean_similarity(400, 80, rng)
    own[np.arange(400), number_r] = -1.0
    if twin:
        own[number_r == 79, 3] = 0.97  # control group 79 and train group 3 are the same tissue
    return calibrate(own, number_r, Groups(np.repeat([True, False], [60, 20]), np.tile([0, 1], 40)))


def audited(similarity_ng: np.ndarray) -> Nearness:
    return Nearness(similarity_ng, np.tile(np.arange(similarity_ng.shape[1]) * 5, (len(similarity_ng), 1)))


def alarms(seed: int, planted: int, twins: int = 0) -> set[str]:
    rng = np.random.default_rng(seed)
    real = calibrated(rng).real
    similarity_ng = clean_similarity(300, 80, rng)
    similarity_ng[np.arange(planted), rng.integers(0, 60, planted)] = 0.9
    similarity_ng[planted : planted + twins, 70] = 0.9
    dealt = deal_roles(real.groups, rng, EFFORT.deals)
    found = battery.run(audited(similarity_ng), np.zeros(300, bool), real, dealt, EFFORT, rng)
    assert list(found) == [*battery.HARD, *battery.SOFT]
    return {name for name, p in battery.adjust(found).items() if p <= EFFORT.level}


def test_five_percent_planted_copies_among_300_are_found() -> None:
    assert all("near_copies" in alarms(seed, planted=15) for seed in range(10))


def test_one_single_copy_among_300_is_found() -> None:
    assert "near_copies" in alarms(0, planted=1)


def test_likeness_to_control_tiles_is_no_alarm() -> None:
    assert not alarms(0, planted=0, twins=15)


def test_clean_sets_seldom_alarm() -> None:
    assert sum(bool(alarms(seed, planted=0)) for seed in range(20)) <= 4


def test_a_tile_as_near_to_control_as_to_train_is_common_not_copied() -> None:
    rng = np.random.default_rng(0)
    real = calibrated(rng).real
    similarity_ng = clean_similarity(100, 80, rng)
    similarity_ng[0, [3, 70]] = 0.9
    found = battery.near_copies(similarity_ng, real, 0.025)
    assert (found.flagged_n.sum(), found.common_n.sum()) == (0, 1)
    assert found.p_value > 0.025


@pytest.mark.parametrize("tiles", [10, 1000])
def test_a_tile_is_flagged_exactly_when_its_p_value_falls_below_the_level(tiles: int) -> None:
    rng = np.random.default_rng(0)
    real = calibrated(rng).real
    line = battery.near_copies(clean_similarity(tiles, 80, rng), real, 0.025).threshold
    for similarity, wanted in ((line - 1e-3, False), (line + 1e-3, True)):
        similarity_ng = np.minimum(clean_similarity(tiles, 80, rng), 0.3)
        similarity_ng[0, 0] = similarity
        found = battery.near_copies(similarity_ng, real, 0.025)
        assert found.flagged_n.any() == wanted == (found.p_value <= 0.025)


def test_a_control_group_with_a_twin_in_train_is_left_out_and_counted() -> None:
    clean, spoilt = (calibrated(np.random.default_rng(0), twin=twin) for twin in (False, True))
    assert (clean.twins, spoilt.twins) == (0, 1)
    assert 79 not in spoilt.kept_g
    assert len(spoilt.real.groups.is_train_g) == 79
    assert spoilt.real.tail.threshold(1e-4) == pytest.approx(clean.real.tail.threshold(1e-4), abs=0.01)


def test_power_is_full_for_plain_copies_and_small_for_what_resembles_nothing() -> None:
    rng = np.random.default_rng(0)
    real = calibrated(rng).real
    clean = clean_similarity(100, 80, rng)
    dealt = deal_roles(real.groups, rng, 100)
    copies = np.minimum(clean_similarity(20, 80, rng), 0.3)
    strangers = copies.copy()
    copies[:, 5] = 0.95
    seen = battery.power(clean, {"turned": copies}, real, dealt, 0.05, 40, 0.05, rng)
    assert seen.alarm.value == seen.seen.value == seen.seen_by_change["turned"] == 1.0
    unseen = battery.power(clean, {"lost": strangers}, real, dealt, 0.05, 40, 0.05, rng)
    assert unseen.seen.value == 0.0
    assert unseen.alarm.value <= 0.1


def test_without_control_only_copies_are_sought() -> None:
    rng = np.random.default_rng(0)
    similarity_ng = clean_similarity(50, 80, rng)
    found = battery.run(audited(similarity_ng), np.zeros(50, bool), calibrated(rng).real, None, EFFORT, rng)
    assert list(found) == ["exact_copies", "near_copies"]
