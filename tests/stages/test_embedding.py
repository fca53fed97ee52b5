"""Stage embedding on a handful of real little networks."""

import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.engine import Processes, Serial
from stages import compute, embedding, images, models, store
from stages.classify import networks
from stages.contracts import Interrupted, UserError
from stages.embedding import EmbeddingSettings

JUDGE = {
    "architecture": "convnet3",
    "classes": ["a", "b"],
    "grey": False,
    "mean": [0.5, 0.4, 0.6],
    "std": [0.2, 0.3, 0.25],
    "size_px": 16,
    "width": 4,
    "feature_dim": 16,
}
SETTINGS = EmbeddingSettings(chunk=8, plane="pca", resamples=20)
FILES = ("features.safetensors", "probabilities.safetensors", "map.parquet", "facts.json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Candidates, tiles of three roles and a judge, all small."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    pixels_nhwc = rng.integers(0, 256, size=(60, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(60) % 2
    candidates = images.make(pixels_nhwc[:21], labels[:21], ["a", "b"], {"index": np.arange(21)})
    roles = np.array(["train"] * 20 + ["val"] * 10 + ["test"] * 9)
    columns = {"group": np.arange(39) // 2, "role": roles}
    images.write(folder / "candidates" / "images", candidates)
    images.write(folder / "tiles" / "images", images.make(pixels_nhwc[21:], labels[21:], ["a", "b"], columns))
    models.write_network(
        folder / "judge" / "colour", networks.build_seeded(JUDGE, torch.Generator().manual_seed(1)), JUDGE
    )
    return {name: folder / name for name in ("candidates", "tiles", "judge")}


def embed(inputs: dict[str, Path], out: Path, settings: EmbeddingSettings = SETTINGS, engine: Any = None) -> Path:
    out.mkdir(parents=True)
    embedding.run(settings, inputs, out, 7, engine or Serial())
    return out


def contents(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in FILES]


def test_features_and_probabilities_are_those_of_the_judge_row_for_row(inputs: dict[str, Path], tmp_path: Path) -> None:
    out = embed(inputs, tmp_path / "out")
    features = store.read_tensors(out / "features.safetensors")
    probabilities = store.read_tensors(out / "probabilities.safetensors")
    network, _ = models.read_network(inputs["judge"] / "colour", networks.build)
    wanted = {
        "candidates": images.read(inputs["candidates"] / "images"),
        "train": images.read(inputs["tiles"] / "images", role="train"),
        "val": images.read(inputs["tiles"] / "images", role="val"),
    }
    for name, tiles in wanted.items():
        img_nchw = (tiles.pixels_nhwc / 255.0 - JUDGE["mean"]) / JUDGE["std"]
        img_nchw = torch.from_numpy(img_nchw).float().permute(0, 3, 1, 2)
        torch.testing.assert_close(features[f"{name}_nd"], network.features(img_nchw), rtol=1e-4, atol=1e-5)
        if name != "train":
            torch.testing.assert_close(probabilities[f"{name}_nk"], network(img_nchw).softmax(1), rtol=1e-4, atol=1e-5)
    assert set(probabilities) == {"candidates_nk", "val_nk"}
    facts = store.read_json(out / "facts.json")
    assert (facts["encoder"], facts["dim"]) == ("judge", 16)
    assert facts["digest"] == store.digest_file(inputs["judge"] / "colour" / "weights.safetensors")
    assert {"kid", "kid_train", "manifold", "manifold_train"} == set(facts["fidelity"])


def test_the_map_has_a_row_per_candidate(inputs: dict[str, Path], tmp_path: Path) -> None:
    frame = pd.read_parquet(embed(inputs, tmp_path / "out") / "map.parquet")
    assert frame["row"].tolist() == list(range(21)) and frame[["x", "y"]].notna().all(axis=None)


def test_equal_runs_give_equal_bytes_and_chunks_do_not_matter(inputs: dict[str, Path], tmp_path: Path) -> None:
    one, two = embed(inputs, tmp_path / "one"), embed(inputs, tmp_path / "two")
    assert contents(one) == contents(two)
    other = embed(inputs, tmp_path / "other", SETTINGS.model_copy(update={"chunk": 5}))
    features = [store.read_tensors(out / "features.safetensors")["train_nd"] for out in (one, other)]
    torch.testing.assert_close(*features)


@pytest.mark.slow  # starts processes that import torch
def test_a_pool_gives_the_same_bytes_as_one_process(inputs: dict[str, Path], tmp_path: Path) -> None:
    pooled = embed(inputs, tmp_path / "pooled", engine=Processes(2))
    assert contents(pooled) == contents(embed(inputs, tmp_path / "serial"))


class Stopper(Serial):
    """An engine under which a signal arrives after the third chunk."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == 2:
                signal.raise_signal(signal.SIGTERM)
            yield function(item)


def test_a_stop_keeps_the_finished_chunks_and_running_again_gives_the_same_bytes(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stopped"
    with compute.graceful(), pytest.raises(Interrupted, match="run the same command again"):
        embed(inputs, out, engine=Stopper())
    done = []
    plain = embedding.embed_piece
    monkeypatch.setattr(embedding, "embed_piece", lambda piece, **rest: done.append(piece) or plain(piece, **rest))
    with compute.graceful():
        embedding.run(SETTINGS, inputs, out, 7, Serial())
    assert len(done) == 8 - 3  # 3 + 3 + 2 chunks in all, three of them already there
    assert contents(out) == contents(embed(inputs, tmp_path / "whole"))


def test_the_latent_of_the_autoencoder_is_another_encoder(inputs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("stages.diffusion.autoencoder")
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    blocks = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    counts = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    vae = AutoencoderTiny(latent_channels=3, **blocks, **counts).eval()
    scale = models.Autoencoder(vae, torch.zeros(3), torch.ones(3), "public tiles")
    models.write_autoencoder(tmp_path / "autoencoder" / "vae", scale)
    inputs = inputs | {"autoencoder": tmp_path / "autoencoder"}
    for latent, dim in (("flat", 3 * 8 * 8), ("pooled", 6)):
        settings = EmbeddingSettings(encoder="autoencoder", latent=latent, plane="pca", resamples=20)
        out = embed(inputs, tmp_path / latent, settings)
        features = store.read_tensors(out / "features.safetensors")
        assert features["candidates_nd"].shape == (21, dim)
        assert not (out / "probabilities.safetensors").exists()
        assert "public tiles" in store.read_json(out / "facts.json")["licence"]
    pixels_nhwc = images.read(inputs["candidates"] / "images").pixels_nhwc
    img_nchw = torch.from_numpy(pixels_nhwc).permute(0, 3, 1, 2).float() / 127.5 - 1
    pooled = vae.encode(img_nchw).latents.mean(dim=(2, 3))
    torch.testing.assert_close(features["candidates_nd"][:, :3], pooled, rtol=1e-4, atol=1e-5)


def test_a_judge_that_went_wrong_is_told(inputs: dict[str, Path], tmp_path: Path) -> None:
    network = networks.build_seeded(JUDGE, torch.Generator().manual_seed(1))
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    models.write_network(tmp_path / "judge" / "colour", network, JUDGE)
    with pytest.raises(UserError, match="not finite"):
        embed(inputs | {"judge": tmp_path / "judge"}, tmp_path / "out")
