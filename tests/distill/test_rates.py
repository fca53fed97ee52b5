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
