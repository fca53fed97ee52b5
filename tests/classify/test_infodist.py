import copy
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stages.classify import augment, dsa, infodist, networks, plain, protocol
from stages.classify.boundary import boundary_loss
from stages.classify.plan import Plan, Sample

CPU = torch.device("cpu")


def draw(name: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number + 10_000 * (name == "epoch"))


def textured(n: int, seed: int, classes: int = 2) -> Sample:
    """Stripes, checks or plain, of equal colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :8]
    pattern = np.stack([y % 2, (x + y) // 2 % 2, 0.5 + 0 * x])
    labels = np.arange(n) % classes
    grey = 90 + 80 * pattern[labels] + rng.normal(0, 20, (n, 8, 8))
    return Sample(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 3), labels)


def course(train: Sample, steps: int = 12, norm: str = "instance", **changes: Any) -> protocol.Training:
    mean, std = protocol.channel_statistics(train.pixels_nhwc)
    plan = Plan(steps, 8, 0.05, 5e-4, 3, augment.Strength(True, 1, 0.1), mean, std, False)._replace(**changes)
    facts = {"architecture": "convnet3", "classes": 3, "width": 4, "size_px": 8, "norm": norm}
    network = networks.build_seeded(facts, torch.Generator().manual_seed(0))
    return protocol.Training(network, train, textured(12, 5, 3), plan, CPU, infodist.INFODIST)


@pytest.mark.parametrize(("images", "batch", "steps"), [(5, 8, 1), (8, 8, 1), (9, 8, 2), (64, 8, 8), (65, 32, 3)])
def test_an_epoch_shows_every_image_once_in_batches_as_even_as_can_be(images: int, batch: int, steps: int) -> None:
    rows = [np.arange(0, images, 2), np.arange(1, images, 2)]
    assert infodist.steps_per_epoch(images, batch) == steps
    epochs = [[infodist.epoch_rows(rows, batch, k, draw) for k in range(e * steps, (e + 1) * steps)] for e in range(2)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(range(images))
        sizes = [len(part) for part in epoch]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))


def test_the_learning_rate_rises_in_a_line_to_the_middle_and_falls_as_a_cosine() -> None:
    factors = [infodist.rise_and_fall(k, 100) for k in range(100)]
    assert factors[:50] == pytest.approx([(k + 1) / 50 for k in range(50)], abs=1e-6)
    assert factors[50:] == pytest.approx([0.5 * (1 + math.cos(math.pi * (k + 1) / 51)) for k in range(50)])
    assert all(a > b > 0 for a, b in pairwise(factors[49:])) and factors[-1] < 0.01
    assert infodist.rise_and_fall(0, 1) == 1


def test_the_average_of_the_weights_matches_a_loop_that_moves_once_an_epoch() -> None:
    training = course(textured(20, 0), steps=11)  # 3 steps an epoch: after 3, 6, 9 steps, and at the end
    slow = copy.deepcopy(dict(training.network.named_parameters()))
    for k in range(11):
        training.step(k, draw)
        if k in (2, 5, 8, 10):
            e = {2: 0, 5: 1, 8: 2, 10: 3}[k]
            decay = min(0.995, (1 + e) / (10 + e))
            fast = dict(training.network.named_parameters())
            slow = {name: decay * slow[name].detach() + (1 - decay) * fast[name].detach() for name in slow}
        assert training.average is not None
        for name, weight in training.average.network.named_parameters():
            assert torch.allclose(weight, slow[name], atol=1e-6), (k, name)
    assert not torch.allclose(training.network.head.weight, training.average.network.head.weight, atol=1e-4)


def test_it_is_the_average_that_is_looked_at_and_kept() -> None:
    training = course(textured(20, 0), steps=9)
    for k in range(9):
        told = training.step(k, draw)
        if k == 8:
            assert training.average is not None
            p = protocol.predict(training.average.network, training.val.pixels_nhwc, training.plan, CPU)
            loss = protocol.metrics.balanced_log_loss(training.val.labels_n, p)
            assert told["val_loss"] == pytest.approx(loss)
            if int(training.best.step) == 8:
                assert torch.equal(training.best.network.head.weight, training.average.network.head.weight)


def test_a_step_is_sgd_with_momentum_on_the_augmented_batch_and_the_sum_of_both_losses() -> None:
    train = textured(6, 0, 3)
    training = course(train, steps=4)
    loop = copy.deepcopy(training.network)
    weights, speed = list(loop.parameters()), [torch.zeros_like(w) for w in loop.parameters()]
    for k in range(4):
        rows = torch.randperm(6, generator=draw("epoch", k)).numpy()
        rows = np.concatenate([np.flatnonzero(train.labels_n == c) for c in range(3)])[rows]
        img = networks.normalise(train.pixels_nhwc[rows], training.plan.mean, training.plan.std)
        logits = loop(dsa.apply(img, dsa.draw(6, draw("step", k))))
        labels = torch.from_numpy(train.labels_n[rows])
        loss = F.cross_entropy(logits, labels) + boundary_loss(logits, labels)
        for w, v, g in zip(weights, speed, torch.autograd.grad(loss, weights), strict=True):
            v.copy_(0.9 * v + g + 5e-4 * w.detach())
            w.data -= 0.05 * infodist.rise_and_fall(k, 4) * v
        assert training.step(k, draw)["loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
    for name, weight in training.network.named_parameters():
        assert torch.allclose(weight, dict(loop.named_parameters())[name], atol=1e-5), name


@pytest.mark.parametrize("way", [plain.PLAIN, infodist.INFODIST])
def test_soft_labels_that_are_one_hot_are_hard_labels(way: Any) -> None:
    logits = torch.randn(9, 3, generator=draw("step", 0), dtype=torch.float64)
    labels = torch.arange(9) % 3
    hard = way.loss(logits, labels, None)
    assert float(way.loss(logits, labels, F.one_hot(labels, 3).double())) == pytest.approx(float(hard))
    soft = torch.full((9, 3), 1 / 3, dtype=torch.float64)
    of_soft = -logits.log_softmax(1).mean() + (0 if way is plain.PLAIN else boundary_loss(logits, labels))
    assert float(way.loss(logits, labels, soft)) == pytest.approx(float(of_soft))


def test_soft_labels_reach_the_training_by_row() -> None:
    train = textured(9, 0, 3)
    hard, one_hot, turned = (
        course(train._replace(soft_nk=soft), steps=3)
        for soft in (None, np.eye(3)[train.labels_n], np.eye(3)[(train.labels_n + 1) % 3])
    )
    losses = [[training.step(k, draw)["loss"] for k in range(3)] for training in (hard, one_hot, turned)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and losses[0] != pytest.approx(losses[2], abs=1e-2)


def test_structure_is_learnt() -> None:
    training = course(textured(40, 0, 3), steps=150)
    for k in range(150):
        training.step(k, draw)
    test = textured(60, 2, 3)
    p = protocol.predict(training.best.network, test.pixels_nhwc, training.plan, CPU)
    assert (p.argmax(1) == test.labels_n).mean() > 0.75
