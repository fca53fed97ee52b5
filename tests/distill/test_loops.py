import pytest

from stages.distill.loops import loops


@pytest.mark.parametrize(
    ("per_class", "published"),
    [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)), (50, (50, 10))],
)
def test_published_numbers_of_images_have_the_published_loops(per_class: int, published: tuple[int, int]) -> None:
    assert loops(per_class) == published


def test_numbers_between_lie_on_the_line_and_those_above_hold_the_last() -> None:
    assert loops(5) == (5, 23)  # 1 + 4/9 · 49 = 22.8
    assert loops(25) == (25, 23)  # halfway between 25 and 20, up
    assert loops(45) == (45, 13)
    assert loops(51) == loops(1000) == (50, 10)


def test_up_to_fifty_there_is_an_outer_step_an_image_and_inner_epochs_climb_to_ten_then_fall() -> None:
    found = [loops(n) for n in range(1, 51)]
    assert [each.outer for each in found] == list(range(1, 51))
    inner = [each.inner for each in found]
    assert inner[:10] == sorted(inner[:10]) and inner[9:] == sorted(inner[9:], reverse=True)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more, not 0"):
        loops(0)
