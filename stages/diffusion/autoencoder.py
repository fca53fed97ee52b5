"""The autoencoder between tiles and the latent space in which the denoiser lives.

Trained here are diffusers' `AutoencoderDC` networks (Chen et al. 2024, arXiv 2410.10733) without their attention: pixel
shuffles instead of strides keep almost all work off the full resolution, so they are fast on a CPU. `encode` and
`decode` accept an `AutoencoderKL` or `AutoencoderTiny` as well. Latents are shifted and scaled by their own statistics
(Rombach et al. 2022, arXiv 2112.10752, section D.1), never by a published constant.

Shapes: `tiles_nchw` uint8 RGB tiles; `img_bchw` float RGB in [-1, 1]; `z_bchw` latents; `mean_c`, `std_c` one number
per latent channel; `odds_n` one weight per tile; `index_b` positions in the tiles.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny
from diffusers.models.autoencoders.autoencoder_dc import ResBlock
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn

from stages.features.squeezenet import perceptual_distance
from stages.streams import torch_stream

Autoencoder: TypeAlias = AutoencoderDC | AutoencoderKL | AutoencoderTiny
Metrics = dict[str, float]
FLAT = 1e-6  # a latent channel whose standard deviation is below this carries nothing


@dataclass(frozen=True)
class Recipe:
    """How an autoencoder is trained. Units: steps, tiles; losses are in units of [-1, 1] images and unit latents."""

    steps: int = 6000
    batch: int = 32
    lr: float = 1e-3
    warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    perceptual: float = 0.0
    latent_noise: float = 0.1
    latent_penalty: float = 0.01
    stain_jitter: float = 0.15
    bf16: bool = True


@dataclass
class TrainState:
    """Everything that changes while training; saving model and optimiser with `step` is a full checkpoint."""

    model: AutoencoderDC
    optimiser: torch.optim.Optimizer
    step: int = 0


def build(
    latent_channels: int,
    downsampling: int,
    width: int,
    encoder_blocks: tuple[int, ...],
    decoder_blocks: tuple[int, ...],
    generator: torch.Generator,
) -> AutoencoderDC:
    """Return an untrained AutoencoderDC of convolutions only, in float32, every residual block being the identity.

    Nothing is computed at the tile's full resolution but the first and last convolution; the first of several halvings
    has a quarter of the width, all deeper ones the whole.

    Args:
        latent_channels: channels of the latent; must divide `width`.
        downsampling: side of the tile over side of the latent: 2 (small tiles, 28 px and the like), 4 or 8.
        width: channels of the hidden layers at a quarter of the tile's side and below, a multiple of 16, at least 64.
        encoder_blocks: residual blocks at each halving, from half the tile's side down to the latent's; at least 1.
        decoder_blocks: the same for the decoder, in the same order (finest first).
        generator: CPU generator the weights are drawn from.

    Raises:
        ValueError: the numbers do not fit together; the message says which.
    """
    levels = {2: 1, 4: 2, 8: 3}.get(downsampling)
    if levels is None:
        raise ValueError(f"downsampling must be 2, 4 or 8, not {downsampling}")
    if {len(encoder_blocks), len(decoder_blocks)} != {levels} or min(*encoder_blocks, *decoder_blocks) < 1:
        raise ValueError(
            f"downsampling {downsampling} needs {levels} numbers of blocks, each at least 1, on both sides"
        )
    if width % 16 or width < 64 or width % latent_channels:
        raise ValueError(
            f"width {width} must be a multiple of 16 and of latent_channels {latent_channels}, at least 64"
        )
    widths = (width // 4, width // 4, *(width,) * (levels - 1)) if levels > 1 else (width, width)
    with torch.device("meta"):  # builds the layers without drawing from the global generator
        model = AutoencoderDC(
            latent_channels=latent_channels,
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            encoder_layers_per_block=(0, *encoder_blocks),
            decoder_layers_per_block=(0, *decoder_blocks),
            encoder_qkv_multiscales=((),) * len(widths),
            decoder_qkv_multiscales=((),) * len(widths),
        )
    model = model.to_empty(device="cpu")
    draw_weights(model, generator)
    return model


def draw_weights(model: AutoencoderDC, generator: torch.Generator) -> None:
    """Draw initial weights in place: uniform in +-1 / sqrt(fan in), biases zero, norms one.

    The norm that ends each residual block starts at zero, so that the block starts as the identity (Goyal et al. 2017,
    arXiv 1706.02677, section 5.1).
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1.0 / math.sqrt(module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, RMSNorm):
                module.weight.fill_(1.0)
                module.bias.zero_()
        for module in model.modules():
            if isinstance(module, ResBlock):
                module.norm.weight.zero_()


def encode(vae: Autoencoder, img_bchw: Tensor) -> Tensor:
    """Return the latents of images in [-1, 1]; of an AutoencoderKL the mean of the posterior, which draws nothing.

    `AutoencoderTiny.forward` is not used anywhere: it rounds the latents to 8 bits.
    """
    if isinstance(vae, AutoencoderKL):
        z_bchw: Tensor = vae.encode(img_bchw).latent_dist.mode()
    elif isinstance(vae, AutoencoderDC):
        z_bchw = vae.encode(img_bchw).latent
    else:
        z_bchw = vae.encode(img_bchw).latents
    return z_bchw


def decode(vae: Autoencoder, z_bchw: Tensor) -> Tensor:
    """Return images, roughly in [-1, 1] and not clamped, of latents as `encode` gives them (not normalised)."""
    img_bchw: Tensor = vae.decode(z_bchw).sample
    return img_bchw


def latent_scale(z_bchw: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, over batch and positions; a flat channel gets 1."""
    std_c, mean_c = torch.std_mean(z_bchw.double(), dim=(0, 2, 3), correction=0)
    return mean_c.float(), torch.where(std_c > FLAT, std_c, torch.ones_like(std_c)).float()


def normalise(z_bchw: Tensor, mean_c: Tensor, std_c: Tensor) -> Tensor:
    """Return latents of zero mean and unit variance per channel, as the denoiser sees them."""
    return (z_bchw - mean_c.view(1, -1, 1, 1)) / std_c.view(1, -1, 1, 1)


def denormalise(z_bchw: Tensor, mean_c: Tensor, std_c: Tensor) -> Tensor:
    """Undo `normalise`."""
    return z_bchw * std_c.view(1, -1, 1, 1) + mean_c.view(1, -1, 1, 1)


def to_float(tiles_nchw: Tensor) -> Tensor:
    """Turn grey levels 0-255 into [-1, 1]."""
    return tiles_nchw.to(torch.float32) / 127.5 - 1.0


def to_uint8(img_bchw: Tensor) -> Tensor:
    """Turn [-1, 1] into grey levels 0-255, rounded to the nearest and clamped."""
    return ((img_bchw + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def dihedral(img_bchw: Tensor, generator: torch.Generator) -> Tensor:
    """Give every square tile one of the eight turns and mirrors of the square, each as likely."""
    turns_b = torch.randint(8, (img_bchw.shape[0],), generator=generator)
    out_bchw = torch.empty_like(img_bchw)
    for turn in range(8):
        chosen = img_bchw[turns_b == turn]
        chosen = torch.rot90(chosen, turn % 4, dims=(2, 3))
        out_bchw[turns_b == turn] = chosen.flip(3) if turn >= 4 else chosen
    return out_bchw


def stain_jitter(img_bchw: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Multiply each colour channel's optical density by exp(strength * normal): another stain, another scanner.

    Optical density is -log of the transmitted light (Beer-Lambert), so the factor is an exponent of the light.
    """
    gain = torch.exp(strength * torch.randn(img_bchw.shape[0], 3, 1, 1, generator=generator))
    light = ((img_bchw + 1.0) / 2.0).clamp(1e-3, 1.0)
    jittered: Tensor = light**gain * 2.0 - 1.0
    return jittered


def draw_batch(tiles_nchw: Tensor, odds_n: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Draw `recipe.batch` tiles with replacement by their odds, turned and re-stained, in [-1, 1]."""
    index_b = torch.multinomial(odds_n, recipe.batch, replacement=True, generator=generator)
    img_bchw = dihedral(to_float(tiles_nchw[index_b]), generator)
    return stain_jitter(img_bchw, recipe.stain_jitter, generator) if recipe.stain_jitter > 0 else img_bchw


def add_latent_noise(z_bchw: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add normal noise of a standard deviation drawn per tile from [0, strength]: samplers are inexact."""
    level = strength * torch.rand(z_bchw.shape[0], 1, 1, 1, generator=generator)
    return z_bchw + (level * torch.randn(z_bchw.shape, generator=generator)).to(z_bchw)


def unit_penalty(z_bchw: Tensor) -> Tensor:
    """Return mean over channels of mean^2 + (log std)^2: zero when every channel has mean 0 and variance 1."""
    var_c, mean_c = torch.var_mean(z_bchw.float(), dim=(0, 2, 3), correction=0)
    return (mean_c.square() + (0.5 * torch.log(var_c + FLAT)).square()).mean()


def losses(
    vae: Autoencoder, net: nn.Sequential | None, img_bchw: Tensor, recipe: Recipe, generator: torch.Generator
) -> Mapping[str, Tensor]:
    """Return the terms and their weighted sum `total`: l1 + perceptual * lpips + latent_penalty * unit.

    Args:
        vae: the network being trained.
        net: SqueezeNet features (`stages.features.squeezenet.build`); may be None if `recipe.perceptual` is 0.
        img_bchw: tiles in [-1, 1].
        recipe: weights of the terms and strength of the latent noise.
        generator: source of the latent noise.
    """
    with torch.autocast(img_bchw.device.type, dtype=torch.bfloat16, enabled=recipe.bf16):
        z_bchw = encode(vae, img_bchw)
        out_bchw = decode(vae, add_latent_noise(z_bchw.float(), recipe.latent_noise, generator)).float()
    terms = {"l1": F.l1_loss(out_bchw, img_bchw), "unit": unit_penalty(z_bchw)}
    terms["total"] = terms["l1"] + recipe.latent_penalty * terms["unit"]
    if recipe.perceptual > 0:
        if net is None:
            raise ValueError("a perceptual weight above 0 needs the SqueezeNet features")
        terms["perceptual"] = perceptual_distance(net, out_bchw, img_bchw).mean()
        terms["total"] = terms["total"] + recipe.perceptual * terms["perceptual"]
    return terms


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of step `step` (from 0): linear warm-up, then half a cosine down to 0 at `recipe.steps`."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def start(model: AutoencoderDC, recipe: Recipe) -> TrainState:
    """Return the state before the first step: Adam without weight decay."""
    return TrainState(model, torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=recipe.betas))


def train_step(state: TrainState, net: nn.Sequential | None, img_bchw: Tensor, recipe: Recipe, seed: int) -> Metrics:
    """Make one step on `img_bchw`: changes `state` in place and returns the terms of the loss before the step."""
    rate = learning_rate(state.step, recipe)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    noise = torch_stream(seed, "autoencoder", "noise", state.step)
    terms = losses(state.model, net, img_bchw, recipe, noise)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(terms["total"])
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    state.optimiser.step()
    state.step += 1
    return {name: float(value.detach()) for name, value in terms.items()} | {"lr": rate, "grad_norm": float(norm)}


def train(
    state: TrainState,
    net: nn.Sequential | None,
    tiles_nchw: Tensor,
    odds_n: Tensor,
    recipe: Recipe,
    seed: int,
) -> Iterator[Metrics]:
    """Train from `state.step` to `recipe.steps` and yield each step's metrics.

    Batch, augmentation and noise of step k come from (seed, k) alone, so a loop resumed from a checkpoint of `state`
    gives the weights of the unbroken one bit for bit (on one machine, with as many threads).

    Args:
        state: where to begin; changed in place, so that the caller may save it between two steps.
        net: SqueezeNet features, or None without a perceptual term.
        tiles_nchw: uint8 RGB tiles.
        odds_n: how often each tile is drawn; need not sum to 1.
        recipe: how to train.
        seed: the run's seed.
    """
    state.model.train()
    while state.step < recipe.steps:
        generator = torch_stream(seed, "autoencoder", "batch", state.step)
        img_bchw = draw_batch(tiles_nchw, odds_n, recipe, generator)
        yield train_step(state, net, img_bchw, recipe, seed)


def psnr(img_a_bchw: Tensor, img_b_bchw: Tensor) -> Tensor:
    """Return 10 log10(1 / mse) in dB per pair of images in [-1, 1], the error taken on pixels in [0, 1]. Shape (b,)."""
    mse_b = ((img_a_bchw - img_b_bchw) / 2.0).square().mean(dim=(1, 2, 3))
    return -10.0 * torch.log10(mse_b.clamp_min(1e-12))
