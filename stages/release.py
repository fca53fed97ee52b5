"""The last stage: one selection becomes the folder a hospital shares, with card, evidence, provenance and checksums.

Never inside: a real tile, the generator's weights, a name or path of the source, the clock.
"""

import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from stages import images, release_changes, release_check, scale_bar, store
from stages.contact_sheet import contact_sheet
from stages.contracts import Engine, Inputs, NoGo, UserError
from stages.images import ImageSet, Pixels
from stages.installed import installed
from stages.release_card import card, review_page
from stages.release_check import verify as verify  # the command line asks the stage
from stages.settings import InputPath, Settings

LIBRARIES = ("accelerate", "diffusers", "infomap", "numpy", "pillow", "scikit-learn", "timm", "torch", "transformers")
TOLD = ("autoencoder", "denoiser", "candidates", "embedding", "selection", "audit_images")
"""Stages whose settings a release tells; the others (whose settings could name what is private) give digests."""
AUDIT_KEYS = ("verdict", "reasons", "tests", "power", "not_tested")


class ReleaseSettings(Settings):
    """What ships, and what its card says of it."""

    selection: str = Field(min_length=1)
    """Name of the selection that ships."""
    licence: str = Field(min_length=2)
    """Licence of the data set: an SPDX identifier such as CC-BY-4.0, or its text."""
    contact: str = Field(min_length=2)
    """Whom to ask: a name and an address that will hold."""
    name: str = Field(default="synthetic-histopathology", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,94}$")
    """Short name of the data set: letters, digits, point, underscore, hyphen."""
    version: str = Field(default="1.0.0", pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")
    """Version of the data set. `auto`: 1.0.0 for the first release of this name in a run; every later one of another
    selection, or by other settings, is the next (1.1.0, …), and its card lists what changed."""
    previous: InputPath | None = None
    """With the version auto: the record of the release before. A run finds its own; give one to follow another's."""
    title: str = Field(default="Synthetic histopathology tiles", min_length=1, max_length=200, pattern=r"^[^\n]+$")
    """Title of the card; one line."""
    description: str = "Synthetic histopathology tiles for training and teaching, made by histodistill."
    """What the data set shows, for people; Markdown."""
    benchmark: bool = True
    """Whether the card tells how well classifiers trained on these tiles do on real tissue."""
    soft_labels: bool = False
    """Whether the judge's class probabilities ship as columns p0, p1, …; the selection must carry them. They come from
    a network that was trained on the private tiles."""
    sheet_per_class: int = Field(default=24, ge=1, le=1000)
    """At most this many tiles of each class on the contact sheet."""
    sheet_columns: int = Field(default=12, ge=1, le=100)
    """Tiles in a row of the contact sheet."""


class Shipped(NamedTuple):
    """The tiles that ship, and where."""

    images: ImageSet
    folders: tuple[str, ...]
    """Folder of each class: its name, in letters that any file system takes."""
    table: pd.DataFrame
    """Rows as in `images`: `release_check.COLUMNS` (file_name is from train/), mpp if it is known, and soft labels if
    they ship."""


def run(settings: ReleaseSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Write `dataset/`, check it, and tell its facts.

    Raises:
        NoGo: the audit forbids the release, or a tile equals a real one.
        UserError: what the user gave (description, licence, contact) does not pass the release's own check, or soft
            labels are asked for and there are none.
    """
    audit = store.read_json(inputs["audit_images"] / "audit.json")
    _refuse_no_go(audit, settings.selection)
    shipped = _shipped(settings, inputs)
    real_ids = set(images.read_table(inputs["tiles"] / "images")[0]["tile_id"])
    _refuse_real(shipped, real_ids)
    folder = out / "dataset"
    _write_images(shipped, folder)
    mpp = _mpp(inputs, shipped.images)
    sheet = contact_sheet(shipped.images, settings.sheet_per_class, settings.sheet_columns, mpp)
    store.write_bytes(folder / release_check.SHEET, images.png(sheet, level=9))
    evidence = {key: plain(value) for key, value in audit.items() if key in AUDIT_KEYS}
    store.write_json(folder / release_check.AUDIT, evidence)
    measured = _benchmark(inputs) if settings.benchmark else {}
    if measured:
        store.write_json(folder / release_check.BENCHMARK, measured)
    settings, changes = _numbered(settings, inputs, shipped)
    provenance = _provenance(settings, inputs, shipped, seed)
    if changes is not None:
        provenance["changes"] = changes
    store.write_json(folder / release_check.PROVENANCE, provenance)
    _write_texts(settings, inputs, folder, shipped, evidence, measured, changes)
    store.write_text(folder / release_check.CHECKSUMS, release_check.checksums(folder))
    _check(folder, real_ids)
    facts = {"verdict": audit["verdict"], "tiles": len(shipped.table), "benchmark": sorted(measured) or "none"}
    warning = _facts(inputs, "embedding").get("licence_warning")
    facts |= {"soft_labels": settings.soft_labels, "warnings": [] if warning is None else [warning]}
    told = {"name": settings.name, "version": settings.version, "selection": settings.selection}
    facts["released"] = told | {"method": _facts(inputs, "selection").get("method"), "tiles": _ids(shipped)}
    store.write_json(out / "facts.json", facts)


def _numbered(
    settings: ReleaseSettings, inputs: Inputs, shipped: Shipped
) -> tuple[ReleaseSettings, dict[str, Any] | None]:
    """The settings with the version this release has, and what changed since the one before it, if it has one."""
    if settings.version != release_changes.AUTO:
        return settings, None
    before = None if settings.previous is None else store.read_json(settings.previous)
    settings = settings.model_copy(update={"version": release_changes.next_version(before)})
    if before is None:
        return settings, None
    chosen = _facts(inputs, "selection")
    return settings, plain(release_changes.changes(before, _ids(shipped), chosen, settings.selection))


def _ids(shipped: Shipped) -> dict[str, list[str]]:
    """The ids of the tiles of every class."""
    return {
        name: shipped.table.loc[shipped.table["label"] == number, "tile_id"].tolist()
        for number, name in enumerate(shipped.images.classes)
    }


def _refuse_no_go(audit: Mapping[str, Any], selection: str) -> None:
    verdict = audit.get("verdict")
    assert verdict in release_check.VERDICTS, f"unknown verdict {verdict}"
    if verdict == "NO-GO":
        reasons = "; ".join(map(str, audit.get("reasons", []))) or "no reason is told"
        raise NoGo(f"The audit forbids the release of the selection {selection!r}: {reasons}. Nothing was released.")


def _shipped(settings: ReleaseSettings, inputs: Inputs) -> Shipped:
    """The selection in the order of class and rank, under its new names; with its soft labels if they are asked for."""
    chosen = images.read(inputs["selection"] / "images")
    candidates, classes = images.read_table(inputs["candidates"] / "images")
    order = np.lexsort((chosen.table["rank"], chosen.table["label"]))
    chosen = chosen.take(order)
    rows_m = chosen.table["candidate"].to_numpy(np.int64)
    ids = [images.tile_id(pixels_hwc) for pixels_hwc in chosen.pixels_nhwc]
    assert candidates["tile_id"].iloc[rows_m].tolist() == ids, "a tile of the selection is no candidate"
    assert candidates["label"].iloc[rows_m].tolist() == chosen.table["label"].tolist() and chosen.classes == classes
    folders = class_folders(classes)
    numbers = chosen.table.groupby("label").cumcount() + 1
    names = [f"{folders[k]}/{folders[k]}-{n:05d}.png" for k, n in zip(chosen.table["label"], numbers, strict=True)]
    told = chosen.table[["community", "centrality", "rank"]]
    index = candidates["index"].iloc[rows_m].to_numpy()
    table = pd.DataFrame({"file_name": names, "label": chosen.labels_n, "tile_id": ids}).join(told).assign(index=index)
    assert tuple(table.columns) == release_check.COLUMNS
    mpp = _mpp(inputs, chosen)
    table = table if mpp is None else table.assign(mpp=mpp)
    return Shipped(chosen, folders, table.join(_soft_labels(settings, chosen)) if settings.soft_labels else table)


def _soft_labels(settings: ReleaseSettings, chosen: ImageSet) -> pd.DataFrame:
    """The columns p0, p1, … of a selection."""
    names = [f"p{number}" for number in range(len(chosen.classes))]
    if not set(names) <= set(chosen.table):
        raise UserError(
            f"release.soft_labels asks for soft labels, but {settings.selection!r} carries none: set its own "
            "soft_labels, or release.soft_labels to false."
        )
    return chosen.table[names]


def class_folders(classes: tuple[str, ...]) -> tuple[str, ...]:
    """A folder name for each class: letters, digits, point, underscore and hyphen; no two alike, whatever the case."""
    folders: list[str] = []
    for number, name in enumerate(classes):
        folder = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-") or f"class_{number}"
        taken = {other.lower() for other in folders}
        folders.append(folder if folder.lower() not in taken else f"{folder}_{number}")
    return tuple(folders)


def _refuse_real(shipped: Shipped, real_ids: set[str]) -> None:
    real = shipped.table["tile_id"].isin(real_ids)
    if real.any():
        raise NoGo(
            f"{int(real.sum())} tiles of the selection equal a real tile, pixel for pixel. Nothing was released."
        )


def _write_images(shipped: Shipped, folder: Path) -> None:
    """Every tile as a PNG that says it is synthetic, and `metadata.parquet` as `datasets` wants it, beside them."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, pixels_hwc in zip(shipped.table["file_name"], shipped.images.pixels_nhwc, strict=True):
        path = folder / "train" / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(marked_png(pixels_hwc))
    kinds = {"i": "int64", "f": "float64"}
    columns = {str(name): datasets.Value(kinds.get(shipped.table[name].dtype.kind, "string")) for name in shipped.table}
    features = datasets.Features(columns | {"label": datasets.ClassLabel(names=list(shipped.images.classes))})
    rows = {name: shipped.table[name].tolist() for name in shipped.table}
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows, schema=features.arrow_schema), buffer)
    store.write_bytes(folder / release_check.METADATA, buffer.getvalue())


def marked_png(pixels_hwc: Pixels) -> bytes:
    """A tile as PNG with the one text chunk a release's tiles hold: that it is synthetic."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add(b"tEXt", release_check.MARK)
    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc).save(buffer, format="PNG", compress_level=9, pnginfo=mark)
    return buffer.getvalue()


def _benchmark(inputs: Inputs) -> dict[str, Any]:
    """What each contestant of the benchmark reached, by name: its metrics, and how many images it had."""
    found: dict[str, Any] = {}
    for key in sorted(inputs):
        head, _, name = key.partition("/")
        if head == "benchmark":
            facts = _facts(inputs, key)
            told = {what: plain(facts.get(what)) for what in ("images", "agreement", "networks")}
            found[name] = {"metrics": plain(store.read_json(inputs[key] / "metrics.json"))} | told
    return found


def _mpp(inputs: Inputs, shipped: ImageSet) -> float | None:
    """Micrometres per pixel of what ships, where that of the tiles is known."""
    return scale_bar.known_mpp(inputs["tiles"], int(shipped.pixels_nhwc.shape[1]))


def _facts(inputs: Inputs, key: str) -> dict[str, Any]:
    path = inputs[key] / "facts.json" if key in inputs else None
    return dict(store.read_json(path)) if path is not None and path.exists() else {}


def plain(value: Any) -> Any:
    """A JSON value without what could be a path."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and release_check.PATHS.search(value):
        return "(a path, left out)"
    return value


def _provenance(settings: ReleaseSettings, inputs: Inputs, shipped: Shipped, seed: int) -> dict[str, Any]:
    """What the data set stands on: digests, seeds, versions and settings; no path, name, host or date."""
    steps: dict[str, Any] = {}
    for key, folder in sorted(inputs.items()):
        seal_path = folder / "seal.json"
        seal = store.read_json(seal_path) if seal_path.exists() else {}
        causes = seal.get("causes", {})
        steps[key] = {"result": seal.get("result"), "seed": causes.get("seed")}
        steps[key] |= {part: _digest(causes.get(part)) for part in ("settings", "code")}
        steps[key]["given"] = _given(causes.get("settings") or {})
        if key in TOLD:
            steps[key] |= {"told_settings": plain(causes.get("settings")), "facts": plain(_facts(inputs, key))}
    told = {"name": settings.name, "version": settings.version, "selection": settings.selection, "seed": seed}
    told |= {"soft_labels": settings.soft_labels, "mpp": _mpp(inputs, shipped.images)}
    versions = {name: installed(name) for name in ("histodistill", *LIBRARIES)}
    return {"release": told, "steps": steps, "versions": versions | {"python": sys.version.split()[0]}}


def _given(settings: Mapping[str, Any], within: str = "") -> dict[str, str]:
    """What the user gave from outside: the seal holds the digest of its content, not its name."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _given(value, f"{within}{key}.")
        elif isinstance(value, str) and re.fullmatch(r"content [0-9a-f]+", value):
            found[within + key] = value
    return found


def _digest(value: Any) -> str | None:
    import json

    return None if value is None else store.digest_bytes(json.dumps(value, sort_keys=True).encode())


def _write_texts(
    settings: ReleaseSettings,
    inputs: Inputs,
    folder: Path,
    shipped: Shipped,
    audit: Mapping[str, Any],
    measured: Mapping[str, Any],
    changes: Mapping[str, Any] | None,
) -> None:
    """The card, the licence, and the page to be signed where the verdict asks for a person."""
    of_class = shipped.table.groupby("label")["community"]
    classes = [
        {"name": name, "folder": shipped.folders[k], "tiles": int(tiles), "communities": int(communities)}
        for k, (name, tiles, communities) in enumerate(
            zip(shipped.images.classes, of_class.size(), of_class.nunique(), strict=True)
        )
    ]
    text, licence = card(
        settings.model_dump(exclude={"previous"}),
        classes=classes,
        size_px=int(shipped.images.pixels_nhwc.shape[1]),
        candidates=len(images.read_table(inputs["candidates"] / "images")[0]),
        facts={key: plain(_facts(inputs, key)) for key in ("tiles", *TOLD)},
        mpp=_mpp(inputs, shipped.images),
        audit=audit,
        measured=measured,
        changes=changes,
    )
    store.write_text(folder / release_check.CARD, text)
    store.write_text(folder / release_check.LICENCE, licence)
    if audit["verdict"] == "REVIEW":
        store.write_text(folder / release_check.REVIEW, review_page(settings.title, settings.version, audit))


def _check(folder: Path, real_ids: set[str]) -> None:
    """The release's own check, and that no text names a real tile."""
    findings = verify(folder)
    if findings:
        raise UserError(
            f"The release does not pass its own check: {'; '.join(findings[:5])}. "
            "If a text is meant, mend release.title, description, licence or contact."
        )
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".md", ".txt"):
            named = set(re.findall(r"\b[0-9a-f]{16}\b", path.read_text(encoding="utf-8"))) & real_ids
            assert not named, f"{path.name} names {len(named)} real tiles"
