"""The sampler on data whose ideal denoiser is known, guidance, and batches."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler

from stages.diffusion import pipeline
from stages.diffusion.schedule import NoiseName, Schedule, dpm_solver, schedule
from stages.streams import torch_stream


def ideal(numbers: Schedule, mean: float, spread: float) -> pipeline.Velocity:
    """The best velocity for independent pixels of N(mean, spread^2): alpha E[e|x] - sigma E[x_0|x]."""

    def predict(x: torch.Tensor, t_b: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (factor.double() for factor in numbers.at(t_b))
        variance = alpha**2 * spread**2 + sigma**2
        x0 = mean + alpha * spread**2 / variance * (x.double() - alpha * mean)
        noise = sigma / variance * (x.double() - alpha * mean)
        return (alpha * noise - sigma * x0).float()

    return predict


def error(steps: int, order: int = 2) -> float:
    """Mean distance of samples from the exact flow, which is x_0 = mean + spread × noise."""
    noise = torch.randn((64, 1, 4, 4), generator=torch_stream(0, "noise"))
    solver = dpm_solver("cosine")
    solver.register_to_config(solver_order=order)
    z = pipeline.sample_latents(ideal(schedule("cosine"), 0.7, 1.5), solver, noise, steps)
    return float((z - (0.7 + 1.5 * noise)).abs().mean())


@pytest.mark.parametrize(("name", "steps"), [("cosine", 20), ("scaled_linear", 200)])
def test_samples_of_gaussian_data_have_its_mean_and_spread(name: NoiseName, steps: int) -> None:
    """The scaled linear schedule needs ten times the steps: 20 leave the spread 13 % short."""
    noise = torch.randn((4000, 1, 2, 2), generator=torch_stream(0, "many"))
    z = pipeline.sample_latents(ideal(schedule(name), 0.7, 0.4), dpm_solver(name), noise, steps)
    assert float(z.mean()) == pytest.approx(0.7, abs=3 * 0.4 / math.sqrt(16_000) + 0.01)
    assert float(z.std()) == pytest.approx(0.4, rel=0.03)


def test_the_error_falls_with_steps_faster_than_a_first_order_solver_would() -> None:
    errors = [error(steps) for steps in (5, 10, 20, 40, 80)]
    assert all(coarse / fine > 2.5 for coarse, fine in itertools.pairwise(errors)), errors
    order = math.log2(errors[0] / errors[-1]) / 4
    assert 1.5 < order < 2.3, "second order but for the first and last steps"
    first = [error(steps, order=1) for steps in (20, 40, 80)]
    assert math.log2(first[0] / first[-1]) / 2 == pytest.approx(1.0, abs=0.2), "DDIM is of first order"
    assert errors[3] < 0.3 * first[1]


LINE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "timestep_spacing": "trailing",
}


@pytest.mark.parametrize(
    ("solver", "steps", "near"),
    [
        (DDIMScheduler(prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True, **LINE), 500, 0.006),
        (EulerDiscreteScheduler(prediction_type="v_prediction", **LINE), 500, 0.006),
        (UniPCMultistepScheduler(prediction_type="v_prediction", **LINE), 100, 0.0005),
        (dpm_solver("cosine"), 100, 0.003),
    ],
    ids=["ddim", "euler", "unipc", "dpm-solver++"],
)
def test_every_sampler_ends_where_the_closed_form_does(solver: Any, steps: int, near: float) -> None:
    """The probability flow of Gaussian data is a straight scaling: from noise e to mean + spread × e."""
    noise = torch.randn((64, 1, 4, 4), generator=torch_stream(0, "noise"))
    predict = ideal(schedule("cosine"), 0.7, 1.5)
    solver.set_timesteps(steps)
    z = noise * solver.init_noise_sigma
    for t in solver.timesteps:
        t_b = torch.full((64,), int(t))
        z = solver.step(predict(solver.scale_model_input(z, t), t_b), t, z, return_dict=False)[0]
    assert float((z - (0.7 + 1.5 * noise)).abs().mean()) < near


def test_guidance_moves_along_the_line_from_unlabelled_to_labelled() -> None:
    def network(x: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor, return_dict: bool) -> list[torch.Tensor]:
        return [class_labels.float().view(-1, 1, 1, 1).expand_as(x)]

    z, t_b, y_b = torch.zeros(2, 1, 2, 2), torch.zeros(2), torch.tensor([0, 1])
    assert pipeline.guided(network, y_b, 3, 1.0)(z, t_b)[:, 0, 0, 0].tolist() == [0.0, 1.0]
    assert pipeline.guided(network, y_b, 3, 2.0)(z, t_b)[:, 0, 0, 0].tolist() == [-3.0, -1.0]


def test_grey_levels_are_rounded_to_the_nearest_and_cut() -> None:
    class Identity:
        def decode(self, z: torch.Tensor) -> "Identity":
            self.sample = z
            return self

    values = torch.tensor([-1.2, -1.0, 0.0, 0.003, 1.0, 1.2]).view(1, 1, 2, 3).expand(1, 3, 2, 3)
    pixels = pipeline.decode_pixels(Identity(), values.repeat(1, 1, 3, 2), [0.0] * 3, [1.0] * 3, 6)
    assert pixels.dtype == np.uint8
    assert pixels[0, :2, :3, 0].flatten().tolist() == [0, 0, 128, 128, 255, 255], "127.5 goes to the even 128"
