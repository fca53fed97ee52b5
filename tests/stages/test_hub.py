"""An autoencoder by its name on the hub: the cache is enough, and where it is not, the error says what to do."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from diffusers import AutoencoderTiny
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from stages import autoencoder, hub, models, store
from stages.autoencoder import AutoencoderSettings
from stages.contracts import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def fill(cache: Path, files: tuple[str, ...] = ("config.json", hub.WEIGHTS)) -> Path:
    """A small TAESD as if it had been fetched before, or a part of it."""
    model = cache / "models--someone--small-taesd"
    snapshot = model / "snapshots" / COMMIT
    ends = (8, 8, 8)
    vae = AutoencoderTiny(
        encoder_block_out_channels=ends,
        decoder_block_out_channels=ends,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    vae.save_pretrained(snapshot)
    for path in snapshot.iterdir():
        if path.name not in files:
            path.unlink()
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_model_in_the_cache_is_found_without_a_network(cache: Path) -> None:
    snapshot = fill(cache)
    assert hub.folder_of("someone/small-taesd") == (snapshot, COMMIT)
    assert hub.folder_of(f"someone/small-taesd@{COMMIT}") == (snapshot, COMMIT)


def test_a_model_that_cannot_be_had_gives_the_commands_that_bring_it(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        hub.folder_of("stabilityai/sd-vae-ft-mse@main")
    said = str(caught.value)
    assert "hf download stabilityai/sd-vae-ft-mse --revision main config.json diffusion_pytorch_model.saf" in said
    assert "--set autoencoder.hub=null --set autoencoder.folder=sd-vae-ft-mse --set autoencoder.scale=own" in said


def test_what_is_half_in_the_cache_is_asked_of_the_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, ("config.json",))
    asked: list[Any] = []

    def download(model: str, **how: Any) -> str:
        asked.append((model, how.get("local_files_only", False), how["allow_patterns"]))
        return str(cache / "models--someone--small-taesd" / "snapshots" / COMMIT)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    hub.folder_of("someone/small-taesd")
    assert [(model, local) for model, local, _ in asked] == [
        ("someone/small-taesd", True),
        ("someone/small-taesd", False),
    ]
    assert all(set(files) == set(hub.WANTED) for *_, files in asked), "never code, never pickles"


def test_a_network_that_breaks_off_is_no_traceback(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(model: str, local_files_only: bool = False, **how: Any) -> str:
        raise LocalEntryNotFoundError("no") if local_files_only else ConnectionResetError("gone")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match="hf download someone/small-taesd config.json"):
        hub.folder_of("someone/small-taesd")


def test_the_stage_takes_it_measures_its_scale_and_tells_where_it_is_from(
    chain: Any, cache: Path, tmp_path: Path, run_a_stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = fill(cache)
    settings = AutoencoderSettings(hub="someone/small-taesd", views=1)
    with caplog.at_level("INFO"):
        out = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "out")
    facts = store.read_json(out / "facts.json")
    assert facts["origin"] == f"someone/small-taesd, commit {COMMIT}"
    assert facts["scale_measured_on"] == "the run's own train tiles"
    assert "tells no scale of its latents" in caplog.text
    given = models.read_autoencoder(out / "vae")
    models.write_autoencoder(snapshot, given._replace(mean_c=given.mean_c + 1.0, measured_on="public data"))
    out = run_a_stage(autoencoder.run, settings, {"tiles": chain.tiles}, tmp_path / "told")
    assert store.read_json(out / "facts.json")["scale_measured_on"] == "public data", (
        "where it tells one, that is taken"
    )
