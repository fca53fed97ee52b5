from collections.abc import Sequence

import numpy as np
import pytest

from stages.features.kid import kid, kid_interval


def kid_by_loops(
    x_nd: np.ndarray, y_md: np.ndarray, group_n: np.ndarray | None = None, group_m: np.ndarray | None = None
) -> float:
    """The definition, pair by pair."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(np.dot(a, b)) / len(a) + 1.0) ** 3

    def within(rows: np.ndarray, groups: Sequence[int] | None) -> float:
        groups = range(len(rows)) if groups is None else groups
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if groups[i] != groups[j]]
        return sum(k(rows[i], rows[j]) for i, j in pairs) / len(pairs)

    between = sum(k(a, b) for a in x_nd for b in y_md) / (len(x_nd) * len(y_md))
    return within(x_nd, group_n) + within(y_md, group_m) - 2 * between


def test_kid_of_two_points_against_two_is_the_number_worked_out_by_hand() -> None:
    # d = 1: k(x, y) = (xy + 1)^3. Within: k(0,1) = 1, k(1,2) = 27; between: 1, 1, 8, 27
    assert kid(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kid_equals_a_plain_double_loop() -> None:
    rng = np.random.default_rng(0)
    x_nd, y_md = rng.normal(size=(9, 4)), rng.normal(1.0, 2.0, size=(13, 4))
    assert kid(x_nd, y_md) == pytest.approx(kid_by_loops(x_nd, y_md), rel=1e-12)
    assert kid(y_md, x_nd) == pytest.approx(kid(x_nd, y_md), rel=1e-12)


def test_kid_in_blocks_equals_kid_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x_nd, y_md = rng.normal(size=(50, 5)), rng.normal(size=(40, 5))
    whole = kid(x_nd, y_md)
    monkeypatch.setattr("stages.features.kid.BLOCK_ROWS", 7)
    assert kid(x_nd, y_md) == pytest.approx(whole, rel=1e-12)


def test_kid_of_equal_distributions_is_zero_on_average_even_with_few_images() -> None:
    rng = np.random.default_rng(2)
    draws = [kid(rng.normal(size=(6, 3)), rng.normal(size=(11, 3))) for _ in range(4000)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws))
    assert min(draws) < 0  # unbiased, so it must be able to fall below


def test_kid_has_the_expectation_of_two_known_normals() -> None:
    # one dimension, N(0, 1) and N(1, 1): E(xy + 1)^3 = 1 + 3 E[x]E[y] + 3 E[x²]E[y²] + E[x³]E[y³]
    expected = (1 + 3 * 1) + (1 + 3 + 3 * 4 + 16) - 2 * (1 + 3 * 2)
    rng = np.random.default_rng(3)
    draws = [kid(rng.normal(size=(200, 1)), rng.normal(1.0, size=(200, 1))) for _ in range(300)]
    assert abs(np.mean(draws) - expected) < 3 * np.std(draws) / np.sqrt(len(draws))


def test_kid_does_not_depend_on_the_order_of_images() -> None:
    rng = np.random.default_rng(4)
    x_nd, y_md = rng.normal(size=(30, 8)), rng.normal(size=(20, 8))
    assert kid(x_nd[::-1], rng.permutation(y_md)) == pytest.approx(kid(x_nd, y_md), rel=1e-10)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    truth = (1 + 3) + (1 + 3 + 12 + 16) - 2 * (1 + 6)  # the two normals above
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        found = kid_interval(rng.normal(size=(80, 1)), rng.normal(1.0, size=(80, 1)), rng, resamples=200, level=0.9)
        held += found.low <= truth <= found.high
    assert 0.82 <= held / 200 <= 0.97


def test_the_interval_around_equal_distributions_holds_zero_and_its_value_is_kid() -> None:
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(50):
        x_nd, y_md = rng.normal(size=(60, 16)), rng.normal(size=(50, 16))
        found = kid_interval(x_nd, y_md, rng)
        assert found.value == pytest.approx(kid(x_nd, y_md))
        held += found.low <= 0 <= found.high
    assert held >= 46


def test_an_interval_by_group_is_wider_when_groups_hold_near_copies() -> None:
    rng = np.random.default_rng(7)
    x_nd = rng.normal(size=(40, 8))
    group_m = np.repeat(np.arange(20), 6)
    y_md = rng.normal(0.5, size=(20, 8))[group_m] + 0.01 * rng.normal(size=(120, 8))
    by_tile = kid_interval(x_nd, y_md, np.random.default_rng(0))
    by_group = kid_interval(x_nd, y_md, np.random.default_rng(0), group_m=group_m)
    assert by_group.high - by_group.low > 1.2 * (by_tile.high - by_tile.low)
    assert by_group.value == pytest.approx(kid_by_loops(x_nd, y_md, group_m=group_m))
    assert by_group.value < by_tile.value  # near copies look like agreement within the cloud


def test_the_same_generator_gives_the_same_interval() -> None:
    rng = np.random.default_rng(8)
    x_nd, y_md = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    assert kid_interval(x_nd, y_md, np.random.default_rng(1)) == kid_interval(x_nd, y_md, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("x_nd", "y_md", "said"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "at least 2 vectors"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "equally many columns"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "NaN or infinite"),
    ],
)
def test_kid_refuses_clouds_it_cannot_compare(x_nd: np.ndarray, y_md: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kid(x_nd, y_md)
