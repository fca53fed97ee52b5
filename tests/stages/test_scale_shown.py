"""The scale of the tiles goes from stage to stage, and onto every picture of tiles, the card and the metadata."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from releasing import make

from stages import autoencoder, candidates, denoiser, images, release, release_check, scale_bar, store
from stages.autoencoder import AutoencoderSettings
from stages.candidates import CandidatesSettings
from stages.denoiser import DenoiserSettings

BAR = scale_bar.MARGIN_PX


def told(folder: Path, to: Path, **facts: Any) -> Path:
    """A copy of a result whose facts tell more."""
    shutil.copytree(folder, to)
    path = to / "facts.json"
    store.write_json(path, (store.read_json(path) if path.exists() else {}) | facts)
    return to


@pytest.fixture
def scaled(story: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The story of a release whose tiles have a known scale."""
    return story | {"tiles": told(story["tiles"], tmp_path / "scaled", mpp=0.5)}


def test_a_release_tells_its_scale_and_passes_its_check(scaled: dict[str, Path], tmp_path: Path) -> None:
    folder = make(scaled, tmp_path / "out")
    assert release_check.verify(folder) == []
    assert "Scale: 0.5 µm per pixel." in (folder / "README.md").read_text()
    assert pd.read_parquet(folder / "train" / "metadata.parquet")["mpp"].unique().tolist() == [0.5]
    assert store.read_json(folder / "provenance.json")["release"]["mpp"] == 0.5


def test_a_release_of_unknown_scale_says_so(shipped: Path) -> None:
    assert "Scale: not known." in (shipped / "README.md").read_text()
    assert "mpp" not in pd.read_parquet(shipped / "train" / "metadata.parquet")
    assert store.read_json(shipped / "provenance.json")["release"]["mpp"] is None


def test_a_scale_that_is_not_the_declared_one_is_found(scaled: dict[str, Path], tmp_path: Path) -> None:
    folder = make(scaled, tmp_path / "out")
    path = folder / "provenance.json"
    value = store.read_json(path)
    store.write_json(path, value | {"release": value["release"] | {"mpp": 0.25}})
    store.write_text(folder / "checksums.sha256", release_check.checksums(folder))
    assert release_check.verify(folder) == [
        "train/metadata.parquet: its mpp is not the one that provenance.json declares"
    ]


def test_the_contact_sheet_has_a_bar_as_long_as_it_is_enlarged(story: dict[str, Path]) -> None:
    chosen = images.read(story["selection"] / "images")
    plain, scaled = (release.contact_sheet(chosen, 4, 3, mpp) for mpp in (None, 0.5))
    np.testing.assert_array_equal(scaled[: len(plain), : plain.shape[1]], plain)
    assert len(scaled) == len(plain) + BAR
    row = scaled[len(plain) + BAR // 2, scale_bar.LEFT_PX :, 0]
    assert np.argmax(row > 0) == 2 / 0.5 * 4, "2 µm are 4 px of a tile of 16, shown four times as large"


def test_the_scale_reaches_the_candidates_and_every_picture_on_the_way(
    chain: Any,
    tmp_path: Path,
    run_a_stage: Any,
    autoencoder_settings: AutoencoderSettings,
    denoiser_settings: DenoiserSettings,
    candidates_settings: CandidatesSettings,
) -> None:
    inputs = {"tiles": told(chain.tiles, tmp_path / "tiles", mpp=0.5)}
    inputs["autoencoder"] = run_a_stage(autoencoder.run, autoencoder_settings, inputs, tmp_path / "autoencoder")
    inputs["denoiser"] = run_a_stage(denoiser.run, denoiser_settings, inputs, tmp_path / "denoiser")
    made = run_a_stage(candidates.run, candidates_settings, inputs, tmp_path / "candidates")
    assert store.read_json(made / "facts.json")["mpp"] == 0.5
    pictures = {"autoencoder": "reconstruction.png", "denoiser": "samples.png"}
    pairs = [(getattr(chain, stage) / name, inputs[stage] / name) for stage, name in pictures.items()]
    for before, after in [*pairs, (chain.candidates / "contact.png", made / "contact.png")]:
        plain, scaled = (np.asarray(Image.open(path).convert("RGB")) for path in (before, after))
        assert len(scaled) == len(plain) + BAR and (scaled[len(plain) :] == 0).any(), after.name
        np.testing.assert_array_equal(scaled[: len(plain), : plain.shape[1]], plain)
        assert "mpp" not in store.read_json(before.parent / "facts.json")
    np.testing.assert_array_equal(
        images.read(made / "images").pixels_nhwc, images.read(chain.candidates / "images").pixels_nhwc
    )
