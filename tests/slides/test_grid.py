"""The grid: exact places, every pixel once, the right level."""

import numpy as np
import pytest

from stages.slides.grid import Plan, plan, positions
from stages.slides.units import Mpp, Px

WANTED = Mpp(0.5)


def steps(side: int, stride: int) -> Plan:
    return Plan(0, side, stride, side, WANTED)


def covered(width: int, height: int, plan: Plan, origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """How often each pixel lies in a tile."""
    count = np.zeros((height, width), int)
    for x, y in positions(width, height, plan, origin):
        tile = count[y : y + plan.side0_px, x : x + plan.side0_px]
        assert tile.shape == (plan.side0_px, plan.side0_px), "a tile sticks out"
        tile += 1
    return count


def test_positions_run_row_by_row() -> None:
    found = positions(7, 5, steps(2, 2))
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 0], [2, 0], [4, 0], [0, 2], [2, 2], [4, 2]]


def test_a_tile_that_just_fits_is_taken_and_one_pixel_less_is_not() -> None:
    assert positions(4, 4, steps(4, 4)).tolist() == [[0, 0]]
    assert positions(3, 4, steps(4, 4)).shape == (0, 2)
    assert positions(4, 3, steps(4, 4)).shape == (0, 2)


def test_the_origin_moves_the_grid_and_the_ends_stay() -> None:
    assert positions(7, 4, steps(2, 2), (1, 2)).tolist() == [[1, 2], [3, 2], [5, 2]]


def test_without_overlap_every_pixel_lies_in_one_tile_but_for_the_last_margins() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        width, height, side, x, y = (int(v) for v in rng.integers([1, 1, 1, 0, 0], [90, 90, 30, 20, 20]))
        count = covered(width, height, steps(side, side), (x, y))
        right = x + max(0, width - x) // side * side
        below = y + max(0, height - y) // side * side
        expected = np.zeros((height, width), int)
        expected[y:below, x:right] = 1
        np.testing.assert_array_equal(count, expected)


def test_half_an_overlap_covers_the_inside_four_times() -> None:
    plan_ = plan(WANTED, [1.0], WANTED, Px(8), Px(4))
    assert (plan_.side0_px, plan_.stride0_px) == (8, 4)
    count = covered(24, 24, plan_)
    assert (count[4:-4, 4:-4] == 4).all() and (count[:4, :4] == 1).all() and (count[:4, 4:-4] == 2).all()


def test_overlap_is_counted_in_pixels_of_the_finished_tile() -> None:
    assert plan(Mpp(0.25), [1.0], WANTED, Px(256), Px(64))[1:3] == (512, 384)


def test_a_40x_slide_is_read_at_the_nearest_finer_level() -> None:
    assert plan(Mpp(0.25), [1.0, 4.0, 16.0], Mpp(0.5), Px(256)) == Plan(0, 512, 512, 512, Mpp(0.5))
    assert plan(Mpp(0.25), [1.0, 4.0, 16.0], Mpp(1.0), Px(256)) == Plan(1, 1024, 1024, 256, Mpp(1.0))
    assert plan(Mpp(0.25), [1.0, 4.0, 16.0], Mpp(3.9), Px(100)) == Plan(1, 1560, 1560, 390, Mpp(3.9))
    assert plan(Mpp(0.25), [1.0, 4.0, 16.0], Mpp(8.0), Px(10)) == Plan(2, 320, 320, 20, Mpp(8.0))


def test_a_level_a_rounding_too_coarse_still_counts_as_wanted() -> None:
    assert plan(Mpp(0.25), [1.0, 4.0003], Mpp(1.0), Px(256)).level == 1
    assert plan(Mpp(0.25), [1.0, 4.1], Mpp(1.0), Px(256)).level == 0


def test_the_effective_mpp_is_that_of_whole_pixels() -> None:
    found = plan(Mpp(0.499), [1.0], WANTED, Px(256))
    assert (found.side0_px, found.read_px) == (257, 257)  # 256.51 exactly
    assert found.mpp == 257 * 0.499 / 256
    rng = np.random.default_rng(2)
    for mpp0, tile in zip(rng.uniform(0.1, 0.5, 200).tolist(), rng.integers(16, 600, 200).tolist(), strict=True):
        found = plan(Mpp(mpp0), [1.0, 2.0], WANTED, Px(tile))
        assert abs(found.mpp - 0.5) <= mpp0 / tile / 2 * (1 + 1e-9)  # half a level-0 pixel over the tile
        assert found.stride0_px == found.side0_px


def test_at_least_one_pixel_is_read() -> None:
    assert plan(Mpp(1.0), [1.0, 100.0], Mpp(100.0), Px(1))[1:4] == (100, 100, 1)
    assert plan(Mpp(1.0), [1.0], Mpp(1.0), Px(1), tolerance=0.0).read_px == 1


def test_a_coarse_slide_is_refused_and_the_error_says_both_mpps() -> None:
    with pytest.raises(ValueError, match=r"0\.6 µm per pixel .* 0\.5 wanted by more than 10%.*Ask for"):
        plan(Mpp(0.6), [1.0], WANTED, Px(256))
    assert plan(Mpp(0.54), [1.0], WANTED, Px(256))[:4] == (0, 237, 237, 237)


def test_an_overlap_as_wide_as_the_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 255"):
        plan(WANTED, [1.0], WANTED, Px(256), Px(256))
    with pytest.raises(ValueError, match="overlap of -1"):
        plan(WANTED, [1.0], WANTED, Px(256), Px(-1))


def test_an_unknown_mpp_is_refused() -> None:
    with pytest.raises(ValueError, match="positive number"):
        plan(Mpp(float("nan")), [1.0], WANTED, Px(256))
