"""Small sources of tiles for the tests: two classes, groups, names that must not travel."""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stages import images, store, tiles

TELLTALE = "MUSTERMANN"
CLASSES = ("benign", "tumour")
GROUPS, PER_GROUP = 10, 3
TUMOUR = ["train"] * 20 + ["val"] * 10
KEY = bytes(range(32))


class Serial:
    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


class TwoProcesses:
    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            yield from pool.map(function, items)


def rows() -> pd.DataFrame:
    """Two classes of ten groups of three 16-px tiles, under names that must not travel."""
    rng = np.random.default_rng(0)
    found = []
    for label in CLASSES:
        for group in range(GROUPS):
            for tile in range(PER_GROUP):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                exif = Image.Exif()
                exif[0x010E] = f"{TELLTALE} exif"
                Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
                found.append(
                    {
                        "file": f"{TELLTALE}/{label}-{group}-{tile}.png",
                        "label": label,
                        "group": f"{TELLTALE}-{label}-{group}",
                        "content": buffer.getvalue(),
                    }
                )
    return pd.DataFrame(found)


def as_parquet(frame: pd.DataFrame, path: Path, **options: Any) -> Path:
    cells = [{"bytes": content, "path": file} for content, file in zip(frame["content"], frame["file"], strict=True)]
    others = {name: frame[name].tolist() for name in frame if name not in ("content", "file")}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": cells, **others}), path, **options)
    return path


def as_files(frame: pd.DataFrame, folder: Path, file: str = "file") -> Path:
    for name, content in zip(frame[file], frame["content"], strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def as_folder(frame: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    table = folder.parent / f"{folder.name}.csv"
    source = as_files(frame, folder)
    frame.drop(columns="content").to_csv(table, index=False)
    return source, table


def table_of(folder: Path) -> pd.DataFrame:
    return images.read_table(folder)[0]


def key_file(folder: Path, key: bytes = KEY) -> Path:
    """The root's key, as the runner gives it to the tiles stage."""
    path = folder / ".key"
    path.write_text(key.hex() + "\n")
    return path


def run(out: Path, engine: Any = None, seed: int = 5, key: bytes = KEY, **settings: Any) -> Path:
    out.mkdir(parents=True)
    inputs = {"key": key_file(out.parent, key)}
    tiles.run(tiles.TilesSettings(**settings), inputs, out, seed, engine or Serial())
    return out


def digests(out: Path) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in store.digest_folder(out).items()}


def roles_csv(frame: pd.DataFrame, path: Path, plan: str = "ttttttvxxc") -> Path:
    """A table of roles by the `plan` for each class's groups: t train, v val, x test, c control, p public."""
    names = {"t": "train", "v": "val", "x": "test", "c": "control", "p": "public"}
    table = frame[["group", "label"]].drop_duplicates()
    table["role"] = [names.get(plan[i % GROUPS], plan[i % GROUPS]) for i in range(len(table))]
    table.to_csv(path, index=False)
    return path
