"""Near-duplicates: planted copies are joined, others are not, whoever works and in whatever order tiles come."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measure_near_duplicates import measured, read
from planted import copies, original, view

from stages.splits import near_duplicates
from stages.splits.near_duplicates import Found, Limits

SAMPLE = Path(__file__).parents[2] / "data" / "sample" / "lung.parquet"


def group(pixels: Any, limits: Limits = Limits(), share: Callable[..., Iterator[Any]] = map) -> Found:  # noqa: B008
    return near_duplicates.group(pixels, limits, np.random.default_rng(0), share)


@pytest.fixture(scope="module")
def made() -> tuple[list[np.ndarray], np.ndarray]:
    """Four originals in nine views each, and forty tiles of which there is but one."""
    tiles = [tile for seed in range(4) for tile in copies(seed)] + [view(original(seed)) for seed in range(100, 140)]
    return tiles, np.concatenate([np.repeat(np.arange(4), 9), np.arange(4, 44)])


@pytest.fixture(scope="module")
def known(made: tuple[list[np.ndarray], np.ndarray]) -> Found:
    return group(made[0])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_turned_mirrored_zoomed_and_recoloured_copies_are_joined_and_hardly_any_other(
    made: tuple[list[np.ndarray], np.ndarray], known: Found
) -> None:
    facts = measured(known.number_n, made[1])
    assert facts["intact"] == 1.0 and facts["precision"] >= 0.8, facts
    alone = np.bincount(known.number_n)[known.number_n[36:]] == 1
    assert alone.sum() >= 32  # of forty: blobs on a ground are all somewhat alike, and a few are joined (35 are alone)


def test_the_order_of_the_tiles_changes_nothing(made: tuple[list[np.ndarray], np.ndarray], known: Found) -> None:
    order = np.random.default_rng(1).permutation(len(made[0]))
    again = group([made[0][i] for i in order])
    np.testing.assert_array_equal(again.number_n, known.number_n[order])
    np.testing.assert_array_equal(again.score_p, known.score_p)


def test_two_workers_find_the_same(made: tuple[list[np.ndarray], np.ndarray], known: Found) -> None:
    def share(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(function, items)

    two = group(made[0], share=share)
    np.testing.assert_array_equal(known.number_n, two.number_n)
    np.testing.assert_array_equal(known.score_p, two.score_p)


def test_no_cluster_passes_the_cap_and_what_was_refused_is_told(made: tuple[list[np.ndarray], np.ndarray]) -> None:
    found = group(made[0], Limits(largest=5))
    assert np.bincount(found.number_n).max() <= 5 and found.refused > 0


def test_exact_copies_are_one_picture_and_never_apart() -> None:
    tiles = [view(original(seed)) for seed in range(4)]
    found = group([*tiles, tiles[2], tiles[2]], Limits(largest=2))
    assert len(set(found.number_n.tolist())) == 4 and len(set(found.number_n[[2, 4, 5]].tolist())) == 1


def test_a_single_tile_two_tiles_and_tiles_of_one_colour_are_no_trouble() -> None:
    assert group([view(original(0))]).number_n.tolist() == [0]
    assert len(set(group([view(original(0)), view(original(1))]).number_n.tolist())) == 2
    flat = [np.full((28, 28, 3), level, np.uint8) for level in (10, 90, 200)]
    assert len(set(group(flat).number_n.tolist())) == 3


def test_tiles_of_different_sizes_are_compared() -> None:
    picture = original(5)
    found = group([view(picture, 64), view(picture, 96, angle=10), view(original(6), 64), view(original(7), 96)])
    assert found.number_n[0] == found.number_n[1] and len(set(found.number_n.tolist())) == 3


@pytest.mark.slow
def test_the_copies_of_the_shipped_originals_are_found() -> None:
    """Two to five copies of each of 740 originals; with up to six copies of each 91 % are intact."""
    pixels, truth = read(SAMPLE)
    facts = measured(group(pixels, Limits(largest=len(pixels) // 20)).number_n, truth)
    assert facts["intact"] >= 0.87 and facts["precision"] >= 0.8 and facts["largest"] <= 0.05, facts
