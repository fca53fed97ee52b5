"""The scale bar: as long as it says, round, never over tissue."""

from pathlib import Path

import numpy as np
import pytest

from stages import scale_bar, store

TISSUE = np.random.default_rng(0).integers(0, 200, (30, 400, 3), dtype=np.uint8)


def ink(page: np.ndarray, height: int) -> float:
    """Length of the bar: black counts whole, grey by its part, along the middle of the margin, up to the first gap."""
    row = (255 - page[height + scale_bar.MARGIN_PX // 2, scale_bar.LEFT_PX :, 0].astype(float)) / 255
    return float(row[: np.argmin(row)].sum())


@pytest.mark.parametrize("enlarged", [1, 2, 3.5])
@pytest.mark.parametrize("mpp", [0.25, 0.2428, 0.5, 1.0, 4.7])
def test_the_bar_is_length_over_mpp_long_to_a_part_of_a_pixel(mpp: float, enlarged: float) -> None:
    page = scale_bar.under(TISSUE, mpp, 64, enlarged)
    assert ink(page, 30) == pytest.approx(scale_bar.length_um(64 * mpp) / mpp * enlarged, abs=1 / 255)


def test_tissue_stays_as_it_is_and_the_margin_has_words() -> None:
    page = scale_bar.under(TISSUE, 0.5, 64)
    np.testing.assert_array_equal(page[:30], TISSUE)
    words = page[30:, scale_bar.LEFT_PX + 20 + scale_bar.GAP_PX :]
    assert page.shape == (30 + scale_bar.MARGIN_PX, 400, 3) and (words == 0).any() and (words[:, -1] == 255).all()
    assert (page != scale_bar.under(TISSUE, 0.25, 32)).any(), "an equal bar of another scale has other words"


def test_where_the_scale_is_not_known_nothing_is_drawn() -> None:
    assert scale_bar.under(TISSUE, None, 64) is TISSUE
    assert scale_bar.told(None) == "not known" and scale_bar.told(0.5) == "0.5 µm per pixel"


def test_a_narrow_picture_becomes_wider_by_white() -> None:
    page = scale_bar.under(TISSUE[:, :28], 0.5, 28)
    np.testing.assert_array_equal(page[:30, :28], TISSUE[:, :28])
    assert page.shape[1] > 100 and (page[:30, 28:] == 255).all() and (page[:, -1] == 255).all()


def test_lengths_are_1_2_or_5_and_about_a_quarter_of_the_side() -> None:
    assert [scale_bar.length_um(side) for side in (32, 14, 112, 256, 0.9, 8000)] == [10, 5, 20, 50, 0.2, 2000]
    for side in np.geomspace(0.01, 1e5, 500):
        length = scale_bar.length_um(float(side))
        digit = length / 10 ** np.floor(np.log10(length * 1.0001))
        assert np.isclose(digit, (1, 2, 5)).any() and 0.158 <= length / side <= 0.396
    with pytest.raises(ValueError, match="above 0 µm; got 0"):
        scale_bar.length_um(0)


def test_the_micro_sign_is_not_a_box() -> None:
    """Pillow's font has no µ, and would draw the box of a letter it does not know."""
    micro, plain, unknown = (scale_bar._written(word, 20) for word in ("µm", "um", "\u0378m"))
    stem = np.argwhere(micro != plain)
    assert len(stem) and (micro != unknown).any() and np.ptp(stem[:, 1]) == 0, "a u and one stroke"


def test_words_of_lengths() -> None:
    assert [scale_bar.length_words(um) for um in (0.5, 20.0, 1000.0, 5000.0)] == ["0.5 µm", "20 µm", "1 mm", "5 mm"]


def test_a_result_tells_its_scale_or_none(tmp_path: Path) -> None:
    assert scale_bar.known_mpp(tmp_path) is None
    store.write_json(tmp_path / "facts.json", {"size_px": 64})
    assert scale_bar.known_mpp(tmp_path) is None
    store.write_json(tmp_path / "facts.json", {"mpp": 0.5})
    assert scale_bar.known_mpp(tmp_path) == 0.5


def test_smaller_pictures_of_the_same_tissue_have_larger_pixels(tmp_path: Path) -> None:
    store.write_json(tmp_path / "facts.json", {"mpp": 0.5, "size_px": 64})
    assert scale_bar.known_mpp(tmp_path) == scale_bar.known_mpp(tmp_path, 64) == 0.5
    assert scale_bar.known_mpp(tmp_path, 32) == 1.0
