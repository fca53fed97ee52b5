"""One training of one classifier: its settings, and what the judge and the benchmark do alike."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from stages import compute, training
from stages.contracts import UserError
from stages.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from torch import Generator, nn

    from stages.classify.plan import Pixels, Plan, Protocol, Sample

Network = Literal["convnet3", "convnet5", "resnet18", "vgg11", "alexnet", "vit"]
NETWORKS = ("convnet3", "convnet5", "resnet18", "vgg11", "alexnet", "vit")
TITLES = {
    "convnet3": "ConvNet-3",
    "convnet5": "ConvNet-5",
    "resnet18": "ResNet-18",
    "vgg11": "VGG-11",
    "alexnet": "AlexNet",
    "vit": "ViT",
}
WIDTHS = {"convnet3": 96, "convnet5": 128, "vgg11": 64, "alexnet": 128, "vit": 192}
"""Channels where the settings leave them open; ResNet-18 has one width."""
RATES = {"plain": {"convnet3": 3e-3}, "infodist": {"resnet18": 1e-2}}
"""Peak learning rates where the settings leave them open; `RATE` for the networks not named."""
RATE = {"plain": 1e-3, "infodist": 1e-2}
DECAYS = {"plain": 0.05, "infodist": 5e-4}
"""Weight decay where the settings leave it open."""


class ClassifierSettings(Settings):
    """A network and how it is trained."""

    network: Network
    """ConvNet of 3 or 5 blocks, ResNet-18, VGG-11, AlexNet (these in their forms for small images), or a small ViT."""
    protocol: Literal["plain", "infodist"] = "plain"
    """plain: class-balanced batches, AdamW, short warm-up and cosine, dihedral and mild augmentation, cross entropy.
    infodist, after the paper: epochs, SGD with momentum, warm-up over half the steps and cosine, DSA, cross entropy
    with the contrastive boundary loss, evaluation of an average of the weights that moves once an epoch."""
    image_px: int | None = Field(32, ge=8, le=512)
    """Side of the tiles the network sees, in pixels; null: as they are. Larger tiles are averaged down."""
    width: int | None = Field(None, ge=1, le=1024)
    """Channels of each ConvNet block (96 with 3 blocks, 128 with 5, where null), of the first convolution of VGG-11
    (64) and of AlexNet (128), of the ViT's tokens (192). ResNet-18 has one width."""
    norm: Literal["instance", "batch"] = "instance"
    """Norm of ConvNets, VGG-11 and AlexNet; ResNet-18 has batch norm, the ViT layer norm."""
    steps: int = Field(300, ge=1, le=10_000_000)
    """Optimiser steps of each training, the same however many images there are."""
    batch: int = Field(32, ge=2, le=65536)
    """Images per step."""
    weight_decay: float | None = Field(None, ge=0, le=1)
    """Weight decay of the optimiser, per step and unit of learning rate; null: 0.05 in plain, 0.0005 in infodist."""
    evaluations: int = Field(4, ge=1, le=100_000)
    """How many times val is looked at in a training; the weights with the lowest loss there are kept."""
    looked_at: int = Field(2000, ge=1)
    """At most so many val tiles, as many of each class and evenly spread, are looked at during a training."""
    shift_px: int = Field(2, ge=0, le=64)
    """Augmentation of plain: largest shift along each axis, in pixels of what the network sees."""
    jitter: float = Field(0.2, ge=0, le=1)
    """Augmentation of plain: largest change of contrast and of each channel, in standard deviations of the pixels."""
    hed: float = Field(0.0, ge=0, le=1)
    """Augmentation of plain, for tissue stained with H&E: each stain of an image times 1 ± hed, plus ± hed in optical
    density (Tellez et al. 2018); 0: none, 0.05: light, 0.2: strong."""
    precision: Literal["no", "bf16"] = "bf16"
    """bf16: the forward pass in bfloat16 where the processor has it, otherwise as "no", in float32."""

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        if self.network == "resnet18" and self.width is not None:
            raise ValueError("resnet18 has one width; leave width out")
        return self

    @model_validator(mode="after")
    def _stains_in_plain(self) -> Self:
        if self.hed and self.protocol != "plain":
            raise ValueError(f"hed {self.hed:g} is part of the protocol plain, not of {self.protocol}; leave it out")
        return self

    @property
    def channels(self) -> int | None:
        """`width`, or what the network has where it is left open."""
        return WIDTHS.get(self.network) if self.width is None else self.width

    def title(self, px: int, grey: bool) -> str:
        """The network and what is particular about its training, for people; `px` is what it sees."""
        parts = [TITLES[self.network]]
        parts += [] if self.width is None else [f"width {self.width}"]
        parts += [f"{px} px"]
        parts += (
            ["batch norm"]
            if self.norm == "batch" and self.network in ("convnet3", "convnet5", "vgg11", "alexnet")
            else []
        )
        parts += ["grey"] if grey else []
        parts += [f"stains ± {self.hed:g}"] if self.hed else []
        parts += ["InfoDist protocol"] if self.protocol == "infodist" else []
        return ", ".join(parts)


class Trained(NamedTuple):
    """A finished training."""

    network: "nn.Module"
    """With the best weights on val."""
    curves: "pd.DataFrame"
    best_step: int
    val_loss: float
    """At that step, on the val tiles looked at."""


def rate(settings: ClassifierSettings) -> float:
    """The peak learning rate where the settings leave it open."""
    return RATES[settings.protocol].get(settings.network, RATE[settings.protocol])


def size_px(settings: ClassifierSettings, pixels_nhwc: "Pixels") -> int:
    """Side of the tiles the network sees."""
    return int(pixels_nhwc.shape[1]) if settings.image_px is None else settings.image_px


def plan(settings: ClassifierSettings, learning_rate: float, pixels_nhwc: "Pixels") -> "Plan":
    """What a training needs to know, with the normalisation of `pixels_nhwc` (as the network sees them)."""
    from stages.classify import augment, protocol
    from stages.classify.plan import Plan

    mean, std = protocol.channel_statistics(pixels_nhwc)
    decay = settings.weight_decay
    return Plan(
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=learning_rate,
        weight_decay=DECAYS[settings.protocol] if decay is None else decay,
        evaluations=settings.evaluations,
        strength=augment.Strength(True, settings.shift_px, settings.jitter),
        mean=mean,
        std=std,
        bf16=settings.precision == "bf16" and compute.fast_bf16(),
        hed=settings.hed,
    )


def facts(
    settings: ClassifierSettings, of_plan: "Plan", classes: Sequence[str] | int, px: int, grey: bool
) -> dict[str, Any]:
    """What `networks.build` needs to build the network again, and how to normalise what it is shown."""
    told: dict[str, Any] = {
        "architecture": settings.network,
        "classes": classes if isinstance(classes, int) else list(classes),
        "grey": grey,
        "mean": list(of_plan.mean),
        "std": list(of_plan.std),
        "size_px": px,
    }
    if settings.channels is not None:
        told |= {"width": settings.channels, "norm": settings.norm}
    return told


def train(
    settings: ClassifierSettings,
    of_plan: "Plan",
    network_facts: dict[str, Any],
    samples: "tuple[Sample, Sample]",
    out: Path,
    what: str,
    stream: "Callable[..., Generator]",
) -> Trained:
    """Train one network, with one torch thread, from its checkpoint beside `out` if there is one.

    Args:
        settings: names the protocol.
        of_plan: of `plan`.
        network_facts: of `facts`.
        samples: train and val, at the size the network sees.
        out: the stage's scratch folder.
        what: name of the training and of its checkpoint.
        stream: from names and numbers to a generator: "weights", and "step" or "epoch" with a number.

    Raises:
        Interrupted: when asked to stop; the checkpoint is written.
        UserError: the loss is no longer a number.
    """
    from stages.classify import networks, protocol

    train_on, val = samples
    with compute.one_thread():
        network = networks.build_seeded(network_facts, stream("weights"))
        looked = protocol.capped(val, settings.looked_at)
        course = protocol.Training(network, train_on, looked, of_plan, compute.device(), _protocol(settings.protocol))
        try:
            curves = training.train(
                out,
                what,
                of_plan.steps,
                lambda k: course.step(k, stream),
                course.modules,
                {"network": course.optimizer},
            )
        except FloatingPointError as error:
            raise UserError(
                f"The training {what} came apart: {error}. Lower its learning rate, {of_plan.learning_rate:g}."
            ) from error
    return Trained(course.best.network, curves, int(course.best.step), float(course.best.loss))


def _protocol(name: str) -> "Protocol":
    from stages.classify import infodist, plain

    return {"plain": plain.PLAIN, "infodist": infodist.INFODIST}[name]


def ask(
    network: "nn.Module",
    network_facts: dict[str, Any],
    pixels_nhwc: "Pixels",
    bf16: bool,
    views: int = 1,
) -> npt.NDArray[np.float64]:
    """What a network says of tiles of any size, n × k; they are brought to the size it sees. One torch thread."""
    from stages.classify import protocol

    device = compute.device()
    small_nhwc = protocol.resize(pixels_nhwc, network_facts["size_px"])
    mean, std = network_facts["mean"], network_facts["std"]
    with compute.one_thread():
        return protocol.probabilities(network.to(device), small_nhwc, mean, std, device, bf16, views)
