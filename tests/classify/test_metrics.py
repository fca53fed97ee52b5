import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from stages.classify import metrics


def draw(seed: int, n: int = 120, k: int = 3, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, n, p=[0.6, 0.3, 0.1])
    p = rng.dirichlet(np.ones(k), n) + 0.4 * np.eye(k)[labels]
    p /= p.sum(1, keepdims=True)
    return labels, (p.round(1) if ties else p), rng.integers(0, 25, n)


def test_scores_are_scikit_learns() -> None:
    labels, p, _ = draw(0)
    found = metrics.scores(labels, p)
    assert found["accuracy"] == accuracy_score(labels, p.argmax(1))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, p.argmax(1)))
    assert found["macro_f1"] == f1_score(labels, p.argmax(1), average="macro")
    assert found["macro_auc"] == pytest.approx(roc_auc_score(labels, p, multi_class="ovr", average="macro"))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", metrics.NAMES)
def test_weights_of_groups_count_as_copies_of_their_tiles(name: str, ties: bool) -> None:
    labels, p, groups = draw(1, ties=ties)
    rng = np.random.default_rng(2)
    names = np.unique(groups)
    w = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=5).astype(float)
    p_snk = np.stack([p, draw(3, ties=ties)[1]])
    found = metrics.weighted_scores(labels, groups, p_snk)[name](w)
    assert found.shape == (5, 2)
    for b in range(5):
        rows = np.repeat(np.arange(len(labels)), w[b][np.searchsorted(names, groups)].astype(int))
        for s in range(2):
            assert found[b, s] == pytest.approx(metrics.scores(labels[rows], p_snk[s][rows])[name])


def test_equal_weights_give_the_score_of_the_sample() -> None:
    labels, p, groups = draw(4)
    found = metrics.weighted_scores(labels, groups, p[None])
    ones = np.ones((1, len(np.unique(groups))))
    for name, value in metrics.scores(labels, p).items():
        assert found[name](ones) == pytest.approx(value)


def test_a_class_without_a_tile_is_left_out_of_the_means() -> None:
    labels, p = np.array([0, 0, 1, 1]), np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]])
    found = metrics.weighted_scores(labels, np.arange(4), p[None])
    assert found["balanced_accuracy"](np.ones((1, 4))) == pytest.approx(0.75)
    assert metrics.scores(labels, p)["balanced_accuracy"] == pytest.approx(0.75)
    # Class 1 gone as well: one class has no negatives, so an AUC is a guess and the recall is that of class 0.
    only = np.array([[1.0, 1.0, 0.0, 0.0]])
    assert found["macro_auc"](only) == 0.5
    assert found["balanced_accuracy"](only) == pytest.approx(0.5)


def test_balanced_log_loss_is_scikit_learns_with_weights_that_balance_the_classes() -> None:
    labels, p, _ = draw(5)
    weights = 1 / np.bincount(labels)[labels]
    assert metrics.balanced_log_loss(labels, p) == pytest.approx(log_loss(labels, p, sample_weight=weights))
