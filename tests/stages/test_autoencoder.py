"""The stage autoencoder: its three modes, its scale, its cache of latents."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from stages import autoencoder, images, models, store
from stages.autoencoder import AutoencoderSettings
from stages.contracts import UserError
from stages.diffusion import autoencoder as science
from stages.diffusion.views import view


def test_latents_are_those_of_every_view_in_the_order_of_the_train_tiles(chain: Any) -> None:
    latents = store.read_tensors(chain.autoencoder / "latents.safetensors")["latents_vnchw"]
    train = images.read(chain.tiles / "images", role="train")
    assert latents.shape == (2, 16, 2, 8, 8) and latents.dtype == torch.float16
    given = models.read_autoencoder(chain.autoencoder / "vae")
    img = science.to_float(torch.from_numpy(train.pixels_nhwc.transpose(0, 3, 1, 2).copy()))
    for number in range(2):
        raw = science.encode(given.model, view(img, number))
        expected = science.normalise(raw, given.mean_c, given.std_c)
        torch.testing.assert_close(latents[number].float(), expected, atol=2e-3, rtol=2e-3)


def test_own_scale_gives_latents_of_mean_zero_and_unit_spread(chain: Any) -> None:
    latents = store.read_tensors(chain.autoencoder / "latents.safetensors")["latents_vnchw"].double()
    std, mean = torch.std_mean(latents, dim=(0, 1, 3, 4), correction=0)
    torch.testing.assert_close(mean, torch.zeros(2, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(std, torch.ones(2, dtype=torch.float64), atol=1e-3, rtol=0)
    facts = store.read_json(chain.autoencoder / "facts.json")
    assert facts["scale_measured_on"] == "the run's own train tiles"
    assert {"train", "val"} == facts["psnr_db"].keys()
    assert (chain.autoencoder / "reconstruction.png").stat().st_size > 0


def test_a_folder_is_taken_as_it_is_with_its_own_scale_or_the_runs(
    chain: Any, tmp_path: Path, run_a_stage: Any
) -> None:
    given = models.read_autoencoder(chain.autoencoder / "vae")
    public = models.Autoencoder(given.model, given.mean_c + 1.0, given.std_c * 2.0, "public data")
    models.write_autoencoder(tmp_path / "given", public)
    for scale, words in (("folder", "public data"), ("own", "the run's own train tiles")):
        settings = AutoencoderSettings(folder=tmp_path / "given", scale=scale, views=2, precision="no")  # type: ignore[arg-type]
        out = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / scale)
        assert store.read_json(out / "facts.json")["scale_measured_on"] == words
        again = models.read_autoencoder(out / "vae")
        weights = given.model.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in again.model.state_dict().items())
    shifted = store.read_tensors(tmp_path / "folder" / "latents.safetensors")["latents_vnchw"].float()
    own = store.read_tensors(tmp_path / "own" / "latents.safetensors")["latents_vnchw"].float()
    shift = (1.0 / given.std_c).view(1, 1, -1, 1, 1)
    torch.testing.assert_close(shifted, (own - shift) / 2.0, atol=0.01, rtol=0.01)


def test_a_folder_without_a_scale_is_refused_with_advice(chain: Any, tmp_path: Path, run_a_stage: Any) -> None:
    models.read_vae(chain.autoencoder / "vae").save_pretrained(tmp_path / "bare")
    settings = AutoencoderSettings(folder=tmp_path / "bare", views=1)
    with pytest.raises(UserError, match="Set autoencoder.scale to own"):
        run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "out")


def test_an_autoencoder_kl_is_taken_too(chain: Any, tmp_path: Path, run_a_stage: Any) -> None:
    from diffusers import AutoencoderKL

    kl = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
    )
    kl.save_pretrained(tmp_path / "kl")
    settings = AutoencoderSettings(folder=tmp_path / "kl", scale="own", views=1)
    out = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "out")
    assert store.read_json(out / "facts.json")["latent_shape"] == [3, 16, 16]


def test_fine_tuning_starts_from_the_folder_and_moves(chain: Any, tmp_path: Path, run_a_stage: Any) -> None:
    settings = AutoencoderSettings(
        mode="finetune", folder=chain.autoencoder / "vae", steps=2, batch=4, warmup=0, views=1, learning_rate=1e-5
    )
    out = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "out")
    before = models.read_vae(chain.autoencoder / "vae").state_dict()
    after = models.read_vae(out / "vae").state_dict()
    largest = max(float((after[key] - value).abs().max()) for key, value in before.items())
    assert 0 < largest < 1e-3
    assert store.read_json(out / "facts.json")["scale_measured_on"] == "the run's own train tiles"


def test_tiles_of_28_px_are_padded_to_a_side_the_denoiser_can_halve(
    tmp_path: Path, run_a_stage: Any, tiles_of: Any
) -> None:
    tiles = tiles_of(tmp_path / "tiles", 28)
    settings = AutoencoderSettings(
        mode="train", steps=1, width=64, blocks=(1, 1), pca_tiles=16, batch=2, views=1, warmup=0
    )
    out = run_a_stage(autoencoder.run, settings, {"tiles": tiles}, tmp_path / "out")
    facts = store.read_json(out / "facts.json")
    assert (facts["size_px"], facts["padded_px"], facts["latent_shape"]) == (28, 32, [4, 8, 8])


def test_a_mode_that_needs_a_folder_asks_for_it() -> None:
    with pytest.raises(ValidationError, match="needs `folder`"):
        AutoencoderSettings()
    with pytest.raises(ValidationError, match="must divide width"):
        AutoencoderSettings(mode="train", latent_channels=5)


def test_killed_and_run_again_it_gives_the_same_bytes(
    chain: Any, tmp_path: Path, run_a_stage: Any, kill_a_stage: Any, autoencoder_settings: AutoencoderSettings
) -> None:
    out = tmp_path / "autoencoder"
    settings = autoencoder_settings.model_copy(update={"steps": 30})
    whole = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "whole")
    checkpoint = store.work_folder(out) / "autoencoder.safetensors"
    status = kill_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, out, checkpoint.exists, signal.SIGKILL)
    assert status == -signal.SIGKILL and not out.exists()
    run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, out)
    assert store.digest_folder(out) == store.digest_folder(whole)
