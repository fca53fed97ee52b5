"""What is in a source of tiles, before anything is trained: read it as the tiles stage would, and tell what stands out.

Nothing is kept: what must be unpacked or brought from an address lies in the scratch folder that the caller deletes.
Names of files and groups are told, as the reader is inside the house; none of this is meant to leave it.
"""

import functools
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipeline import inspection_facts as facts
from stages import decoding, dividing, images, progress, small_classes
from stages.classify.colour import colour_features
from stages.contracts import Engine, UserError
from stages.decoding import Refused, Wanted
from stages.dividing import set_aside
from stages.settings import SCHEME
from stages.sources import chunks, opening, remote
from stages.sources.chunks import Chunk
from stages.sources.table import Columns, Source
from stages.splits.stain_groups import stain
from stages.tiles import TilesSettings, wanted

CHUNK_TILES = 256


def is_recipe(data: str) -> bool:
    """Whether DATA is a recipe that tells of tiles, and not the tiles themselves."""
    return data.endswith((".yaml", ".yml"))


def settings_of(data: str, given: dict[str, Any], slides: dict[str, Any] | None = None) -> tuple[TilesSettings, bool]:
    """The settings of the tiles stage that DATA means, and whether groups may be guessed to be absent.

    Args:
        data: a recipe (.yaml), or what `tiles.source` takes.
        given: settings from the command line; they win.
        slides: settings of `tiles.slides` from the command line; they win where they are not None.

    Raises:
        UserError: a setting is out of its bounds, or the recipe cannot be read.
    """
    from pydantic import ValidationError

    from pipeline import config

    if is_recipe(data):
        tiles = config.load(Path(data)).tiles
        raw, guess = tiles.model_dump(), False
    else:
        raw, guess = {"source": data if SCHEME in data else str(Path(data).expanduser())}, "group_column" not in given
    cut = {name: value for name, value in (slides or {}).items() if value is not None}
    try:
        return TilesSettings.model_validate(raw | given | {"slides": raw.get("slides", {}) | cut}), guess
    except ValidationError as error:
        raise UserError(f"{data} cannot be read so:\n" + "\n".join(config.faults(error))) from error


def of_slides(settings: TilesSettings) -> bool:
    """Whether the source is whole slides, to be looked at by `inspection_slides`."""
    source = settings.source
    return isinstance(source, Path) and opening.kind_of(source, settings.format, settings.table) == "slides"


def inspect(settings: TilesSettings, guess: bool, engine: Engine, scratch: Path, near: bool = True) -> dict[str, Any]:
    """All findings, as numbers and words that JSON can hold.

    Args:
        settings: how the tiles stage would read the source.
        guess: whether a source without the column of groups is taken to have none.
        engine: where tiles are decoded.
        scratch: a folder to be deleted afterwards.
        near: whether near-duplicates are sought too; that takes by far the longest.

    Raises:
        UserError: the source cannot be opened, or none of its tiles can be used.
    """
    source, settings = _opened(settings, guess, scratch)
    table = source.table.assign(reason=None, row=np.arange(len(source.table)))
    set_aside(table, table["label"].isna(), "no label")
    set_aside(table, table["group"].isna(), "no group")
    given, trouble = _given_roles(settings, table)
    left_out = int(table["role"].isin(settings.leave_out).sum())
    table = _looked(settings, source, table[~table["role"].isin(settings.leave_out)].copy(), engine)
    if table["reason"].notna().all():
        counts = ", ".join(f"{count} × {reason}" for reason, count in table["reason"].value_counts().items())
        raise UserError(f"No tile of {settings.source} could be used: {counts or 'it holds none'}.")
    good = table[table["reason"].isna()].sort_values(["label", "tile_id", "row"], ignore_index=True)
    found: dict[str, Any] = {
        "source": str(settings.source),
        "tiles": len(table),
        "left_out": left_out,
        "formats": facts.counts(table["format"]),
        "sizes": facts.counts(good["size"]),
        "colour": facts.greyness(good),
        "classes": facts.classes(good),
        "groups": facts.groups(good, source.grouped),
        "duplicates": facts.duplicates(good, source.grouped, given),
        "colour_alone": facts.colour_alone(facts.open_to_all(good, given), source.grouped),
    }
    found["near_duplicates"] = None
    if near:
        from pipeline.inspection_copies import near_duplicates

        found["near_duplicates"] = near_duplicates(settings, source.grouped, engine, scratch)
    dividing.set_aside_copies(table, "label", "the same picture in two classes")
    found["roles"] = _roles(settings, table, given, trouble)
    found["usable"] = int(table["reason"].isna().sum())
    found["set_aside"] = facts.aside(table)
    found["warnings"] = facts.warnings(found)
    found["tiles_section"] = facts.section(settings, found)
    return found


def _opened(settings: TilesSettings, guess: bool, scratch: Path) -> tuple[Source, TilesSettings]:
    """The source; without groups, if there is no such column and nobody asked for one."""
    path = settings.source if isinstance(settings.source, Path) else remote.bring(settings.source, scratch)
    kinds = [settings, settings.model_copy(update={"group_column": None})] if guess else [settings]
    for used in kinds:
        columns = Columns(used.image_column, used.file_column, used.label_column, used.group_column, used.role_column)
        columns = columns._replace(site=used.site_column)
        try:
            source = opening.open_source(path, used.format, used.table, columns, used.unlisted, used.medmnist, scratch)
            return source, used if source.grouped else used.model_copy(update={"group_column": None})
        except UserError:
            if used is kinds[-1]:
                raise
    raise AssertionError("one of the two ways was tried last")


def _given_roles(settings: TilesSettings, table: pd.DataFrame) -> tuple[bool, str | None]:
    """Fill `role`; whether roles are given, and why a run would stop at them."""
    try:
        dividing.check_sites(table, settings.site_column)
        return dividing.given_roles(table, settings.roles, settings.leave_out)[0], None
    except UserError as error:
        return True, str(error)


def _looked(settings: TilesSettings, source: Source, table: pd.DataFrame, engine: Engine) -> pd.DataFrame:
    """`table` with what each picture is: format, tile_id, size, grey, colour, stain; or the reason why not."""
    rows_m = table.loc[table["reason"].isna(), "row"].to_numpy(np.int64)
    pieces = chunks.cut(source, rows_m, CHUNK_TILES)
    results = engine.map(functools.partial(look, wanted=wanted(settings)), [piece for _, piece in pieces])
    seen: list[dict[str, Any]] = []
    for (rows, _), result in zip(pieces, progress.track(results, "tiles", len(pieces), unit="chunk"), strict=True):
        seen += [{"row": int(row)} | one for row, one in zip(rows, result, strict=True)]
    columns = ["row", "hint", "format", "size", "tile_id", "grey", "colour", "stain", "refused"]
    found = pd.DataFrame(seen, columns=columns)
    table = table.merge(found, on="row", how="left", validate="one_to_one")
    set_aside(table, table["refused"].notna(), "")
    table.loc[table["refused"].notna(), "reason"] = table["refused"]
    hinted = table["hint"].notna()
    table.loc[hinted, "name"] += " (" + table.loc[hinted, "hint"] + ")"
    return table


def look(chunk: Chunk, wanted: Wanted) -> list[dict[str, Any]]:
    """What each image of a chunk is; pixels stay behind."""
    seen = []
    for found in chunks.fetch(chunk):
        one: dict[str, Any] = {"hint": found.hint, "format": format_of(found.content)}
        try:
            pixels_hwc = decoding.rgb(found.content, wanted)
        except Refused as refused:
            one["refused"] = str(refused)
        else:
            height, width = pixels_hwc.shape[:2]
            one |= {"size": f"{width}×{height}", "tile_id": images.tile_id(pixels_hwc)}
            one["grey"] = images.is_grey(pixels_hwc)
            one |= {"colour": colour_features(pixels_hwc[None])[0], "stain": stain(pixels_hwc[None])[0]}
        seen.append(one)
    return seen


def format_of(content: bytes | images.Pixels | None) -> str:
    """PNG, JPEG and so on; "array" for bare pixels, "none" for what is no picture."""
    if content is None or len(content) == 0:
        return "none"
    if not isinstance(content, bytes):
        return "array"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=chunks.FORMATS) as image:
                return str(image.format)
    except Exception:  # as in `decoding.rgb`: each decoder has errors of its own
        return "none"


def _roles(settings: TilesSettings, table: pd.DataFrame, given: bool, trouble: str | None) -> dict[str, Any]:
    """The roles as a run would have them, or why it would have none."""
    drawn: tuple[str, ...] = ()
    told = table.copy()
    if trouble is None:
        try:
            least = settings.min_patients_per_class
            drawn, _ = small_classes.divide(told, settings.fractions, settings.missing_roles, 0, given, least)
        except UserError as error:
            trouble, told = str(error), table
        else:
            table["reason"] = told["reason"]
    return {"given": given, "drawn": list(drawn), "trouble": trouble} | facts.roles(told)
