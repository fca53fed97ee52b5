"""Pins by hand: candidates that a person leaves out of every choice, and those that are to be in it.

Both are CSV files with the columns tile_id and reason, as the explorer writes them. Results tell how many there were
and why; who pinned them is nowhere asked.
Shapes: n nodes of one class, s chosen.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.contracts import UserError
from stages.settings import InputPath, Settings
from stages.sources import table

Ints = npt.NDArray[np.int64]
LEFT_OUT, KEPT, GAVE_WAY = "left out by hand: ", "kept by hand: ", "gave its seat to a kept one"
"""How the reason of a candidate in `communities.parquet` begins; the person's own words follow the first two."""
NO_REASON = "no reason given"
LONGEST_REASON = 200


class PinsSettings(Settings):
    """Files of pins; every selection that names none of its own goes by these."""

    exclude: InputPath | None = None
    """Candidates that are never chosen: a CSV with tile_id and reason."""
    keep: InputPath | None = None
    """Candidates that are always chosen: a CSV with tile_id and reason."""


class Pins(NamedTuple):
    """What a person decided: the reason of every tile, by its id."""

    exclude: Mapping[str, str]
    keep: Mapping[str, str]

    def left(self, rows_n: Ints, tile_ids: npt.NDArray[np.str_]) -> Ints:
        """Those of `rows_n` that are not left out; `tile_ids` of all candidates."""
        return rows_n[~np.isin(tile_ids[rows_n], list(self.exclude))] if self.exclude else rows_n

    def explain(self, ids_n: Iterable[str], reason_n: Iterable[str]) -> list[str]:
        """Why every candidate was chosen or not: for those that are left out, because of what was said."""
        pairs = zip(ids_n, reason_n, strict=True)
        return [LEFT_OUT + self.exclude[one] if one in self.exclude else reason for one, reason in pairs]


def read(exclude: Path | None, keep: Path | None, tile_ids: Collection[str]) -> Pins:
    """The pins of the files that are given.

    Args:
        exclude: CSV of candidates to leave out; None: none.
        keep: CSV of candidates to keep; None: none.
        tile_ids: of all candidates.

    Raises:
        UserError: a file is no such table, names a tile that is no candidate, or both name the same tile.
    """
    pins = Pins(_read_one(exclude, set(tile_ids)), _read_one(keep, set(tile_ids)))
    both = sorted(pins.exclude.keys() & pins.keep.keys())
    if both:
        raise UserError(
            f"{len(both)} tiles are to be left out and to be kept: {table.some(both)}. "
            f"Take them out of {exclude} or out of {keep}."
        )
    return pins


def _read_one(path: Path | None, known: set[str]) -> dict[str, str]:
    """The reasons in one file, by tile id; of a tile named twice, the first."""
    if path is None:
        return {}
    frame = table.read_csv(path)
    ids = [cell.strip().lower() for cell in frame[table.pick(frame.columns, "tile_id", str(path))]]
    reasons = [" ".join(cell.split()) or NO_REASON for cell in frame[table.pick(frame.columns, "reason", str(path))]]
    unknown = sorted({one for one in ids if one not in known})
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(ids)} tiles in {path} are no candidates: {table.some(unknown)}. An id has 16 "
            "letters and digits (spreadsheets turn some into numbers), and other candidates have other ids: "
            "pin them anew in the explorer of these candidates, or take the lines out."
        )
    long = next((reason for reason in reasons if len(reason) > LONGEST_REASON), None)
    if long is not None:
        raise UserError(
            f"A reason in {path} has {len(long)} characters ({long[:40]}…); at most {LONGEST_REASON} are taken: "
            "reasons are told in a release. Shorten it."
        )
    return dict(reversed(list(zip(ids, reasons, strict=True))))


def seat(
    pins: Pins, ids_n: npt.NDArray[np.str_], chosen_s: Ints, reason_n: list[str], community_n: Ints | None, name: str
) -> tuple[Ints, list[str]]:
    """The chosen of the class called `name` once the kept have their seats, and the reason of every node.

    Args:
        pins: what a person decided.
        ids_n: tile id of every node.
        chosen_s: nodes chosen without the pins, by rank.
        reason_n: why every node was chosen or not.
        community_n: community of every node; None where the choice did not go by any.
        name: of the class, for errors.

    Raises:
        UserError: more are kept than the class has seats.
    """
    from stages.graph.pins import with_kept

    kept_k = np.flatnonzero(np.isin(ids_n, list(pins.keep))) if pins.keep else np.zeros(0, np.int64)
    if len(kept_k) > len(chosen_s):
        raise UserError(
            f"{len(kept_k)} tiles of class {name} are to be kept, but selection.per_class is {len(chosen_s)}: "
            "raise it, or keep fewer."
        )
    after_s, reason_n = with_kept(chosen_s, kept_k, community_n), list(reason_n)
    for node in np.setdiff1d(chosen_s, after_s):
        reason_n[node] = GAVE_WAY
    for node in kept_k:
        reason_n[node] = KEPT + pins.keep[str(ids_n[node])]
    return after_s, reason_n


def told(pins: Pins) -> dict[str, Any]:
    """How many were pinned, and why; for the facts of a selection, and so for the provenance of a release."""
    return {"excluded": _counted(pins.exclude), "kept": _counted(pins.keep)}


def _counted(reasons: Mapping[str, str]) -> dict[str, Any]:
    counts = sorted(Counter(reasons.values()).items(), key=lambda pair: (-pair[1], pair[0]))
    return {"tiles": len(reasons), "reasons": [{"reason": reason, "tiles": tiles} for reason, tiles in counts]}
