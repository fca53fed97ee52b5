"""Image sets: tiles, candidates, selections and condensations share one format on disk and in memory.

On disk: a folder that `datasets.load_from_disk` opens (Arrow, memory-mapped, sharded), images as PNG (lossless), with
the columns `image`, `label`, `tile_id` and whatever the stage adds. In memory: pixels and a table, row for row.
Shapes: n images, h and w pixels, c = 3 channels.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from PIL import Image

from stages import store

Pixels = npt.NDArray[np.uint8]
ROWS_PER_SHARD = 4096


class ImageSet(NamedTuple):
    """Images with their table."""

    pixels_nhwc: Pixels
    """n × h × w × 3, RGB, 0 to 255."""
    table: pd.DataFrame
    """One row per image: `label` (int, into `classes`), `tile_id` (str) and the stage's own columns."""
    classes: tuple[str, ...]
    """Class names, in the order of their numbers."""

    @property
    def labels_n(self) -> npt.NDArray[np.int64]:
        """The class number of every image."""
        return self.table["label"].to_numpy(np.int64)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.int64] | Sequence[int]) -> "ImageSet":
        """The images at `rows`, in that order."""
        rows_m = np.asarray(rows, dtype=np.int64)
        return ImageSet(self.pixels_nhwc[rows_m], self.table.iloc[rows_m].reset_index(drop=True), self.classes)

    def where(self, **wanted: str | int) -> "ImageSet":
        """The images whose columns equal the `wanted` values, e.g. `where(role="train")`."""
        keep_n = np.logical_and.reduce([self.table[column] == value for column, value in wanted.items()])
        return self.take(np.flatnonzero(keep_n))


class Encoded(NamedTuple):
    """Images already encoded as PNG, with their table: on their way to disk, never to be decoded for it."""

    png_n: list[bytes]
    """What `png` made of each picture."""
    table: pd.DataFrame
    """As in `ImageSet`."""
    classes: tuple[str, ...]
    """As in `ImageSet`."""


def tile_id(pixels_hwc: Pixels) -> str:
    """Digest of the pixels: the same picture has the same name everywhere, and the name says nothing else."""
    head = "x".join(map(str, pixels_hwc.shape)).encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels_hwc).tobytes()).hexdigest()[:16]


def make(
    pixels_nhwc: Pixels,
    labels: Sequence[int] | npt.NDArray[np.int64],
    classes: Sequence[str],
    columns: dict[str, Sequence[object]] | pd.DataFrame | None = None,
) -> ImageSet:
    """An image set from pixels, labels and the stage's own columns; names every tile by its pixels."""
    ids = [tile_id(pixels_hwc) for pixels_hwc in pixels_nhwc]
    table = pd.DataFrame({"label": np.asarray(labels, np.int64), "tile_id": pd.Series(ids, dtype="str")})
    extra = pd.DataFrame(columns).reset_index(drop=True) if columns is not None else pd.DataFrame(index=table.index)
    return ImageSet(pixels_nhwc, pd.concat([table, extra], axis=1), tuple(classes))


def png(pixels_hwc: Pixels, level: int = 1) -> bytes:
    """A picture as PNG; level 1 is four times as fast as level 6 and a tenth larger."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def pixels(content: bytes) -> Pixels:
    """The picture in a PNG of ours, h × w × 3."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def is_grey(pixels_hwc: Pixels) -> bool:
    """Whether the three channels are equal everywhere; a few pixels mostly tell that they are not."""
    few_hwc = pixels_hwc[::8, ::8]
    return bool((few_hwc == few_hwc[..., :1]).all() and (pixels_hwc == pixels_hwc[..., :1]).all())


def write(folder: Path, images: ImageSet) -> None:
    """Write an image set; equal sets give equal bytes."""
    write_chunks(
        folder,
        (
            images.take(range(start, min(start + ROWS_PER_SHARD, len(images.table))))
            for start in range(0, len(images.table), ROWS_PER_SHARD)
        ),
    )


def write_chunks(folder: Path, chunks: Iterable[ImageSet]) -> None:
    """Write an image set chunk by chunk, one Arrow shard each, so that it need never be in memory whole."""
    write_encoded(folder, (Encoded([png(p) for p in c.pixels_nhwc], c.table, c.classes) for c in chunks))


def write_encoded(folder: Path, chunks: Iterable[Encoded]) -> None:
    """As `write_chunks`, of pictures that are PNG already."""
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    digest = hashlib.sha256()
    features: datasets.Features | None = None
    for number, chunk in enumerate(chunks):
        if features is None:
            features = _features(chunk)
        rows = {"image": [{"bytes": content, "path": None} for content in chunk.png_n]}
        rows |= {name: chunk.table[name].tolist() for name in chunk.table.columns}
        table = pa.Table.from_pydict(rows, schema=features.arrow_schema)
        names.append(f"data-{number:05d}.arrow")
        with pa.OSFile(str(folder / names[-1]), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        digest.update(store.digest_file(folder / names[-1]).encode())
    if features is None:
        raise ValueError("an image set needs at least one image; got none")
    datasets.DatasetInfo(features=features).write_to_directory(str(folder))
    store.write_json(
        folder / "state.json",
        {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": digest.hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        },
    )


def _features(images: Encoded) -> "datasets.Features":  # type: ignore[name-defined]  # noqa: F821
    """Column types of an image set as `datasets` names them."""
    import datasets

    kinds = {"i": "int64", "u": "int64", "f": "float64", "b": "bool"}
    columns = {
        name: datasets.Value(kinds.get(images.table[name].dtype.kind, "string")) for name in images.table.columns
    }
    label = datasets.ClassLabel(names=list(images.classes))
    return datasets.Features({"image": datasets.Image(), **columns, "label": label})


def read_table(folder: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table of an image set and its class names; no picture is decoded."""
    import datasets

    data = datasets.load_from_disk(str(folder))
    frame = data.remove_columns("image").with_format("arrow")[:].to_pandas()
    return frame, tuple(data.features["label"].names)


def read(folder: Path, rows: npt.NDArray[np.int64] | None = None, **wanted: str | int) -> ImageSet:
    """Read an image set: the given `rows` in that order, or those whose columns equal the `wanted` values, or all.

    Other rows are not decoded.
    """
    import datasets

    frame, classes = read_table(folder)
    keep_n = np.ones(len(frame), bool)
    for column, value in wanted.items():
        keep_n &= (frame[column] == value).to_numpy()
    rows_m = np.flatnonzero(keep_n) if rows is None else rows[keep_n[rows]]
    column_n = datasets.load_from_disk(str(folder)).with_format("arrow")[:].column("image")
    cells = column_n.combine_chunks().field("bytes").take(pa.array(rows_m))
    found = [pixels(cell.as_py()) for cell in cells]
    pixels_nhwc = np.stack(found) if found else np.zeros((0, 1, 1, 3), np.uint8)
    return ImageSet(pixels_nhwc, frame.iloc[rows_m].reset_index(drop=True), classes)
