"""Tissue: what is drawn is found, what is glass, dirt or ink is not; shares of tiles are exact."""

import numpy as np
import pytest
from drawn_slides import BLUE_INK, PALE, PINK, ellipse, glass, painted
from scipy import ndimage

from stages.slides.tissue import TissueLimits, fractions, tissue_mask
from stages.slides.units import Mpp

MPP = Mpp(8.0)
SHAPE = (160, 200)


def within_a_border(found: np.ndarray, drawn: np.ndarray, border: int = 2) -> bool:
    inner, outer = ndimage.binary_erosion(drawn, iterations=border), ndimage.binary_dilation(drawn, iterations=border)
    return bool((found >= inner).all() and (found <= outer).all())


def test_a_drawn_ellipse_is_found_to_within_a_thin_border() -> None:
    drawn = ellipse(SHAPE, (80, 100), (50, 70))
    found = tissue_mask(painted(glass(*SHAPE), drawn, PINK), MPP)
    assert found.dtype == bool and found.shape == SHAPE
    assert within_a_border(found, drawn)


def test_both_regions_are_kept_though_one_is_pale_and_small() -> None:
    large, small = ellipse(SHAPE, (60, 70), (40, 60)), ellipse(SHAPE, (130, 170), (14, 18))
    slide = painted(painted(glass(*SHAPE), large, (150, 70, 150)), small, PALE)
    assert within_a_border(tissue_mask(slide, MPP), large | small)


def test_a_speck_is_dropped_and_a_limit_of_its_size_keeps_it() -> None:
    large, speck = ellipse(SHAPE, (60, 70), (40, 60)), ellipse(SHAPE, (140, 180), (5, 5))
    slide = painted(glass(*SHAPE), large | speck, PINK)
    assert within_a_border(tissue_mask(slide, MPP), large)
    kept = tissue_mask(slide, MPP, TissueLimits(smallest_um2=60 * 64.0))
    assert within_a_border(kept, large | speck)


def test_the_same_speck_is_tissue_where_pixels_are_larger() -> None:
    speck = ellipse(SHAPE, (80, 100), (5, 5))
    slide = painted(glass(*SHAPE), speck, PINK)
    limits = TissueLimits(closing_um=0, smallest_um2=16_000)
    assert not tissue_mask(slide, Mpp(8.0), limits).any()
    assert tissue_mask(slide, Mpp(16.0), limits).any()


def test_a_small_hole_is_filled_and_a_large_one_is_not() -> None:
    whole, small = ellipse(SHAPE, (80, 100), (70, 90)), ellipse(SHAPE, (80, 50), (11, 11))
    large = ellipse(SHAPE, (80, 130), (25, 25))
    slide = painted(glass(*SHAPE), whole & ~small & ~large, PINK)
    assert within_a_border(tissue_mask(slide, MPP), whole & ~large)
    assert within_a_border(tissue_mask(slide, MPP, TissueLimits(holes_um2=0)), whole & ~large & ~small)


def test_a_narrow_crack_is_closed_and_a_wide_one_is_not() -> None:
    whole = ellipse(SHAPE, (80, 100), (60, 80))
    slide = painted(glass(*SHAPE), whole, PINK)
    slide[:, 99:101], slide[78:90, :] = (243, 242, 244), (243, 242, 244)
    found = tissue_mask(slide, MPP)
    assert found[40:70, 98:103].all() and not found[82:86, 40:90].any()
    assert not tissue_mask(slide, MPP, TissueLimits(closing_um=0))[40:70, 99:101].any()


def test_glass_at_the_border_is_no_hole_however_small_the_picture() -> None:
    drawn = np.zeros((30, 30), bool)
    drawn[:, :15] = True
    assert within_a_border(tissue_mask(painted(glass(30, 30), drawn, PINK), Mpp(10.0)), drawn)


@pytest.mark.parametrize("noise", [0.0, 1.5, 6.0])
def test_an_empty_slide_has_no_tissue(noise: float) -> None:
    assert not tissue_mask(glass(*SHAPE, noise), MPP).any()
    assert not tissue_mask(np.full((*SHAPE, 3), 255, np.uint8), MPP).any()
    assert not tissue_mask(np.zeros((*SHAPE, 3), np.uint8), MPP).any()


def test_without_the_least_saturation_noise_would_be_tissue() -> None:
    limits = TissueLimits(least_saturation=0, smallest_um2=0)
    assert tissue_mask(glass(*SHAPE, 6.0), MPP, limits).any()


def test_a_picture_full_of_tissue_is_all_tissue() -> None:
    left = np.zeros(SHAPE, bool)
    left[:, :100] = True
    slide = painted(painted(glass(*SHAPE), ~left, PINK), left, (120, 60, 140))
    assert tissue_mask(slide, MPP).all()


def test_what_the_scanner_left_black_is_no_tissue() -> None:
    rng = np.random.default_rng(0)
    drawn = ellipse(SHAPE, (80, 100), (50, 60))
    slide = painted(glass(*SHAPE), drawn, PINK)
    slide[:, :30] = rng.integers(0, 8, (SHAPE[0], 30, 3))  # strongly saturated, if it could be seen
    assert within_a_border(tissue_mask(slide, MPP), drawn)


def test_pale_tissue_beside_a_saturated_pen_is_found_and_the_pen_is_not() -> None:
    drawn, pen = ellipse(SHAPE, (90, 60), (45, 40)), np.zeros(SHAPE, bool)
    pen[20:140, 140:170] = True
    slide = painted(painted(glass(*SHAPE), drawn, (243, 223, 235)), pen, BLUE_INK)
    assert within_a_border(tissue_mask(slide, MPP), drawn)


def test_the_soft_edge_of_a_stroke_is_no_tissue_either() -> None:
    pen = np.zeros(SHAPE, bool)
    pen[20:140, 100:130] = True
    soft = ndimage.gaussian_filter(painted(glass(*SHAPE), pen, BLUE_INK).astype(float), (0.8, 0.8, 0))
    assert not tissue_mask(np.rint(soft).astype(np.uint8), MPP).any()


def brute_force(mask: np.ndarray, scale: int, positions: np.ndarray, side: int) -> list[float]:
    """Every pixel of the thumbnail as scale × scale pixels of level 0, counted."""
    level0 = mask.repeat(scale, 0).repeat(scale, 1)
    return [level0[y : y + side, x : x + side].sum() / side**2 for x, y in positions.tolist()]


def test_fractions_agree_with_counting_every_level_0_pixel() -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((13, 17)) < 0.4
    for side in (1, 3, 7, 8, 20, 50):
        positions = rng.integers(0, 80, (200, 2))  # some stick out below and to the right
        np.testing.assert_allclose(
            fractions(mask, 7.0, positions, side), brute_force(mask, 7, positions, side), atol=1e-12
        )


def test_a_half_plane_at_a_broken_scale_has_the_share_of_geometry() -> None:
    mask = np.zeros((40, 40), bool)
    mask[:, 11:] = True
    scale, side = 3.7, 10
    x = np.arange(0, 120)
    shares = fractions(mask, scale, np.stack([x, x * 0], 1), side)
    np.testing.assert_allclose(shares, np.clip((x + side - 11 * scale) / side, 0, 1), atol=1e-12)


def test_all_tissue_is_one_none_is_nought_and_no_tiles_are_no_shares() -> None:
    positions = np.array([[0, 0], [5, 3], [11, 17]])
    assert (fractions(np.ones((10, 10), bool), 3.3, positions, 16) == 1).all()
    assert (fractions(np.zeros((10, 10), bool), 3.3, positions, 16) == 0).all()
    assert fractions(np.ones((10, 10), bool), 3.3, positions[:0], 16).shape == (0,)
