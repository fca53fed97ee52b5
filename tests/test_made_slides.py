"""The slides that other tests trust: OpenSlide, which did not write them, finds in them what they say of themselves."""

from pathlib import Path

import numpy as np
import openslide
import pytest
from made_slides import (
    PATIENT,
    BigSlide,
    Slide,
    aperio_slide,
    big_slide,
    block,
    generic_slide,
    leica_slide,
    reduced,
    uniform,
)
from painted_tissue import INKS, Box, Ellipse, clean_scene, covered, glass, scene, tissue, troubled_scene
from scipy.ndimage import laplace


def seen(path: Path, level: int, left: int, top: int, width: int, height: int) -> np.ndarray:
    """A window in a level's own pixels, as OpenSlide reads it."""
    with openslide.OpenSlide(path) as file:
        factor = round(file.level_downsamples[level])
        return np.asarray(file.read_region((factor * left, factor * top), level, (width, height)).convert("RGB"))


def assert_levels_hold_the_truth(slide: Slide) -> None:
    for level, truth in enumerate(slide.levels):
        height, width = truth.shape[:2]
        np.testing.assert_array_equal(seen(slide.path, level, 0, 0, width, height), truth)


def test_a_mean_of_squares_is_rounded_half_up_and_drops_what_is_left_over() -> None:
    grey = np.array([[0, 1, 9], [0, 1, 9], [200, 200, 9], [201, 201, 9]], np.uint8)
    expected = np.array([[1], [201]], np.uint8)  # 0.5 and 200.5
    np.testing.assert_array_equal(reduced(np.repeat(grey[..., None], 3, 2), 2), np.repeat(expected[..., None], 3, 2))


@pytest.mark.parametrize("mpp", [0.25, 0.499, 1.0, None])
def test_a_generic_slide_opens_with_its_levels_its_scale_and_nothing_else(tmp_path: Path, mpp: float | None) -> None:
    slide = generic_slide(tmp_path / "slide.tiff", clean_scene(), mpp)
    with openslide.OpenSlide(slide.path) as file:
        assert file.properties["openslide.vendor"] == "generic-tiff"
        assert file.level_dimensions == ((1024, 768), (256, 192), (64, 48))
        assert file.level_downsamples == (1, 4, 16)
        assert not file.associated_images
        said = file.properties.get("openslide.mpp-x"), file.properties.get("openslide.mpp-y")
    assert said == (None, None) if mpp is None else [float(x or 0) for x in said] == pytest.approx([mpp, mpp])


def test_every_level_of_a_generic_slide_holds_the_truth_to_the_grey_level(tmp_path: Path) -> None:
    assert_levels_hold_the_truth(generic_slide(tmp_path / "slide.tiff", troubled_scene(), downsamples=(1, 2, 8)))


def test_a_leica_slide_opens_as_an_area_on_a_larger_plane_with_nothing_around_it(tmp_path: Path) -> None:
    slide = leica_slide(tmp_path / "slide.scn", clean_scene(), (302, 201))
    with openslide.OpenSlide(slide.path) as file:
        assert file.properties["openslide.vendor"] == "leica" and file.properties["leica.barcode"] == PATIENT
        assert file.level_dimensions[0] == (1392, 1040) and file.level_downsamples == (1, 4)
        bounds = [file.properties[f"openslide.bounds-{name}"] for name in ("x", "y", "width", "height")]
        assert bounds == ["302", "201", "1024", "768"] and file.properties["openslide.mpp-x"] == "0.5"
        for level, truth in enumerate(slide.levels):
            seen = np.asarray(file.read_region((302, 201), level, truth.shape[1::-1]))
            np.testing.assert_array_equal(seen[..., :3], truth)
            assert (seen[..., 3] == 255).all()
        assert not np.asarray(file.read_region((0, 0), 0, (302, 201))).any()
        assert set(file.associated_images) == {"macro"}


@pytest.mark.parametrize("mpp", [0.25, None])
def test_an_aperio_slide_opens_as_one_with_a_patient_all_over_it(tmp_path: Path, mpp: float | None) -> None:
    slide = aperio_slide(tmp_path / "slide.svs", clean_scene(), mpp)
    assert_levels_hold_the_truth(slide)
    with openslide.OpenSlide(slide.path) as file:
        assert file.properties["openslide.vendor"] == "aperio"
        assert file.level_downsamples == (1, 4)
        assert file.properties.get("openslide.mpp-x") == (None if mpp is None else "0.25")
        for name, value in slide.private.items():
            assert file.properties[f"aperio.{name}"] == value
        assert set(file.associated_images) == {"label", "macro", "thumbnail"}
        for name, truth in slide.associated.items():
            np.testing.assert_array_equal(np.asarray(file.associated_images[name].convert("RGB")), truth)


def test_the_yellow_of_the_label_is_in_no_level(tmp_path: Path) -> None:
    slide = aperio_slide(tmp_path / "slide.svs", troubled_scene())
    assert (slide.associated["label"] == (250, 230, 60)).all(-1).mean() > 0.5
    assert not any((level == (250, 230, 60)).all(-1).any() for level in slide.levels)


def test_tissue_is_where_the_pieces_are() -> None:
    painted = scene(400, 300, (Box(10, 20, 110, 70), Ellipse(200, 100, 380, 280)))
    assert painted.tissue_hw[20:70, 10:110].all()
    assert painted.tissue_hw[:, :150].sum() == 100 * 50
    assert painted.tissue_hw[:, 150:].sum() == pytest.approx(np.pi * 90 * 90, rel=1e-3)
    colour = painted.pixels_hwc.astype(int)
    assert colour[painted.tissue_hw].mean(0) == pytest.approx(tissue().mean((0, 1)), abs=10)
    assert np.abs(colour[~painted.tissue_hw] - glass().mean((0, 1))).max() < 8


def test_ink_fold_and_blur_are_where_they_are_said_to_be() -> None:
    painted = troubled_scene()
    grey = painted.pixels_hwc @ np.array([0.299, 0.587, 0.114])
    for colour, box in painted.ink.items():
        stroke = painted.pixels_hwc[box.top : box.bottom, box.left : box.right].astype(int)
        assert np.abs(stroke - INKS[colour]).max() < 8
    assert painted.fold is not None and painted.blurred is not None
    fold, blurred = painted.fold, painted.blurred
    assert grey[fold.top : fold.bottom, fold.left : fold.right].mean() < 50
    assert grey[fold.top : fold.bottom, fold.right : fold.right + 96].mean() > 120
    edges = laplace(grey)
    sharp = edges[blurred.top : blurred.bottom, blurred.left - 200 : blurred.left - 8].var()
    assert edges[blurred.top : blurred.bottom, blurred.left + 8 : blurred.right - 8].var() < sharp / 30


def test_the_texture_goes_on_across_its_borders() -> None:
    texture = tissue(256, 3).astype(int)
    steps = np.abs(np.diff(texture, axis=1, append=texture[:, :1])).mean((0, 2))
    assert steps[-1] < steps.mean() + 4 * steps.std()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> BigSlide:
    return big_slide(tmp_path_factory.mktemp("big") / "slide.tiff", side=4000)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_big_slide_holds_its_truth_in_tissue_on_glass_and_at_borders(big: BigSlide, level: int) -> None:
    side = big.side // big.downsamples[level]
    with openslide.OpenSlide(big.path) as file:
        assert file.level_dimensions[level] == (side, side)
        assert float(file.properties["openslide.mpp-x"]) == 0.5
    shown = min(200, side // 2)
    for x, y in ((0.3, 0.5), (0.45, 0.1), (0.2, 0.1), (0.6, 0.28), (0.9, 0.62), (0.7, 0.5), (0.0, 0.9)):
        window = (min(round(x * side), side - shown), min(round(y * side), side - shown), shown, shown)
        np.testing.assert_array_equal(seen(big.path, level, *window), block(big, level, *window))


def test_a_lower_level_of_a_big_slide_is_the_mean_of_its_highest(big: BigSlide) -> None:
    left, top = 2200 // 16, 1800 // 16
    above = seen(big.path, 0, 16 * left, 16 * top, 320, 320)
    np.testing.assert_array_equal(seen(big.path, 2, left, top, 20, 20), reduced(above, 16))


def test_the_pieces_of_a_big_slide_cover_what_they_are_said_to(big: BigSlide) -> None:
    share = covered(big.pieces, 0, 0, big.side, big.side).mean()
    assert share == pytest.approx(np.pi / 4 * 0.5 * 0.9 + 0.3 * 0.4, abs=1e-3)


def test_a_square_called_uniform_is(big: BigSlide) -> None:
    rng = np.random.default_rng(0)
    found = []
    for left, top in rng.integers(-100, big.side, (400, 2)).tolist():
        called = uniform(big.pieces, left, top, 150)
        found.append(called)
        share = covered(big.pieces, left, top, 150, 150).mean()
        assert called is None or share == float(called)
        assert called is not None or share < 1
    assert {True, False, None} == set(found)
