import math

import pytest
import torch

from stages.distill import rates


def test_a_rate_moved_in_the_log_stays_positive_where_one_moved_itself_turns_negative() -> None:
    # L(η) = η: both walk down for ever.
    moved, log_rate = torch.tensor(0.05), torch.tensor(0.05).log()
    for _ in range(20):
        moved = moved - 0.01 * 1.0
        log_rate = log_rate - 0.01 * rates.in_log(torch.tensor(1.0), log_rate)
    assert float(moved) < 0 < float(rates.rate(log_rate)) < 0.05


def test_the_derivative_in_the_log_is_that_of_autograd() -> None:
    log_rate = torch.tensor(-2.5, dtype=torch.float64, requires_grad=True)
    rate = rates.rate(log_rate)
    (expected,) = torch.autograd.grad(torch.sin(3 * rate), log_rate)
    torch.testing.assert_close(rates.in_log(3 * torch.cos(3 * rate.detach()), log_rate.detach()), expected)


def test_a_step_in_the_log_moves_the_rate_as_the_same_step_of_the_rate_would() -> None:
    rate, step, slope = 0.01, 1e-7, torch.tensor(30.0, dtype=torch.float64)
    log_rate = torch.tensor(math.log(rate), dtype=torch.float64)
    in_log = log_rate - rates.step_in_log(step, rate) * rates.in_log(slope, log_rate)
    assert float(rates.rate(in_log)) - rate == pytest.approx(-step * float(slope), rel=1e-3)


@pytest.mark.parametrize("step, rate", [(0.0, 0.01), (1e-7, 0.0), (math.inf, 0.01), (1e-7, -0.01)])
def test_a_step_or_rate_that_is_not_positive_is_refused(step: float, rate: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        rates.step_in_log(step, rate)


def test_one_number_that_is_none_among_many_tensors_is_found() -> None:
    good = [torch.zeros(3), torch.tensor(1e30), torch.full((2, 2), -4.0)]
    assert rates.is_finite(*good)
    for bad in (math.nan, math.inf, -math.inf):
        assert not rates.is_finite(*good, torch.tensor([0.0, bad]))
