"""By how much one contestant of a run exceeds others on the same real test tiles, paired over groups and starts.

    python tests/measure_difference.py RUN/results NAME OTHER ... [--network convnet3]

Balanced accuracy on test; 95 % intervals from resamples of whole groups and of starts.
"""

import argparse
from pathlib import Path

import numpy as np

from pipeline import study_results
from stages.classify.metrics import weighted_scores
from stages.stats.intervals import Weighted
from stages.stats.paired import difference_of_pairs


def metric(folder: Path, network: str) -> tuple[Weighted, int, int]:
    """Balanced accuracy of a contestant (from weights of groups to a number for each start), groups and starts."""
    labels_n, groups_n, p_snk = study_results.predictions(network, folder)
    of = weighted_scores(labels_n, groups_n, p_snk)[study_results.METRIC]
    return of, len(np.unique(groups_n)), len(p_snk)


def main() -> None:
    """Read the command line, print a line for each of the others."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("results", type=Path)
    words.add_argument("name")
    words.add_argument("others", nargs="+")
    words.add_argument("--network", default="convnet3")
    given = words.parse_args()
    mine, groups, starts = metric(given.results / "benchmark" / given.name, given.network)
    for other in given.others:
        theirs, *_ = metric(given.results / "benchmark" / other, given.network)
        found = difference_of_pairs(mine, theirs, groups, starts, np.random.default_rng(0))
        print(f"{given.name} - {other}: {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")


if __name__ == "__main__":
    main()
