import numpy as np
import pytest

from stages.privacy.copies import WIDENED, any_of, exact_copies, fit_tail, is_plain, one_of, oriented_name


def tiles(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter_turns", range(4))
def test_an_exact_copy_is_found_in_every_orientation(quarter_turns: int, mirrored: bool) -> None:
    real = tiles(5)
    copy = np.rot90(real[3], quarter_turns)
    copy = copy[:, ::-1] if mirrored else copy
    assert exact_copies(copy[None], real).tolist() == [3]


def test_one_grey_level_in_one_pixel_is_no_exact_copy() -> None:
    real = tiles(5)
    changed = real[3].copy()
    changed[2, 2, 1] ^= 1
    assert exact_copies(changed[None], real).tolist() == [-1]


def test_the_first_of_equal_real_tiles_is_named() -> None:
    real = tiles(3)[[0, 1, 1]]
    assert exact_copies(real[2:], real).tolist() == [1]


def test_a_tile_of_one_colour_is_a_copy_of_nothing() -> None:
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    assert is_plain(white[0])
    assert exact_copies(white, white).tolist() == [-1]


def test_the_eight_orientations_share_one_name_and_other_tiles_do_not() -> None:
    first, second = tiles(2)
    assert oriented_name(first) == oriented_name(np.rot90(first, 3)[:, ::-1])
    assert oriented_name(first) != oriented_name(second)


def test_a_fitted_tail_tells_the_true_rate_beyond_what_it_has_seen() -> None:
    rng = np.random.default_rng(1)
    z = rng.gumbel(0.4, 0.03, 20_000)
    tail = fit_tail(np.tanh(z[:2000]).astype(np.float32))
    assert tail.location == pytest.approx(0.4, abs=0.004)
    assert tail.scale == pytest.approx(0.03 * WIDENED, rel=0.1)
    assert 0.0001 < (np.tanh(z) > tail.threshold(0.001)).mean() <= 0.001  # on the safe side


def test_a_few_twins_in_the_control_hardly_lift_the_line() -> None:
    clean = np.tanh(np.random.default_rng(2).gumbel(0.4, 0.03, 400)).astype(np.float32)
    spoilt = clean.copy()
    spoilt[:8] = 0.99
    line, lifted = (fit_tail(values).threshold(1e-4) for values in (clean, spoilt))
    assert lifted - line < 0.03
    assert np.quantile(spoilt, 0.999) > 0.98  # the percentile itself would have been blinded


def test_threshold_and_rate_are_inverse() -> None:
    tail = fit_tail(np.linspace(0.2, 0.6, 50, dtype=np.float32))
    for rate in (0.3, 1e-2, 1e-6):
        assert tail.rate_above(tail.threshold(rate)) == pytest.approx(rate, rel=1e-6)
    assert one_of(any_of(1e-4, 150), 150) == pytest.approx(1e-4)


def test_a_tail_needs_tiles_and_spread() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        fit_tail(np.full(9, 0.3, np.float32))
    with pytest.raises(ValueError, match="equally similar"):
        fit_tail(np.full(20, 0.3, np.float32))
