"""The denoiser: diffusers' UNet2DModel on latents, conditional on class, with one class more for "no label"."""

import math

import torch
from diffusers import UNet2DModel
from torch import nn


def build(
    latent_shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int, ...],
    layers: int,
    attention: tuple[bool, ...],
    generator: torch.Generator,
    middle_attention: bool = True,
    norm_groups: int = 8,
    head_width: int = 32,
) -> UNet2DModel:
    """An untrained denoiser in float32 on the CPU; it predicts v = 0 until it is trained.

    Step and class scale and shift the features after each normalisation (Dhariwal and Nichol 2021, section 3).

    Args:
        latent_shape: channels, height and width of a latent; each level after the first halves the side.
        classes: number of classes K; the network knows K + 1, the last is the null class.
        widths: channels of each level, from the latent's resolution downwards; multiples of `norm_groups`.
        layers: residual blocks per level on the way down (one more on the way up).
        attention: for each level, whether self-attention follows its blocks.
        generator: CPU generator of the initial weights.
        middle_attention: whether self-attention stands between the way down and the way up.
        norm_groups: groups of every group normalisation.
        head_width: channels per attention head.

    Raises:
        ValueError: the latent cannot be halved as often as there are levels, or the settings do not fit together.
    """
    _check(latent_shape, widths, attention, norm_groups)
    with torch.device("meta"):  # builds the layers without drawing from the global generator
        unet = UNet2DModel(
            sample_size=latent_shape[1:] if latent_shape[1] != latent_shape[2] else latent_shape[1],
            in_channels=latent_shape[0],
            out_channels=latent_shape[0],
            block_out_channels=widths,
            layers_per_block=layers,
            down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attention),
            up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attention)),
            norm_num_groups=norm_groups,
            attention_head_dim=head_width,
            num_class_embeds=classes + 1,
            add_attention=middle_attention,
            attn_norm_num_groups=norm_groups,
            resnet_time_scale_shift="scale_shift",
        )
    unet = unet.to_empty(device="cpu")
    draw_weights(unet, generator)
    return unet


def _check(
    latent_shape: tuple[int, int, int], widths: tuple[int, ...], attention: tuple[bool, ...], norm_groups: int
) -> None:
    """Say what does not fit before diffusers fails far from the cause."""
    part = 2 ** (len(widths) - 1)
    if latent_shape[1] % part or latent_shape[2] % part:
        raise ValueError(
            f"a denoiser of {len(widths)} levels halves the latent {len(widths) - 1} times, but {latent_shape[1]} × "
            f"{latent_shape[2]} is no multiple of {part}; give fewer widths or pad the tiles in the autoencoder stage"
        )
    if len(attention) != len(widths):
        raise ValueError(f"{len(widths)} widths need {len(widths)} attention flags; got {len(attention)}")
    if any(width % norm_groups for width in widths):
        raise ValueError(f"widths must be multiples of {norm_groups}; got {widths}")


@torch.no_grad()
def draw_weights(unet: nn.Module, generator: torch.Generator) -> None:
    """Draw initial weights in place: PyTorch's defaults, and zeros where a branch joins the main path.

    With the last layer of every residual block, of attention and of the network at zero the network starts as an
    identity (Dhariwal and Nichol 2021, arXiv 2105.05233).
    """
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            for weight in (module.weight, module.bias):
                if weight is not None:
                    weight.uniform_(-bound, bound, generator=generator)
            if name.endswith((".conv2", ".to_out.0")) or name == "conv_out":
                for weight in (module.weight, module.bias):
                    if weight is not None:
                        weight.zero_()
        elif isinstance(module, nn.GroupNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(generator=generator)
