"""The noise schedule and the learning rate, against closed forms."""

import math

import numpy as np
import pytest
import torch

from stages.diffusion import schedule as s


@pytest.mark.parametrize("noise", ["cosine", "scaled_linear"])
def test_signal_and_noise_lie_on_the_unit_circle_and_end_in_pure_noise(noise: s.NoiseName) -> None:
    numbers = s.schedule(noise)
    torch.testing.assert_close(numbers.alpha_T**2 + numbers.sigma_T**2, torch.ones(s.STEPS))
    assert (numbers.alpha_T.diff() < 0).all() and (numbers.sigma_T.diff() >= 0).all()
    assert numbers.alpha_T[-1] < 3e-4, "no signal is left at the last step"
    assert numbers.alpha_T[0] > 0.999


def test_the_cosine_schedule_is_the_squared_cosine() -> None:
    t = np.arange(1, s.STEPS) / s.STEPS
    closed = np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(s.schedule("cosine").alpha_T[:-1].numpy() ** 2, closed, rtol=2e-3, atol=1e-6)


def test_the_scaled_linear_schedule_is_shifted_to_zero_and_stretched_back() -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, s.STEPS) ** 2
    root = np.sqrt(np.cumprod(1 - betas))
    closed = (root - root[-1]) * root[0] / (root[0] - root[-1])
    np.testing.assert_allclose(s.schedule("scaled_linear").alpha_T[:-1].numpy(), closed[:-1], rtol=1e-4, atol=1e-5)


def test_snr_is_signal_over_noise_squared() -> None:
    numbers = s.Schedule(torch.tensor([0.8, 0.6]), torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(s.snr(numbers), torch.tensor([16 / 9, 9 / 16]))


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    rates = [s.learning_rate(k, steps=111, warmup=10, final=0.01) for k in range(111)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.01 + 0.99 * 0.5), "half-way down the cosine"
    assert rates[110] == pytest.approx(0.01)
    assert s.learning_rate(0, steps=1, warmup=0) == pytest.approx(1.0)


def test_the_solver_starts_at_the_last_step_of_training() -> None:
    for noise in ("cosine", "scaled_linear"):
        solver = s.dpm_solver(noise)
        solver.set_timesteps(10)
        assert int(solver.timesteps[0]) == s.STEPS - 1
