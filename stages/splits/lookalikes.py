"""Which tiles might show the same: those whose landmarks find each other among all landmarks of all tiles.

The search for nearest landmarks looks only into the cells (of a spherical k-means) nearest to each, as an inverted file
does (Sivic and Zisserman 2003): the cost grows with n^1.5 instead of n². Every pair of landmarks that finds each other
votes for its pair of tiles.

Shapes: n tiles, k landmarks of each, m = n·k landmarks in all, d numbers of an invariant, v of a vector, p pairs.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix

from stages.splits.pieces import Pieces, Share

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
DIMENSIONS = 48
FITTED = 200_000
"""Landmarks from which the axes are fitted, evenly spread over all."""
PER_CELL = 150
"""Landmarks in a cell at the least, on average."""
PROBES = 4
"""Cells that are looked into for each landmark."""
NEAREST = 8
"""Nearest landmarks, of other tiles, that each landmark votes for."""
ROUNDS = 5
"""Rounds of k-means; the cells need only be fair."""
CELLS_AT_ONCE = 16


class Cell(NamedTuple):
    """A piece of the search: some landmarks, and those among which their nearest are sought."""

    asking: Ints
    members: Ints
    vector_qv: Vectors
    vector_cv: Vectors
    landmarks: int
    """Of each tile; so landmark m is of tile m // landmarks."""


def compress(invariant_nkd: npt.NDArray[np.float16]) -> Vectors:
    """Unit vectors (n, k, v) on the principal axes, each axis divided by the fourth root of its variance.

    "Half whitening", as in stages/privacy/similarity.py: what all landmarks share counts less.
    """
    n, k, d = invariant_nkd.shape
    flat_md = invariant_nkd.reshape(n * k, d)
    some = flat_md[:: max(1, len(flat_md) // FITTED)].astype(np.float64)
    centre_d = some.mean(0)
    variance_d, axes_dd = np.linalg.eigh((some - centre_d).T @ (some - centre_d) / len(some))
    kept = np.argsort(-variance_d, kind="stable")[:DIMENSIONS]
    basis_dv = axes_dd[:, kept] * np.maximum(variance_d[kept], 1e-9) ** -0.25
    vector_mv = np.empty((n * k, len(kept)), np.float32)
    for start in range(0, n * k, 1 << 16):
        rows = slice(start, start + (1 << 16))
        projected = product(
            flat_md[rows].astype(np.float32) - centre_d.astype(np.float32), basis_dv.T.astype(np.float32)
        )
        vector_mv[rows] = projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-6)
    return vector_mv.reshape(n, k, -1)


def likely_pairs(vector_nkv: Vectors, most: int, rng: np.random.Generator, share: Share) -> Ints:
    """Pairs of tiles that may show the same: for each tile those `most` with the largest vote; (p, 2), sorted.

    A vote is the fourth power of a cosine; votes of both directions add up; a tie goes to the earlier tile.
    """
    n, k, _ = vector_nkv.shape
    if n < 2:
        return np.zeros((0, 2), np.int64)
    found_mj, cosine_mj = _nearest(n * k, share(search_cells, _cells(vector_nkv, rng)))
    asking = np.repeat(np.arange(n * k), NEAREST)[found_mj.ravel() >= 0]
    found = found_mj[found_mj >= 0]
    cosine = cosine_mj[found_mj >= 0].astype(np.float64)
    votes = coo_matrix((np.maximum(cosine, 0.0) ** 4, (asking // k, found // k)), shape=(n, n)).tocsr()
    votes = (votes + votes.T).tocoo()
    order = np.lexsort((votes.col, -votes.data, votes.row))
    row, column = votes.row[order], votes.col[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    chosen = (rank < most) & (votes.data[order] > 0)
    pairs_p2 = np.sort(np.stack([row[chosen], column[chosen]], 1).astype(np.int64), axis=1)
    return np.unique(pairs_p2, axis=0)


def search_cells(cells: list[Cell]) -> list[tuple[Ints, Ints, Vectors]]:
    """For each cell: who asks (q), the NEAREST members of other tiles (q, j), and their cosines (q, j)."""
    results = []
    for cell in cells:
        cosine_qc = product(cell.vector_qv, cell.vector_cv)
        cosine_qc[(cell.asking // cell.landmarks)[:, None] == cell.members // cell.landmarks] = -1.0
        count = min(NEAREST, len(cell.members))
        place_qj = np.argpartition(-cosine_qc, count - 1, axis=1)[:, :count]
        results.append((cell.asking, cell.members[place_qj], np.take_along_axis(cosine_qc, place_qj, axis=1)))
    return results


def _nearest(landmarks: int, pieces: Iterable[list[tuple[Ints, Ints, Vectors]]]) -> tuple[Ints, Vectors]:
    """The NEAREST of each landmark over all cells it looked into (m, j), −1 where fewer; and their cosines."""
    found_mj = np.full((landmarks, NEAREST), -1, np.int64)
    cosine_mj = np.full((landmarks, NEAREST), -1.0, np.float32)
    for asking, found_qj, cosine_qj in (cell for piece in pieces for cell in piece):
        found = np.concatenate([found_mj[asking], np.where(cosine_qj > 0, found_qj, -1)], axis=1)
        cosine = np.concatenate([cosine_mj[asking], np.where(cosine_qj > 0, cosine_qj, -1.0)], axis=1)
        best = np.lexsort((found, -cosine), axis=1)[:, :NEAREST]
        found_mj[asking] = np.take_along_axis(found, best, 1)
        cosine_mj[asking] = np.take_along_axis(cosine, best, 1)
    return found_mj, cosine_mj


def product(a_nv: Vectors, b_mv: Vectors) -> Vectors:
    """a bᵀ by torch, whose number of threads a stage can hold at one, so that it cannot change the sums."""
    found: Vectors = (
        torch.from_numpy(np.ascontiguousarray(a_nv)) @ torch.from_numpy(np.ascontiguousarray(b_mv)).T
    ).numpy()
    return found


def _cells(vector_nkv: Vectors, rng: np.random.Generator) -> Pieces:
    """Cut the search into pieces: every landmark asks in the PROBES cells nearest to it."""
    n, k, v = vector_nkv.shape
    vector_mv = vector_nkv.reshape(n * k, v)
    count = int(np.clip(1.5 * np.sqrt(len(vector_mv)) / 2, 1, max(1, len(vector_mv) // PER_CELL)))
    centre_cv = _centres(vector_mv, count, rng)
    probes = min(PROBES, count)
    nearest_mp = np.empty((len(vector_mv), probes), np.int64)
    for start in range(0, len(vector_mv), 1 << 13):
        cosine = product(vector_mv[start : start + (1 << 13)], centre_cv)
        near = np.argpartition(-cosine, probes - 1, axis=1)[:, :probes]
        by_cosine = np.argsort(-np.take_along_axis(cosine, near, 1), axis=1, kind="stable")
        nearest_mp[start : start + (1 << 13)] = np.take_along_axis(near, by_cosine, 1)
    home, members_of = _sorted_by_cell(nearest_mp[:, :1], count)
    asked, asking_of = _sorted_by_cell(nearest_mp, count)

    def cells(piece: int) -> list[Cell]:
        found = []
        for cell in range(piece * CELLS_AT_ONCE, min(count, (piece + 1) * CELLS_AT_ONCE)):
            members, asking = members_of[home[cell] : home[cell + 1]], asking_of[asked[cell] : asked[cell + 1]]
            if len(members) and len(asking):
                found.append(Cell(asking, members, vector_mv[asking], vector_mv[members], k))
        return found

    return Pieces(-(-count // CELLS_AT_ONCE), cells)


def _sorted_by_cell(cell_mp: Ints, count: int) -> tuple[Ints, Ints]:
    """Where each cell starts in a list of landmarks sorted by cell, and that list."""
    order = np.argsort(cell_mp.ravel(), kind="stable")
    starts = np.searchsorted(cell_mp.ravel()[order], np.arange(count + 1))
    return starts, order // cell_mp.shape[1]


def _centres(vector_mv: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Unit centres of `count` cells: spherical k-means on a part of the landmarks."""
    some = vector_mv[np.sort(rng.choice(len(vector_mv), min(len(vector_mv), 40 * count), replace=False))]
    centre_cv = some[rng.choice(len(some), count, replace=False)]
    for _ in range(ROUNDS):
        cell = np.concatenate([product(some[s : s + 8192], centre_cv).argmax(1) for s in range(0, len(some), 8192)])
        total_cv = np.zeros((count, some.shape[1]))
        np.add.at(total_cv, cell, some)
        length = np.linalg.norm(total_cv, axis=1, keepdims=True)
        centre_cv = np.where(length > 1e-6, total_cv / np.maximum(length, 1e-6), centre_cv).astype(np.float32)
    return centre_cv
