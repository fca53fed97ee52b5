"""Precision and recall of generated images (Kynkäänniemi et al. 2019, arXiv 1904.06991).

The manifold of a cloud is the union of balls around its vectors, each as large as the distance to the k-th nearest
other vector. Precision is the share of generated vectors inside the real manifold (do they look real?), recall the
share of real vectors inside the generated manifold (is every kind of tissue there?). Both depend on the number of
images: compare only at equal numbers, beside real against real.
Shapes: n real and m generated vectors, d features.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.features.distances import Floats, Vectors, check_clouds, squared_distance_blocks


class PrecisionRecall(NamedTuple):
    """Shares between 0 and 1."""

    precision: float
    """Generated vectors inside the real manifold."""
    recall: float
    """Real vectors inside the generated manifold."""


def precision_recall(real_nd: Vectors, generated_md: Vectors, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall, with balls reaching to the k-th nearest neighbour (eqs. 1 and 2).

    Raises:
        ValueError: not more than `k` vectors on a side, unequal widths, or numbers that are not finite.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real_nd, generated_md = check_clouds(real_nd, generated_md, least=k + 1)
    return PrecisionRecall(
        precision=float(inside(generated_md, real_nd, k).mean()), recall=float(inside(real_nd, generated_md, k).mean())
    )


def inside(x_nd: Floats, manifold_md: Floats, k: int) -> npt.NDArray[np.bool_]:
    """For every x: is it in the ball of at least one vector of the manifold?"""
    radius2_m = squared_radii(manifold_md, k)
    hits = [(d2_bm <= radius2_m).any(axis=1) for _, d2_bm in squared_distance_blocks(x_nd, manifold_md)]
    return np.concatenate(hits)


def squared_radii(x_nd: Floats, k: int) -> Floats:
    """Squared distance from every vector to its k-th nearest other one."""
    radii: list[Floats] = []
    for block, d2_bn in squared_distance_blocks(x_nd, x_nd):
        d2_bn[np.arange(len(d2_bn)), np.arange(block.start, block.stop)] = np.inf
        radii.append(np.partition(d2_bn, k - 1, axis=1)[:, k - 1])
    return np.concatenate(radii)
