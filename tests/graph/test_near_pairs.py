import numpy as np
import pytest

from stages.graph import near_pairs as module
from stages.graph.knn import exact_neighbours, exact_neighbours_of
from stages.graph.near_pairs import near_pairs

RNG = np.random.default_rng(0)
PLAIN = RNG.normal(size=(300, 24))
CORNERS = np.concatenate([np.eye(150), -np.eye(150)])
NEAR_TIES = CORNERS * (1.0 + 1e-9 * RNG.permutation(300)[:, None])  # float32 knows them as equally far from one another
BLOBS = RNG.normal(size=(3, 24))[np.arange(300) % 3] + 1e-7 * RNG.normal(size=(300, 24))
OUTLIER = PLAIN * np.where(np.arange(300) == 7, 1e6, 1.0)[:, None]
CLOUDS = {
    "plain": PLAIN,
    "lattice": RNG.integers(0, 3, size=(300, 6)).astype(float),
    "near ties": NEAR_TIES,
    "tight blobs": BLOBS,
    "three of each": np.repeat(PLAIN[:100], 3, axis=0)[RNG.permutation(300)],
    "all equal": np.full((300, 24), 0.1),
    "all zero": np.zeros((300, 24)),
    "far from the origin": PLAIN + 1e8,
    "on the edge of float64 far out": PLAIN + 1e15,
    "one far out": OUTLIER,
    "features of all sizes": PLAIN * 10.0 ** np.arange(-12, 12),
    "rows of all sizes": PLAIN * 10.0 ** RNG.uniform(-60, 60, size=(300, 1)),
    "tiny": PLAIN * 1e-60,
    "squares vanish": PLAIN * 1e-170,
    "vast": PLAIN * 1e60,
    "beyond the bounds": PLAIN * 1e120,
    "one feature": RNG.normal(size=(300, 1)),
    "no feature": np.zeros((300, 0)),
}


def searched(x_nd: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours by comparing each row with all others."""
    index_nk, distance_nk = np.empty((len(x_nd), k), np.int64), np.empty((len(x_nd), k))
    for row in range(len(x_nd)):
        distance_n = np.sqrt(((x_nd[row] - x_nd) ** 2).sum(axis=1))
        order_n = np.lexsort((np.arange(len(x_nd)), distance_n))
        index_nk[row] = order_n[order_n != row][:k]
        distance_nk[row] = distance_n[index_nk[row]]
    return index_nk, distance_nk


@pytest.mark.parametrize("k", [1, 7, 299])
@pytest.mark.parametrize("name", CLOUDS)
def test_neighbours_through_float32_are_those_of_float64_to_the_bit(name: str, k: int) -> None:
    found, (index_nk, distance_nk) = exact_neighbours(CLOUDS[name], k), searched(CLOUDS[name], k)
    assert np.array_equal(found.index_nk, index_nk)
    assert np.array_equal(found.distance_nk, distance_nk)


@pytest.mark.parametrize("name", ["plain", "near ties", "three of each", "far from the origin", "one far out"])
def test_no_size_of_tiles_loses_a_neighbour(name: str) -> None:
    x_nd = CLOUDS[name]
    index_nk, _ = exact_neighbours_of(np.arange(300), x_nd, 5)
    for tile_rows in (7, 50, 128, 299, 1000):
        near = near_pairs(x_nd, 5, tile_rows)
        listed_nn = np.zeros((300, 300), np.bool_)
        listed_nn[near.first_p, near.second_p] = near.of_first_p
        listed_nn[near.second_p, near.first_p] |= near.of_second_p
        assert (listed_nn[np.arange(300)[:, None], index_nk] | near.unsure_n[:, None]).all()
        assert (near.first_p < near.second_p).all()
        assert len(np.unique(300 * near.first_p + near.second_p)) == len(near.first_p)


@pytest.mark.parametrize("name", ["plain", "far from the origin", "one far out", "features of all sizes", "vast"])
def test_true_squared_distances_lie_between_the_bounds(name: str) -> None:
    x_nd = CLOUDS[name]
    rounded = module._rounded(x_nd, 64)
    assert rounded is not None
    difference_nnd = x_nd[:, None] - x_nd
    scale = 2.0 ** -np.frexp(np.abs(x_nd - np.median(x_nd[::10], axis=0)).max())[1].astype(float)
    d2_nn = ((difference_nnd * scale) ** 2).sum(axis=2)
    (lower_nn,) = (tile.copy() for _, _, tile in module._tiles(rounded, 300))
    np.fill_diagonal(lower_nn, 0.0)
    lower_nn = lower_nn.astype(np.float64)
    assert (lower_nn <= d2_nn).all()
    assert (d2_nn <= lower_nn + rounded.span_n[:, None] + rounded.span_n).all()


def test_hardly_more_pairs_are_listed_than_count_and_all_rows_are_sure() -> None:
    x_nd = np.random.default_rng(1).normal(3.0, 1.0, size=(1500, 64))
    near = near_pairs(x_nd, 10)
    assert not near.unsure_n.any()
    assert 15_000 <= near.of_first_p.sum() + near.of_second_p.sum() < 16_000


def test_one_row_far_out_blurs_no_other() -> None:
    near = near_pairs(OUTLIER, 5)
    assert set(np.flatnonzero(near.unsure_n)) <= {7}
    assert near.of_first_p.sum() + near.of_second_p.sum() < 1.1 * 5 * 300


def test_equal_rows_by_the_thousand_are_left_unsure_and_list_few_pairs() -> None:
    x_nd = np.random.default_rng(2).normal(size=(2000, 8))
    x_nd[500:] = 9.0
    near = near_pairs(x_nd, 5, 128)
    assert near.unsure_n[500:].all() and not near.unsure_n[:500].any()
    assert len(near.first_p) < 2000 * module.CROWD * 9
    found = exact_neighbours(x_nd, 5)
    assert found.index_nk[500].tolist() == [501, 502, 503, 504, 505] and (found.distance_nk[500:] == 0.0).all()
