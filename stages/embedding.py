"""Stage embedding: candidates and real tiles as feature vectors, and a plane to draw the candidates on.

Writes `features.safetensors` (candidates_nd, train_nd, val_nd; float32, rows as in their image sets),
`probabilities.safetensors` (candidates_nk, val_nk) when the judge encodes, `map.parquet` (row, x, y: candidates, for
plots only; it lies here and not with the selections because it depends on the vectors alone) and `facts.json`.
Real vectors are private: they never leave the store.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from stages import compute, images, progress, store
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.settings import Settings
from stages.streams import derive, numpy_stream

if TYPE_CHECKING:
    from torch import Tensor, nn

Encoder = Literal["judge", "autoencoder"]


class EmbeddingSettings(Settings):
    """Which encoder turns tiles into vectors."""

    encoder: Encoder = "judge"
    """`judge`: the layer before the last of the classifier trained on real tiles; `autoencoder`: the latent."""
    latent: Literal["flat", "pooled"] = "flat"
    """With the autoencoder: the latent as it is, or mean and standard deviation of every channel."""
    chunk: int = Field(128, ge=1, le=8192)
    """Tiles per piece of work and per batch."""
    plane: Literal["umap", "pca"] = "umap"
    """How the map for plots is drawn; principal components cost nothing."""
    plane_neighbours: int = Field(15, ge=2, le=200)
    """Neighbours of every candidate in UMAP."""
    compared: int = Field(600, ge=8, le=20000)
    """Vectors of each kind, at most, that enter KID, precision and recall."""
    resamples: int = Field(200, ge=20, le=10000)
    """Bootstrap draws behind the interval of KID."""


class Piece(NamedTuple):
    """A chunk of work: where it came from, and its tiles, filled up to the chunk size by repeating the last."""

    name: str
    start: int
    real: int
    pixels_nhwc: images.Pixels


def run(settings: EmbeddingSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Embed candidates, training and validation tiles; say how near the candidates are to real tiles."""
    sets = {
        "candidates": images.read(inputs["candidates"] / "images"),
        "train": images.read(inputs["tiles"] / "images", role="train"),
        "val": images.read(inputs["tiles"] / "images", role="val"),
    }
    folder = _encoder_folder(settings.encoder, inputs)
    digest = store.digest_file(_weights(folder))
    embed = functools.partial(
        embed_piece, encoder=settings.encoder, folder=folder, digest=digest, latent=settings.latent
    )
    work = store.work_folder(out)
    pieces = [piece for name, tiles in sets.items() for piece in _pieces(name, tiles.pixels_nhwc, settings.chunk)]
    todo = [piece for piece in pieces if not _piece_file(work, piece).exists()]
    results = progress.track(engine.map(embed, todo), "embedding", len(pieces), len(pieces) - len(todo), "chunk")
    for piece, tensors in zip(todo, results, strict=True):
        store.write_tensors(_piece_file(work, piece), tensors)
        if compute.stop_asked() and piece is not todo[-1]:
            raise Interrupted("embedding stopped between two chunks; run the same command again to continue")

    features, probabilities = _join(work, pieces)
    if not all(bool(tensor.isfinite().all()) for tensor in features.values()):
        raise UserError(f"the {settings.encoder} gave features that are not finite; train it anew, with a lower rate")
    store.write_tensors(out / "features.safetensors", features)
    if probabilities:
        store.write_tensors(out / "probabilities.safetensors", probabilities)
    vectors = {name: tensor.numpy() for name, tensor in features.items()}
    _write_map(settings, out, vectors["candidates_nd"], derive(seed, "map"))

    from stages.features.fidelity import fidelity

    near = fidelity(
        vectors["candidates_nd"],
        vectors["train_nd"],
        sets["train"].table["group"].to_numpy(np.int64),
        vectors["val_nd"],
        sets["val"].table["group"].to_numpy(np.int64),
        numpy_stream(seed, "fidelity"),
        settings.compared,
        settings.resamples,
    )
    facts = {"encoder": settings.encoder, "dim": int(features["candidates_nd"].shape[1]), "digest": digest}
    store.write_json(out / "facts.json", facts | {"licence": _licence(settings.encoder, folder), "fidelity": near})


def embed_piece(piece: Piece, encoder: Encoder, folder: Path, digest: str, latent: str) -> "dict[str, Tensor]":
    """Features (and, from a judge, class probabilities) of one chunk of tiles, on the CPU."""
    import torch

    with torch.inference_mode():
        if encoder == "judge":
            from stages.classify.networks import normalise

            network, judge = _judge(folder, digest)
            img_bchw = normalise(piece.pixels_nhwc, judge["mean"], judge["std"]).to(compute.device())
            found = {"features": network.features(img_bchw)}
            if piece.name != "train":
                found["probabilities"] = network(img_bchw).softmax(dim=1)
        else:
            from stages.diffusion.autoencoder import encode

            img_bchw = torch.from_numpy(piece.pixels_nhwc).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
            z_bchw = encode(_autoencoder(folder, digest), img_bchw.to(compute.device()))
            pooled = (z_bchw.mean(dim=(2, 3)), z_bchw.std(dim=(2, 3), unbiased=False))
            found = {"features": torch.cat(pooled, dim=1) if latent == "pooled" else z_bchw.flatten(1)}
    return {name: tensor[: piece.real].float().cpu().clone() for name, tensor in found.items()}


@compute.loaded_once
def _judge(folder: Path, digest: str) -> tuple[Any, dict[str, Any]]:
    """The judge and its facts, read once per process; `digest` tells a judge from its successor."""
    from stages import models
    from stages.classify.networks import build

    network, facts = models.read_network(folder, build)
    return network.to(compute.device()), facts


@compute.loaded_once
def _autoencoder(folder: Path, digest: str) -> "nn.Module":
    """The autoencoder, once per process."""
    from stages import models

    vae: nn.Module = models.read_vae(folder).to(compute.device())
    return vae


def _encoder_folder(encoder: Encoder, inputs: Inputs) -> Path:
    """Where the encoder's weights lie among the inputs."""
    return inputs["judge"] / "colour" if encoder == "judge" else inputs["autoencoder"] / "vae"


def _weights(folder: Path) -> Path:
    """The one safetensors file of a model folder, in a stable order where there are more."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"no weights (*.safetensors) in {folder.name}; run the stage that makes them again")
    return files[0]


def _licence(encoder: Encoder, folder: Path) -> str:
    """Whose licence the vectors stand under, in words."""
    if encoder == "judge":
        return "trained in this run from a random start on its own tiles; no licence of others applies"
    measured_on = store.read_json(folder / "latents.json")["measured_on"]
    return f"the autoencoder of this run (latent scale: {measured_on}); its own model card states its licence"


def _pieces(name: str, pixels_nhwc: images.Pixels, chunk: int) -> Iterator[Piece]:
    """Cut an image set into pieces of equal shape, so that the batch size is the same everywhere."""
    for start in range(0, len(pixels_nhwc), chunk):
        part_nhwc = pixels_nhwc[start : start + chunk]
        rows = np.minimum(np.arange(chunk), len(part_nhwc) - 1)
        yield Piece(name, start, len(part_nhwc), part_nhwc[rows])


def _piece_file(work: Path, piece: Piece) -> Path:
    return work / f"{piece.name}-{piece.start:09d}.safetensors"


def _join(work: Path, pieces: list[Piece]) -> "tuple[dict[str, Tensor], dict[str, Tensor]]":
    """Features and probabilities of whole image sets, from the finished pieces."""
    import torch

    parts: dict[str, list[dict[str, Tensor]]] = {}
    for piece in pieces:
        parts.setdefault(piece.name, []).append(store.read_tensors(_piece_file(work, piece)))
    features = {f"{name}_nd": torch.cat([part["features"] for part in found]) for name, found in parts.items()}
    probabilities = {
        f"{name}_nk": torch.cat([part["probabilities"] for part in found])
        for name, found in parts.items()
        if "probabilities" in found[0]
    }
    return features, probabilities


def _write_map(settings: EmbeddingSettings, out: Path, x_nd: "np.ndarray[Any, Any]", seed: int) -> None:
    """Draw the candidates on a plane; for plots only."""
    from stages.features.plane import pca_plane, umap_plane

    umap = settings.plane == "umap"
    plane_n2 = umap_plane(x_nd, seed, settings.plane_neighbours) if umap else pca_plane(x_nd)
    frame = pd.DataFrame({"row": np.arange(len(x_nd)), "x": plane_n2[:, 0], "y": plane_n2[:, 1]})
    frame.to_parquet(out / "map.parquet", index=False)
