"""What a distillation needs before its first step: tiles, images to begin with, and the gradient of its method.

Shapes: k classes, m stored images of each, c = 3 channels, h = w pixels.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stages import compute, distilling_data, expert_reading, images, streams
from stages.classify import protocol
from stages.condensation_settings import CondensationSettings
from stages.contracts import Inputs, UserError
from stages.distill import starting
from stages.distillation_methods import METHODS, Draw, Material
from stages.distillation_settings import TRAJECTORIES
from stages.distilling_data import Tiles
from stages.learned_images import Learned, Rates


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


def prepare(settings: CondensationSettings, inputs: Inputs, seed: int) -> Lesson:
    """Read tiles, make the images to begin with, compile.

    Raises:
        UserError: a class lacks tiles or candidates to begin with.
    """
    given, draw, device = settings.distillation, partial(streams.torch_stream, seed), compute.device()
    followed = expert_reading.read(inputs["experts"]) if settings.method in TRAJECTORIES else None
    tiles = distilling_data.read(inputs["tiles"], given.image_px if followed is None else followed.network["size_px"])
    img_kmchw = start(settings, tiles, inputs, draw).to(device)
    target_kmk = starting.targets(len(tiles.classes), settings.per_class).to(device)
    learned = Learned(img_kmchw, target_kmk, given.soft_labels, given.network_rate).to(device)
    mode, pixels_nhwc = distilling_data.usable(given.mode), tiles.bytes_on(device)
    material = Material(settings, tiles, pixels_nhwc, learned, mode, device, draw, followed)
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
        parts.append(source.normalised(rows, source.bytes_on(torch.device("cpu"))))
    return starting.from_images(parts, settings.per_class, given.formation)


def _candidates(folder: Path, tiles: Tiles) -> Tiles:
    """Candidates at the size that is distilled, normalised as the tiles are."""
    found = images.read(folder / "images")
    if found.classes != tiles.classes:
        raise UserError(f"The candidates' classes are {found.classes}, those of the tiles {tiles.classes}.")
    pixels_nhwc = protocol.resize(found.pixels_nhwc, tiles.pixels_nhwc.shape[1])
    return tiles._replace(pixels_nhwc=pixels_nhwc, labels_n=found.labels_n)
