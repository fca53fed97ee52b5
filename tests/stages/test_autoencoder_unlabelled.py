"""Tiles without a class: the autoencoder learns from them, nothing else does."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import autoencoder, images, models, release_card, store
from stages.autoencoder import AutoencoderSettings
from stages.contracts import UserError


def with_unlabelled(tiles: Path, to: Path, pixels_nhwc: images.Pixels) -> Path:
    shutil.copytree(tiles, to)
    count = len(pixels_nhwc)
    columns = {"group": list(range(count)), "role": ["train"] * count}
    images.write(to / "unlabelled", images.make(pixels_nhwc, [0] * count, ["unlabelled"], columns))
    return to


@pytest.fixture
def more(chain: Any, tmp_path: Path) -> Path:
    noise = np.random.default_rng(5).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    return with_unlabelled(chain.tiles, tmp_path / "more", noise)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return dict(models.read_vae(out / "vae").state_dict())


def test_train_learns_from_them_too_and_says_how_many_there_were(
    chain: Any, more: Path, tmp_path: Path, run_a_stage: Any, autoencoder_settings: AutoencoderSettings
) -> None:
    out = run_a_stage(autoencoder.run, autoencoder_settings, {"tiles": more}, tmp_path / "out")
    facts = store.read_json(out / "facts.json")
    assert facts["trained_on"] == {"train": 16, "unlabelled": 6}
    assert store.read_json(chain.autoencoder / "facts.json")["trained_on"] == {"train": 16, "unlabelled": 0}
    before = weights(chain.autoencoder)
    assert any(not torch.equal(value, before[key]) for key, value in weights(out).items())
    latents = store.read_tensors(out / "latents.safetensors")["latents_vnchw"]
    assert latents.shape[1] == 16, "the denoiser sees tiles with a class alone"
    assert "and on 6 more of their groups that have no class" in release_card._autoencoder(facts)


def test_left_aside_they_change_no_byte(
    chain: Any, more: Path, tmp_path: Path, run_a_stage: Any, autoencoder_settings: AutoencoderSettings
) -> None:
    settings = autoencoder_settings.model_copy(update={"unlabelled": False})
    out = run_a_stage(autoencoder.run, settings, {"tiles": more}, tmp_path / "out")
    assert store.digest_folder(out) == store.digest_folder(chain.autoencoder)


def test_a_given_autoencoder_stays_as_it_is(chain: Any, more: Path, tmp_path: Path, run_a_stage: Any) -> None:
    settings = AutoencoderSettings(folder=chain.autoencoder / "vae", scale="own", views=1, precision="no")
    out = run_a_stage(autoencoder.run, settings, {"tiles": more}, tmp_path / "out")
    assert "trained_on" not in store.read_json(out / "facts.json")
    assert all(torch.equal(value, weights(out)[key]) for key, value in weights(chain.autoencoder).items())


def test_together_they_are_one_class_more_behind_the_others(chain: Any) -> None:
    train = images.read(chain.tiles / "images", role="train")
    other = images.make(255 - train.pixels_nhwc[:3], [0] * 3, ["unlabelled"])
    both = autoencoder._together(train, other)
    assert both.labels_n.tolist() == [*train.labels_n, 2, 2, 2] and both.classes == ("dark", "light", "unlabelled")
    np.testing.assert_array_equal(both.pixels_nhwc[-3:], other.pixels_nhwc)


def test_tiles_of_another_size_are_refused_with_advice(
    chain: Any, tmp_path: Path, run_a_stage: Any, autoencoder_settings: AutoencoderSettings
) -> None:
    tiles = with_unlabelled(chain.tiles, tmp_path / "tiles", np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=r"of 16 px, the others of 32 px\. Set tiles\.size_px"):
        run_a_stage(autoencoder.run, autoencoder_settings, {"tiles": tiles}, tmp_path / "out")
