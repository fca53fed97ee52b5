"""Any source becomes one table with a row per tile, and chunks that any process can read. Pixels are not read yet."""

from pathlib import Path
from typing import Literal

from stages.contracts import UserError
from stages.sources.folders import METADATA, Unlisted, image_files, open_folder, open_imagefolder
from stages.sources.medmnist import open_medmnist
from stages.sources.parquet import open_parquet
from stages.sources.slide_files import holds_slides
from stages.sources.table import Columns, Source

Format = Literal["auto", "parquet", "medmnist", "imagefolder", "folder", "slides"]
ZIP = b"PK"
"""How a zip file begins; an npz is one."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins, small or big; a single slide is one."""


def open_source(
    path: Path,
    kind: Format,
    table: Path | None,
    columns: Columns,
    unlisted: Unlisted,
    medmnist: str | None,
    work: Path,
) -> Source:
    """Find the tiles of a source and what is known of each.

    Args:
        path: the Parquet or npz file, or the folder.
        kind: its format; "auto" looks.
        table: the CSV of a "folder".
        columns: names of the columns.
        unlisted: what to do when image files lie there of which the table says nothing.
        medmnist: which set of MedMNIST an npz is; None: not one that is known.
        work: where arrays are unpacked to; kept until the stage is done.

    Raises:
        UserError: nothing there, a column or a file is missing, files are not in the table or twice.
    """
    kind = kind_of(path, kind, table)
    if kind == "parquet":
        return open_parquet(path, columns)
    if kind == "medmnist":
        return open_medmnist(path, medmnist, columns.role is not None, work)
    if not path.is_dir():
        raise UserError(f"{path} is a file; a source of format {kind} is a folder of images.")
    if kind == "folder":
        return open_folder(path, table, columns, unlisted)
    return open_imagefolder(path, columns, unlisted)


def kind_of(path: Path, kind: Format, table: Path | None) -> Format:
    """What a source is; "auto" looks at its content, as its name is no part of what the seal vouches for.

    Raises:
        UserError: there is nothing.
    """
    for given in (path, table):
        if given is not None and not given.exists():
            raise UserError(f"There is nothing at {given}. Mend the path; a recipe's may be given with --set, too.")
    if kind != "auto":
        return kind
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(4)
        return "medmnist" if head.startswith(ZIP) else "slides" if head in TIFF else "parquet"
    if holds_slides(path):
        return "slides"
    if table is not None:
        return "folder"
    has_parquet = any(p.name not in METADATA for p in path.rglob("*.parquet"))
    return "parquet" if has_parquet and not image_files(path) else "imagefolder"
