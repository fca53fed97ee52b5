"""How alike two tiles look, whatever their orientation, colour cast, sharpness or a slight crop.

A tile is shrunk to 12 × 12 × 3, each channel centred, and projected on the principal components of the real tiles
with each component divided by the square root of its spread ("half whitening": coarse light and dark areas, which
any two tiles may share, count less; fine texture, which noise spoils, does not count more). The similarity of two
tiles is the largest cosine over the 8 orientations of one and the 6 crops (whole, 4 corners, centre) of the other:
1 for a copy, about 0.3 for the nearest of 1,500 unrelated tiles. Chosen by measurement among grey and colour
thumbnails of 12 to 32 px, high passes, whitenings, rotations and SqueezeNet maps; see `tests/privacy/false_alarms.py`.

Shapes: n audited tiles, r reference tiles, g groups (patients, slides or originals), d dimensions, v = 6 views, o = 8
orientations, c = 3 channels, h and w pixels, p = THUMB.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

THUMB = 12
CROP = 0.8
FLAT = 1e-3
"""Length of a centred thumbnail, in units of the range, below which a tile shows nothing but one colour."""
ROWS_AT_ONCE = 64


class Description(NamedTuple):
    """What is needed to compare tiles; made from the real tiles alone and without regard to their role."""

    basis_dk: Tensor
    """Projection from a centred thumbnail to k half-whitened components."""


class Nearness(NamedTuple):
    """For each audited tile and each group: the similarity of the group's nearest tile, and which tile that is."""

    similarity_ng: npt.NDArray[np.float32]
    tile_ng: npt.NDArray[np.int64]


class References(NamedTuple):
    """Real tiles ready for comparison."""

    views_vrk: Tensor
    """Unit vectors of every view of every tile, the tiles ordered by group."""
    order_r: npt.NDArray[np.int64]
    """The row each of them had before it was put in order."""
    sizes_g: npt.NDArray[np.int64]
    """Tiles in each group; group number = position."""


def to_tensor(pixels_nhwc: npt.NDArray[np.uint8]) -> Tensor:
    """Pixels as a float tensor (n, 3, h, w) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels_nhwc)).permute(0, 3, 1, 2).float().div_(255.0)


def orientations(img_nchw: Tensor) -> Tensor:
    """The 8 orientations (4 rotations, each also mirrored), stacked first: (8, n, c, h, w); h = w."""
    turned = [torch.rot90(img_nchw, k, (2, 3)) for k in range(4)]
    return torch.stack(turned + [t.flip(3) for t in turned])


def thumbnails(img_nchw: Tensor) -> Tensor:
    """Shrunk to THUMB × THUMB with area weights, every channel centred, the whole of unit length: (n, c, p, p)."""
    small_ncpp = F.interpolate(img_nchw, size=(THUMB, THUMB), mode="bilinear", antialias=True)
    small_ncpp = small_ncpp - small_ncpp.mean((2, 3), keepdim=True)
    length_n111 = small_ncpp.square().sum((1, 2, 3), keepdim=True).sqrt()
    return torch.where(length_n111 > FLAT, small_ncpp / length_n111.clamp_min(FLAT), torch.zeros_like(small_ncpp))


def crops(img_nchw: Tensor) -> list[Tensor]:
    """The whole tile, its 4 corners and its centre, each of CROP of the side."""
    side = img_nchw.shape[-1]
    cut = round(CROP * side)
    last, middle = side - cut, (side - cut) // 2
    starts = [(0, 0), (0, last), (last, 0), (last, last), (middle, middle)]
    return [img_nchw] + [img_nchw[:, :, y : y + cut, x : x + cut] for y, x in starts]


def fit_description(img_rchw: Tensor, components: int) -> Description:
    """Principal components of the thumbnails in all orientations, divided by the square root of their spread.

    Every tile counts once, whatever its role, so that train and control tiles stay exchangeable.

    Args:
        img_rchw: all real tiles, train and control together.
        components: how many are kept; fewer where the tiles do not span as many.
    """
    flat_nd = orientations(thumbnails(img_rchw)).flatten(0, 1).flatten(1)
    variance_d, axes_dd = torch.linalg.eigh((flat_nd.T @ flat_nd / len(flat_nd)).double())
    keep = min(components, int((variance_d > 1e-8 * variance_d.max()).sum()))
    variance_k, axes_dk = variance_d.flip(0)[:keep], axes_dd.flip(1)[:, :keep]
    return Description((axes_dk * variance_k.clamp_min(1e-12) ** -0.25).float())


def describe(description: Description, thumb_ncpp: Tensor) -> Tensor:
    """Unit vectors (n, k) of thumbnails; two multiply to their similarity. A tile of one colour gives 0."""
    return F.normalize(thumb_ncpp.flatten(1) @ description.basis_dk, dim=1, eps=1e-6)


def prepare(description: Description, img_rchw: Tensor, group_r: npt.NDArray[np.int64]) -> References:
    """Describe every view of the reference tiles; `group_r` holds 0 … g − 1, each at least once."""
    order_r = np.argsort(group_r, kind="stable")
    views = torch.stack([describe(description, thumbnails(view)) for view in crops(img_rchw)])
    return References(views[:, torch.from_numpy(order_r)], order_r, np.bincount(group_r))


def nearness(description: Description, img_nchw: Tensor, references: References) -> Nearness:
    """The nearest tile of every group for every tile: similarity = max over 8 orientations and 6 crops."""
    turned_onk = torch.stack([describe(description, turned) for turned in orientations(thumbnails(img_nchw))])
    starts_g = np.concatenate([[0], np.cumsum(references.sizes_g)[:-1]])
    similarity, tile = [], []
    for start in range(0, turned_onk.shape[1], ROWS_AT_ONCE):
        block_bk = turned_onk[:, start : start + ROWS_AT_ONCE].flatten(0, 1)
        best_nr = torch.full((len(block_bk) // 8, len(references.order_r)), -1.0)
        product_br = torch.empty(len(block_bk), len(references.order_r))  # reused: fresh pages cost more than sums
        for view_rk in references.views_vrk:
            torch.mm(block_bk, view_rk.T, out=product_br)
            for turned_nr in product_br.chunk(8):
                torch.maximum(best_nr, turned_nr, out=best_nr)
        found = best_nr.numpy()
        by_group_ng = np.maximum.reduceat(found, starts_g, axis=1)
        similarity.append(by_group_ng)
        tile.append(_first_tile(found, by_group_ng, references, starts_g))
    return Nearness(np.concatenate(similarity), np.concatenate(tile))


def _first_tile(
    found_nr: npt.NDArray[np.float32],
    by_group_ng: npt.NDArray[np.float32],
    references: References,
    starts_g: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """The row of the nearest tile in each group (the first of equals)."""
    behind_nr = np.where(found_nr < np.repeat(by_group_ng, references.sizes_g, axis=1), found_nr.shape[1], 0)
    place_ng = np.minimum.reduceat(behind_nr + np.arange(found_nr.shape[1]), starts_g, axis=1)
    picked: npt.NDArray[np.int64] = references.order_r[place_ng]
    return picked


def without_own_group(similarity_ng: npt.NDArray[np.float32], own_n: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """A copy in which a real tile's similarity to its own group is −1, so that it is never its own neighbour."""
    result = similarity_ng.copy()
    result[np.arange(len(own_n)), own_n] = -1.0
    return result
