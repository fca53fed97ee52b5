import numpy as np
import pytest
from scipy.special import softmax

from stages.classify import calibration
from stages.classify.calibration import calibration_error, fit_temperature, log_loss, soften


def sure_and_right(logit: float, right: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n tiles of two classes, all with the logits (logit, 0), of which so many are of the first class."""
    return np.tile([logit, 0.0], (n, 1)), (np.arange(n) >= right).astype(np.int64)


@pytest.mark.parametrize(("logit", "right"), [(6.0, 80), (1.0, 80), (3.0, 60), (5.0, 100)])
def test_the_temperature_of_two_classes_is_the_logit_over_the_log_odds_of_being_right(logit: float, right: int) -> None:
    """The share held to be right is Laplace's, (r + 1) / (n + 2)."""
    z_nk, labels_n = sure_and_right(logit, right, 100)
    share = (right + 1) / 102
    temperature = fit_temperature(z_nk, labels_n)
    assert temperature == pytest.approx(logit / np.log(share / (1 - share)), rel=1e-8)
    assert soften(z_nk, temperature)[:, 0] == pytest.approx(share)


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    """Logits of 20,000 tiles whose classes were drawn from their softmax."""
    rng = np.random.default_rng(0)
    z_nk = rng.normal(0, 1.5, (20_000, 5))
    labels_n = (softmax(z_nk, axis=1).cumsum(1) < rng.random((20_000, 1))).sum(1)
    return z_nk, labels_n


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_logits_that_were_multiplied_are_divided_again(honest: tuple[np.ndarray, np.ndarray], scale: float) -> None:
    z_nk, labels_n = honest
    temperature = fit_temperature(scale * z_nk, labels_n)
    assert temperature == pytest.approx(scale, rel=0.03)
    np.testing.assert_array_equal(soften(scale * z_nk, temperature).argmax(1), z_nk.argmax(1))
    error = calibration_error(soften(scale * z_nk, temperature), labels_n)
    assert error < 0.02
    if scale != 1:
        assert error < 0.2 * calibration_error(soften(scale * z_nk, 1.0), labels_n)


def test_no_other_temperature_has_a_lower_loss(honest: tuple[np.ndarray, np.ndarray]) -> None:
    z_nk, labels_n = 2 * honest[0], honest[1]
    best = fit_temperature(z_nk, labels_n)
    for other in best * np.array([0.5, 0.99, 1.01, 2.0]):
        assert log_loss(z_nk, labels_n, other) > log_loss(z_nk, labels_n, best)


def test_a_small_val_where_every_tile_is_right_makes_the_network_no_surer_than_it_can_know() -> None:
    z_nk, labels_n = sure_and_right(4.0, 10, 10)
    assert soften(z_nk, fit_temperature(z_nk, labels_n))[:, 0] == pytest.approx(11 / 12)


def test_log_probabilities_serve_as_logits(honest: tuple[np.ndarray, np.ndarray]) -> None:
    z_nk, labels_n = 2 * honest[0], honest[1]
    assert fit_temperature(np.log(softmax(z_nk, axis=1)), labels_n) == pytest.approx(fit_temperature(z_nk, labels_n))


def test_extremes_stay_in_the_range_and_silence_is_left_alone() -> None:
    z_nk, labels_n = sure_and_right(0.01, 100, 100)
    assert fit_temperature(z_nk, labels_n) == calibration.RANGE[0]
    assert fit_temperature(z_nk, 1 - labels_n) == calibration.RANGE[1]
    assert fit_temperature(np.ones((100, 2)), labels_n) == 1.0


def test_the_calibration_error_of_a_small_case_is_that_by_hand() -> None:
    p_nk = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    # bins of width 1/15: 0.9 twice, one right, gap |1 − 1.8|; 0.7 right, gap 0.3; 0.5 wrong, gap 0.5
    assert calibration_error(p_nk, np.array([0, 1, 1, 1])) == pytest.approx((0.8 + 0.3 + 0.5) / 4)


def test_what_has_no_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="n × k logits and n labels"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))
