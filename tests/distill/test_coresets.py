import numpy as np
import pytest

from stages.distill import coresets


def plain_herding(x: np.ndarray, count: int) -> list[int]:
    """Greedy: at each step the row that brings the mean of those taken nearest to the mean of all."""
    phi = x / np.linalg.norm(x, axis=1, keepdims=True)
    taken: list[int] = []
    for _ in range(count):
        rest = [i for i in range(len(x)) if i not in taken]
        gaps = [np.linalg.norm(phi[[*taken, i]].mean(0) - phi.mean(0)) for i in rest]
        taken.append(rest[int(np.argmin(gaps))])
    return taken


def test_herding_on_four_directions_takes_the_nearest_to_the_mean_then_the_opposite_side() -> None:
    # φ at 0°, 20°, −50°, 90°; μ points to about 14.7°: first 20°; then −50° balances best, then 90°, then 0°.
    angle = np.deg2rad([0, 20, -50, 90])
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * np.array([[1], [5], [2], [3]])
    assert coresets.herding_rows(x, 4).tolist() == plain_herding(x, 4) == [1, 0, 3, 2]


@pytest.mark.parametrize("seed", range(5))
def test_herding_equals_the_plain_greedy_loop(seed: int) -> None:
    x = np.random.default_rng(seed).normal(1, 1, (40, 6))
    assert coresets.herding_rows(x, 15).tolist() == plain_herding(x, 15)


def test_herding_follows_the_mean_closer_than_a_random_draw() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(1, 1, (200, 8))
    phi = x / np.linalg.norm(x, axis=1, keepdims=True)

    def gap(rows: np.ndarray) -> float:
        return float(np.linalg.norm(phi[rows].mean(0) - phi.mean(0)))

    by_chance = [gap(coresets.random_rows(np.arange(200), 20, rng)) for _ in range(50)]
    assert gap(coresets.herding_rows(x, 20)) < 0.3 * np.mean(by_chance)


@pytest.mark.parametrize("method", ["random", "herding"])
def test_no_group_gives_a_second_tile_before_every_group_gave_its_first(method: str) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([4, 9, 2, 7], [5, 1, 3, 2])
    if method == "random":
        rows = coresets.random_rows(groups, 11, rng)
    else:
        rows = coresets.herding_rows(rng.normal(size=(11, 3)), 11, groups)
    taken = groups[rows]
    assert sorted(rows) == list(range(11))
    assert set(taken[:4]) == {2, 4, 7, 9} and set(taken[4:7]) == {2, 4, 7}
    assert sorted(taken[7:9]) == [2, 4] and set(taken[9:]) == {4}


def test_without_spreading_every_tile_is_equally_likely() -> None:
    groups = np.repeat([0, 1], [8, 2])
    rng = np.random.default_rng(0)
    first = [coresets.random_rows(groups, 1, rng, spread=False)[0] for _ in range(2000)]
    spread = [coresets.random_rows(groups, 1, rng)[0] for _ in range(2000)]
    assert np.bincount(first, minlength=10).min() > 150 and np.bincount(first).max() < 250
    assert np.bincount(spread, minlength=10).min() > 150, "the first tile of a random order: any tile"
    pairs = [set(groups[coresets.random_rows(groups, 2, rng)]) for _ in range(100)]
    assert all(pair == {0, 1} for pair in pairs)


def test_a_smaller_draw_is_the_beginning_of_a_larger_one() -> None:
    groups = np.repeat(np.arange(10), 3)
    small, large = (coresets.random_rows(groups, n, np.random.default_rng(1)) for n in (4, 20))
    assert large[:4].tolist() == small.tolist() and len(set(large.tolist())) == 20


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="the class has 3"):
        coresets.random_rows(np.arange(3), 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="the class has 3"):
        coresets.herding_rows(np.ones((3, 2)), 4)
