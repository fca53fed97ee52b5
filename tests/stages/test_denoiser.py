"""The stage denoiser: what it writes, its warning, its errors, and a stop that loses nothing."""

import json
import logging
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from diffusers import UNet2DModel
from PIL import Image
from pydantic import ValidationError

from stages import denoiser, images, models, store
from stages.contracts import UserError
from stages.denoiser import DenoiserSettings
from stages.denoiser_networks import DiTSettings, UNetSettings, UViTSettings
from stages.diffusion.pipeline import decode_pixels


def test_it_writes_network_curves_samples_and_facts(chain: Any) -> None:
    facts = store.read_json(chain.denoiser / "facts.json")
    assert facts["classes"] == ["dark", "light"] and facts["null_class"] == 2 and facts["latent_shape"] == [2, 8, 8]
    assert list(facts["kid"]) == ["2", "4", "8"], "at a quarter, at half, at the end"
    network = UNet2DModel.from_pretrained(chain.denoiser / "network", use_safetensors=True)
    assert network.config.num_class_embeds == 3
    curves = pd.read_parquet(chain.denoiser / "curves.parquet")
    assert {"step", "loss", "lr", "grad_norm", "kid"} == set(curves.columns) and len(curves) == 8
    page = np.asarray(Image.open(chain.denoiser / "samples.png"))
    assert page.shape == (3 * 36, 6 * 34 + 2, 3), "three rows of two classes × three samples of 32 px"


def test_tensorboard_is_written_beside_the_result_and_never_inside(chain: Any) -> None:
    logs = store.logs_folder(chain.denoiser)
    assert list(logs.glob("events.out.tfevents.*"))
    assert not list(chain.denoiser.rglob("events.*"))


def test_no_clock_and_no_path_enters_the_result(
    chain: Any, tmp_path: Path, run_a_stage: Any, denoiser_settings: Any
) -> None:
    inputs = {"tiles": chain.tiles, "autoencoder": chain.autoencoder}
    again = run_a_stage(denoiser.run, denoiser_settings, inputs, tmp_path / "elsewhere")
    assert store.digest_folder(again) == store.digest_folder(chain.denoiser)


def test_a_warning_when_kid_does_not_fall() -> None:
    assert denoiser.worries({100: 0.5, 200: 0.3, 400: 0.1}) == []
    assert denoiser.worries({400: 0.5}) == [], "one measurement has no course"
    assert denoiser.worries({100: 0.5, 200: float("nan")}) == []
    assert denoiser.worries({100: 1.1, 200: 1.2}, floor=1.2) == [], "the decoder's blur is not the denoiser's fault"
    assert denoiser.worries({100: 1.1, 200: 1.2}, floor=0.2), "far above the floor it is"
    (warning,) = denoiser.worries({400: 0.5, 100: 0.5, 200: 0.3})
    assert "did not fall" in warning and "100 steps" in warning and "400" in warning


def test_the_warning_reaches_the_person_and_the_facts(
    chain: Any, tmp_path: Path, run_a_stage: Any, denoiser_settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The val tiles are what the decoder makes of train tiles, so its own blur costs nothing and hides nothing."""
    given = models.read_autoencoder(chain.autoencoder / "vae")
    z_nchw = store.read_tensors(chain.autoencoder / "latents.safetensors")["latents_vnchw"][0].float()
    decoded = decode_pixels(given.model, z_nchw, given.mean_c.tolist(), given.std_c.tolist(), 32)
    tiles = images.read(chain.tiles / "images")
    pixels = np.concatenate([tiles.pixels_nhwc[:16], decoded[::2]])
    columns = tiles.table[["group", "role"]]
    images.write(tmp_path / "tiles" / "images", images.make(pixels, tiles.labels_n, tiles.classes, columns))
    settings = denoiser_settings.model_copy(update={"learning_rate": 1e-12, "steps": 4, "checkups": 2})
    inputs = {"tiles": tmp_path / "tiles", "autoencoder": chain.autoencoder}
    with caplog.at_level(logging.WARNING, logger="stages.denoiser"):
        out = run_a_stage(denoiser.run, settings, inputs, tmp_path / "stuck")
    warnings = store.read_json(out / "facts.json")["warnings"]
    assert [record.message for record in caplog.records] == warnings
    assert len(warnings) == 1, "a network that learns nothing is reported"


def test_a_class_without_train_tiles_is_refused(chain: Any, tmp_path: Path, run_a_stage: Any) -> None:
    some = images.read(chain.tiles / "images")
    images.write(tmp_path / "tiles" / "images", some.take(np.flatnonzero(some.labels_n == 0)))
    inputs = {"tiles": tmp_path / "tiles", "autoencoder": chain.autoencoder}
    with pytest.raises(UserError, match="No train tile of class light"):
        run_a_stage(denoiser.run, DenoiserSettings(), inputs, tmp_path / "out")


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValidationError, match="attention flags"):
        UNetSettings(widths=(32, 64), attention=(True,))
    with pytest.raises(ValidationError, match="multiples of norm_groups"):
        UNetSettings(widths=(30, 64), attention=(False, True))
    with pytest.raises(ValidationError, match="multiple of heads"):
        DiTSettings(width=32, heads=3)
    with pytest.raises(ValidationError, match="multiple of heads"):
        UViTSettings(width=32, heads=3)
    with pytest.raises(ValidationError, match="odd"):
        UViTSettings(depth=4)


@pytest.mark.parametrize(
    ("network", "advice"), [("unet", "fewer widths"), ("dit", "another denoiser.dit.patch"), ("uvit", "uvit.patch")]
)
def test_a_latent_the_network_cannot_hold_is_refused_with_advice(
    chain: Any, tmp_path: Path, run_a_stage: Any, network: str, advice: str
) -> None:
    settings = DenoiserSettings.model_validate(
        {
            "network": network,
            "unet": {"widths": [8] * 5, "attention": [False] * 5},
            "dit": {"patch": 3},
            "uvit": {"patch": 3},
        }
    )
    inputs = {"tiles": chain.tiles, "autoencoder": chain.autoencoder}
    with pytest.raises(UserError, match=advice):
        run_a_stage(denoiser.run, settings, inputs, tmp_path / "out")


def test_stopped_then_killed_and_run_again_it_gives_the_bytes_of_an_unbroken_run(
    chain: Any, tmp_path: Path, run_a_stage: Any, kill_a_stage: Any, denoiser_settings: DenoiserSettings
) -> None:
    inputs = {"tiles": chain.tiles, "autoencoder": chain.autoencoder}
    settings = denoiser_settings.model_copy(update={"steps": 50, "tensorboard": False})
    whole = run_a_stage(denoiser.run, settings, inputs, tmp_path / "whole")
    out = tmp_path / "broken"
    checkpoint = store.work_folder(out) / "denoiser.safetensors"

    def steps_done() -> int:
        return len(json.loads(store.read_note(checkpoint))) if checkpoint.exists() else 0

    assert kill_a_stage(denoiser.run, settings, inputs, out, lambda: steps_done() >= 3, signal.SIGTERM) == 3
    stopped_at = steps_done()
    assert 3 <= stopped_at < 50, "SIGTERM ends the step, writes the checkpoint and leaves"
    status = kill_a_stage(denoiser.run, settings, inputs, out, lambda: steps_done() >= stopped_at + 3, signal.SIGKILL)
    assert status == -signal.SIGKILL and not out.exists() and steps_done() < 50
    run_a_stage(denoiser.run, settings, inputs, out)
    assert store.digest_folder(out) == store.digest_folder(whole)


@pytest.mark.slow
def test_two_processes_train_what_one_does(
    chain: Any, tmp_path: Path, run_a_stage: Any, denoiser_settings: DenoiserSettings
) -> None:
    """The batch is drawn whole and shared, so but for the order of sums the weights are the same."""
    inputs = {"tiles": chain.tiles, "autoencoder": chain.autoencoder}
    settings = denoiser_settings.model_copy(update={"processes": 2})
    both = run_a_stage(denoiser.run, settings, inputs, tmp_path / "both")
    name = "network/diffusion_pytorch_model.safetensors"
    one, two = (store.read_tensors(folder / name) for folder in (chain.denoiser, both))
    assert all(float((two[key] - value).abs().max()) < 1e-4 for key, value in one.items())
    rates = [pd.read_parquet(folder / "curves.parquet")["lr"].tolist() for folder in (chain.denoiser, both)]
    assert rates[0] == rates[1]
