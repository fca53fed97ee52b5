"""Condensation: a small set of the same format as a selection, taken from the real train tiles.

What it gives are real tiles: comparisons for the benchmark, not for release. Images that are learned from real tiles
are made by `stages.distillation`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages import compute, images, models, store, streams, tables
from stages.condensation_settings import CondensationSettings
from stages.contracts import Engine, Inputs, UserError

if TYPE_CHECKING:
    import torch

Features = Callable[[images.Pixels], npt.NDArray[np.float32]]
"""Tiles -> their features, n × d."""


def run(settings: CondensationSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Choose from the train tiles of `tiles`; herding looks through the network of `judge`.

    Writes `images/` (class-major; `rank` is the order within the class, so the first m are a condensation to m) and
    `facts.json`.

    Raises:
        UserError: a class has fewer train tiles than `per_class`.
    """
    train = images.read(inputs["tiles"] / "images", role="train")
    features = None if settings.method == "random" else _features(inputs["judge"] / "colour", compute.device())
    rows: list[npt.NDArray[np.int64]] = []
    for label, name in enumerate(train.classes):
        rows_n = np.flatnonzero(train.labels_n == label)
        if len(rows_n) < settings.per_class:
            raise UserError(
                f"condensation: per_class is {settings.per_class}, but class {name} has {len(rows_n)} train tiles. "
                f"Set per_class to at most {len(rows_n)}, or give more tiles."
            )
        stream = streams.numpy_stream(seed, "random", label)
        rows.append(rows_n[_choose(settings, train.take(rows_n), features, stream)])
    chosen = train.take(np.concatenate(rows))
    columns = {"rank": np.tile(np.arange(settings.per_class), len(train.classes)).tolist()}
    result = images.make(chosen.pixels_nhwc, chosen.labels_n, train.classes, columns)
    tables.check(result.table, "condensation")
    images.write(out / "images", result)
    groups = {
        name: int(chosen.table["group"][chosen.labels_n == label].nunique()) for label, name in enumerate(train.classes)
    }
    facts = {"pixels": "real", "method": settings.method, "per_class": settings.per_class, "groups": groups}
    store.write_json(out / "facts.json", facts)


def _choose(
    settings: CondensationSettings, tiles: images.ImageSet, features: Features | None, stream: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rows of one class's train tiles in the order taken: by herding where there are features, else at random."""
    from stages.distill import coresets

    groups_n = tiles.table["group"].to_numpy(np.int64)
    if features is None:
        return coresets.random_rows(groups_n, settings.per_class, stream, settings.one_per_group)
    return coresets.herding_rows(
        features(tiles.pixels_nhwc), settings.per_class, groups_n if settings.one_per_group else None
    )


def _features(folder: Path, device: "torch.device") -> Features:
    """The judge's features."""
    from stages.classify import networks, protocol

    judge, facts = models.read_network(folder, networks.build)
    judge = judge.to(device)

    def of(pixels_nhwc: images.Pixels) -> npt.NDArray[np.float32]:
        with compute.one_thread():
            small_nhwc = protocol.resize(pixels_nhwc, facts["size_px"])
            return protocol.features(judge, small_nhwc, facts["mean"], facts["std"], device)

    return of
