"""The simulation: each data set becomes one class of a problem that asks from which of them a tile comes.

The first set-up of Li et al., *Dataset Distillation in Medical Imaging: A Feasibility Study*, arXiv 2407.14429: a tenth
of the images of every set, all at 32 px. What it gives is a set of tiles like any other, roles and groups included.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from stages import images, store, streams, tables
from stages.contracts import Engine, Inputs, UserError
from stages.settings import Settings
from stages.tables import ROLES

PREFIX = "tiles/"
"""What the inputs are called: this, then the data set."""
COPY = "the same picture in two data sets or roles"


class SimulationSettings(Settings):
    """How data sets are merged."""

    share: float = Field(0.1, gt=0, le=1)
    """Share of the images of each data set and role that is taken."""
    image_px: int = Field(32, ge=8, le=512)
    """Side to which all images are brought, in pixels."""
    least: int = Field(20, ge=1)
    """At least so many images of each data set and role, where it has them."""


def run(settings: SimulationSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Merge the results `tiles/NAME` of the tiles stage into one: the class of a tile is NAME.

    Writes `images/` (columns as of tiles; by role, class, group) and `facts.json`.

    Raises:
        UserError: fewer than two data sets, or one has no tile left in a role.
    """
    folders = {key.removeprefix(PREFIX): path for key, path in sorted(inputs.items()) if key.startswith(PREFIX)}
    if len(folders) < 2:
        raise UserError(f"A simulation needs two data sets or more, as each is a class; it was given {len(folders)}.")
    parts = [_taken(settings, name, folder, seed) for name, folder in folders.items()]
    merged = _merged(parts, tuple(folders))
    kept, aside = _without_copies(merged)
    _check(kept)
    tables.check(kept.table, "tiles")
    images.write(out / "images", kept)
    store.write_json(out / "facts.json", _facts(settings, kept, aside))


def _taken(settings: SimulationSettings, name: str, folder: Path, seed: int) -> images.ImageSet:
    """Some images of each role of a data set, spread over its groups, at the size of the simulation."""
    from stages.classify import protocol

    table, _ = images.read_table(folder / "images")
    chosen: list[npt.NDArray[np.int64]] = []
    for role in ROLES:
        rows_n = np.flatnonzero(table["role"] == role)
        stream = streams.numpy_stream(seed, "simulation", name, role)
        chosen.append(drawn(rows_n, table["group"].to_numpy(np.int64)[rows_n], settings, stream))
    found = images.read(folder / "images", np.sort(np.concatenate(chosen)))
    return found._replace(pixels_nhwc=protocol.resize(found.pixels_nhwc, settings.image_px))


def drawn(
    rows_n: npt.NDArray[np.int64],
    groups_n: npt.NDArray[np.int64],
    settings: SimulationSettings,
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """The share of `rows_n` that is taken: one of each group before a second of any."""
    from stages.distill import coresets

    count = min(len(rows_n), max(settings.least, math.ceil(settings.share * len(rows_n) - 1e-9)))
    if count == 0:
        return rows_n
    return rows_n[coresets.random_rows(groups_n, count, generator, True)]


def _merged(parts: list[images.ImageSet], names: tuple[str, ...]) -> images.ImageSet:
    """One set of all; groups are numbered anew so that those of two data sets stay distinct."""
    groups: list[npt.NDArray[np.int64]] = []
    for part in parts:
        _, number_n = np.unique(part.table["group"].to_numpy(np.int64), return_inverse=True)
        groups.append(number_n + (int(groups[-1].max()) + 1 if groups else 0))
    columns = {
        "group": np.concatenate(groups).tolist(),
        "role": [role for part in parts for role in part.table["role"]],
    }
    labels_n = np.repeat(np.arange(len(parts)), [len(part.table) for part in parts])
    return images.make(np.concatenate([part.pixels_nhwc for part in parts]), labels_n, names, columns)


def _without_copies(merged: images.ImageSet) -> tuple[images.ImageSet, int]:
    """In the final order, without pictures that lie in two classes or roles; and how many those are."""
    table = merged.table
    kinds = table.assign(kind=table["label"].astype(str) + table["role"]).groupby("tile_id")["kind"].nunique()
    good = ~table["tile_id"].isin(kinds.index[kinds > 1])
    rank = table["role"].map({role: place for place, role in enumerate(ROLES)})
    order = table.assign(rank=rank)[good].sort_values(["rank", "label", "group", "tile_id"]).index
    return merged.take(order.to_numpy(np.int64)), int((~good).sum())


def _check(kept: images.ImageSet) -> None:
    counts = kept.table.groupby(["label", "role"]).size()
    bare = [f"{n} in {r}" for c, n in enumerate(kept.classes) for r in ROLES if counts.get((c, r), 0) == 0]
    if bare:
        raise UserError(f"The simulation has no image of {', '.join(bare)}. Leave that data set out, or give it tiles.")


def _facts(settings: SimulationSettings, kept: images.ImageSet, aside: int) -> dict[str, Any]:
    """As of tiles: what later stages and people want to know."""
    parts: Mapping[str, pd.DataFrame] = {role: kept.table[kept.table["role"] == role] for role in ROLES}
    grey = all(images.is_grey(pixels_hwc) for pixels_hwc in kept.pixels_nhwc)
    return {
        "classes": list(kept.classes),
        "counts": {
            r: {n: int((part["label"] == c).sum()) for c, n in enumerate(kept.classes)} for r, part in parts.items()
        },
        "groups": {
            r: {n: int(part.loc[part["label"] == c, "group"].nunique()) for c, n in enumerate(kept.classes)}
            for r, part in parts.items()
        },
        "groups_in_all": {r: int(part["group"].nunique()) for r, part in parts.items()},
        "size_px": settings.image_px,
        "share": settings.share,
        "colour": "grey" if grey else "rgb",
        "copies": int(kept.table["tile_id"].duplicated().sum()),
        "set_aside": {COPY: aside} if aside else {},
    }
