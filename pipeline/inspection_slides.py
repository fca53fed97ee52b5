"""What whole slides hold, what they hide, and what would be taken of them, before anything is cut.

The reader is inside the house, so names and the values of identifying properties are told; none of it goes further.
"""

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.inspection_text import folded, heading, line
from stages import images, progress, store
from stages.contracts import Engine
from stages.slide_previews import preview
from stages.slide_settings import SlidesSettings
from stages.slide_survey import Asked, Survey, survey
from stages.slide_tiling import asked_of
from stages.sources import slide_reading
from stages.sources.slide_files import open_slides
from stages.sources.slide_reading import Unreadable
from stages.tiles import TilesSettings, columns_of

IDENTIFYING = re.compile(
    r"date|time|user|operator|filename|file.?name|image.?id|barcode|label|patient|case|accession|comment|description"
    r"|serial|s/n|uid|uuid|scanscope|title|name|session|quickhash|study|hospital|institution|creat|slide.?id|reference"
    r"|unit.?number|project",
    re.IGNORECASE,
)
"""Properties that may tell who or when, by their names …"""
DATED = re.compile(r"\b(\d{4}([-./])\d{2}\2\d{2}|\d{2}([-./])\d{2}\3(\d{2}|\d{4}))\b")
"""… or by a value that looks like a date."""
HARMLESS = re.compile(r"^openslide\.(associated|level|region)|^tiff\.ResolutionUnit$|vendor$", re.IGNORECASE)
LONGEST = 60
"""Letters of a property's value that are shown."""


def inspect(settings: TilesSettings, engine: Engine, previews: Path | None) -> dict[str, Any]:
    """All findings, as numbers and words that JSON can hold; pictures go to the folder `previews`, if one is given.

    Raises:
        UserError: there is no slide, or the table does not fit the slides.
    """
    assert isinstance(settings.source, Path), "an address is brought here first"
    slides, known = open_slides(
        settings.source,
        settings.table,
        columns_of(settings),
        settings.slides.patient_pattern,
        settings.slides.annotations,
        settings.unlisted == "refuse",
    )
    here = slides[slides["reason"].isna()]
    asked = [(row["name"], asked_of(row, settings.slides)) for _, row in here.iterrows()]
    looked = engine.map(functools.partial(look, settings=settings.slides, previews=previews), asked)
    found = list(progress.track(looked, "slides", total=len(asked), unit="slide"))
    told = {
        "source": str(settings.source),
        "mpp": settings.slides.mpp,
        "tile_px": settings.slides.tile_px,
        "patients": int(here["group"].nunique()) if known else None,
        "labels": {str(label): int(n) for label, n in here["label"].value_counts().items()},
        "not_there": slides.loc[slides["reason"].notna(), ["name", "reason"]].to_numpy().tolist(),
        "slides": [{"name": name} | one for name, one in zip(here["name"], found, strict=True)],
    }
    return told


def look(slide: tuple[str, Asked], settings: SlidesSettings, previews: Path | None) -> dict[str, Any]:
    """One slide, by its name below the source: what it holds, hides, and would give."""
    name, asked = slide
    try:
        told = held(asked.path)
    except Unreadable as reason:
        return {"refused": str(reason)}
    seen = survey(asked, settings)
    if seen.refused is not None:
        return told | {"refused": seen.refused}
    if previews is not None:
        _draw(previews / f"{name}.png", seen, settings)
    good = seen.table[seen.table["reason"].isna()]
    labels = good["label"].fillna("(no class)").value_counts()
    return told | {
        "refused": None,
        "taken": {
            "tiles": len(good),
            "positions": seen.told["positions"],
            "background": seen.told["background"],
            "rejected": {str(r): int(n) for r, n in seen.table["reason"].dropna().value_counts().items()},
            "by_class": {str(label): int(n) for label, n in labels.items()},
            "tissue": round(seen.told["tissue"], 4),
            "level": seen.told["plan"]["level"],
            "mpp": seen.told["plan"]["mpp"],
            "annotated_regions": seen.told["regions"],
        },
    }


def held(path: Path) -> dict[str, Any]:
    """What the head of a slide says, and what of it could tell who the patient is.

    Raises:
        Unreadable: it is no slide, or damaged.
    """
    facts = slide_reading.facts(path)
    properties, associated = slide_reading.hidden(path)
    telling = {n: v for n, v in properties.items() if tells(n, v)}
    return {
        "vendor": properties.get("openslide.vendor", "a plain picture"),
        "size_px": [facts.width, facts.height],
        "levels": [round(down, 2) for down in facts.downsamples],
        "mpp0": facts.mpp,
        "objective": properties.get("openslide.objective-power"),
        "hides": {"pictures": associated, "properties": {n: str(v)[:LONGEST] for n, v in sorted(telling.items())}},
        "properties": len(properties),
    }


def tells(name: str, value: str) -> bool:
    """Whether a property of a slide may tell who the patient is, or when something was done to the slide."""
    return not HARMLESS.search(name) and bool(IDENTIFYING.search(name) or DATED.search(value))


def _draw(to: Path, seen: Survey, settings: SlidesSettings) -> None:
    tiles = seen.table.assign(x=seen.table["x"] - seen.told["origin"][0], y=seen.table["y"] - seen.told["origin"][1])
    classes = tuple(sorted(tiles["label"].dropna().unique()))
    side0, per_pixel = seen.told["plan"]["side0_px"], seen.told["per_pixel"]
    drawn = preview(np.asarray(seen.thumbnail_hwc), per_pixel, tiles, classes, side0, settings.preview_px)
    store.write_bytes(to, images.png(drawn, level=6))


def page(found: dict[str, Any]) -> str:
    """The findings as plain text."""
    lines = [*folded(found["source"])]
    cut = f"cut into tiles of {found['tile_px']} px at {found['mpp']:g} µm per pixel"
    lines += line("slides", f"{len(found['slides'])}, {cut}")
    patients = "not told: every slide is its own group" if found["patients"] is None else str(found["patients"])
    lines += line("patients", patients)
    if found["labels"]:
        lines += line("classes of slides", ", ".join(f"{label} ({n})" for label, n in found["labels"].items()))
    for name, reason in found["not_there"]:
        lines += line("set aside", f"{name}: {reason}")
    for one in found["slides"]:
        lines += [*heading(one["name"]), *_slide(one)]
    good = [one["taken"]["tiles"] for one in found["slides"] if not one["refused"]]
    lines += ["", *folded(f"{sum(good):,} tiles would be read; blurred ones fall away then.")]
    return "\n".join(text.rstrip() for text in lines) + "\n"


def _slide(one: dict[str, Any]) -> list[str]:
    lines = []
    if "vendor" in one:
        wide, high = one["size_px"]
        mpp = "unknown micrometres per pixel" if one["mpp0"] is None else f"{one['mpp0']:.4g} µm per pixel"
        power = f", objective {one['objective']}×" if one["objective"] else ""
        levels = ", ".join(f"{down:g}" for down in one["levels"])
        lines += line("holds", f"{wide:,} × {high:,} px, {mpp}{power}, {one['vendor']}, levels {levels}")
        lines += _hides(one["hides"], one["properties"])
    if one["refused"]:
        return lines + line("set aside", one["refused"])
    taken = one["taken"]
    lines += line("tissue", f"{taken['tissue']:.0%} of the slide")
    lines += line(
        "taken", f"{taken['tiles']:,} tiles of {taken['mpp']:.4g} µm per pixel, read from level {taken['level']}"
    )
    if taken["annotated_regions"] is not None:
        lines += line("annotation", f"{taken['annotated_regions']} regions")
    lines += line("classes", ", ".join(f"{label} {n:,}" for label, n in taken["by_class"].items()) or "none")
    rejected = {"background": taken["background"]} | taken["rejected"]
    lines += line("not taken", ", ".join(f"{reason} {n:,}" for reason, n in rejected.items()))
    return lines


def _hides(hides: dict[str, Any], of: int) -> list[str]:
    lines = []
    if hides["pictures"]:
        lines += line("hides pictures", f"{', '.join(hides['pictures'])}: never read")
    if hides["properties"]:
        few = f"{len(hides['properties'])} of {of} properties"
        lines += line("hides words", f"{few} may tell who or when; never copied:")
        for name, value in hides["properties"].items():
            lines += folded(f"{name} = {' '.join(value.split())}", " " * 24)
    return lines
