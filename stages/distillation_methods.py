"""The methods that learn images, each as a function from a step to its loss that leaves gradients in `Learned`.

Shapes: k classes, m stored images of each, p images seen, b of a batch, c = 3 channels, h = w pixels.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from stages.classify import dsa
from stages.classify.sending import sent
from stages.condensation_settings import CondensationSettings
from stages.contracts import UserError
from stages.distill import (
    compiled,
    distribution_matching,
    finite,
    flat,
    formation,
    gradient_matching,
    loops,
    rates,
    student,
    trajectory_adjoint,
    trajectory_matching,
)
from stages.distilling_data import Tiles
from stages.expert_reading import Experts
from stages.learned_images import Learned

Draw = Callable[..., Generator]
"""From names and numbers to a generator, the same one whenever it is asked."""
INNER_BATCH = 256
"""Images a step of the inner loop of gradient matching, as published."""
MOST_STUDENT_BATCH = 100
"""Images a step of a student where the settings leave it open."""


class Material(NamedTuple):
    """What every method is given."""

    settings: CondensationSettings
    tiles: Tiles
    pixels_nhwc: Tensor
    """Those of the tiles, on the device."""
    learned: Learned
    mode: compiled.Mode
    device: torch.device
    draw: Draw
    experts: Experts | None

    @property
    def shape(self) -> student.Shape:
        """Of the network."""
        given = self.settings.distillation
        px = self.tiles.pixels_nhwc.shape[1]
        if self.experts is None:
            return student.Shape(len(self.tiles.classes), px, given.width, given.depth)
        of_experts = self.experts.network
        return student.Shape(len(self.tiles.classes), px, of_experts["width"], of_experts["depth"])

    def network(self, number: int) -> student.Parameters:
        """A network of random weights."""
        drawn = student.draw(self.shape, self.draw("network", number))
        at_once_p = sent(flat.flatten(drawn), self.device)  # one copy, not one for each of them
        return flat.unflatten(at_once_p, [p.shape for p in drawn])

    def real(self, k: int) -> list[gradient_matching.Batch]:
        """Real tiles of every class for step k."""
        size, labels = self.settings.distillation.real_batch, range(len(self.tiles.classes))
        rows_of = [self.tiles.draw(label, size, self.draw("real", k, label)) for label in labels]
        every, sizes = np.concatenate(rows_of), [len(rows_b) for rows_b in rows_of]
        img_nchw, target_nk = self.tiles.normalised(every, self.pixels_nhwc), self.tiles.targets(every, self.device)
        both = torch.split(img_nchw, sizes), torch.split(target_nk, sizes)
        return [gradient_matching.Batch(*batch) for batch in zip(*both, strict=True)]

    def siamese(self, k: int) -> list[dsa.Parameters]:
        """For every class one augmentation, of its real and its learned images alike."""
        return [dsa.draw(1, self.draw("augment", k, label), siamese=True) for label in range(len(self.tiles.classes))]


class How(NamedTuple):
    """A method at work."""

    gradient: Callable[[int], float]
    steps: int = 1
    """Of each iteration."""
    modules: Mapping[str, nn.Module] = {}
    facts: Mapping[str, Any] = {}


class Network(nn.Module):
    """The network of gradient matching between two steps."""

    def __init__(self, parameters: student.Parameters) -> None:
        super().__init__()
        for place, parameter in enumerate(parameters):
            self.register_buffer(f"p{place}", parameter.clone())

    def get(self) -> student.Parameters:
        """Its parameters."""
        return list(self.buffers())

    def set(self, parameters: student.Parameters) -> None:
        """Take other parameters."""
        for mine, new in zip(self.buffers(), parameters, strict=True):
            mine.copy_(new)


def seen(img_kmchw: Tensor, target_kmk: Tensor, decode: formation.Decode) -> tuple[Tensor, Tensor]:
    """All images as networks see them, p × c × h × w, with their class probabilities, p × k."""
    img_pchw = decode(img_kmchw.flatten(0, 1))
    return img_pchw, formation.decode_targets(target_kmk.flatten(0, 1), len(img_pchw))


def _gradient_matching(material: Material) -> How:
    """DC, and with augmentation DSA: an iteration is `outer` steps of the images with one network."""
    settings, learned = material.settings, material.learned
    given, published = settings.distillation, loops.loops(settings.per_class)
    outer, inner = given.outer or published.outer, given.inner or published.inner
    ready = gradient_matching.gradients(material.mode, material.device.type)
    decode, augmented = formation.decoder(given.formation), settings.method == "dsa"
    network = Network(material.network(0))

    def train(k: int) -> student.Parameters:
        shown = gradient_matching.Batch(*seen(learned.image.detach(), learned.targets().detach(), decode))
        strength = dsa.Strength() if augmented else None
        draw = material.draw("inner", k)
        return gradient_matching.train_on(
            ready, network.get(), shown, inner, given.network_rate, INNER_BATCH, draw, strength
        )

    def gradient(k: int) -> float:
        trained = train(k) if k % outer else []
        sound = bool(trained) and finite.all_finite(*trained)  # one that came apart makes room for a new one
        network.set(trained if sound else material.network(k // outer))
        found = gradient_matching.step(
            ready,
            network.get(),
            material.real(k),
            learned.image,
            learned.targets(),
            material.siamese(k) if augmented else None,
            decode,
        )
        learned.image.grad = found.img_kmchw
        if learned.soft:
            torch.autograd.backward(learned.targets(), found.target_kmk)
        return float(found.loss)

    return How(gradient, outer, {"network": network}, {"outer": outer, "inner": inner})


def _distribution_matching(material: Material) -> How:
    """DM: a fresh network in every iteration."""
    learned = material.learned
    ready = distribution_matching.embeddings(material.mode, material.device.type)
    factor = material.settings.distillation.formation

    def gradient(k: int) -> float:
        found = distribution_matching.step(
            ready,
            material.network(k),
            [batch.img_bchw for batch in material.real(k)],
            learned.image,
            material.siamese(k),
            formation.decoder(factor),
        )
        learned.image.grad = found.img_kmchw
        return float(found.loss)

    return How(gradient)


def _trajectory_matching(material: Material) -> How:
    """MTT, exactly by the adjoint, and TESLA's approximation of it: a student walks a stretch of an expert's way."""
    settings, learned, experts = material.settings, material.learned, material.experts
    given = settings.distillation
    assert experts is not None, "the story gives them"
    last = given.start_epochs - 1 + given.expert_epochs
    if last > experts.epochs:
        raise UserError(
            f"start_epochs {given.start_epochs} and expert_epochs {given.expert_epochs} look at an expert after {last} "
            f"epochs, but experts have {experts.epochs}. Set experts.epochs to {last}, or these lower."
        )
    ready = trajectory_matching.gradients(material.shape, material.mode, material.device.type)
    matched_by = trajectory_adjoint.tesla if settings.method == "tesla" else trajectory_adjoint.adjoint
    decode = formation.decoder(given.formation)

    def batches(k: int) -> list[trajectory_matching.Batch]:
        img_pchw, target_pk = seen(learned.image, learned.targets(), decode)
        size, draw = given.student_batch or MOST_STUDENT_BATCH, material.draw("student", k)
        rows = trajectory_matching.minibatches(len(img_pchw), size, given.student_steps, draw)
        every, sizes = sent(torch.cat(rows), material.device), [len(rows_b) for rows_b in rows]
        img_nchw = dsa.apply(img_pchw[every], dsa.draw(len(every), draw))  # of all steps at once: few, long calls
        both = torch.split(img_nchw, sizes), torch.split(target_pk[every], sizes)
        return [trajectory_matching.Batch(*batch) for batch in zip(*both, strict=True)]

    def gradient(k: int) -> float:
        draw = material.draw("expert", k)
        number, first = (
            int(torch.randint(most, (), generator=draw)) for most in (len(experts.files), given.start_epochs)
        )
        start_p, target_p = (
            sent(p, material.device) for p in experts.moments(number, first, first + given.expert_epochs)
        )
        walked, rate = batches(k), rates.rate(learned.log_rate.detach())
        blind = [trajectory_matching.Batch(*(x.detach() for x in batch)) for batch in walked]
        found = matched_by(ready, start_p, target_p, blind, rate)
        ends = [(batch.img_bchw, d) for batch, d in zip(walked, found.d_images, strict=True)]
        if learned.soft:
            ends += [(batch.target_bk, d) for batch, d in zip(walked, found.d_targets, strict=True)]
        torch.autograd.backward([x for x, _ in ends], [d for _, d in ends])
        learned.log_rate.grad = rates.in_log(found.d_rate, learned.log_rate.detach())
        return float(found.loss)

    return How(gradient, facts={"experts": len(experts.files)})


METHODS: dict[str, Callable[[Material], How]] = {
    "dc": _gradient_matching,
    "dsa": _gradient_matching,
    "dm": _distribution_matching,
    "mtt": _trajectory_matching,
    "tesla": _trajectory_matching,
}
