"""28 px with a 4× autoencoder: a latent of 7 would break a denoiser that halves twice, so tiles are padded to 32."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_tiles import run

from stages import autoencoder, candidates, denoiser, images, store

SHIPPED = Path(autoencoder.__file__).parents[1] / "data" / "autoencoder"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MedMNIST file of dark and light tiles, and what becomes of it."""
    root = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    content = {}
    for role, count in (("train", 24), ("val", 4), ("test", 4)):
        label = np.arange(count) % 2
        shade = 70 + 90 * label[:, None, None, None] + rng.normal(0, 10, (count, 28, 28, 3))
        content |= {f"{role}_images": shade.clip(0, 255).astype(np.uint8), f"{role}_labels": label[:, None]}
    np.savez(root / "pneumoniamnist.npz", **content)
    return run(root / "tiles", source=root / "pneumoniamnist.npz")


def test_28_px_go_through_a_4x_autoencoder_a_denoiser_and_come_back(
    tmp_path: Path,
    tiles: Path,
    run_a_stage: Callable[..., Path],
    denoiser_settings: denoiser.DenoiserSettings,
    candidates_settings: candidates.CandidatesSettings,
) -> None:
    settings = autoencoder.AutoencoderSettings(folder=SHIPPED, views=1, precision="no")
    inputs = {"tiles": tiles}
    inputs["autoencoder"] = run_a_stage(autoencoder.run, settings, inputs, tmp_path / "autoencoder")
    facts = store.read_json(inputs["autoencoder"] / "facts.json")
    assert (facts["size_px"], facts["padded_px"], facts["latent_shape"]) == (28, 32, [4, 8, 8])
    assert facts["psnr_db"]["val"] > 20
    brief = denoiser_settings.model_copy(update={"steps": 2, "checkups": 1, "warmup": 0})
    inputs["denoiser"] = run_a_stage(denoiser.run, brief, inputs, tmp_path / "denoiser")
    made = run_a_stage(candidates.run, candidates_settings, inputs, tmp_path / "candidates")
    assert images.read(made / "images").pixels_nhwc.shape == (10, 28, 28, 3)
