"""The autoencoder: shapes, latent statistics, losses and a training loop that resumes bit for bit."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny
from safetensors.torch import load, save
from torch import Tensor

from stages.diffusion import autoencoder as ae
from stages.streams import torch_stream

RECIPE = ae.Recipe(steps=6, batch=4, warmup=2, bf16=False)


def small(latent_channels: int = 4, downsampling: int = 4) -> AutoencoderDC:
    blocks = (1,) * (downsampling.bit_length() - 1)
    return ae.build(latent_channels, downsampling, 64, blocks, blocks, torch_stream(0, "w"))


def tiny() -> AutoencoderTiny:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide = (8, 8, 8)
        return AutoencoderTiny(
            latent_channels=3,
            encoder_block_out_channels=wide,
            decoder_block_out_channels=wide,
            num_encoder_blocks=(0, 1, 1),
            num_decoder_blocks=(1, 1, 0),
        ).eval()


def tiny_kl() -> AutoencoderKL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=3,
            norm_num_groups=4,
        ).eval()


def noise_tiles(n: int = 12, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch_stream(1, "tiles"))


@pytest.mark.parametrize("downsampling", [2, 4, 8])
@pytest.mark.parametrize("latent_channels", [4, 16])
def test_encode_divides_the_side_and_decode_restores_it(downsampling: int, latent_channels: int) -> None:
    vae, img_bchw = small(latent_channels, downsampling), torch.zeros(2, 3, 16, 16)
    z_bchw = ae.encode(vae, img_bchw)
    assert z_bchw.shape == (2, latent_channels, 16 // downsampling, 16 // downsampling)
    assert ae.decode(vae, z_bchw).shape == img_bchw.shape


def test_a_tiny_autoencoder_is_accepted_and_its_latents_are_not_rounded_to_eight_bits() -> None:
    vae, img_bchw = tiny(), ae.to_float(noise_tiles(2))
    z_bchw = ae.encode(vae, img_bchw)
    out_bchw = ae.decode(vae, z_bchw)
    assert z_bchw.shape == (2, 3, 4, 4) and out_bchw.shape == img_bchw.shape
    assert torch.equal(out_bchw, vae.decoder(vae.encoder(img_bchw)))
    assert not torch.equal(out_bchw, vae(img_bchw).sample)


def test_a_kl_autoencoder_gives_the_mean_of_its_posterior_and_draws_nothing() -> None:
    vae, img_bchw = tiny_kl(), ae.to_float(noise_tiles(2))
    before = torch.get_rng_state()
    with torch.no_grad():
        z_bchw = ae.encode(vae, img_bchw)
        moments_bchw = vae.quant_conv(vae.encoder(img_bchw))
        assert ae.decode(vae, z_bchw).shape == img_bchw.shape
    assert torch.equal(z_bchw, moments_bchw[:, :3])
    assert torch.equal(before, torch.get_rng_state())


def test_building_is_a_function_of_its_generator_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first, again = small().state_dict(), small().state_dict()
    other = ae.build(4, 4, 64, (1, 1), (1, 1), torch_stream(1, "w")).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("latent_channels", "downsampling", "width", "blocks", "reason"),
    [
        (4, 3, 64, (1, 1), "downsampling"),
        (4, 8, 64, (1, 1), "blocks"),
        (4, 4, 64, (0, 1), "blocks"),
        (4, 4, 72, (1, 1), "width"),
        (5, 4, 64, (1, 1), "width"),
        (4, 4, 48, (1, 1), "width"),
    ],
)
def test_an_impossible_shape_is_refused_with_its_reason(
    latent_channels: int, downsampling: int, width: int, blocks: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        ae.build(latent_channels, downsampling, width, blocks, blocks, torch_stream(0, "w"))


def test_latent_scale_is_exact_on_a_hand_made_case() -> None:
    z_bchw = torch.stack([torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.full((2, 2), 7.0)]).unsqueeze(0)
    mean_c, std_c = ae.latent_scale(z_bchw)
    assert mean_c.tolist() == [2.0, 7.0]
    assert std_c.tolist() == [1.0, 1.0], "a constant channel must not be divided by zero"


def test_normalised_latents_have_zero_mean_and_unit_variance_and_come_back() -> None:
    z_bchw = (
        torch.randn(64, 3, 4, 4, generator=torch_stream(0, "z")) * torch.tensor([1.0, 5.0, 0.1]).view(1, 3, 1, 1) + 4
    )
    scale = ae.latent_scale(z_bchw)
    n_bchw = ae.normalise(z_bchw, *scale)
    mean_c, std_c = ae.latent_scale(n_bchw)
    torch.testing.assert_close(mean_c, torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(std_c, torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(ae.denormalise(n_bchw, *scale), z_bchw, atol=1e-5, rtol=1e-5)


def test_every_grey_level_survives_the_way_to_float_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(ae.to_uint8(ae.to_float(levels)), levels)
    assert ae.to_float(levels).aminmax() == (torch.tensor(-1.0), torch.tensor(1.0))
    assert ae.to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_dihedral_draws_all_eight_turns_about_equally() -> None:
    tile_hw = torch.arange(4.0).view(1, 1, 2, 2)
    out_bchw = ae.dihedral(tile_hw.expand(4000, 1, 2, 2), torch_stream(0, "d"))
    kinds, counts = torch.unique(out_bchw.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == 8
    assert counts.min() > 400 and counts.max() < 600


def test_stain_jitter_scales_optical_density_by_one_factor_per_channel() -> None:
    img_bchw = ae.to_float(noise_tiles(3).clamp(min=1))
    out_bchw = ae.stain_jitter(img_bchw, 0.3, torch_stream(0, "s"))
    ratio = torch.log((out_bchw.double() + 1) / 2) / torch.log((img_bchw.double() + 1) / 2)
    dark = img_bchw < 0.5  # near white both logarithms vanish
    for b in range(3):
        for c in range(3):
            torch.testing.assert_close(ratio[b, c][dark[b, c]].std().item(), 0.0, atol=1e-4, rtol=0)
    assert ratio[:, :, 0, 0].unique().numel() == 9


def test_the_unit_penalty_is_zero_for_unit_latents_and_known_for_others() -> None:
    z_bchw = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    assert ae.unit_penalty(z_bchw).item() == pytest.approx(0.0, abs=1e-9)
    assert ae.unit_penalty(z_bchw * torch.e + 2).item() == pytest.approx(2.0**2 + 1.0**2, rel=1e-5)


def test_latent_noise_stays_below_its_strength_and_differs_between_tiles() -> None:
    z_bchw = torch.zeros(200, 4, 8, 8)
    std_b = ae.add_latent_noise(z_bchw, 0.5, torch_stream(0, "n")).std(dim=(1, 2, 3))
    assert 0.5 < std_b.max() / 0.5 < 1.15
    assert std_b.mean().item() == pytest.approx(0.25, abs=0.03)


def test_psnr_of_a_known_error() -> None:
    img_bchw = torch.zeros(2, 3, 4, 4)
    assert ae.psnr(img_bchw, img_bchw + 0.2).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    recipe = ae.Recipe(steps=100, warmup=10, lr=1.0)
    assert ae.learning_rate(0, recipe) == pytest.approx(0.1)
    assert ae.learning_rate(10, recipe) == pytest.approx(1.0)
    assert ae.learning_rate(55, recipe) == pytest.approx(0.5)
    assert ae.learning_rate(100, recipe) == pytest.approx(0.0)


def test_training_draws_rare_tiles_as_often_as_their_odds_say() -> None:
    tiles = torch.cat([torch.zeros(9, 3, 8, 8), torch.full((1, 3, 8, 8), 255)]).to(torch.uint8)
    odds_n = torch.tensor([0.5 / 9] * 9 + [0.5])
    recipe = replace(RECIPE, batch=2000, stain_jitter=0.0)
    img_bchw = ae.draw_batch(tiles, odds_n, recipe, torch_stream(0, "b"))
    assert (img_bchw > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_perceptual_weight_without_features_is_refused() -> None:
    with pytest.raises(ValueError, match="SqueezeNet"):
        ae.losses(small(), None, torch.zeros(1, 3, 16, 16), replace(RECIPE, perceptual=0.1), torch_stream(0))


def test_training_lowers_the_error() -> None:
    ramp_hw = torch.linspace(0, 255, 16).expand(16, 16)
    tiles = torch.stack([ramp_hw, ramp_hw.T, 255 - ramp_hw]).to(torch.uint8).expand(4, 3, 16, 16)
    recipe = ae.Recipe(steps=60, batch=8, lr=3e-3, warmup=5, bf16=False, stain_jitter=0.0)
    seen = [step["l1"] for step in ae.train(ae.start(small(), recipe), None, tiles, torch.ones(4), recipe, 0)]
    assert sum(seen[-5:]) < 0.6 * sum(seen[:5])


@pytest.mark.parametrize("bf16", [False, True])
def test_a_resumed_training_equals_the_unbroken_one_bit_for_bit(bf16: bool) -> None:
    tiles, odds_n, recipe = noise_tiles(), torch.ones(12), replace(RECIPE, bf16=bf16)
    whole = ae.start(small(), recipe)
    metrics = list(ae.train(whole, None, tiles, odds_n, recipe, seed=3))
    broken = ae.start(small(), recipe)
    first = [step for step, _ in zip(ae.train(broken, None, tiles, odds_n, recipe, seed=3), range(3), strict=False)]
    weights, moments = save(broken.model.state_dict()), copy.deepcopy(broken.optimiser.state_dict())
    torch.rand(100)  # history outside the loop must not matter
    resumed = ae.start(small(), recipe)
    resumed.model.load_state_dict(load(weights))
    resumed.optimiser.load_state_dict(moments)
    resumed.step = broken.step
    rest = list(ae.train(resumed, None, tiles, odds_n, recipe, seed=3))
    # zip has already taken one step more from the first loop than it returned, unless it stopped at the third
    assert metrics[broken.step :] == rest
    assert first == metrics[: len(first)]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_another_seed_trains_other_weights() -> None:
    ends = []
    for seed in (0, 1):
        state = ae.start(small(), RECIPE)
        list(ae.train(state, None, noise_tiles(), torch.ones(12), RECIPE, seed))
        ends.append(state.model.decoder.conv_in.weight)
    assert not torch.equal(*ends)
