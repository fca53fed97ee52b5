"""One training step of the denoiser, on any device, precision and number of processes.

Shapes: `latents_vnchw` cached latents, v views of n tiles; `y_n` their classes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stages.diffusion import loss
from stages.diffusion.ema import Ema
from stages.diffusion.schedule import NoiseName, learning_rate, schedule
from stages.streams import torch_stream


class Recipe(NamedTuple):
    """How the denoiser is trained."""

    steps: int
    """Steps in all."""
    batch: int
    """Latents per step, over all processes."""
    lr: float
    """Highest learning rate of AdamW."""
    warmup: int
    """Steps over which it rises."""
    weight_decay: float
    """AdamW's."""
    clip: float
    """Longest gradient allowed, in its Euclidean norm."""
    gamma: float
    """Cap of the signal-to-noise ratio in the loss weight."""
    drop: float
    """Chance that a label becomes the null class."""
    ema: float
    """Longest decay of the average of weights."""
    noise: NoiseName
    """Noise schedule."""


class Learner:
    """The denoiser, its average, its optimiser and its data; `step` does everything of one training step."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, accelerator: Any, latents_vnchw: Tensor, y_n: Tensor, seed: int
    ) -> None:
        """Move everything to the accelerator's device.

        Args:
            network: untrained; `network(x, t, class_labels=y, return_dict=False)[0]` is its prediction of v.
            recipe: how to train it.
            accelerator: an `accelerate.Accelerator`; says the device, the precision and the place among processes.
            latents_vnchw: the cache, floating point of any width, every class 0 … K - 1 at least once.
            y_n: class numbers of the n tiles.
            seed: the run's.
        """
        self.recipe, self.accelerator, self.seed = recipe, accelerator, seed
        self.network = network.to(accelerator.device)
        self.ema = Ema(self.network, recipe.ema)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self.parallel, self.optimizer = accelerator.prepare(self.network, optimizer)
        self.latents_vnchw = latents_vnchw.to(accelerator.device)
        self.rows_by_class = [torch.nonzero(y_n == y).flatten() for y in range(int(y_n.max()) + 1)]
        self.schedule = schedule(recipe.noise).to(accelerator.device)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What a checkpoint must hold of the networks."""
        return {"network": self.network, "ema": self.ema}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """What a checkpoint must hold of the optimiser."""
        return {"network": self.optimizer.optimizer}

    def draw(self, k: int) -> loss.Draw:
        """This process's part of the chance of step `k`, on the device; a function of the seed and `k` alone."""
        views, _, *latent_shape = self.latents_vnchw.shape
        whole = loss.draw_step(
            self.rows_by_class,
            views,
            (latent_shape[0], latent_shape[1], latent_shape[2]),
            self.recipe.batch,
            k,
            self.recipe.drop,
            torch_stream(self.seed, "step", k),
        )
        part = whole.part(self.accelerator.process_index, self.accelerator.num_processes)
        return loss.Draw(*(tensor.to(self.accelerator.device) for tensor in part))

    def step(self, k: int) -> dict[str, float]:
        """Do step `k`; returns the loss before it, the learning rate and the gradient's norm before clipping."""
        rate = self.recipe.lr * learning_rate(k, self.recipe.steps, self.recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.parallel.train()
        draw = self.draw(k)
        x0_bchw = self.latents_vnchw[draw.view_b, draw.row_b].float()
        value = loss.denoising_loss(self._velocity, x0_bchw, draw, self.schedule, self.recipe.gamma)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(value)
        norm = self.accelerator.clip_grad_norm_(self.parallel.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.ema.update(self.network)
        return {"loss": float(value.detach()), "lr": rate, "grad_norm": float(norm)}

    def _velocity(self, x_bchw: Tensor, t_b: Tensor, y_b: Tensor) -> Tensor:
        """The prepared network's prediction."""
        v_bchw: Tensor = self.parallel(x_bchw, t_b, class_labels=y_b, return_dict=False)[0]
        return v_bchw
