"""Which files of a folder are whole slides, and what is known of each: patient, class, role, site, mpp, annotation.

Pixels are not read. A table may have a row per slide or a row per patient; what it does not say is told by folders
(source/CLASS/slide.svs, source/train/CLASS/slide.svs) and by a pattern in the slides' names.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from stages.contracts import UserError
from stages.sources.table import Columns, pick, read_csv, roles_told, some, text, texts

log = logging.getLogger(__name__)
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm", ".tif", ".tiff")
"""Suffixes of files that OpenSlide reads."""
PLAIN = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".jp2")
"""Suffixes of large pictures that Pillow reads."""
SURE = tuple(suffix for suffix in SLIDES if suffix not in (".tif", ".tiff"))
"""Suffixes that nothing but a whole slide has (a TIFF may be a tile)."""
ANNOTATION = ".geojson"
GLASS = "by its name a picture of the label or the whole glass"
"""Why a picture beside the slides is set aside: scanners put the patient's name on such pictures."""
SHOWS_GLASS = re.compile(r"(?:^|[^a-z])(?:label|macro|barcode|overview|thumb(?:nail)?)(?:[^a-z]|$)", re.IGNORECASE)
DICOM_HEAD, SERIES_UID = 2**16, b"\x20\x00\x0e\x00UI"
"""So many bytes of a DICOM file hold its UIDs; and how (0020,000E) is written."""
MPP = "mpp"
"""The table's column with micrometres per pixel."""


def slide_files(path: Path) -> list[str]:
    """Names, relative to `path` and in order, of the files below it that are slides by their suffix.

    The data folder of an MRXS slide holds no slides of its own, nor do the pictures beside a VMS or VMU file; of the
    files of a DICOM series the first stands for the slide.
    """
    if path.is_file():
        return [path.name]
    files = [p for p in path.rglob("*") if p.suffix.lower() in (*SLIDES, *PLAIN) and not _hidden(p, path)]
    companions = {p.with_suffix("") for p in files if p.suffix.lower() == ".mrxs"}
    mapped = {p.parent for p in files if p.suffix.lower() in (".vms", ".vmu")}
    found: list[Path] = []
    series: set[tuple[Path, bytes]] = set()
    for file in sorted(files):
        suffix = file.suffix.lower()
        if companions & set(file.parents) or (suffix in PLAIN and file.parent in mapped):
            continue
        if suffix == ".dcm":
            if (one := (file.parent, series_of(file))) in series:
                continue
            series.add(one)
        found.append(file)
    return [file.relative_to(path).as_posix() for file in found]


def series_of(file: Path) -> bytes:
    """The Series Instance UID in the head of a DICOM file; empty where none is found, or the file cannot be read.

    Whole slides have explicit value representations, little endian (PS3.5, 7.1.2): tag, "UI", length, value.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(DICOM_HEAD)
    except OSError:
        return b""
    start = head.find(SERIES_UID)
    if start < 0:
        return b""
    value = start + len(SERIES_UID) + 2
    return head[value : value + int.from_bytes(head[value - 2 : value], "little")].rstrip(b"\0 ")


def holds_slides(path: Path) -> bool:
    """Whether a folder holds a file that can only be a whole slide."""
    return any(Path(name).suffix.lower() in SURE for name in slide_files(path))


def shows_glass(name: str) -> bool:
    """Whether a file is called what exported pictures of a label or of the whole glass are, as in S1_macro.jpg."""
    path = PurePosixPath(name)
    return path.suffix.lower() not in SURE and SHOWS_GLASS.search(path.stem) is not None


def _hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def open_slides(
    path: Path,
    table: Path | None,
    columns: Columns,
    patient_pattern: str | None,
    annotations: Path | None,
    unlisted_refused: bool,
) -> tuple[pd.DataFrame, bool]:
    """One row per slide, and whether their patients are known.

    Args:
        path: a folder of slides, or one slide.
        table: CSV with a row per slide (it has the column `columns.file`) or per patient.
        columns: how the table calls its columns; `group` is the patient.
        patient_pattern: a regular expression whose first group is the patient, sought in a slide's name.
        annotations: folder of GeoJSON files named after the slides; None: beside the slides.
        unlisted_refused: whether a slide of which the table says nothing is an error; else it is left out.

    Returns:
        columns name, path, label, group, role, site, mpp (text), regions (path) and reason (a row of the table whose
        slide is not there, or a picture of the label or the glass); None where nothing is known. Where no patient is
        known each slide is its own group.

    Raises:
        UserError: no slide, an ambiguous row, or a column is missing.
    """
    files = slide_files(path)
    names = [name for name in files if not shows_glass(name)]
    if not names:
        raise UserError(f"No slide was found in {path}. Looked for files named {', '.join((*SLIDES, *PLAIN))}.")
    rows = pd.DataFrame({"name": names}, dtype=object)
    rows["path"] = pd.Series([path if path.is_file() else path / name for name in names], dtype=object)
    rows = _by_folder(rows.assign(label=None, group=None, role=None, site=None, mpp=None, reason=None))
    if patient_pattern is not None:
        rows["group"] = [_patient(patient_pattern, name) for name in names]
        if rows["group"].isna().all():
            raise UserError(f"tiles.slides.patient_pattern finds no patient in any name, as in {some(names)}.")
    if table is not None:
        rows = _joined(rows, table, columns, unlisted_refused)
    rows["regions"] = _annotations(rows, path, annotations)
    known = bool(rows.loc[rows["reason"].isna(), "group"].notna().any())
    if not known:
        log.warning(
            "no patient is told, so every slide is its own group: slides of one patient may lie in two roles. Give a "
            "table with the column %s, or tiles.slides.patient_pattern",
            columns.group,
        )
        rows["group"] = rows["name"]
    rows.loc[rows["reason"].isna() & rows["group"].isna(), "reason"] = "no patient"
    beside = pd.DataFrame({"name": [name for name in files if shows_glass(name)], "reason": GLASS}, dtype=object)
    return pd.concat([rows, beside.reindex(columns=rows.columns)], ignore_index=True), known


def _by_folder(rows: pd.DataFrame) -> pd.DataFrame:
    """Roles and classes as folders tell them: role/CLASS/…, or CLASS/…."""
    folders = [PurePosixPath(name).parts[:-1] for name in rows["name"]]
    roles = roles_told([parts[:1] for parts in folders])
    if roles is not None:
        log.info("roles are told by the folders' names: %s", ", ".join(sorted(set(roles))))
        rows["role"] = pd.Series(roles, dtype=object)
        folders = [parts[1:] for parts in folders]
    rows["label"] = pd.Series([parts[0] if parts else None for parts in folders], dtype=object)
    return rows


def _patient(pattern: str, name: str) -> str | None:
    found = re.search(pattern, name)
    return None if found is None else text(found.group(1))


def _joined(rows: pd.DataFrame, table: Path, columns: Columns, unlisted_refused: bool) -> pd.DataFrame:
    """`rows` with what the table says of each; what it says wins over folders and patterns."""
    frame = read_csv(table).astype(object)
    if columns.file in frame:
        rows, place = _match_slides(rows, frame[columns.file].map(text), table.name)
    else:
        if columns.group not in frame:
            raise UserError(
                f"{table.name} has neither the column {columns.file!r} (a row per slide) nor {columns.group!r} (a row "
                f"per patient). It has: {', '.join(map(str, frame.columns))}. Name them with tiles.file_column and "
                "tiles.group_column."
            )
        place = _match_patients(rows, frame[columns.group].map(text), table.name)
    here = [row for row, at in zip(rows.index, place, strict=True) if at is not None]
    missing = rows.loc[[row for row, at in zip(rows.index, place, strict=True) if at is None], "name"].tolist()
    if missing and unlisted_refused:
        raise UserError(
            f"{table.name} says nothing of {len(missing)} slides: {some(missing)}. Add a row for each, or set "
            "tiles.unlisted to leave_out."
        )
    told = frame.iloc[[at for at in place if at is not None]].set_axis(here)
    wanted = {"label": columns.label, "group": columns.group, "role": columns.role, "site": columns.site, "mpp": MPP}
    for name, column in wanted.items():
        if column is None or column not in told:
            if name == "site" and column is not None:
                pick(frame.columns, column, table.name)
            continue
        cells = texts(told[column]).set_axis(here)
        rows.loc[here, name] = cells.where(cells.notna(), rows.loc[here, name])
    return rows.loc[here].reset_index(drop=True)


def _match_slides(rows: pd.DataFrame, files: "pd.Series[Any]", where: str) -> tuple[pd.DataFrame, Sequence[int | None]]:
    """For each slide the row of the table; rows without a slide become slides that are not there."""
    by_name = _keys(rows["name"])
    place: list[int | None] = [None] * len(rows)
    lost = []
    for at, file in enumerate(files):
        if file is None:
            continue
        hits = by_name.get(PurePosixPath(file.replace("\\", "/")).as_posix(), [])
        if len(hits) > 1:
            raise UserError(
                f"{where} calls a slide {file!r}, which {len(hits)} slides are called. Write its folder too."
            )
        if hits and place[hits[0]] is not None:
            name = rows["name"].iloc[hits[0]]
            raise UserError(f"{where} has two rows for the slide {name}. Give each slide one row.")
        if hits:
            place[hits[0]] = at
        else:
            lost.append((file, at))
    absent = pd.DataFrame({"name": [file for file, _ in lost], "reason": "not there"}, dtype=object)
    return pd.concat([rows, absent.reindex(columns=rows.columns)], ignore_index=True), [
        *place,
        *(at for _, at in lost),
    ]


def _keys(names: "pd.Series[Any]") -> Mapping[str, list[int]]:
    """What a table may call each slide: its path below the source, its file's name, or that without the suffix."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        path = PurePosixPath(name)
        for key in {path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem}:
            found.setdefault(key, []).append(number)
    return found


def _match_patients(rows: pd.DataFrame, patients: "pd.Series[Any]", where: str) -> Sequence[int | None]:
    """For each slide the row of its patient."""
    at = {patient: number for number, patient in enumerate(patients) if patient is not None}
    if len(at) < patients.notna().sum():
        twice = sorted(patients[patients.duplicated() & patients.notna()].unique())
        raise UserError(f"{where} has two rows for the patient {some(twice)}. Give each patient one row.")
    if rows["group"].isna().all():
        raise UserError(
            f"{where} has a row per patient, but nothing tells which slides are whose. Add a column with the slides' "
            "files (tiles.file_column), or set tiles.slides.patient_pattern."
        )
    return [at.get(group) for group in rows["group"]]


def _annotations(rows: pd.DataFrame, path: Path, folder: Path | None) -> "pd.Series[Any]":
    """The GeoJSON of each slide: named after it, in `folder` or beside it; None where there is none.

    What lies beside a slide given alone is not looked at: the result's seal vouches for the slide's file only.
    """
    found: list[Path | None] = []
    below = folder or (None if path.is_file() else path)
    for relative in map(Path, rows["name"]):
        places = [] if below is None else [below / relative, below / relative.name]
        named = [p for place in places for p in (place.with_suffix(ANNOTATION), Path(f"{place}{ANNOTATION}"))]
        found.append(next((p for p in named if p.is_file()), None))
    if folder is not None and not any(found):
        wanted = Path(rows["name"].iloc[0]).stem + ANNOTATION
        raise UserError(f"No file in {folder} is named after a slide, as in {wanted}.")
    return pd.Series(found, index=rows.index, dtype=object)
