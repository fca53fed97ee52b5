import numpy as np
from sklearn.metrics import balanced_accuracy_score

from stages.classify.colour_alone import colour_alone, mean_recall


def test_mean_recall_is_scikit_learns_balanced_accuracy_also_when_groups_are_drawn_again() -> None:
    rng = np.random.default_rng(0)
    labels_n, predicted_n, units_n = (rng.integers(0, count, 200) for count in (3, 3, 9))
    metric = mean_recall(labels_n == predicted_n, labels_n, units_n)
    weights_bu = rng.integers(0, 3, (5, 9)).astype(float)
    weights_bu[0] = 1
    for w_u, value in zip(weights_bu, metric(weights_bu)[:, 0], strict=True):
        wanted = balanced_accuracy_score(labels_n, predicted_n, sample_weight=w_u[units_n])
        np.testing.assert_allclose(value, wanted, atol=1e-12)


def test_a_class_with_one_group_cannot_be_told_and_one_with_two_can() -> None:
    rng = np.random.default_rng(1)
    labels_n = np.repeat([0, 1], 20)
    x_nd = rng.normal(labels_n[:, None] * 9.0, 1, (40, 6))
    groups_n = np.repeat([0, 1, 2, 2], 10)
    assert colour_alone(x_nd, labels_n, groups_n, groups_n, 0) is None
    groups_n = np.repeat([0, 1, 2, 3], 10)
    found = colour_alone(x_nd, labels_n, groups_n, groups_n, 0)
    assert found is not None and found.linear.value == 1


def test_classes_that_lie_crosswise_in_colour_are_known_to_neighbours_without_a_leak() -> None:
    """Held-out groups of the same four colours: what neighbours know is the classes, so nothing falls."""
    rng = np.random.default_rng(2)
    corner_n = np.repeat(np.arange(4), 50)
    x_nd = rng.normal(0, 0.3, (200, 6))
    x_nd[:, :2] += np.stack([corner_n % 2, corner_n // 2], 1) * 6.0
    labels_n, groups_n = (corner_n % 2 + corner_n // 2) % 2, np.arange(200) // 5
    by_tile = colour_alone(x_nd, labels_n, None, groups_n, 0)
    by_group = colour_alone(x_nd, labels_n, groups_n, groups_n, 0)
    assert by_tile is not None and by_group is not None
    assert by_tile.neighbours.value > 0.98 and by_group.neighbours.value > 0.98
    assert by_tile.linear.value < 0.7
