"""Euclidean distances between two clouds of vectors, block by block, so that no n × m matrix is ever in memory.

Shapes: n and m vectors, d features, b rows of a block.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float64]
BLOCK_ROWS = 512


def check_clouds(x_nd: Vectors, y_md: Vectors, least: int = 1) -> tuple[Floats, Floats]:
    """Both clouds in float64, once they are known to be comparable.

    Raises:
        ValueError: they are not two matrices of equal width, hold NaN or infinity, or fewer than `least` vectors.
    """
    if x_nd.ndim != 2 or y_md.ndim != 2 or x_nd.shape[1] != y_md.shape[1]:
        raise ValueError(f"wanted two matrices with equally many columns, got shapes {x_nd.shape} and {y_md.shape}")
    if min(len(x_nd), len(y_md)) < least:
        raise ValueError(f"wanted at least {least} vectors on each side, got {len(x_nd)} and {len(y_md)}")
    if not (np.isfinite(x_nd).all() and np.isfinite(y_md).all()):
        raise ValueError("the vectors hold NaN or infinite numbers; the encoder that made them did not work")
    return np.asarray(x_nd, np.float64), np.asarray(y_md, np.float64)


def squared_distance_blocks(x_nd: Floats, y_md: Floats, rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, Floats]]:
    """Yield (rows of x, squared distances b × m), by |x|² + |y|² − 2 x·y.

    One matrix product per block. Rounding is about 1e-16 (|x|² + |y|²): two equal vectors may get a tiny number
    instead of 0, never a negative one. Where that matters, compute the few distances again from differences.
    """
    x2_n, y2_m = np.einsum("nd,nd->n", x_nd, x_nd), np.einsum("md,md->m", y_md, y_md)
    for start in range(0, len(x_nd), rows):
        block = slice(start, min(start + rows, len(x_nd)))
        d2_bm = x_nd[block] @ y_md.T
        d2_bm *= -2.0
        d2_bm += x2_n[block, None]
        d2_bm += y2_m
        yield block, np.maximum(d2_bm, 0.0, out=d2_bm)
