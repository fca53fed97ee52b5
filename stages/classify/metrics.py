"""Accuracy, balanced accuracy, macro-F1 and macro one-vs-rest AUC: scikit-learn's, and the same under many weightings.

The weighted forms serve the bootstrap: a resample is a weight per group, and thousands are computed at once.
Shapes: n tiles, g groups, b resamples, s seeds (networks), k classes. A class without a tile is left out of a mean.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weighted = Callable[[Floats], Floats]
"""From weights of groups, b × g, to a metric of every seed, b × s."""

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")


def scores(labels_n: Ints, p_nk: Floats) -> dict[str, float]:
    """The four metrics of one network's probabilities, by scikit-learn; macro means run over the classes present."""
    predicted_n = p_nk.argmax(1)
    present = np.unique(labels_n)
    aucs = [roc_auc_score(labels_n == c, p_nk[:, c]) for c in present if len(present) > 1]
    return {
        "accuracy": float(accuracy_score(labels_n, predicted_n)),
        "balanced_accuracy": float(recall_score(labels_n, predicted_n, labels=present, average="macro")),
        "macro_f1": float(f1_score(labels_n, predicted_n, average="macro", zero_division=0)),
        "macro_auc": float(np.mean(aucs)) if aucs else 0.5,
    }


def balanced_log_loss(labels_n: Ints, p_nk: Floats) -> float:
    """Cross entropy, −log of the true class's probability, averaged within every class present, then over them."""
    loss_n = -np.log(np.maximum(p_nk[np.arange(len(p_nk)), labels_n], 1e-12))
    return float(np.mean([loss_n[labels_n == c].mean() for c in np.unique(labels_n)]))


def weighted_scores(labels_n: Ints, groups_n: Ints, p_snk: Floats) -> dict[str, Weighted]:
    """For each metric, a function from weights of the groups (in the order of their numbers) to its value per seed.

    Args:
        labels_n: true classes.
        groups_n: the group (patient, slide, original) of every tile; any integers.
        p_snk: class probabilities of every seed's network on the same tiles.
    """
    _, index_n = np.unique(groups_n, return_inverse=True)
    counts_sgkk = np.stack([confusion_by_group(labels_n, p_nk.argmax(1), index_n, p_nk.shape[1]) for p_nk in p_snk])

    def of_confusion(metric: Callable[[Floats], Floats]) -> Weighted:
        return lambda w_bg: metric(np.einsum("bg,sgij->bsij", w_bg, counts_sgkk, optimize=True))

    def auc(w_bg: Floats) -> Floats:
        return np.stack([macro_auc(labels_n, p_nk, w_bg[:, index_n]) for p_nk in p_snk], axis=1)

    return {
        "accuracy": of_confusion(accuracy),
        "balanced_accuracy": of_confusion(balanced_accuracy),
        "macro_f1": of_confusion(macro_f1),
        "macro_auc": auc,
    }


def confusion_by_group(labels_n: Ints, predicted_n: Ints, index_n: Ints, classes: int) -> Floats:
    """How many tiles of each group have a true class (rows) and a predicted one (columns), g × k × k."""
    counts_gkk = np.zeros((int(index_n.max()) + 1, classes, classes))
    np.add.at(counts_gkk, (index_n, labels_n, predicted_n), 1)
    return counts_gkk


def accuracy(confusion_kk: Floats) -> Floats:
    """Share on the diagonal; any leading axes."""
    total = confusion_kk.sum((-2, -1))
    return cast(Floats, np.trace(confusion_kk, axis1=-2, axis2=-1) / np.maximum(total, 1e-300))


def balanced_accuracy(confusion_kk: Floats) -> Floats:
    """Mean recall over the classes that have a tile; any leading axes."""
    support_k = confusion_kk.sum(-1)
    recall_k = np.diagonal(confusion_kk, axis1=-2, axis2=-1) / np.where(support_k > 0, support_k, 1)
    return _mean_where(recall_k, support_k > 0)


def macro_f1(confusion_kk: Floats) -> Floats:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur, as truth or as prediction; any leading axes."""
    both_k = confusion_kk.sum(-1) + confusion_kk.sum(-2)
    f1_k = 2 * np.diagonal(confusion_kk, axis1=-2, axis2=-1) / np.where(both_k > 0, both_k, 1)
    return _mean_where(f1_k, both_k > 0)


def macro_auc(labels_n: Ints, p_nk: Floats, w_bn: Floats) -> Floats:
    """Mean one-vs-rest AUC over the classes that have both positive and negative weight, for every weighting; b.

    The AUC is the weighted share of pairs (positive, negative) in the right order, ties counting half; the sums run
    over the tiles sorted by score (Mann–Whitney form).
    """
    auc_bk = np.zeros((len(w_bn), p_nk.shape[1]))
    both_bk = np.zeros(auc_bk.shape, bool)
    for c in range(p_nk.shape[1]):
        order_n = np.argsort(p_nk[:, c], kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(p_nk[order_n, c]) != 0])  # one bin per distinct score
        positive_n = labels_n[order_n] == c
        w_sorted_bn = w_bn[:, order_n]
        positive_bt = np.add.reduceat(w_sorted_bn * positive_n, starts, axis=1)
        negative_bt = np.add.reduceat(w_sorted_bn * ~positive_n, starts, axis=1)
        below_bt = np.cumsum(negative_bt, axis=1) - 0.5 * negative_bt
        pairs_b = positive_bt.sum(1) * negative_bt.sum(1)
        both_bk[:, c] = pairs_b > 0
        auc_bk[:, c] = (positive_bt * below_bt).sum(1) / np.where(pairs_b > 0, pairs_b, 1)
    return np.where(both_bk.any(1), _mean_where(auc_bk, both_bk), 0.5)


def _mean_where(value_k: Floats, keep_k: npt.NDArray[np.bool_]) -> Floats:
    """Mean over the last axis of what is kept; 0 where nothing is."""
    return cast(Floats, (value_k * keep_k).sum(-1) / np.maximum(keep_k.sum(-1), 1))
