"""How far colour alone goes: a linear model on the mean and the spread of R, G and B.

A data set that colour classifies says little about morphology; every benchmark shows this contestant.
Shapes: n images, k classes, 6 features.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float64]


FOLDS = 5


class ColourModel(NamedTuple):
    """A fitted colour model and how it was chosen."""

    pipeline: object
    """scikit-learn's scaler and logistic regression."""
    penalty: float
    """The C (inverse strength of the L2 penalty) that val chose."""
    classes: int

    def probabilities(self, pixels_nhwc: Pixels) -> Vectors:
        """Class probabilities, n × k; a class that training had no image of gets 0."""
        p_nk = np.zeros((len(pixels_nhwc), self.classes))
        p_nk[:, self.pipeline.classes_] = self.pipeline.predict_proba(colour_features(pixels_nhwc))  # type: ignore[attr-defined]
        return p_nk


def colour_features(pixels_nhwc: Pixels) -> Vectors:
    """Mean and standard deviation of each channel of every image, in grey levels, n × 6."""
    x_npc = pixels_nhwc.reshape(len(pixels_nhwc), -1, 3)
    return cast(Vectors, np.concatenate([x_npc.mean(1), x_npc.std(1)], axis=1))


def cross_validated(
    x_nd: Vectors, label_n: npt.NDArray[np.int64], group_n: npt.NDArray[np.int64] | None, seed: int
) -> float:
    """Balanced accuracy of colour features over FOLDS folds: the better of a linear model and the 5 nearest neighbours.

    Stains of slides are islands in the space of colours, which a linear model misses and neighbours find.

    Args:
        x_nd: result of `colour_features`.
        label_n: the class of each tile; each class has at least FOLDS tiles.
        group_n: tiles of one group lie in one fold; None: folds are random.
        seed: of the folds.
    """
    linear = LogisticRegression(C=10.0, class_weight="balanced", max_iter=5000)
    folds = (StratifiedKFold if group_n is None else StratifiedGroupKFold)(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few groups in a class: a fold may lack it, and counts no less
        splits = list(folds.split(x_nd, label_n, group_n))
    scores = []
    for model in (linear, KNeighborsClassifier(5)):
        predicted_n = np.full(len(label_n), -1)
        for train, test in splits:
            if len(np.unique(label_n[train])) > 1:
                predicted_n[test] = (
                    make_pipeline(StandardScaler(), model).fit(x_nd[train], label_n[train]).predict(x_nd[test])
                )
        scores.append(np.mean([(predicted_n[label_n == c] == c).mean() for c in np.unique(label_n)]))
    return float(max(scores))


def fit(
    train: tuple[Pixels, npt.NDArray[np.int64]],
    val: tuple[Pixels, npt.NDArray[np.int64]],
    classes: int,
    penalties: Sequence[float],
) -> ColourModel:
    """Fit one class-balanced logistic regression per C in `penalties` and keep the best on val (a tie: the smaller C).

    Args:
        train: pixels and labels to fit on, at least two classes.
        val: pixels and labels to choose C on, by balanced accuracy.
        classes: how many classes there are.
        penalties: the values of C to try.
    """
    x_nd, x_md = colour_features(train[0]), colour_features(val[0])
    models = []
    for penalty in sorted(penalties):
        regression = LogisticRegression(C=penalty, class_weight="balanced", max_iter=5000)
        model = make_pipeline(StandardScaler(), regression).fit(x_nd, train[1])
        models.append((balanced_accuracy_score(val[1], model.predict(x_md)), penalty, model))
    _, penalty, model = max(models, key=lambda entry: entry[0])
    return ColourModel(model, penalty, classes)
