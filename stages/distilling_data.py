"""Real tiles as distillation sees them, images on their way between floats and pixels, and how things are computed.

Shapes: n images, b of a batch, k classes, c = 3 channels, h = w pixels.
"""

import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from stages import compiling, compute, images
from stages.contracts import UserError

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

    from stages.distill.compiled import Mode

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
log = logging.getLogger(__name__)


class Tiles(NamedTuple):
    """Real tiles of one role at the size that is distilled, and their normalisation."""

    pixels_nhwc: Pixels
    labels_n: Ints
    classes: tuple[str, ...]
    mean: list[float]
    """Of each channel of pixels / 255."""
    std: list[float]

    def bytes_on(self, device: "torch.device") -> "Tensor":
        """All pixels where they are computed with, n × h × w × c bytes; on a CPU they are not copied."""
        import torch

        return torch.from_numpy(self.pixels_nhwc).to(device)

    def normalised(self, rows_b: Ints, pixels_nhwc: "Tensor") -> "Tensor":
        """Tiles as networks see them, b × c × h × w, on the device of `pixels_nhwc`, which `bytes_on` gave."""
        import torch

        from stages.classify import networks
        from stages.classify.sending import sent

        rows_on_device = sent(torch.from_numpy(rows_b), pixels_nhwc.device)
        return networks.normalise_bytes(pixels_nhwc[rows_on_device], self.mean, self.std)

    def targets(self, rows_b: Ints, device: "torch.device") -> "Tensor":
        """Class probabilities of tiles, b × k: 1 for their class."""
        return one_hot(self.labels_n[rows_b], len(self.classes), device)

    def of_class(self, label: int) -> Ints:
        """The rows of a class."""
        return np.flatnonzero(self.labels_n == label)

    def draw(self, label: int, count: int, generator: "Generator") -> Ints:
        """`count` different rows of a class, or all of them where it has fewer."""
        import torch

        rows_n = self.of_class(label)
        return np.asarray(rows_n[torch.randperm(len(rows_n), generator=generator).numpy()[:count]], np.int64)


def read(folder: Path, image_px: int | None, role: str = "train", like: Tiles | None = None) -> Tiles:
    """Tiles of a role at `image_px`, normalised by their own mean and spread, or as other tiles are.

    Raises:
        UserError: a class has no tile of that role.
    """
    from stages.classify import protocol

    tiles = images.read(folder / "images", role=role)
    lacking = [name for number, name in enumerate(tiles.classes) if not (tiles.labels_n == number).any()]
    if lacking and like is None:
        raise UserError(
            f"There is no {role} tile of {', '.join(lacking)}, so nothing can be distilled; leave that out."
        )
    px = tiles.pixels_nhwc.shape[1] if image_px is None else image_px
    pixels_nhwc = protocol.resize(tiles.pixels_nhwc, px)
    mean, std = protocol.channel_statistics(pixels_nhwc) if like is None else (like.mean, like.std)
    return Tiles(pixels_nhwc, tiles.labels_n, tiles.classes, mean, std)


def one_hot(labels_n: Ints, classes: int, device: "torch.device") -> "Tensor":
    """n × k: 1 for the class, 0 for others."""
    import torch

    from stages.classify.sending import sent

    return sent(torch.eye(classes)[torch.from_numpy(labels_n)], device)


def to_pixels(img_nchw: "Tensor", mean: list[float], std: list[float]) -> Pixels:
    """Normalised images as pictures: to the nearest grey level, what lies outside the range at its end."""
    import torch

    of_channel = torch.tensor([mean, std]).view(2, 1, 3, 1, 1)
    shown_nchw = img_nchw.detach().float().cpu() * of_channel[1] + of_channel[0]
    return np.ascontiguousarray((shown_nchw * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


def limits(mean: list[float], std: list[float], device: "torch.device") -> "tuple[Tensor, Tensor]":
    """Black and white as normalised values of each channel, c × 1 × 1 each."""
    import torch

    mean_c11, std_c11 = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
    return -mean_c11 / std_c11, (1 - mean_c11) / std_c11


def usable(mode: "Mode") -> "Mode":
    """`mode`, or what comes nearest to it on this machine; a warning says so once."""
    if mode == "fast" and not compute.fast_bf16():
        _say_once("this processor does not compute in bfloat16 by itself: distillation goes on in float32 (mode exact)")
        mode = "exact"
    if mode != "plain" and not compiling.compiles():
        _say_once("torch.compile does not work here (it needs g++ or clang): distillation goes on at half the speed")
        mode = "plain"
    return mode


@functools.cache
def _say_once(text: str) -> None:
    log.warning(text)
