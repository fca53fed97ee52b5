"""What the denoiser learns, against closed forms."""

import pytest
import torch

from stages.diffusion import loss
from stages.diffusion.schedule import STEPS, schedule, snr
from stages.streams import torch_stream


def _pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    x0, noise = torch.randn(2, 5, 3, 4, 4, generator=torch_stream(0, "pair"), dtype=torch.float64)
    angle = torch.linspace(0.0, torch.pi / 2, 5, dtype=torch.float64).view(5, 1, 1, 1)
    return x0, noise, angle.cos(), angle.sin()


def test_velocity_gives_back_the_latent_and_the_noise_even_without_signal() -> None:
    x0, noise, alpha, sigma = _pair()
    x, v = alpha * x0 + sigma * noise, loss.velocity(x0, noise, alpha, sigma)
    torch.testing.assert_close(loss.clean(x, v, alpha, sigma), x0)
    torch.testing.assert_close(loss.noise(x, v, alpha, sigma), noise)
    torch.testing.assert_close(v[0], noise[0])
    torch.testing.assert_close(v[-1], -x0[-1])


def test_min_snr_weight_takes_its_values() -> None:
    weights = loss.min_snr_weight(torch.tensor([0.0, 1.0, 5.0, 9.0, 99.0]), gamma=5.0)
    torch.testing.assert_close(weights, torch.tensor([0.0, 1 / 2, 5 / 6, 5 / 10, 5 / 100]))


def test_the_weight_in_v_equals_min_snr_in_the_clean_latent() -> None:
    x0, noise, alpha, sigma = (tensor[1:-1] for tensor in _pair())
    guess = torch.randn(x0.shape, generator=torch_stream(1, "guess"), dtype=torch.float64)
    x = alpha * x0 + sigma * noise
    ratio = (alpha / sigma) ** 2
    in_v = loss.min_snr_weight(ratio, 5.0) * (guess - loss.velocity(x0, noise, alpha, sigma)) ** 2
    in_x0 = ratio.clamp(max=5.0) * (loss.clean(x, guess, alpha, sigma) - x0) ** 2
    torch.testing.assert_close(in_v, in_x0)


def test_the_loss_of_an_oracle_is_zero_and_of_silence_is_the_weighted_power_of_v() -> None:
    numbers = schedule("cosine")
    rows = [torch.arange(0, 3), torch.arange(3, 6)]
    draw = loss.draw_step(rows, 1, (2, 4, 4), 8, 0, 0.0, torch_stream(0, "draw"))
    x0 = torch.randn((8, 2, 4, 4), generator=torch_stream(0, "x0"))
    alpha, sigma = numbers.at(draw.t_b)
    target = loss.velocity(x0, draw.noise_bchw, alpha, sigma)
    assert loss.denoising_loss(lambda x, t, y: target, x0, draw, numbers, 5.0) == 0
    silent = loss.denoising_loss(lambda x, t, y: torch.zeros_like(x), x0, draw, numbers, 5.0)
    by_hand = (loss.min_snr_weight(snr(numbers)[draw.t_b], 5.0) * target.square().mean(dim=(1, 2, 3))).mean()
    torch.testing.assert_close(silent, by_hand)


def test_classes_take_turns_across_steps_whatever_their_sizes() -> None:
    rows = [torch.tensor([0]), torch.arange(1, 100), torch.arange(100, 103)]
    draws = [loss.draw_step(rows, 8, (1, 2, 2), 8, k, 0.0, torch_stream(0, k)) for k in range(3)]
    labels = torch.cat([draw.y_b for draw in draws])
    assert torch.bincount(labels).tolist() == [8, 8, 8]
    assert all(int(r) in rows[int(y)].tolist() for d in draws for r, y in zip(d.row_b, d.y_b, strict=True))


def test_levels_are_spread_evenly_and_labels_dropped_at_the_rate_asked() -> None:
    rows = [torch.arange(4), torch.arange(4, 8)]
    draws = [loss.draw_step(rows, 8, (1, 2, 2), 50, k, 0.1, torch_stream(0, k)) for k in range(60)]
    for draw in draws:
        assert sorted((draw.t_b // (STEPS // 50)).tolist()) == list(range(50)), "one level in every fiftieth"
    dropped = torch.cat([draw.y_b == 2 for draw in draws]).float().mean()
    assert dropped == pytest.approx(0.1, abs=3 * (0.09 / 3000) ** 0.5)
    assert set(torch.cat([draw.view_b for draw in draws]).tolist()) == set(range(8))


def test_processes_share_one_draw_without_overlap() -> None:
    draw = loss.draw_step([torch.arange(9)], 2, (1, 2, 2), 6, 0, 0.0, torch_stream(0, "share"))
    parts = [draw.part(rank, 3) for rank in range(3)]
    torch.testing.assert_close(torch.stack([p.t_b for p in parts], dim=1).flatten(), draw.t_b)
