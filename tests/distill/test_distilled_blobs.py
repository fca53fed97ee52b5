"""A toy: a spot in the quarter of its class, another one anywhere, and noise. One image of a class teaches little; one
distilled from a hundred of them teaches what all of them do."""

from functools import cache
from statistics import mean

import torch

from stages.classify import dsa
from stages.distill import distribution_matching as dm
from stages.distill import gradient_matching as gm
from stages.distill import starting, student

CLASSES, SIZE, EACH, REAL = 4, 16, 100, 64
SHAPE = student.Shape(CLASSES, SIZE, 24)
GRADIENTS = gm.gradients("plain", chunk=16)
EMBEDDINGS = dm.embeddings("plain", chunk=64)
ONE_HOT = torch.eye(CLASSES)


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def blobs(seed: int) -> torch.Tensor:
    """Images, k × 100 × 3 × h × w: a spot of height 1 and deviation 2 px under noise of deviation 0.9."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    spots = [torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a in (4, 11) for b in (4, 11)]
    noise = torch.randn(CLASSES, EACH, 3, SIZE, SIZE, generator=stream(seed))
    return torch.stack(spots)[:, None, None] + 1.0 * noise


def accuracy(img_kmchw: torch.Tensor, epochs: int) -> float:
    """On other images, of networks that learnt from these: the mean of three."""
    images = gm.Batch(img_kmchw.flatten(0, 1), ONE_HOT.repeat_interleave(img_kmchw.shape[1], 0))
    right = []
    for seed in range(3):
        start = student.draw(SHAPE, stream(100 + seed))
        trained = gm.train_on(GRADIENTS, start, images, epochs, 0.05, 64, stream(200 + seed))
        found = student.logits(trained, blobs(1).flatten(0, 1)).argmax(1)
        right.append(float((found == torch.arange(CLASSES).repeat_interleave(EACH)).float().mean()))
    return mean(right)


def distilled(method: str, steps: int, rate: float) -> torch.Tensor:
    """One image a class, from noise, a fresh network every step; momentum 0.5 as published, the rate falling to 0."""
    generator, real = stream(5), blobs(0)
    img, target = starting.noise(CLASSES, 1, 3, SIZE, stream(3)), starting.targets(CLASSES, 1)
    velocity = torch.zeros_like(img)
    for k in range(steps):
        parameters = student.draw(SHAPE, generator)
        rows = [torch.randperm(EACH, generator=generator)[:REAL] for _ in range(CLASSES)]
        taken = [gm.Batch(real[c, rows[c]], ONE_HOT[[c] * REAL]) for c in range(CLASSES)]
        alike = [dsa.draw(1, generator, siamese=True) for _ in range(CLASSES)] if method == "dsa" else None
        if method == "dm":
            moved = dm.step(EMBEDDINGS, parameters, [b.img_bchw for b in taken], img).img_kmchw
        else:
            moved = gm.step(GRADIENTS, parameters, taken, img, target, alike).img_kmchw
        velocity = 0.5 * velocity + moved
        img = img - rate * (1 - k / steps) * velocity
    return img


def test_one_image_a_class_by_gradient_or_distribution_matching_teaches_what_all_do_and_a_real_one_does_not() -> None:
    whole = accuracy(blobs(0), 3)
    by_chance = mean(accuracy(blobs(0)[:, place : place + 1], 50) for place in range(3))
    found = {
        "dc": accuracy(distilled("dc", 40, 1.0), 50),
        "dsa": accuracy(distilled("dsa", 40, 1.0), 50),
        "dm": accuracy(distilled("dm", 60, 20.0), 50),
    }
    assert whole > 0.98
    assert by_chance < 0.9 * whole
    assert min(found.values()) >= 0.95 * whole, found
