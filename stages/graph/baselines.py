"""Other ways to choose, in one interface: vectors, how many and a generator in; chosen rows out, in the order taken.

None of them looks at communities. Give the rows in the order of their content: ties go to the earlier row, so then
nothing depends on the order in which candidates were made. Only `random` and `kmeans` (its starting centres, and those
that set the radius of `probability_cover`) draw from the generator.
Shapes: n rows, d features, s chosen, b rows of a block.
"""

from typing import Literal

import numpy as np

from stages.distill.coresets import herding_rows
from stages.features.distances import Floats, Vectors, check_clouds, squared_distance_blocks
from stages.graph.greedy import farthest_first, lazy_greedy
from stages.graph.knn import Ints
from stages.graph.medoids import kmeans, kmeans_medoids, random_choice

Baseline = Literal["random", "kmeans", "k_center", "herding", "facility_location", "probability_cover"]
BIG = 2**31


def choose(baseline: Baseline, x_nd: Vectors, wanted: int, generator: np.random.Generator, starts: int = 4) -> Ints:
    """`wanted` distinct rows by one of the baselines; the same rows, generator and `wanted` give the same choice.

    Args:
        baseline: which.
        x_nd: vectors.
        wanted: how many rows.
        generator: draws what there is to draw.
        starts: runs of k-means, of which the tightest wins.

    Raises:
        ValueError: `wanted` is not between 1 and n, or vectors that are not finite.
    """
    x_nd, _ = check_clouds(x_nd, x_nd)
    if not 1 <= wanted <= len(x_nd):
        raise ValueError(f"wanted {wanted} of {len(x_nd)} rows; wanted must lie between 1 and that")
    match baseline:
        case "random":
            return random_choice(len(x_nd), wanted, generator)
        case "kmeans":
            return kmeans_medoids(x_nd, wanted, int(generator.integers(BIG)), starts)
        case "k_center":
            return k_center_greedy(x_nd, wanted)
        case "herding":
            return herding_rows(x_nd, wanted)
        case "facility_location":
            return facility_location(x_nd, wanted)
        case "probability_cover":
            clusters = min(max(wanted, 2), len(x_nd))
            _, label_n = kmeans(x_nd, clusters, int(generator.integers(BIG)), starts)
            return probability_cover(x_nd, wanted, pure_radius(x_nd, label_n))


def k_center_greedy(x_nd: Floats, wanted: int) -> Ints:
    """Farthest-first from the row nearest to the mean (Sener & Savarese 2018, arXiv 1708.00489, algorithm 1).

    The paper starts from tiles that have labels already; here there are none.
    """
    off_nd = x_nd - x_nd.mean(axis=0)
    return farthest_first(x_nd, wanted, int(np.argmin(np.einsum("nd,nd->n", off_nd, off_nd))))


def facility_location(x_nd: Floats, wanted: int) -> Ints:
    """Greedy minimisation of Σ_i min_{s ∈ S} |x_i − x_s|, so that every row is near to a chosen one.

    The same as greedy maximisation of the facility location Σ_i max_s (D − |x_i − x_s|), D no less than any distance
    (CRAIG: Mirzasoleiman et al. 2020, arXiv 1906.01827, eq. 9), so within 1 − 1/e of the best. Time n² d for the first
    row, memory n.
    """
    off_nd = x_nd - x_nd.mean(axis=0)
    far = 2.0 * float(np.sqrt(np.einsum("nd,nd->n", off_nd, off_nd).max()))
    scale = len(x_nd) * (far if far > 0 else 1.0)
    nearest_n = np.full(len(x_nd), far)

    def gains_of(rows_b: Ints) -> Floats:
        blocks = squared_distance_blocks(x_nd[rows_b], x_nd)
        gain_b = np.concatenate([np.maximum(nearest_n - np.sqrt(d2_bn), 0.0).sum(axis=1) for _, d2_bn in blocks])
        return np.round(gain_b / scale, 13)  # so that rounding breaks no tie

    def take(row: int) -> None:
        difference_nd = x_nd - x_nd[row]
        np.minimum(nearest_n, np.sqrt(np.einsum("nd,nd->n", difference_nd, difference_nd)), out=nearest_n)

    return lazy_greedy(gains_of(np.arange(len(x_nd))), gains_of, take, wanted, np.zeros(len(x_nd), bool))


def probability_cover(x_nd: Floats, wanted: int, radius: float) -> Ints:
    """Greedy cover by balls of one radius: each row taken covers most rows not covered yet (Yehuda et al. 2022).

    ProbCover, arXiv 2205.11320, algorithm 1. Once all rows are covered, covering starts anew among those not taken.
    Time n² d for the first row, memory n.
    """
    open_n, taken_n = np.ones(len(x_nd)), np.zeros(len(x_nd), bool)

    def gains_of(rows_b: Ints) -> Floats:
        blocks = squared_distance_blocks(x_nd[rows_b], x_nd)
        return np.concatenate([(d2_bn <= radius**2) @ open_n for _, d2_bn in blocks])

    def take(row: int) -> None:
        difference_nd = x_nd - x_nd[row]
        open_n[np.einsum("nd,nd->n", difference_nd, difference_nd) <= radius**2] = 0.0
        open_n[row] = 0.0

    all_n, chosen_s = gains_of(np.arange(len(x_nd))), np.zeros(0, np.int64)
    while len(chosen_s) < wanted:
        open_n[:] = ~taken_n
        more = lazy_greedy(all_n.copy(), gains_of, take, wanted - len(chosen_s), taken_n, least=1.0)
        chosen_s = np.concatenate([chosen_s, more])
    return chosen_s


def pure_radius(x_nd: Floats, label_n: Ints, purity: float = 0.95) -> float:
    """The largest radius at which at least `purity` of all balls hold rows of one label alone (ProbCover, section 3.3).

    A ball is pure while its radius is less than the distance to the nearest row of another label, so the answer is just
    below one of these distances. With one label alone, every radius is pure: the largest distance from the first row.
    """
    enemy_n = np.empty(len(x_nd))
    for block, d2_bn in squared_distance_blocks(x_nd, x_nd):
        enemy_n[block] = np.where(label_n[block][:, None] == label_n, np.inf, d2_bn).min(axis=1)
    enemy_n = np.sqrt(np.sort(enemy_n))
    limit = float(enemy_n[int((1.0 - purity) * len(x_nd) + 1e-9)])
    if np.isinf(limit):
        return float(np.linalg.norm(x_nd - x_nd[0], axis=1).max())
    return float(np.nextafter(limit, 0.0))
