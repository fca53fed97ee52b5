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
from stages.features import squeezenet

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
    assert (facts["name"], facts["licence_restricts"], facts["warnings"]) == ("judge (convnet3)", False, [])


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
        facts = store.read_json(out / "facts.json")
        assert (facts["licence"], facts["licence_restricts"], facts["licence_known"]) == ("not stated", False, False)
        assert "whose licence is not known here" in facts["warnings"][0]
    pixels_nhwc = images.read(inputs["candidates"] / "images").pixels_nhwc
    img_nchw = torch.from_numpy(pixels_nhwc).permute(0, 3, 1, 2).float() / 127.5 - 1
    pooled = vae.encode(img_nchw).latents.mean(dim=(2, 3))
    torch.testing.assert_close(features["candidates_nd"][:, :3], pooled, rtol=1e-4, atol=1e-5)
    store.write_json(tmp_path / "autoencoder" / "facts.json", {"mode": "train"})
    assert store.read_json(embed(inputs, tmp_path / "own", settings) / "facts.json")["warnings"] == []


def test_a_judge_that_went_wrong_is_told(inputs: dict[str, Path], tmp_path: Path) -> None:
    network = networks.build_seeded(JUDGE, torch.Generator().manual_seed(1))
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    models.write_network(tmp_path / "judge" / "colour", network, JUDGE)
    with pytest.raises(UserError, match="not finite"):
        embed(inputs | {"judge": tmp_path / "judge"}, tmp_path / "out")


def test_tiles_are_resized_to_what_the_judge_was_trained_on(inputs: dict[str, Path], tmp_path: Path) -> None:
    small = JUDGE | {"size_px": 8, "feature_dim": 4}
    network = networks.build_seeded(small, torch.Generator().manual_seed(1))
    models.write_network(tmp_path / "judge" / "colour", network, small)
    out = embed(inputs | {"judge": tmp_path / "judge"}, tmp_path / "out")
    pixels_nhwc = images.read(inputs["candidates"] / "images").pixels_nhwc.astype(np.float64)
    means_nhwc = np.rint(pixels_nhwc.reshape(21, 8, 2, 8, 2, 3).mean(axis=(2, 4)))
    img_nchw = torch.from_numpy((means_nhwc / 255.0 - JUDGE["mean"]) / JUDGE["std"]).float().permute(0, 3, 1, 2)
    found = store.read_tensors(out / "features.safetensors")["candidates_nd"]
    torch.testing.assert_close(found, network.features(img_nchw), rtol=0.02, atol=0.02)


def test_squeezenet_gives_its_pooled_features_and_brings_no_warning(inputs: dict[str, Path], tmp_path: Path) -> None:
    out = embed(inputs, tmp_path / "out", SETTINGS.model_copy(update={"encoder": "squeezenet"}))
    tiles = images.read(inputs["tiles"] / "images", role="val")
    img_nchw = torch.from_numpy(tiles.pixels_nhwc).permute(0, 3, 1, 2).float() / 127.5 - 1
    wanted = squeezenet.pooled_features(models.read_squeezenet(), img_nchw, 64)
    torch.testing.assert_close(store.read_tensors(out / "features.safetensors")["val_nd"], wanted, rtol=1e-4, atol=1e-4)
    facts = store.read_json(out / "facts.json")
    assert (facts["dim"], facts["licence"], facts["warnings"]) == (512, "MIT", [])


COMPILED = pytest.param("umap", marks=pytest.mark.slow)  # numba compiles it anew in every process


@pytest.mark.parametrize("method", ["pca", COMPILED])
def test_the_selection_gets_short_vectors_and_the_figures_keep_to_the_long_ones(
    inputs: dict[str, Path], tmp_path: Path, method: str
) -> None:
    reduced = SETTINGS.model_copy(update={"reduce": method, "reduce_dim": 3, "reduce_neighbours": 5})
    whole, one, two = embed(inputs, tmp_path / "a"), embed(inputs, tmp_path / "b", reduced), tmp_path / "c"
    assert contents(one) == contents(embed(inputs, two, reduced))
    long, short = (store.read_tensors(out / "features.safetensors") for out in (whole, one))
    assert short.pop("reduced_nr").shape == (21, 3) and "reduced_nr" not in long
    assert all(torch.equal(short[name], long[name]) for name in long | short)
    facts = [store.read_json(out / "facts.json") for out in (whole, one)]
    assert facts[0]["fidelity"] == facts[1]["fidelity"] and facts[0]["reduced"] is None
    assert facts[1]["dim"] == 16 and facts[1]["reduced"].items() >= {"method": method, "dim": 3}.items()


def test_more_numbers_than_there_are_and_too_few_for_umap_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reduce_dim is 17, but there are 21 candidates of 16 features"):
        embed(inputs, tmp_path / "a", SETTINGS.model_copy(update={"reduce": "pca", "reduce_dim": 17}))
    with pytest.raises(UserError, match="at least 32 vectors, and there are 21: lower embedding.reduce_neighbours"):
        embed(inputs, tmp_path / "b", SETTINGS.model_copy(update={"reduce": "umap", "reduce_neighbours": 30}))


def test_a_brought_network_needs_its_section() -> None:
    with pytest.raises(ValueError, match="encoder 'timm' needs its own section"):
        EmbeddingSettings(encoder="timm")
