"""What a distillation needs before its first step: tiles, images to begin with, and the gradient of its method.

Shapes: k classes, m stored images of each, c = 3 channels, h = w pixels.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from stages import compute, distilling_data, images, streams
from stages.classify import dsa, protocol
from stages.condensation_settings import CondensationSettings
from stages.contracts import Inputs, UserError
from stages.distill import compiled, distribution_matching, formation, gradient_matching, loops, starting, student
from stages.distilling_data import Tiles
from stages.learned_images import Learned, Rates

Draw = Callable[..., Generator]
"""From names and numbers to a generator, the same one whenever it is asked."""
INNER_BATCH = 256
"""Images a step of the inner loop, as published."""


class Lesson(NamedTuple):
    """What is learned, from what, and how."""

    learned: Learned
    tiles: Tiles
    rates: Rates
    limits: tuple[Tensor, Tensor] | None
    """Black and white of each channel, between which images are kept."""
    steps: int
    gradient: Callable[[int], float]
    """From the step to its loss; leaves gradients in `learned`."""
    modules: Mapping[str, nn.Module]
    """What else a checkpoint must hold."""
    facts: dict[str, Any]


class Material(NamedTuple):
    """What every method is given."""

    settings: CondensationSettings
    tiles: Tiles
    learned: Learned
    mode: compiled.Mode
    device: torch.device
    draw: Draw

    @property
    def shape(self) -> student.Shape:
        """Of the network."""
        given = self.settings.distillation
        return student.Shape(len(self.tiles.classes), self.tiles.pixels_nhwc.shape[1], given.width, given.depth)

    def network(self, number: int) -> student.Parameters:
        """A network of random weights."""
        return [p.to(self.device) for p in student.draw(self.shape, self.draw("network", number))]

    def real(self, k: int) -> list[gradient_matching.Batch]:
        """Real tiles of every class for step k."""
        found = []
        for label in range(len(self.tiles.classes)):
            rows = self.tiles.draw(label, self.settings.distillation.real_batch, self.draw("real", k, label))
            found.append(
                gradient_matching.Batch(self.tiles.normalised(rows, self.device), self.tiles.targets(rows, self.device))
            )
        return found

    def siamese(self, k: int) -> list[dsa.Parameters]:
        """For every class one augmentation, of its real and its learned images alike."""
        return [dsa.draw(1, self.draw("augment", k, label), siamese=True) for label in range(len(self.tiles.classes))]


def prepare(settings: CondensationSettings, inputs: Inputs, seed: int) -> Lesson:
    """Read tiles, make the images to begin with, compile.

    Raises:
        UserError: a class lacks tiles or candidates to begin with.
    """
    given, draw, device = settings.distillation, partial(streams.torch_stream, seed), compute.device()
    tiles = distilling_data.read(inputs["tiles"], given.image_px)
    img_kmchw = start(settings, tiles, inputs, draw).to(device)
    target_kmk = starting.targets(len(tiles.classes), settings.per_class).to(device)
    learned = Learned(img_kmchw, target_kmk, given.soft_labels, given.network_rate).to(device)
    material = Material(settings, tiles, learned, distilling_data.usable(given.mode), device, draw)
    how = METHODS[settings.method](material)
    published = given.published(settings.method)
    rates = Rates(published.image_rate, given.image_momentum, given.label_rate, given.rate_rate)
    return Lesson(
        learned,
        tiles,
        rates,
        distilling_data.limits(tiles.mean, tiles.std, device) if given.clip else None,
        published.iterations * how.steps,
        how.gradient,
        how.modules,
        {"mode": material.mode, **how.facts},
    )


def start(settings: CondensationSettings, tiles: Tiles, inputs: Inputs, draw: Draw) -> Tensor:
    """The images of all classes at first, normalised, k × m × c × h × w.

    Raises:
        UserError: a class has fewer tiles or candidates than are wanted.
    """
    given, px = settings.distillation, tiles.pixels_nhwc.shape[1]
    if px % given.formation:
        raise UserError(
            f"Images of {px} px cannot hold {given.formation} × {given.formation} smaller ones; set "
            "distillation.formation to a divisor of their side."
        )
    if given.start == "noise":
        return starting.noise(len(tiles.classes), settings.per_class, 3, px, draw("start"))
    source = tiles if given.start == "real" else _candidates(inputs["candidates"], tiles)
    wanted = settings.per_class * given.formation**2
    parts = []
    for label, name in enumerate(tiles.classes):
        rows = source.draw(label, wanted, draw("start", label))
        if len(rows) < wanted:
            what = "train tiles" if given.start == "real" else "candidates"
            raise UserError(
                f"To begin with, {wanted} {what} of each class are wanted, but class {name} has {len(rows)}. Lower "
                "per_class or distillation.formation, or let distillation.start be noise."
            )
        parts.append(source.normalised(rows, torch.device("cpu")))
    return starting.from_images(parts, settings.per_class, given.formation)


def _candidates(folder: Path, tiles: Tiles) -> Tiles:
    """Candidates at the size that is distilled, normalised as the tiles are."""
    found = images.read(folder / "images")
    if found.classes != tiles.classes:
        raise UserError(f"The candidates' classes are {found.classes}, those of the tiles {tiles.classes}.")
    pixels_nhwc = protocol.resize(found.pixels_nhwc, tiles.pixels_nhwc.shape[1])
    return tiles._replace(pixels_nhwc=pixels_nhwc, labels_n=found.labels_n)


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


def _gradient_matching(material: Material) -> How:
    """DC, and with augmentation DSA: an iteration is `outer` steps of the images with one network."""
    settings, learned = material.settings, material.learned
    given, published = settings.distillation, loops.loops(settings.per_class)
    outer, inner = given.outer or published.outer, given.inner or published.inner
    ready = gradient_matching.gradients(material.mode, material.device.type)
    decode, augmented = formation.decoder(given.formation), settings.method == "dsa"
    network = Network(material.network(0))

    def train(k: int) -> student.Parameters:
        shown = gradient_matching.Batch(
            *decode(learned.image.detach().flatten(0, 1), learned.targets().detach().flatten(0, 1))
        )
        strength = dsa.Strength() if augmented else None
        draw = material.draw("inner", k)
        return gradient_matching.train_on(
            ready, network.get(), shown, inner, given.network_rate, INNER_BATCH, draw, strength
        )

    def gradient(k: int) -> float:
        network.set(train(k) if k % outer else material.network(k // outer))
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
            learned.targets().backward(found.target_kmk)
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
            partial(formation.decode, factor=factor),
        )
        learned.image.grad = found.img_kmchw
        return float(found.loss)

    return How(gradient)


METHODS: dict[str, Callable[[Material], How]] = {
    "dc": _gradient_matching,
    "dsa": _gradient_matching,
    "dm": _distribution_matching,
}
