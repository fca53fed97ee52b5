import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from stages.classify import augment, networks, plain, protocol
from stages.classify.plan import Plan, Sample

FACTS = {"architecture": "convnet3", "classes": 2, "width": 8, "size_px": 8}


def textured(n: int, seed: int) -> Sample:
    """Class 0: stripes; class 1: checks. Equal colour, so only structure tells them apart."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :8]
    pattern = np.stack([y % 2, (x + y) // 2 % 2])
    labels = np.arange(n) % 2
    grey = 90 + 80 * pattern[labels] + rng.normal(0, 20, (n, 8, 8))
    return Sample(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 3), labels)


def plan(steps: int = 30, evaluations: int = 3, **changes: Any) -> Plan:
    mean, std = protocol.channel_statistics(textured(40, 0).pixels_nhwc)
    strength = augment.Strength(True, 1, 0.1)
    return Plan(steps, 8, 3e-3, 0.01, evaluations, strength, mean, std, False)._replace(**changes)


def course(train: Sample, val: Sample, plan: Plan) -> protocol.Training:
    network = networks.build_seeded(FACTS, torch.Generator().manual_seed(0))
    return protocol.Training(network, train, val, plan, torch.device("cpu"))


def draw(name: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number + 10_000 * (name != "step"))


def run(training: protocol.Training) -> list[dict[str, float]]:
    return [training.step(k, draw) for k in range(training.plan.steps)]


def test_structure_without_colour_is_learnt_and_the_best_weights_are_those_of_the_lowest_val_loss() -> None:
    val = textured(30, 1)
    training = course(textured(40, 0), val, plan(60, 5))
    curves = run(training)
    looked = [row for row in curves if not math.isnan(row["val_loss"])]
    assert len(looked) == 5 and not math.isnan(curves[-1]["val_loss"])
    assert min(row["val_loss"] for row in looked) == float(training.best.loss)
    assert float(training.best.loss) == curves[int(training.best.step)]["val_loss"]
    test = textured(50, 2)
    p = protocol.predict(training.best.network, test.pixels_nhwc, training.plan, training.device)
    assert (p.argmax(1) == test.labels_n).mean() > 0.8


def test_best_weights_are_a_copy_not_the_live_ones() -> None:
    training = course(textured(20, 0), textured(10, 1), plan())
    training.best.offer(training.network, 0.5, 3)
    kept = training.best.network.head.weight.clone()
    with torch.no_grad():
        training.network.head.weight.add_(1)
    training.best.offer(training.network, 0.6, 4)
    assert torch.equal(training.best.network.head.weight, kept) and int(training.best.step) == 3


def test_val_changes_no_trained_weight() -> None:
    first, second = (course(textured(20, 0), textured(10, seed), plan(6)) for seed in (1, 2))
    run(first), run(second)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("batch", "expected"), [(9, [3, 3, 3]), (10, [3, 3, 4]), (2, [0, 1, 1])])
def test_batches_hold_as_many_of_each_class_as_possible(batch: int, expected: list[int]) -> None:
    labels = np.array([0] * 50 + [1] * 5 + [2] * 1)
    rows = [np.flatnonzero(labels == c) for c in range(3)]
    drawn = [plain.balanced_rows(rows, batch, torch.Generator().manual_seed(s)) for s in range(200)]
    assert all(sorted(np.bincount(labels[d], minlength=3)) == expected for d in drawn)


def test_every_row_of_a_class_is_equally_likely() -> None:
    rows = [np.arange(50), np.arange(50, 52)]
    drawn = [plain.balanced_rows(rows, 20, torch.Generator().manual_seed(s)) for s in range(500)]
    counts = np.bincount(np.concatenate(drawn), minlength=52)
    assert counts[:50].min() > 60 and counts[:50].max() < 140  # 100 expected
    assert counts[50:].sum() == 5000 and 2300 < counts[50] < 2700


def test_learning_rate_rises_to_one_and_falls_to_nearly_zero() -> None:
    factors = [plain.cycle(k, 100) for k in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1
    assert all(a < b for a, b in pairwise(factors[:10]))
    assert all(a > b for a, b in pairwise(factors[9:]))
    assert 0 < factors[-1] < 0.001
    assert plain.cycle(0, 1) == 1


@pytest.mark.parametrize(("steps", "evaluations"), [(10, 3), (7, 7), (5, 20), (1, 1)])
def test_val_is_looked_at_as_often_as_asked_and_after_the_last_step(steps: int, evaluations: int) -> None:
    looks = [plan(steps, evaluations).evaluates(k) for k in range(steps)]
    assert sum(looks) == min(steps, evaluations) and looks[-1]


def test_channel_statistics_are_numpys() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    mean, std = protocol.channel_statistics(pixels)
    assert np.allclose(mean, (pixels / 255).mean((0, 1, 2))) and np.allclose(std, (pixels / 255).std((0, 1, 2)))
    assert protocol.channel_statistics(np.zeros((1, 2, 2, 3), np.uint8))[1] == [1 / 255] * 3


def test_resize_takes_the_mean_of_the_area() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    mean = pixels.reshape(3, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(protocol.resize(pixels, 8) - mean).max() <= 1
    assert protocol.resize(pixels, 16) is pixels


def test_probabilities_are_one_softmax_of_the_logits_whatever_the_batches() -> None:
    network = networks.build_seeded(FACTS, torch.Generator().manual_seed(0))
    pixels = textured(protocol.EVALUATION_BATCH + 5, 0).pixels_nhwc
    p = protocol.predict(network, pixels, plan(), torch.device("cpu"))
    with torch.no_grad():
        logits = network(networks.normalise(pixels, plan().mean, plan().std)).double()
    assert np.allclose(np.log(p[:, 0] / p[:, 1]), (logits[:, 0] - logits[:, 1]).numpy(), atol=1e-4)
    assert np.allclose(p.sum(1), 1)


def test_views_are_means_over_the_flips_and_transpositions() -> None:
    network = networks.build_seeded(FACTS, torch.Generator().manual_seed(0))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)

    def p(turned: np.ndarray, views: int = 1) -> np.ndarray:
        return protocol.predict(network, np.ascontiguousarray(turned), plan(), torch.device("cpu"), views)

    flips = [pixels, pixels[:, :, ::-1], pixels[:, ::-1], pixels[:, ::-1, ::-1]]
    assert np.allclose(p(pixels, 4), np.mean([p(x) for x in flips], axis=0), atol=1e-6)
    assert np.allclose(p(pixels, 8), p(np.rot90(pixels, axes=(1, 2)), 8), atol=1e-6)
    assert not np.allclose(p(pixels), p(pixels, 4), atol=1e-3)
