"""Quality: blur lowers sharpness, ink is told from stain, folds from nuclei, and a fault has one name."""

import itertools

import numpy as np
import pytest
from drawn_slides import PINK, ellipse, glass, grains, painted
from scipy import ndimage

from stages.slides import quality
from stages.slides.quality import QualityLimits, dark_mask, fault, opened, pen_colours, pen_mask, sharpness
from stages.slides.units import Mpp

MPP = Mpp(0.5)
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])  # haematoxylin, eosin (Ruifrok & Johnston 2001)
INKS = {
    "blue": [(50, 70, 160), (37, 95, 160), (20, 40, 150), (105, 135, 210)],
    "green": [(20, 120, 80), (40, 160, 110), (10, 110, 110), (120, 200, 160)],
    "red": [(190, 30, 50), (220, 20, 40), (200, 10, 30)],
    "black": [(40, 40, 45), (60, 58, 56), (15, 15, 18)],
}


def tissue(seed: int = 0, side: int = 128) -> np.ndarray:
    """Pink with purple nuclei of 8 µm, sharp."""
    rng = np.random.default_rng(seed)
    nuclei = np.zeros((side, side), bool)
    for y, x in rng.uniform(0, side, (40, 2)):
        nuclei |= ellipse((side, side), (y, x), (7, 5))
    plain = grains(np.broadcast_to(np.array(PINK, float), (side, side, 3)), 3, rng)
    return painted(plain, nuclei, (50, 20, 75), 3)


def blurred(rgb: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(ndimage.gaussian_filter(rgb.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def test_a_chequerboard_has_the_sharpness_of_the_stencil() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(100)
    grey = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    inner = 400.0**2  # ±(4 · 100) at every pixel inside; at the mirrored border less
    assert inner * (62 / 64) ** 2 < sharpness(grey) < inner
    assert sharpness(np.full((64, 64, 3), 77, np.uint8)) == pytest.approx(0, abs=1e-6)


def test_sharpness_is_the_variance_of_the_laplacian_of_whole_grey_levels() -> None:
    rng = np.random.default_rng(3)
    for height, width in ((1, 1), (1, 9), (40, 33), (64, 64)):
        rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        grey = np.floor(rgb @ np.array([77, 150, 29]) / 256 + 0.5)
        assert np.abs(grey - rgb @ np.array([0.299, 0.587, 0.114])).max() < 1.2
        laplacian = ndimage.laplace(grey, mode="reflect")  # at the border a pixel is its own neighbour
        assert laplacian.sum() == 0
        assert sharpness(rgb) == pytest.approx(laplacian.var(), rel=1e-12)


def test_one_bright_pixel_has_the_sharpness_that_paper_and_pencil_say() -> None:
    spot = np.zeros((9, 10, 3), np.uint8)
    spot[4, 4] = 10
    assert sharpness(spot) == (40**2 + 4 * 10**2) / 90
    corner = np.zeros((9, 10, 3), np.uint8)
    corner[0, 0] = 10  # two neighbours
    assert sharpness(corner) == (20**2 + 2 * 10**2) / 90


def test_blur_lowers_sharpness_step_by_step() -> None:
    values = [sharpness(blurred(tissue(), sigma)) for sigma in (0, 0.5, 1, 1.5, 2, 3, 4)]
    assert all(a > 1.5 * b for a, b in itertools.pairwise(values))


@pytest.mark.parametrize(("name", "colour"), [(name, colour) for name, group in INKS.items() for colour in group])
def test_ink_on_glass_is_found_under_its_own_name(name: str, colour: tuple[int, int, int]) -> None:
    stroke = ellipse((64, 64), (32, 32), (20, 25))
    slide = painted(glass(64, 64), stroke, colour, noise=2)
    found = pen_colours(slide)
    assert list(found) == ["blue", "green", "red", "black"]
    assert found[name][stroke].mean() > 0.95
    assert not pen_mask(slide)[~stroke].any()
    assert sum(mask.sum() for mask in found.values()) == pen_mask(slide).sum(), "a pixel has two colours"


def test_no_mixture_of_haematoxylin_and_eosin_is_ink() -> None:
    h, e = np.meshgrid(np.linspace(0, 1.5, 61), np.linspace(0, 0.7, 36))
    density = np.stack([h, e], axis=-1) @ STAINS
    stained = np.rint(255 * 10**-density).astype(np.uint8)
    stained = stained[:, (stained.max(2) >= 60).all(0)]  # what hardly lets light through has no hue left
    assert stained.size > 0.5 * density.size
    assert not pen_mask(stained).any()


@pytest.mark.parametrize("blood", [(225, 70, 70), (205, 60, 75), (235, 90, 60)])
def test_blood_is_no_red_ink(blood: tuple[int, int, int]) -> None:
    assert not pen_mask(painted(glass(32, 32), np.ones((32, 32), bool), blood, noise=3)).any()


@pytest.mark.parametrize(
    "colour",
    [
        (25, 32, 90),  # a dark nucleus of a blue haematoxylin
        (143, 161, 220),  # a pale one
        (180, 222, 245),  # tinted glass
    ],
)
def test_a_bluish_stain_or_glass_is_no_ink(colour: tuple[int, int, int]) -> None:
    assert not pen_mask(np.full((4, 4, 3), colour, np.uint8)).any()


def test_where_the_scanner_saw_nothing_is_no_ink() -> None:
    assert not pen_mask(np.zeros((8, 8, 3), np.uint8)).any()


def test_a_fold_is_dark_and_a_nucleus_is_not() -> None:
    fold = np.zeros((128, 128), bool)
    fold[:, 50:90] = True  # 20 µm
    tile = painted(tissue(), fold, (45, 15, 50))
    assert dark_mask(tissue(), MPP).mean() < 0.02
    assert (dark_mask(tile, MPP) >= fold).all()


def test_what_is_a_nucleus_depends_on_the_micrometres() -> None:
    spot = ellipse((64, 64), (32, 32), (9, 9))
    tile = painted(glass(64, 64), spot, (40, 15, 60))
    assert not dark_mask(tile, Mpp(0.5)).any()  # 9 µm across
    assert dark_mask(tile, Mpp(1.0)).sum() > 0.8 * spot.sum()  # 18 µm


def test_opening_keeps_what_the_disk_fits_into_and_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[-3:4, -3:4]
    disk = y**2 + x**2 <= 9
    for _ in range(20):
        mask = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 3) > 0
        expected = ndimage.binary_opening(np.pad(mask, 9, mode="edge"), disk)[9:-9, 9:-9]
        np.testing.assert_array_equal(opened(mask, 3)[3:-3, 3:-3], expected[3:-3, 3:-3])
    assert opened(np.ones((5, 5), bool), 3).all() and not opened(np.zeros((5, 5), bool), 3).any()


def test_opening_agrees_with_distances_whatever_the_radius_and_the_shape() -> None:
    rng = np.random.default_rng(6)
    for _ in range(60):
        mask = ndimage.gaussian_filter(rng.normal(size=rng.integers(1, 50, 2)), rng.uniform(0.3, 3)) > 0
        radius = float(rng.choice([rng.uniform(1, 30), rng.integers(1, 12)]))
        rim = int(radius) + 1
        padded = np.pad(mask, rim, mode="edge")
        core = padded if padded.all() else ndimage.distance_transform_edt(padded) > radius
        grown = ndimage.distance_transform_edt(~core) <= radius if core.any() and not core.all() else core
        np.testing.assert_array_equal(opened(mask, radius), grown[rim:-rim, rim:-rim])


def test_pixels_that_are_not_looked_at_are_of_no_ink() -> None:
    rng = np.random.default_rng(7)
    rgb = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    rgb[:150] = rng.integers(0, 120, (150, 300, 3), dtype=np.uint8)  # where most inks are
    everywhere = quality._colours(rgb.reshape(-1, 3))
    for name, found in pen_colours(rgb).items():
        assert found.any()
        np.testing.assert_array_equal(found.ravel(), everywhere[name])
    np.testing.assert_array_equal(pen_mask(rgb), np.any(list(pen_colours(rgb).values()), axis=0))


def test_dark_is_a_luminance_below_the_limit() -> None:
    grey = np.arange(256, dtype=np.uint8)
    red, green, blue = np.meshgrid(grey[::5], grey[::3], grey[::5], indexing="ij")
    rgb = np.stack([red, green, blue], axis=-1).reshape(1, -1, 3)
    luminance = rgb.astype(int) @ np.array([299, 587, 114])
    assert dark_mask(rgb, Mpp(100.0)).tolist() == (luminance < 50_000).tolist()  # a nucleus is less than a pixel


def test_a_good_tile_has_no_fault_and_each_fault_its_name() -> None:
    limits, good = QualityLimits(), tissue()
    band = np.zeros((128, 128), bool)
    band[:, :40] = True
    inked, folded = painted(good, band, (50, 70, 160)), painted(good, band, (45, 15, 50))
    assert fault(good, MPP, limits) is None
    assert fault(inked, MPP, limits) == "pen"
    assert fault(folded, MPP, limits) == "dark or folded"
    assert fault(blurred(good, 3), MPP, limits) == "blurred"
    assert fault(blurred(folded, 3), MPP, limits) == "dark or folded"
    assert fault(blurred(painted(folded, band.T, (50, 70, 160)), 3), MPP, limits) == "pen"


def test_what_has_no_limit_is_not_judged() -> None:
    band = np.zeros((128, 128), bool)
    band[:, :40] = True
    bad = blurred(painted(painted(tissue(), band, (45, 15, 50)), band.T, (50, 70, 160)), 3)
    assert fault(bad, MPP, QualityLimits(most_pen=None)) == "dark or folded"
    assert fault(bad, MPP, QualityLimits(most_pen=None, most_dark=None)) == "blurred"
    assert fault(bad, MPP, QualityLimits(None, None, None)) is None
