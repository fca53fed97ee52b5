"""Plots of the report: coordinates by hand."""

import re

import pytest

from pipeline import report_plots as plots


def numbers(name: str, svg: str) -> list[float]:
    """The values of an attribute, in order."""
    return [float(value) for value in re.findall(rf'\b{name}="(-?[\d.]+)%?"', svg)]


def test_an_interval_lies_where_its_numbers_say() -> None:
    svg = plots.intervals([plots.Mark(0.75, 0.6, 0.8, "real")], plots.Domain(0.5, 1.0), guides=[0.5])
    assert numbers("x1", svg) == [0, 20]
    assert numbers("x2", svg) == [0, 60]
    assert numbers("cx", svg) == [50]


def test_an_interval_beyond_the_axis_ends_at_its_edge() -> None:
    svg = plots.intervals([plots.Mark(0.4, 0.2, 1.2, "real hollow")], plots.Domain(0.5, 1.0))
    assert (numbers("x1", svg), numbers("x2", svg)) == ([0], [100])
    assert 'x="0.00%"' in svg and "<circle" not in svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.7, 1.0, [0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]),
        (-3, 12, [-2.0, 0, 2, 4, 6, 8, 10, 12]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_numbers_within(low: float, high: float, expected: list[float]) -> None:
    assert plots.ticks(low, high) == pytest.approx(expected)


def test_the_axis_of_intervals_holds_them_all_with_air() -> None:
    assert plots.around([0.78, 0.96]) == plots.Domain(0.7, 1.0)
    assert plots.around([0.81, 0.84]) == plots.Domain(0.7, 0.9)
    assert plots.around([1.0]) == plots.Domain(0.9, 1.0)
    assert plots.around([0.0]) == plots.Domain(0.0, 0.1)


def test_tick_words_have_equal_decimals() -> None:
    assert re.findall(r">([\d.]+)</text>", plots.axis(plots.Domain(0.5, 1.0))) == [
        "0.5",
        "0.6",
        "0.7",
        "0.8",
        "0.9",
        "1.0",
    ]


def test_a_bar_is_its_share_of_the_width() -> None:
    assert [numbers("width", plots.bar(share))[1] for share in (0, 0.25, 2)] == [0, 25, 100]


def test_a_curve_starts_left_and_its_highest_point_is_highest() -> None:
    svg = plots.curve([10, 20, 30], [1.0, 3.0, 2.0], "loss")
    line = re.search(r'points="([^"]+)"', svg)
    assert line
    xs, ys = zip(*(map(float, pair.split(",")) for pair in line[1].split()), strict=True)
    assert xs == (0, 50, 100)
    # 6 % air above and below: the range 0.88 to 3.12 is 2.24 high
    assert ys == pytest.approx((100 * 2.12 / 2.24, 100 * 0.12 / 2.24, 50), abs=0.01)
    assert "loss: from 1 at step 10 to 2 at step 30" in svg


def test_a_flat_curve_of_one_point_is_drawn() -> None:
    assert numbers("cy", plots.curve([5], [0.0], "nothing")) == [50]


def test_the_map_keeps_proportions_and_has_up_above() -> None:
    at = [(0.0, 0.0), (4.0, 0.0), (0.0, 2.0)]
    points = [plots.Point(x, y, number, number == 0, number, f"<{number}>") for number, (x, y) in enumerate(at)]
    svg = plots.scatter(points, [(4.0, 2.0, "a&b")], "map")
    # the chosen one is drawn last; 296 px for 4 units, the 2 units in the middle of the height
    assert numbers("cx", svg) == [308, 12, 12]
    assert numbers("cy", svg) == [234, 86, 234]
    assert re.findall(r'class="(c\d[^"]*)"', svg) == ["c1", "c2", "c0 chosen"]
    assert "&lt;0&gt;" in svg and "a&amp;b" in svg
