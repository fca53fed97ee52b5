import numpy as np
import pytest

from stages.classify.soft_labels import columns, round_rows, soft_labels


def test_soft_labels_are_the_tempered_softmax_of_the_logits_by_hand() -> None:
    z_nk = np.array([[2.0, 0.0, -2.0], [0.0, 6.0, 3.0]])
    p_nk = np.exp(z_nk) / np.exp(z_nk).sum(1, keepdims=True)
    wanted_nk = np.exp(z_nk / 2.5) / np.exp(z_nk / 2.5).sum(1, keepdims=True)
    np.testing.assert_allclose(soft_labels(p_nk, 2.5), wanted_nk, atol=1e-4)


def test_a_probability_of_nought_stays_finite() -> None:
    np.testing.assert_array_equal(soft_labels(np.array([[1.0, 0.0]]), 1.0), [[1.0, 0.0]])


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_rounded_rows_sum_to_one_and_move_by_less_than_a_digit(classes: int) -> None:
    p_nk = np.random.default_rng(0).dirichlet(np.full(classes, 0.3), 500)
    found_nk = round_rows(p_nk)
    units_nk = found_nk * 10_000
    np.testing.assert_allclose(units_nk, np.rint(units_nk), atol=1e-8)
    assert (np.rint(units_nk).sum(1) == 10_000).all()
    assert np.abs(found_nk - p_nk).max() < 1e-4 and found_nk.min() >= 0


def test_what_is_left_over_goes_to_the_largest_remainders_the_first_on_a_tie() -> None:
    np.testing.assert_allclose(round_rows(np.full((1, 3), 1 / 3), 1), [[0.4, 0.3, 0.3]])
    np.testing.assert_allclose(round_rows(np.array([[0.18, 0.27, 0.55]]), 1), [[0.2, 0.3, 0.5]])


def test_columns_are_numbered_in_the_order_of_the_classes() -> None:
    assert columns(3) == ["p0", "p1", "p2"]
