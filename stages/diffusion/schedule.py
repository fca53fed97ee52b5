"""The noise schedule of the denoiser and the scheduler that samples with it.

A variance-preserving process: `x_t = alpha_t x_0 + sigma_t e` with `alpha_t^2 + sigma_t^2 = 1`, t = 0 … T - 1.
Training and sampling take their numbers from one place, diffusers' scheduler, so they cannot drift apart.

Shapes: `T` steps of the schedule; `b` batch.
"""

import math
from typing import Literal, NamedTuple

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

NoiseName = Literal["cosine", "scaled_linear"]
STEPS = 1000
BETAS = {"cosine": "squaredcos_cap_v2", "scaled_linear": "scaled_linear"}


class Schedule(NamedTuple):
    """Signal and noise at every step."""

    alpha_T: Tensor
    """Factor of the clean latent, falling."""
    sigma_T: Tensor
    """Standard deviation of the noise, rising."""

    def at(self, t_b: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at steps `t_b`, shaped (b, 1, 1, 1) so that they multiply latents."""
        return self.alpha_T[t_b].view(-1, 1, 1, 1), self.sigma_T[t_b].view(-1, 1, 1, 1)

    def to(self, device: torch.device) -> "Schedule":
        """The same numbers on `device`."""
        return Schedule(self.alpha_T.to(device), self.sigma_T.to(device))


def dpm_solver(noise: NoiseName) -> DPMSolverMultistepScheduler:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095) for v-prediction, starting from pure noise.

    Both schedules end without signal: `scaled_linear` (0.00085 to 0.012) is rescaled to zero terminal SNR, `cosine`
    ends there by itself; so sampling must begin at the last step ("trailing" spacing; Lin et al. 2023, arXiv
    2305.08891), and the network must predict v, which is defined where no signal is left.
    """
    return DPMSolverMultistepScheduler(
        num_train_timesteps=STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule=BETAS[noise],
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=noise == "scaled_linear",
    )


def schedule(noise: NoiseName) -> Schedule:
    """The numbers of `dpm_solver(noise)`, in float32."""
    signal_T = dpm_solver(noise).alphas_cumprod.double()
    return Schedule(signal_T.sqrt().float(), (1.0 - signal_T).sqrt().float())


def snr(schedule: Schedule) -> Tensor:
    """Signal-to-noise ratio `alpha^2 / sigma^2` of every step, shape (T,)."""
    return (schedule.alpha_T / schedule.sigma_T).square()


def learning_rate(step: int, steps: int, warmup: int, final: float = 0.01) -> float:
    """Factor of the learning rate at `step` (from 0): linear over `warmup` steps, then a cosine from 1 to `final`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - 1 - warmup)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
