"""Units: there and back within half a pixel."""

import math

import numpy as np
import pytest

from stages.slides.units import Microns, Mpp, to_microns, to_pixels


def test_256_pixels_at_half_a_micron_are_128_microns() -> None:
    assert to_microns(256, Mpp(0.5)) == 128
    assert to_pixels(Microns(128.0), Mpp(0.5)) == 256


def test_pixels_survive_the_way_through_microns() -> None:
    rng = np.random.default_rng(0)
    for px, mpp in zip(rng.integers(0, 10**6, 500).tolist(), rng.uniform(0.05, 40, 500).tolist(), strict=True):
        assert to_pixels(to_microns(px, Mpp(mpp)), Mpp(mpp)) == px


def test_microns_come_back_within_half_a_pixel() -> None:
    rng = np.random.default_rng(1)
    for length, mpp in zip(rng.uniform(0, 1e5, 500).tolist(), rng.uniform(0.05, 40, 500).tolist(), strict=True):
        back = to_microns(to_pixels(Microns(length), Mpp(mpp)), Mpp(mpp))
        assert abs(back - length) <= mpp / 2 * (1 + 1e-9)


@pytest.mark.parametrize("mpp", [0.0, -0.5, math.nan, math.inf])
def test_an_impossible_mpp_is_refused(mpp: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        to_microns(1, Mpp(mpp))
    with pytest.raises(ValueError, match="positive number"):
        to_pixels(Microns(1.0), Mpp(mpp))
