"""The start as block PCA: exact codes, the baseline's optimality, and a network that equals it."""

import pytest
import torch
from torch import Tensor

from stages.diffusion import autoencoder as ae
from stages.diffusion import pca_start
from stages.streams import torch_stream


def smooth_tiles(n: int = 48, side: int = 32) -> Tensor:
    coarse = torch.rand(n, 3, 8, 8, generator=torch_stream(0, "tiles")) * 1.6 - 0.8
    fine = 0.05 * torch.randn(n, 3, side, side, generator=torch_stream(1, "tiles"))
    return (torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear") + fine).clamp(-1, 1)


def test_nested_pixels_hold_the_patch_of_their_position() -> None:
    img_bchw = torch.arange(3 * 8 * 8.0).view(1, 3, 8, 8)
    x_bchw = pca_start.nested_pixels(img_bchw, 2)
    assert x_bchw.shape == (1, 48, 2, 2)
    assert set(x_bchw[0, :, 1, 0].tolist()) == set(img_bchw[0, :, 4:, :4].flatten().tolist())


def test_block_pca_codes_are_white_and_all_components_lose_nothing() -> None:
    x_nd = torch.randn(500, 6, dtype=torch.float64, generator=torch_stream(0)) * torch.arange(1, 7) + 3
    mean_d, code_kd, synth_dk = pca_start.block_pca(x_nd, 6)
    z_nk = (x_nd - mean_d) @ code_kd.T
    torch.testing.assert_close(torch.cov(z_nk.T), torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(z_nk @ synth_dk.T + mean_d, x_nd)


def test_the_error_of_block_pca_is_the_sum_of_the_variances_left_out() -> None:
    img_bchw = smooth_tiles() * 0.5  # far from the clamp
    x_nd = pca_start.rows(pca_start.nested_pixels(img_bchw, 2))
    left_out = torch.linalg.eigvalsh(torch.cov(x_nd.T, correction=0))[:-4].sum() / 48
    error = (pca_start.reconstruct(img_bchw, img_bchw, 4, 4) - img_bchw).square().mean()
    assert error.item() == pytest.approx(left_out.item(), rel=1e-3)


@pytest.mark.parametrize(("downsampling", "latent_channels"), [(2, 4), (4, 4), (4, 8), (8, 8), (8, 16)])
def test_an_autoencoder_started_as_pca_reconstructs_as_pca_does(downsampling: int, latent_channels: int) -> None:
    blocks = (1,) * (downsampling.bit_length() - 1)
    vae = ae.build(latent_channels, downsampling, 128, blocks, blocks, torch_stream(0, "w"))
    fit_bchw = smooth_tiles()
    pca_start.start_as_pca(vae, fit_bchw)
    with torch.no_grad():
        z_bchw = ae.encode(vae, fit_bchw)
        out_bchw = ae.decode(vae, z_bchw).clamp(-1, 1)
    baseline = pca_start.reconstruct(fit_bchw, fit_bchw, downsampling, latent_channels)
    assert ae.psnr(out_bchw, fit_bchw).mean() == pytest.approx(ae.psnr(baseline, fit_bchw).mean().item(), abs=0.3)
    mean_c, std_c = ae.latent_scale(z_bchw)
    torch.testing.assert_close(mean_c, torch.zeros(latent_channels), atol=0.02, rtol=0)
    torch.testing.assert_close(std_c, torch.ones(latent_channels), atol=0.05, rtol=0)
