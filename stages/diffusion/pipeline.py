"""From class numbers and noise to tiles: sampling with guidance, and the same as a diffusers pipeline.

This file needs torch and diffusers alone (a U-ViT, whose code lies beside its weights, timm as well), so a copy of it
beside the weights lets anyone load them:
`DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)`.

Shapes: `z_bchw` latents of zero mean and unit variance per channel; `y_b` class numbers; `img_bchw` images.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Predicted velocity of noisy latents (b, c, h, w) at steps (b,)."""


def guided(network: Any, y_b: Tensor, null_class: int, guidance: float) -> Velocity:
    """The velocity moved away from the unconditional one: `v_null + guidance (v_class - v_null)`.

    Ho and Salimans 2022, arXiv 2207.12598; 1 is no guidance and costs one evaluation instead of two.
    """

    def predict(z_bchw: Tensor, t_b: Tensor) -> Tensor:
        if guidance == 1.0:
            plain_bchw: Tensor = network(z_bchw, t_b, class_labels=y_b, return_dict=False)[0]
            return plain_bchw
        both = torch.cat([y_b, torch.full_like(y_b, null_class)])
        v_2bchw = network(torch.cat([z_bchw, z_bchw]), torch.cat([t_b, t_b]), class_labels=both, return_dict=False)[0]
        v_class, v_null = v_2bchw.float().chunk(2)
        moved_bchw: Tensor = v_null + guidance * (v_class - v_null)
        return moved_bchw

    return predict


@torch.no_grad()
def sample_latents(predict: Velocity, scheduler: Any, noise_bchw: Tensor, steps: int) -> Tensor:
    """Follow the probability-flow ODE from noise to clean latents in `steps` evaluations of `predict`.

    The scheduler is copied, so no state leaks from one batch into the next.
    """
    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(steps)
    z_bchw: Tensor = noise_bchw * solver.init_noise_sigma
    for t in solver.timesteps:
        t_b = torch.full((len(z_bchw),), int(t), device=z_bchw.device)
        z_bchw = solver.step(predict(z_bchw, t_b).float(), t, z_bchw, return_dict=False)[0]
    return z_bchw


@torch.no_grad()
def decode_pixels(vae: Any, z_bchw: Tensor, mean: Sequence[float], std: Sequence[float], side: int) -> Any:
    """Latents to RGB pixels, (b, side, side, 3) uint8: scaled back, decoded, the middle cut out, rounded.

    A value v in [-1, 1] becomes the whole number nearest to 127.5 (v + 1), halves to even, and no less than 0 or
    more than 255.
    """
    scale_c = [torch.tensor(list(s), dtype=z_bchw.dtype, device=z_bchw.device).view(1, -1, 1, 1) for s in (mean, std)]
    img_bchw = vae.decode(z_bchw * scale_c[1] + scale_c[0]).sample.float()
    top, left = (img_bchw.shape[2] - side) // 2, (img_bchw.shape[3] - side) // 2
    img_bchw = img_bchw[:, :, top : top + side, left : left + side]
    levels_bchw = ((img_bchw + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels_bchw.permute(0, 2, 3, 1).contiguous().cpu().numpy()


class TilePipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers carries no types
    """Synthetic tiles of given classes.

    Args of the constructor: `vae` (a diffusers autoencoder), `denoiser` (class-conditional UNet2DModel,
    DiTTransformer2DModel or UViT that predicts velocity), `scheduler`; `latent_mean` and `latent_std` per channel;
    `classes`, their names in the order of their numbers; `size_px`, the side of a tile; `guidance_scale` and
    `num_inference_steps`, the defaults.
    """

    def __init__(
        self,
        vae: Any,
        denoiser: Any,
        scheduler: Any,
        latent_mean: list[float] | None = None,
        latent_std: list[float] | None = None,
        classes: list[str] | None = None,
        size_px: int = 64,
        guidance_scale: float = 1.0,
        num_inference_steps: int = 20,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, denoiser=denoiser, scheduler=scheduler)
        self.register_to_config(
            latent_mean=latent_mean or [],
            latent_std=latent_std or [],
            classes=classes or [],
            size_px=size_px,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
        )

    def latent_noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """One latent of noise from each generator (CPU generators, so that every device starts alike)."""
        side = self.denoiser.config.sample_size
        height, width = side if isinstance(side, list | tuple) else (side, side)
        shape = (1, self.denoiser.config.in_channels, height, width)
        return torch.cat([torch.randn(shape, generator=generator) for generator in generators])

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int | str],
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        output_type: str = "pil",
    ) -> Any:
        """Draw one tile per class label.

        Args:
            class_labels: class numbers or names.
            generator: one CPU generator per tile, or one for all in turn, or none for torch's own.
            guidance_scale: 1 is none; the default is the pipeline's.
            num_inference_steps: evaluations of the network; the default is the pipeline's.
            output_type: "pil" or "np" (n × h × w × 3, uint8).

        Returns:
            A list of PIL images, or an array.

        Raises:
            ValueError: an unknown class, or another number of generators than of labels.
        """
        names = list(self.config.classes)
        unknown = [y for y in class_labels if y not in names and y not in range(len(names))]
        if unknown:
            raise ValueError(f"classes are {names} or 0 to {len(names) - 1}; got {unknown}")
        y_b = torch.tensor([names.index(y) if isinstance(y, str) else int(y) for y in class_labels])
        if generator is None or isinstance(generator, torch.Generator):
            generator = [generator or torch.default_generator] * len(y_b)
        if len(generator) != len(y_b):
            raise ValueError(f"{len(y_b)} labels need as many generators or one; got {len(generator)}")
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        device = self.denoiser.device
        predict = guided(self.denoiser, y_b.to(device), len(names), scale)
        steps = num_inference_steps or self.config.num_inference_steps
        z_bchw = sample_latents(predict, self.scheduler, self.latent_noise(generator).to(device), steps)
        config = self.config
        pixels_nhwc = decode_pixels(self.vae, z_bchw, config.latent_mean, config.latent_std, config.size_px)
        return pixels_nhwc if output_type == "np" else [Image.fromarray(np.asarray(p)) for p in pixels_nhwc]
