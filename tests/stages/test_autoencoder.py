"""The stage autoencoder: its three modes, its scale, its cache of latents."""

import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from pydantic import ValidationError

from stages import autoencoder, images, models, store
from stages.autoencoder import AutoencoderSettings
from stages.contracts import UserError
from stages.diffusion import autoencoder as science
from stages.diffusion import views
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


def kl(folder: Path, latent_channels: int = 3) -> Any:
    """A small AutoencoderKL of factor 2 in `folder`: as SD's, and with 16 channels as SD3's and Flux's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoencoderKL(
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=latent_channels,
            use_quant_conv=latent_channels != 16,
            use_post_quant_conv=latent_channels != 16,
            shift_factor=0.1 if latent_channels == 16 else None,
        )
    model.save_pretrained(folder)
    return model.eval()


def taesd(folder: Path) -> Any:
    """A small AutoencoderTiny of factor 4 in `folder`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        )
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("channels", [3, 16])
def test_an_autoencoder_kl_is_taken_with_the_mean_of_its_posterior(
    chain: Any, tmp_path: Path, run_a_stage: Any, channels: int
) -> None:
    given = kl(tmp_path / "kl", channels)
    settings = AutoencoderSettings(folder=tmp_path / "kl", scale="own", views=1, precision="no")
    out = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "out")
    assert store.read_json(out / "facts.json")["latent_shape"] == [channels, 16, 16]
    train = images.read(chain.tiles / "images", role="train")
    img = science.to_float(torch.from_numpy(train.pixels_nhwc.transpose(0, 3, 1, 2).copy()))
    with torch.no_grad():
        mean = given.encode(img).latent_dist.mean
    read = models.read_autoencoder(out / "vae")
    latents = store.read_tensors(out / "latents.safetensors")["latents_vnchw"][0].float()
    expected = science.normalise(mean, read.mean_c, read.std_c)
    torch.testing.assert_close(latents, expected, atol=5e-3, rtol=5e-3)


def test_a_taesd_is_taken_and_fine_tuned(chain: Any, tmp_path: Path, run_a_stage: Any) -> None:
    before = taesd(tmp_path / "tiny").state_dict()
    settings = AutoencoderSettings(folder=tmp_path / "tiny", scale="own", views=1)
    out = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "taken")
    assert store.read_json(out / "facts.json")["latent_shape"] == [4, 8, 8]
    again = models.read_vae(out / "vae").state_dict()
    assert all(torch.equal(again[key], value) for key, value in before.items())
    tuned = settings.model_copy(
        update={"mode": "finetune", "steps": 40, "batch": 8, "warmup": 0, "learning_rate": 3e-3}
    )
    out = run_a_stage(autoencoder.run, tuned, {"tiles": chain.tiles}, tmp_path / "tuned")
    after = models.read_vae(out / "vae").state_dict()
    assert any(not torch.equal(after[key], value) for key, value in before.items())
    l1 = pd.read_parquet(out / "curves.parquet")["l1"]
    assert l1.tail(5).mean() < 0.8 * l1.head(5).mean()


def test_an_autoencoder_kl_is_not_fine_tuned(chain: Any, tmp_path: Path, run_a_stage: Any) -> None:
    kl(tmp_path / "kl")
    settings = AutoencoderSettings(mode="finetune", folder=tmp_path / "kl", views=1)
    with pytest.raises(UserError, match="set autoencoder.mode to folder"):
        run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "out")


def test_pickled_weights_are_refused_with_advice(chain: Any, tmp_path: Path, run_a_stage: Any) -> None:
    model = kl(tmp_path / "kl")
    (tmp_path / "kl" / models.WEIGHTS).unlink()
    torch.save(model.state_dict(), tmp_path / "kl" / "diffusion_pytorch_model.bin")
    settings = AutoencoderSettings(folder=tmp_path / "kl", scale="own", views=1)
    with pytest.raises(UserError, match="never read here.*use_safetensors=False"):
        run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "out")


def test_large_tiles_go_through_a_few_at_a_time_and_give_the_same(
    tmp_path: Path, run_a_stage: Any, tiles_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taesd(tmp_path / "tiny")
    tiles = tiles_of(tmp_path / "tiles", 160)
    settings = AutoencoderSettings(folder=tmp_path / "tiny", scale="own", views=1, precision="no")
    seen: list[int] = []
    encode = science.encode

    def noted(vae: Any, img_bchw: torch.Tensor) -> torch.Tensor:
        seen.append(len(img_bchw))
        return encode(vae, img_bchw)

    monkeypatch.setattr(science, "encode", noted)
    few = run_a_stage(autoencoder.run, settings, {"tiles": tiles}, tmp_path / "few")
    assert max(seen) == 10, "10 of 160 px cover as many pixels as 64 of 64 px"
    monkeypatch.setattr(views, "at_once", lambda side, most=64: 5)
    other = run_a_stage(autoencoder.run, settings, {"tiles": tiles}, tmp_path / "other")
    one, two = (store.read_tensors(out / "latents.safetensors")["latents_vnchw"].float() for out in (few, other))
    torch.testing.assert_close(one, two, atol=2e-3, rtol=2e-3)


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
    with pytest.raises(ValidationError, match="needs either `folder`"):
        AutoencoderSettings()
    with pytest.raises(ValidationError, match="needs either `folder`"):
        AutoencoderSettings(folder=Path("here"), hub="owner/model")
    with pytest.raises(ValidationError, match="takes no `folder` or `hub`"):
        AutoencoderSettings(mode="train", hub="owner/model")
    with pytest.raises(ValidationError, match="hub"):
        AutoencoderSettings(hub="not a name")
    with pytest.raises(ValidationError, match="must divide width"):
        AutoencoderSettings(mode="train", latent_channels=5)


def test_killed_and_run_again_it_gives_the_same_bytes(
    chain: Any, tmp_path: Path, run_a_stage_apart: Any, kill_a_stage: Any, autoencoder_settings: AutoencoderSettings
) -> None:
    out = tmp_path / "autoencoder"
    settings = autoencoder_settings.model_copy(update={"steps": 30})
    whole = run_a_stage_apart(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "whole")
    checkpoint = store.work_folder(out) / "autoencoder.safetensors"
    status = kill_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, out, checkpoint.exists, signal.SIGKILL)
    assert status == -signal.SIGKILL and not out.exists()
    run_a_stage_apart(autoencoder.run, settings, {"tiles": chain.tiles}, out)
    assert store.digest_folder(out) == store.digest_folder(whole)
