"""An autoencoder that starts as block PCA: before its first step it reconstructs as well as the best linear code.

Block PCA (the Karhunen-Loeve transform of non-overlapping f x f patches) is the linear baseline an autoencoder has to
beat. Pixel shuffles and shortcuts let an `AutoencoderDC` (Chen et al. 2024, arXiv 2410.10733) be it within 0.1 dB:
residual blocks start as the identity, convolutions as per-position matrices. Training goes on from there, which saves
a CPU the long first part of the way.

Shapes: `img_bchw` RGB in [-1, 1]; `x_bchw` nested pixels, after `pixel_unshuffle` once per halving, so that a position
holds its whole patch; `x_nd` patches; `basis_dk` orthonormal columns; `code_kd`, `synth_dk` linear encoder and decoder.
"""

import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from torch import Tensor, nn

ANCHOR = 60.0  # constant channel that makes the decoder's last normalisation nearly linear
LIFT = 1.2  # added to pixels in [-1, 1] so that the decoder's last ReLU passes them


def nested_pixels(img_bchw: Tensor, halvings: int) -> Tensor:
    """Return (b, 3 * 4**halvings, h / 2**halvings, w / 2**halvings): each position holds its patch of pixels."""
    for _ in range(halvings):
        img_bchw = F.pixel_unshuffle(img_bchw, 2)
    return img_bchw


def rows(x_bchw: Tensor) -> Tensor:
    """Return one row per position, in float64: (b * h * w, c)."""
    return x_bchw.permute(0, 2, 3, 1).reshape(-1, x_bchw.shape[1]).double()


def block_pca(x_nd: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean_d, code_kd and synth_dk of the whitened PCA: z = code (x - mean), x = mean + synth z."""
    mean_d = x_nd.mean(dim=0)
    values_d, vectors_dd = torch.linalg.eigh(torch.cov(x_nd.T))
    basis_dk = vectors_dd[:, -components:].flip(1)
    scale_k = values_d[-components:].flip(0).clamp_min(1e-12).sqrt()
    return mean_d, basis_dk.T / scale_k[:, None], basis_dk * scale_k


def reconstruct(img_bchw: Tensor, fit_bchw: Tensor, patch: int, components: int) -> Tensor:
    """Return `img_bchw` through block PCA fitted on `fit_bchw`, clamped to [-1, 1]: the baseline of every report.

    Args:
        img_bchw: images to code.
        fit_bchw: images to fit on.
        patch: side of a patch in px, a power of two.
        components: numbers kept per patch.
    """
    halvings = int(math.log2(patch))
    mean_d, code_kd, synth_dk = block_pca(rows(nested_pixels(fit_bchw, halvings)), components)
    x_bchw = nested_pixels(img_bchw, halvings)
    flat_nd = (rows(x_bchw) - mean_d) @ code_kd.T @ synth_dk.T + mean_d
    b, d, h, w = x_bchw.shape
    out_bchw = flat_nd.float().view(b, h, w, d).permute(0, 3, 1, 2)
    for _ in range(halvings):
        out_bchw = F.pixel_shuffle(out_bchw, 2)
    return out_bchw.clamp(-1.0, 1.0)


def set_centre(conv: nn.Conv2d, matrix_oi: Tensor, bias_o: Tensor | None = None) -> None:
    """Make a 3 x 3 convolution the matrix `matrix_oi` at every position; rows and columns beyond it become zero."""
    out, inp = matrix_oi.shape
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:out, :inp, 1, 1] = matrix_oi.to(conv.weight)
        if conv.bias is not None:
            conv.bias.zero_()
            if bias_o is not None:
                conv.bias[: len(bias_o)] = bias_o.to(conv.bias)


def averaged(channels: int, groups: int) -> Tensor:
    """Return the (groups, channels) matrix that averages consecutive channels, a shortcut of the encoder."""
    return torch.eye(groups, dtype=torch.float64).repeat_interleave(channels // groups, dim=1) / (channels // groups)


def repeated(channels: int, out: int) -> Tensor:
    """Return the (out, channels) matrix that repeats each channel, a shortcut of the decoder."""
    return torch.eye(channels, dtype=torch.float64).repeat_interleave(out // channels, dim=0)


def fine_basis(img_bchw: Tensor, keep: int) -> Tensor:
    """Return the first `keep` uncentred principal directions of nested 4 x 4 patches, (48, keep)."""
    x_nd = rows(nested_pixels(img_bchw, 2))
    directions_dk: Tensor = torch.linalg.eigh(x_nd.T @ x_nd)[1][:, -keep:].flip(1)
    return directions_dk


def start_encoder(model: AutoencoderDC, img_bchw: Tensor, basis_dk: Tensor, target_nd: Tensor) -> None:
    """Pass pixels down unchanged (below 16 x 16, their fine basis), then fit the last layer to `target_nd`."""
    encoder = model.encoder
    with torch.no_grad():
        encoder.conv_in.conv.weight[:3] = 0.0
        encoder.conv_in.conv.weight[:3, :, 1, 1] = torch.eye(3)
        encoder.conv_in.conv.bias.zero_()
    downs = [block[-1].conv for block in encoder.down_blocks if len(block) and hasattr(block[-1], "factor")]
    if downs:
        set_centre(downs[0], torch.zeros(1, 1))
    if len(downs) == 2:
        set_centre(downs[1], basis_dk.T)
    with torch.no_grad():
        hidden = encoder.conv_in(img_bchw)
        for block in encoder.down_blocks:
            hidden = block(hidden)
    x_nd = rows(hidden)
    x1_nd = torch.cat([x_nd, torch.ones(len(x_nd), 1, dtype=x_nd.dtype)], dim=1)
    gram = x1_nd.T @ x1_nd + 1e-6 * len(x_nd) * torch.eye(x1_nd.shape[1], dtype=x_nd.dtype)
    solution = torch.linalg.solve(gram, x1_nd.T @ target_nd)
    shortcut = averaged(x_nd.shape[1], target_nd.shape[1])
    set_centre(encoder.conv_out, solution[:-1].T - shortcut, solution[-1])


def start_decoder(model: AutoencoderDC, basis_dk: Tensor, mean_d: Tensor, synth_dk: Tensor) -> None:
    """Turn latents into nested pixels by the first layer, and pass these up unchanged."""
    decoder, latent = model.decoder, synth_dk.shape[1]
    ups = [block[0].conv for block in reversed(decoder.up_blocks) if len(block) and hasattr(block[0], "factor")]
    width = decoder.conv_in.weight.shape[0]
    first_od, keep = torch.zeros(width, len(mean_d), dtype=torch.float64), basis_dk.shape[1]
    if len(ups) == 2:  # 8 x 8 patches: four fine bases, channel 4k + p holds direction k at position p
        spread = torch.kron(basis_dk.contiguous(), torch.eye(4, dtype=torch.float64))  # (48 * 4, keep * 4)
        first_od[: 4 * keep] = spread.T
        up = torch.zeros(ups[0].weight.shape[:2], dtype=torch.float64)
        up[: len(spread), : 4 * keep] = spread
        up[: len(spread)] -= repeated(width, len(up))[: len(spread)]
        set_centre(ups[0], up)
    else:
        first_od[: len(mean_d)] = torch.eye(len(mean_d), dtype=torch.float64)
    constant = first_od @ mean_d
    if not ups:  # 2 x 2 patches: the first layer's channels are those that the last normalisation sees
        constant[:12] += LIFT
        constant[-1] += ANCHOR
    set_centre(decoder.conv_in, first_od @ synth_dk - repeated(latent, width), constant)
    if ups:
        bias = torch.zeros(ups[-1].weight.shape[0])
        bias[:48], bias[-4:] = LIFT, ANCHOR
        set_centre(ups[-1], torch.zeros(1, 1), bias)
    with torch.no_grad():
        channels = decoder.norm_out.weight.shape[0]
        decoder.norm_out.weight.fill_(math.sqrt((ANCHOR**2 + 12 * LIFT**2 * 1.3) / channels))
        decoder.norm_out.bias.zero_()
    set_centre(decoder.conv_out.conv, torch.eye(12), torch.full((12,), -LIFT))


def start_as_pca(model: AutoencoderDC, img_bchw: Tensor) -> None:
    """Set the weights, in place, so that encoding is whitened block PCA fitted on `img_bchw` and decoding its inverse.

    Args:
        model: result of `stages.diffusion.autoencoder.build`, its residual blocks being the identity.
        img_bchw: some hundreds of tiles in [-1, 1].
    """
    latent = model.encoder.conv_out.weight.shape[0]
    halvings = len(model.encoder.down_blocks) - 1
    mean_d, code_kd, synth_dk = block_pca(rows(nested_pixels(img_bchw, halvings)), latent)
    target_nd = (rows(nested_pixels(img_bchw, halvings)) - mean_d) @ code_kd.T
    basis_dk = fine_basis(img_bchw, min(48, model.encoder.conv_out.weight.shape[1] // 4))
    start_encoder(model, img_bchw, basis_dk, target_nd)
    start_decoder(model, basis_dk, mean_d, synth_dk)
