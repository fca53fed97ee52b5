"""Stage embedding: candidates and real tiles as feature vectors, and a plane to draw the candidates on.

Writes `features.safetensors` (candidates_nd, train_nd, val_nd; float32, rows as in their image sets; where they were
asked for, the candidates' short vectors too: reduced_nr, by which the selection then goes), `probabilities.safetensors`
(candidates_nk, val_nk) when the judge encodes, `map.parquet` (row, x, y: candidates, for plots only; it lies here and
not with the selections because it depends on the vectors alone) and `facts.json`.
Real vectors are private: they never leave the store.
"""

import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from stages import compute, images, progress, store
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.encoders.timm_file import TimmSettings
from stages.encoders.transformers_folder import TransformersSettings
from stages.settings import Settings
from stages.streams import derive, numpy_stream

if TYPE_CHECKING:
    from torch import Tensor

    from stages.encoders.contract import About, Source

log = logging.getLogger(__name__)


class EmbeddingSettings(Settings):
    """Which encoder turns tiles into vectors."""

    encoder: Literal["judge", "squeezenet", "autoencoder", "timm", "transformers"] = "judge"
    """`judge`: the layer before the last of the classifier trained on real tiles (`judge.network` says which);
    `squeezenet`: the ImageNet network that ships; `autoencoder`: the latent; `timm`, `transformers`: a network you
    bring."""
    timm: TimmSettings | None = None
    """The network of timm and its weights; for `timm`."""
    transformers: TransformersSettings | None = None
    """The folder of a vision network of transformers; for `transformers`."""
    latent: Literal["flat", "pooled"] = "flat"
    """With the autoencoder: the latent as it is, or mean and standard deviation of every channel."""
    chunk: int = Field(128, ge=1, le=8192)
    """Tiles per piece of work and per batch."""
    reduce: Literal["none", "pca", "umap"] = "none"
    """Whether the selection goes by short vectors: principal components of the candidates, or their UMAP. KID,
    precision and recall keep to the long ones."""
    reduce_dim: int = Field(10, ge=1, le=1024)
    """Numbers of a short vector."""
    reduce_neighbours: int = Field(10, ge=2, le=200)
    """Neighbours of every candidate in the UMAP that makes short vectors."""
    reduce_min_dist: float = Field(0.05, ge=0, le=1)
    """How near to one another that UMAP may put candidates, in units of its plane."""
    plane: Literal["umap", "pca"] = "umap"
    """How the map for plots is drawn; principal components cost nothing."""
    plane_neighbours: int = Field(15, ge=2, le=200)
    """Neighbours of every candidate in UMAP."""
    compared: int = Field(600, ge=8, le=20000)
    """Vectors of each kind, at most, that enter KID, precision and recall."""
    resamples: int = Field(200, ge=20, le=10000)
    """Bootstrap draws behind the interval of KID."""

    @model_validator(mode="after")
    def _says_what_it_brings(self) -> "EmbeddingSettings":
        if self.encoder in ("timm", "transformers") and getattr(self, self.encoder) is None:
            wanted = "{model: …, weights: FILE}" if self.encoder == "timm" else "{folder: FOLDER}"
            raise ValueError(f"encoder {self.encoder!r} needs its own section, {self.encoder}: {wanted}")
        return self


class Piece(NamedTuple):
    """A chunk of work: where it came from, and its tiles, filled up to the chunk size by repeating the last."""

    name: str
    start: int
    real: int
    pixels_nhwc: images.Pixels


def run(settings: EmbeddingSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Embed candidates, training and validation tiles; say how near the candidates are to real tiles.

    Raises:
        UserError: an encoder's files are not what they should be, its vectors are not finite, or too few to reduce.
        Interrupted: when asked to stop; finished chunks are kept.
    """
    sets = {
        "candidates": images.read(inputs["candidates"] / "images"),
        "train": images.read(inputs["tiles"] / "images", role="train"),
        "val": images.read(inputs["tiles"] / "images", role="val"),
    }
    about = _about(settings, inputs)
    features, probabilities = _embed(sets, about.source, settings.chunk, out, engine)
    if not all(bool(tensor.isfinite().all()) for tensor in features.values()):
        raise UserError(f"{about.name} gave features that are not finite; train it anew with a lower rate, or mend it")
    vectors = {name: tensor.numpy() for name, tensor in features.items()}
    short_nr, reduced = _reduce(settings, vectors["candidates_nd"], derive(seed, "reduce"))
    store.write_tensors(out / "features.safetensors", features | short_nr)
    if probabilities:
        store.write_tensors(out / "probabilities.safetensors", probabilities)
    _write_map(settings, out, vectors["candidates_nd"], derive(seed, "map"))
    near = _fidelity(settings, sets, vectors, seed)
    facts = _told(about) | {"dim": int(features["candidates_nd"].shape[1]), "reduced": reduced, "fidelity": near}
    warnings = [*facts["warnings"], *_told_of_umap(reduced)]
    for warning in warnings:
        log.warning(warning)
    store.write_json(out / "facts.json", facts | {"encoder": settings.encoder, "warnings": warnings})


def _embed(
    sets: Mapping[str, images.ImageSet], source: "Source", chunk: int, out: Path, engine: Engine
) -> "tuple[dict[str, Tensor], dict[str, Tensor]]":
    """Features and probabilities of all sets, chunk by chunk over the engine; finished chunks outlive a stop."""
    work = store.work_folder(out)
    pieces = [piece for name, tiles in sets.items() for piece in _pieces(name, tiles.pixels_nhwc, chunk)]
    todo = [piece for piece in pieces if not _piece_file(work, piece).exists()]
    embed = functools.partial(embed_piece, source=source)
    results = progress.track(engine.map(embed, todo), "embedding", len(pieces), len(pieces) - len(todo), "chunk")
    for piece, tensors in zip(todo, results, strict=True):
        store.write_tensors(_piece_file(work, piece), tensors)
        if compute.stop_asked() and piece is not todo[-1]:
            raise Interrupted("embedding stopped between two chunks; run the same command again to continue")
    return _join(work, pieces)


def embed_piece(piece: Piece, source: "Source") -> "dict[str, Tensor]":
    """Features (and, from a judge, class probabilities) of one chunk of tiles, on the CPU."""
    import torch

    from stages.encoders import reading

    with torch.inference_mode(), compute.one_thread():
        found = reading.read(source)(piece.pixels_nhwc)
    if piece.name == "train":
        found.pop("probabilities", None)
    return {name: tensor[: piece.real].float().cpu().clone() for name, tensor in found.items()}


def _about(settings: EmbeddingSettings, inputs: Inputs) -> "About":
    """The encoder asked for: its name, licence and digest, and where it lies."""
    from stages.encoders import own, timm_file, transformers_folder

    match settings.encoder:
        case "judge":
            return own.about_judge(inputs["judge"])
        case "autoencoder":
            return own.about_autoencoder(inputs["autoencoder"], settings.latent)
        case "squeezenet":
            return own.about_squeezenet()
        case "timm":
            assert settings.timm is not None
            return timm_file.about(settings.timm)
        case "transformers":
            assert settings.transformers is not None
            return transformers_folder.about(settings.transformers)


def _told(about: "About") -> dict[str, Any]:
    """What goes onto the card of an encoder, and what to warn of."""
    from stages.features import licences

    warning = licences.warning(about.name, about.terms)
    return {
        "name": about.name,
        "digest": about.source.digest,
        "licence": about.terms.licence,
        "licence_restricts": about.terms.restricts,
        "licence_known": about.terms.known,
        "licence_warning": warning,
        "warnings": [] if warning is None else [warning],
    }


def _reduce(
    settings: EmbeddingSettings, x_nd: "np.ndarray[Any, Any]", seed: int
) -> "tuple[dict[str, Tensor], dict[str, Any] | None]":
    """The candidates' short vectors where they are asked for, and what to tell of them."""
    import torch

    from stages.features.reduction import principal_components, umap_layout

    if settings.reduce == "none":
        return {}, None
    dim = settings.reduce_dim
    if dim > min(x_nd.shape):
        raise UserError(
            f"embedding.reduce_dim is {dim}, but there are {len(x_nd)} candidates of {x_nd.shape[1]} features: lower "
            "it, or set embedding.reduce to none."
        )
    told: dict[str, Any] = {"method": settings.reduce, "dim": dim}
    if settings.reduce == "pca":
        return {"reduced_nr": torch.from_numpy(principal_components(x_nd, dim))}, told
    try:
        layout = umap_layout(x_nd, dim, seed, settings.reduce_neighbours, settings.reduce_min_dist)
    except ValueError as error:
        raise UserError(f"{error}: lower embedding.reduce_neighbours, or set embedding.reduce to pca.") from error
    return {"reduced_nr": torch.from_numpy(layout.x_nr)}, told | {"components": layout.components}


def _told_of_umap(reduced: Mapping[str, Any] | None) -> list[str]:
    """A warning where UMAP had nothing to hold the parts of its graph together."""
    parts = (reduced or {}).get("components", 1)
    if parts == 1:
        return []
    return [
        f"The neighbour graph of the candidates falls into {parts} parts. How UMAP lays out such a graph is not "
        "reproducible across versions of umap-learn; raise embedding.reduce_neighbours, or set embedding.reduce to pca."
    ]


def _fidelity(
    settings: EmbeddingSettings,
    sets: Mapping[str, images.ImageSet],
    vectors: "Mapping[str, np.ndarray[Any, Any]]",
    seed: int,
) -> dict[str, dict[str, float]]:
    """KID, precision and recall of the candidates, by the long vectors."""
    from stages.features.fidelity import fidelity

    return fidelity(
        vectors["candidates_nd"],
        vectors["train_nd"],
        sets["train"].table["group"].to_numpy(np.int64),
        vectors["val_nd"],
        sets["val"].table["group"].to_numpy(np.int64),
        numpy_stream(seed, "fidelity"),
        settings.compared,
        settings.resamples,
    )


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
