"""Pieces of a source are decoded over the engine and wait on disk, until all are known and can be put in order."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages import compute, decoding, progress
from stages.contracts import Engine, Interrupted

Item = TypeVar("Item")


def decoded(
    table: pd.DataFrame,
    pieces: Sequence[tuple[npt.NDArray[np.int64], Item]],
    function: Callable[[Item], dict[str, list[Any]]],
    work: Path,
    engine: Engine,
) -> pd.DataFrame:
    """`table` with what decoding found: tile_id, size, grey, where the PNG lies, and the reason where there is none.

    Args:
        table: a row per tile; `row` numbers them, `reason` says why some need not be decoded.
        pieces: rows, and the piece of work that decodes them.
        function: decodes a piece into the columns of `decoding.DECODED` but `row`.
        work: where decoded pieces wait; those that lie there already are not decoded again.
        engine: where the work runs.

    Raises:
        Interrupted: asked to stop; what was decoded is kept.
    """
    paths = [work / f"tiles-{number:05d}.arrow" for number in range(len(pieces))]
    waiting = [number for number, path in enumerate(paths) if not path.exists()]
    written = engine.map(functools.partial(_write, function), [(paths[number], *pieces[number]) for number in waiting])
    done = len(pieces) - len(waiting)
    tracked = progress.track(written, "tiles", total=len(pieces), done=done, unit="chunk")
    for number, _ in zip(waiting, tracked, strict=True):
        if compute.stop_asked() and number != waiting[-1]:
            raise Interrupted(f"tiles stopped after chunk {number + 1} of {len(pieces)}; run again to continue")
    found = pd.concat([_found(path, number) for number, path in enumerate(paths)] or [_nothing()])
    table = table.merge(found, on="row", how="left", validate="one_to_one")
    table.loc[table["refused"].notna(), "reason"] = table["refused"]
    hinted = table["hint"].notna() & table["reason"].notna()
    if hinted.any():  # pandas cannot join words to a column that holds none
        table.loc[hinted, "name"] += " (" + table.loc[hinted, "hint"] + ")"
    return table


def _write(function: Callable[[Item], dict[str, list[Any]]], piece: tuple[Path, npt.NDArray[np.int64], Item]) -> None:
    """Decode a piece and keep it where it was decoded: pictures that travel to another process cost time."""
    path, rows_n, item = piece
    decoding.write_chunk(path, rows_n, function(item))


def _found(path: Path, number: int) -> pd.DataFrame:
    part: pd.DataFrame = decoding.read_chunk(path).drop_columns(["png"]).to_pandas()
    part = part.rename(columns={"reason": "refused"})
    return part.assign(chunk=number, place=np.arange(len(part)), path=str(path))


def _nothing() -> pd.DataFrame:
    names = [name for name in decoding.DECODED.names if name not in ("png", "reason")]
    return pd.DataFrame({name: pd.Series(dtype=object) for name in [*names, "refused", "chunk", "place", "path"]})
