"""How well colour alone tells the classes apart, before anything is trained: by cross-validation.

Two models see the mean and the spread of R, G and B and nothing else: a linear one, which knows what a class looks like
on the whole, and nearest neighbours, which know every tile by heart. Where the second falls once whole groups
(patients, slides) are held out, it knew those, not classes: a random split leaks.
Shapes: n tiles, d features, k classes, u units that are resampled, b resamples.
"""

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages import streams
from stages.stats.intervals import Interval, Weighted, two_way

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FOLDS = 5
NEIGHBOURS = 5
RESAMPLES = 400


class ColourAlone(NamedTuple):
    """Balanced accuracies with intervals."""

    linear: Interval
    neighbours: Interval


def colour_alone(x_nd: Floats, labels_n: Ints, groups_n: Ints | None, units_n: Ints, seed: int) -> ColourAlone | None:
    """Cross-validated balanced accuracy of both models; None where a class has fewer than two groups (or tiles).

    Args:
        x_nd: colour features, as of `colour.colour_features`.
        labels_n: classes; at least two.
        groups_n: held out as a whole; None: single tiles are.
        units_n: what the interval's bootstrap draws: the groups, where they are known.
        seed: decides the folds and the resamples.
    """
    unit_of = np.arange(len(labels_n)) if groups_n is None else groups_n
    folds = min(FOLDS, *(len(np.unique(unit_of[labels_n == label])) for label in np.unique(labels_n)))
    if folds < 2:
        return None
    state = streams.derive(seed, "colour_alone", "folds") % 2**32
    cut = (StratifiedKFold if groups_n is None else StratifiedGroupKFold)(folds, shuffle=True, random_state=state)
    parts = [(fit, held) for fit, held in cut.split(x_nd, labels_n, groups_n) if len(held)]
    linear = LogisticRegression(class_weight="balanced", max_iter=5000)
    found = []
    for model in (linear, KNeighborsClassifier(NEIGHBOURS)):
        right_n = np.zeros(len(labels_n), bool)
        for fit, held in parts:
            right_n[held] = _predicted(model, x_nd[fit], labels_n[fit], x_nd[held]) == labels_n[held]
        generator = streams.numpy_stream(seed, "colour_alone", "bootstrap")
        units = len(np.unique(units_n))
        found.append(two_way(mean_recall(right_n, labels_n, units_n), units, 1, generator, RESAMPLES))
    return ColourAlone(*found)


def _predicted(model: object, x_nd: Floats, labels_n: Ints, x_md: Floats) -> Ints:
    """Classes of `x_md`; a lone class is always right of itself, and fewer tiles than neighbours all vote."""
    if len(np.unique(labels_n)) == 1:
        return np.full(len(x_md), labels_n[0])
    own = clone(model)
    if isinstance(own, KNeighborsClassifier):
        own.set_params(n_neighbors=min(NEIGHBOURS, len(x_nd)))
    return cast(Ints, make_pipeline(StandardScaler(), own).fit(x_nd, labels_n).predict(x_md))


def mean_recall(right_n: npt.NDArray[np.bool_], labels_n: Ints, units_n: Ints) -> Weighted:
    """Balanced accuracy as a metric of one seed for `two_way`; a class of which nothing was drawn is left out."""
    _, unit_n = np.unique(units_n, return_inverse=True)
    _, class_n = np.unique(labels_n, return_inverse=True)
    total_uk = np.zeros((int(unit_n.max()) + 1, int(class_n.max()) + 1))
    right_uk = total_uk.copy()
    np.add.at(total_uk, (unit_n, class_n), 1)
    np.add.at(right_uk, (unit_n, class_n), right_n)

    def metric(w_bu: Floats) -> Floats:
        total_bk = w_bu @ total_uk
        recall_bk = (w_bu @ right_uk) / np.maximum(total_bk, 1e-300)
        return cast(Floats, (recall_bk.sum(1) / np.maximum((total_bk > 0).sum(1), 1))[:, None])

    return metric
