"""What the denoiser learns: velocity, weighted by min-SNR, with labels dropped for guidance.

`v = alpha e - sigma x_0` (Salimans and Ho 2022, arXiv 2202.00512).
Shapes: `z_bchw` latents of zero mean and unit variance per channel; `y_b` class numbers; `t_b` steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stages.diffusion.schedule import STEPS, Schedule

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Predicted velocity of noisy latents, steps and class numbers."""


class Draw(NamedTuple):
    """All the chance of one training step, drawn on the CPU for the whole batch."""

    row_b: Tensor
    """Which training tile."""
    view_b: Tensor
    """Which of its cached views."""
    y_b: Tensor
    """Its class, or the null class where the label was dropped."""
    t_b: Tensor
    """Which step of the noise."""
    noise_bchw: Tensor
    """The noise itself."""

    def part(self, rank: int, processes: int) -> "Draw":
        """The items that process `rank` of `processes` works on."""
        return Draw(*(tensor[rank::processes] for tensor in self))


def velocity(x0_bchw: Tensor, noise_bchw: Tensor, alpha_b111: Tensor, sigma_b111: Tensor) -> Tensor:
    """The target `v = alpha e - sigma x_0`."""
    return alpha_b111 * noise_bchw - sigma_b111 * x0_bchw


def clean(x_bchw: Tensor, v_bchw: Tensor, alpha_b111: Tensor, sigma_b111: Tensor) -> Tensor:
    """The clean latent a velocity implies: `x_0 = alpha x_t - sigma v`."""
    return alpha_b111 * x_bchw - sigma_b111 * v_bchw


def noise(x_bchw: Tensor, v_bchw: Tensor, alpha_b111: Tensor, sigma_b111: Tensor) -> Tensor:
    """The noise a velocity implies: `e = sigma x_t + alpha v`."""
    return sigma_b111 * x_bchw + alpha_b111 * v_bchw


def min_snr_weight(snr: Tensor, gamma: float) -> Tensor:
    """Weight `min(SNR, gamma) / (SNR + 1)` of the squared error in v (Hang et al. 2023, arXiv 2303.09556)."""
    return snr.clamp(max=gamma) / (snr + 1.0)


def draw_step(
    rows_by_class: list[Tensor],
    views: int,
    latent_shape: tuple[int, int, int],
    batch: int,
    step: int,
    drop: float,
    generator: torch.Generator,
) -> Draw:
    """Draw one step's batch: classes in turn, tiles and views at random, noise levels spread evenly.

    The levels are one uniform shift of an even grid (Kingma et al. 2021, arXiv 2107.00630, section I), shuffled:
    the same expectation as independent draws, less spread of the loss from step to step.

    Args:
        rows_by_class: for every class the positions of its tiles in the cache; none empty.
        views: cached views per tile.
        latent_shape: channels, height and width of a latent.
        batch: items, over all processes.
        step: number of the training step; classes go on where the last step ended.
        drop: chance that a label is replaced by the null class, whose number is the number of classes.
        generator: the step's own stream.
    """
    classes = len(rows_by_class)
    y_b = (torch.arange(batch) + step * batch) % classes
    place_b = torch.rand(batch, generator=generator)
    row_b = torch.stack(
        [rows_by_class[y][int(place * len(rows_by_class[y]))] for y, place in zip(y_b.tolist(), place_b, strict=True)]
    )
    view_b = torch.randint(views, (batch,), generator=generator)
    grid_b = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
    t_b = (grid_b * STEPS).long().clamp(max=STEPS - 1)[torch.randperm(batch, generator=generator)]
    dropped_b = torch.rand(batch, generator=generator) < drop
    noise_bchw = torch.randn((batch, *latent_shape), generator=generator)
    return Draw(row_b, view_b, y_b.masked_fill(dropped_b, classes), t_b, noise_bchw)


def denoising_loss(denoiser: Denoiser, x0_bchw: Tensor, draw: Draw, schedule: Schedule, gamma: float) -> Tensor:
    """Mean over the batch of min-SNR weight × mean squared error of the predicted velocity (a scalar)."""
    alpha_b111, sigma_b111 = schedule.at(draw.t_b)
    x_bchw = alpha_b111 * x0_bchw + sigma_b111 * draw.noise_bchw
    v_bchw = velocity(x0_bchw, draw.noise_bchw, alpha_b111, sigma_b111)
    error_b = (denoiser(x_bchw, draw.t_b, draw.y_b).float() - v_bchw).square().mean(dim=(1, 2, 3))
    weight_b = min_snr_weight((alpha_b111 / sigma_b111).square().flatten(), gamma)
    return (weight_b * error_b).mean()
