"""Settings of the methods that learn images: gradient, distribution and trajectory matching."""

from typing import Literal, NamedTuple

from pydantic import Field

from stages.settings import Settings

Learned = Literal["dc", "dsa", "dm", "mtt", "tesla"]
LEARNED: tuple[Learned, ...] = ("dc", "dsa", "dm", "mtt", "tesla")
TRAJECTORIES = ("mtt", "tesla")
"""Methods that follow experts."""
TITLES = {
    "dc": "gradient matching (DC)",
    "dsa": "gradient matching with augmentation (DSA)",
    "dm": "distribution matching (DM)",
    "mtt": "trajectory matching (MTT)",
    "tesla": "trajectory matching, TESLA's approximation",
}


class Published(NamedTuple):
    """What the papers set where a recipe leaves it open."""

    iterations: int
    image_rate: float


PUBLISHED: dict[str, Published] = {
    "dc": Published(1000, 0.1),
    "dsa": Published(1000, 0.1),
    "dm": Published(20_000, 1.0),
    "mtt": Published(5000, 100.0),
    "tesla": Published(5000, 100.0),
}
"""Zhao et al. 2021 (arXiv 2006.05929, 2102.08259), Zhao & Bilen 2023 (2110.04181), Cazenavette et al. 2022 (2203.11932,
CIFAR-10 at 1 and 10 images a class)."""


class DistillationSettings(Settings):
    """How images are learned. What is null is as in the method's paper."""

    iterations: int | None = Field(None, ge=1, le=10_000_000)
    """Iterations; null: 1,000 of dc and dsa, 20,000 of dm, 5,000 of mtt and tesla."""
    start: Literal["noise", "real", "candidates"] = "noise"
    """What images are at first: noise, random real train tiles (of which traces may stay), or random synthetic
    candidates. With noise and candidates no pixel of a real tile enters."""
    image_px: int | None = Field(32, ge=8, le=512)
    """Side of the images in pixels; null: that of the tiles. mtt and tesla: that of the experts."""
    width: int = Field(128, ge=8, le=1024)
    """Channels of the ConvNet the images are learned through; mtt and tesla: that of the experts."""
    depth: Literal[3, 5] = 3
    """Its blocks; mtt and tesla: that of the experts."""
    mode: Literal["plain", "exact", "fast"] = "exact"
    """plain: as written. exact: compiled, the same numbers but for the order of sums. fast: compiled, in bfloat16 where
    the processor has it. Where there is no compiler (g++ or clang), plain."""
    real_batch: int = Field(256, ge=1, le=65_536)
    """dc, dsa, dm: real tiles of each class in an iteration."""
    image_rate: float | None = Field(None, gt=0, le=1e6)
    """Learning rate of the images; null: 0.1 of dc and dsa, 1 of dm, 100 of mtt and tesla. dm matches the mean of a
    class, so that each of m images moves an m-th as far: with few iterations set it to per_class."""
    image_momentum: float = Field(0.5, ge=0, lt=1)
    """Momentum of the images, and of labels and rates that are learned with them."""
    clip: bool = True
    """Whether images are kept within what a picture can show after each step, so that what is learned can be saved."""
    outer: int | None = Field(None, ge=1, le=1000)
    """dc, dsa: image steps with one network; null: by images of a class, as published and between."""
    inner: int | None = Field(None, ge=1, le=1000)
    """dc, dsa: epochs of the network on the images after each of these; null: likewise."""
    network_rate: float = Field(0.01, gt=0, le=1)
    """dc, dsa: learning rate of that network. mtt, tesla: that of the student at first; it is learned."""
    student_steps: int = Field(30, ge=1, le=10_000)
    """mtt, tesla: steps of a student on the images."""
    student_batch: int | None = Field(None, ge=1, le=65_536)
    """mtt, tesla: images in each of them; null: all, but at most 100."""
    expert_epochs: int = Field(2, ge=1, le=1000)
    """mtt, tesla: epochs of an expert that those steps are to replace."""
    start_epochs: int = Field(2, ge=1, le=1000)
    """mtt, tesla: a student starts where an expert was after 0 … start_epochs − 1 epochs."""
    rate_rate: float = Field(0.01, ge=0, le=10)
    """mtt, tesla: learning rate of the logarithm of the student's learning rate."""
    formation: int = Field(1, ge=1, le=8)
    """Each stored image holds formation² smaller ones, enlarged for training (IDC, Kim et al. 2022); what is written
    are the enlarged ones, per_class × formation² of each class."""
    soft_labels: bool = False
    """dc, dsa, mtt, tesla: whether class probabilities are learned beside the images; written as columns p0, p1, …"""
    label_rate: float = Field(1.0, gt=0, le=1e6)
    """Learning rate of their logits."""
    evaluations: int = Field(5, ge=1, le=1000)
    """How many times a small ConvNet is trained on the images and looked at on val, at equal distances and at the
    start; the best images are kept."""
    evaluation_steps: int = Field(150, ge=1, le=1_000_000)
    """Optimiser steps of that ConvNet."""
    evaluation_tiles: int = Field(1000, ge=1)
    """At most so many val tiles, evenly spread."""

    def published(self, method: str) -> Published:
        """Iterations and image rate, those of the paper where they are left open."""
        of_paper = PUBLISHED[method]
        return Published(self.iterations or of_paper.iterations, self.image_rate or of_paper.image_rate)
