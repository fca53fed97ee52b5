"""The Vendi score: how many different things a set of vectors effectively holds.

Friedman & Dieng 2023 (arXiv 2210.02410). Shapes: n vectors, d features.
"""

import numpy as np

from stages.features.distances import Floats, Vectors, check_clouds


def vendi_score(x_nd: Vectors) -> float:
    """exp(−Σ_i λ_i ln λ_i) with λ the eigenvalues of K / n and K the cosine similarities (definition 3.1).

    1 when all vectors point the same way, n when all are orthogonal. It grows with n: compare sets of equal size. The
    smaller of K / n and the d × d matrix with the same non-zero eigenvalues is decomposed.

    Raises:
        ValueError: not a matrix, no vectors, numbers that are not finite, or a vector of zeros, which has no direction.
    """
    x_nd, _ = check_clouds(x_nd, x_nd)
    length_n = np.linalg.norm(x_nd, axis=1)
    if (length_n == 0).any():
        raise ValueError(f"{int((length_n == 0).sum())} of {len(x_nd)} vectors are 0 and have no direction")
    phi_nd: Floats = x_nd / length_n[:, None]
    gram = phi_nd @ phi_nd.T if len(phi_nd) <= phi_nd.shape[1] else phi_nd.T @ phi_nd
    eigen = np.linalg.eigvalsh(gram / len(phi_nd))
    eigen = eigen[eigen > 0]
    return float(np.exp(-(eigen * np.log(eigen)).sum()))
