"""What the judge says of a contestant: its class probabilities, and how often it agrees with labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages import classifiers, images, models, store, streams

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
ROWS = {"colour": "judge", "grey": "judge_grey"}
"""What the benchmark calls the judge's networks, by their folders."""


def networks_in(judge: Path) -> list[str]:
    """Which of the two the judge's result holds."""
    return [name for name in ROWS if (judge / name).exists()]


def title(folder: Path) -> str:
    """What one of the judge's networks is, for people."""
    return f"judge: {store.read_json(folder / 'network.json').get('title', 'trained once on all real tiles')}"


def predict(folder: Path, tiles: images.ImageSet, bf16: bool = False) -> Floats:
    """Class probabilities of one of the judge's networks, n × k."""
    from stages.classify import networks

    network, facts = models.read_network(folder, networks.build)
    return classifiers.ask(network, facts, tiles.pixels_nhwc, bf16)


def measure(
    judge: Path,
    contestant: images.ImageSet,
    test: images.ImageSet,
    at_most: int,
    seed: int,
    resamples: int,
    level: float,
) -> dict[str, Any]:
    """Per network of the judge: its accuracy on the contestant's own labels, on real test tiles, and their ratio.

    Args:
        judge: its result folder.
        contestant: its images.
        test: real test tiles.
        at_most: so many of either, evenly spread, are shown to the judge.
        seed: of the run; the streams are named "agreement".
        resamples: bootstrap resamples.
        level: coverage of the intervals.
    """
    shown, real = spread(contestant, at_most), spread(test, at_most)
    told: dict[str, Any] = {"images": len(shown.table), "test_images": len(real.table)}
    for name in networks_in(judge):
        own_n, real_n = (predict(judge / name, part).argmax(1) == part.labels_n for part in (shown, real))
        told[name] = _compare((own_n, shown), (real_n, real), seed, resamples, level)
    return told


def spread(tiles: images.ImageSet, at_most: int) -> images.ImageSet:
    """At most so many images, evenly spread over their order."""
    rows_m = np.linspace(0, len(tiles.table) - 1, at_most).round().astype(np.int64)
    return tiles.take(np.unique(rows_m))


def _compare(
    own: tuple[Bools, images.ImageSet], real: tuple[Bools, images.ImageSet], seed: int, resamples: int, level: float
) -> dict[str, Mapping[str, float]]:
    """Two accuracies and their ratio. Images without groups are independent and get the exact interval."""
    from stages.stats import intervals, paired

    shares: dict[str, tuple[intervals.Weighted, int]] = {}
    told: dict[str, Mapping[str, float]] = {}
    for name, (right_n, tiles) in (("own", own), ("test", real)):
        grouped = "group" in tiles.table
        groups_n = tiles.table["group"].to_numpy(np.int64) if grouped else np.arange(len(right_n))
        shares[name] = intervals.share_by_group(right_n, groups_n), len(np.unique(groups_n))
        stream = streams.numpy_stream(seed, "agreement", name)
        interval = intervals.two_way(*shares[name], 1, stream, resamples, level)
        if not grouped:
            interval = intervals.clopper_pearson(int(right_n.sum()), len(right_n), level)
        told[name] = interval._asdict()
    stream = streams.numpy_stream(seed, "agreement", "ratio")
    return told | {"ratio": paired.ratio_unpaired(shares["own"], shares["test"], stream, resamples, level)._asdict()}
