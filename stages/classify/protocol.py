"""How a classifier is trained here: class-balanced batches, AdamW, warm-up and cosine, best weights chosen on val.

Step k depends on the weights, k and the generator given for k alone, so a training may stop and continue anywhere.
The number of steps does not depend on how many images there are: contestants of unequal size get equal work.
Shapes: n images, b of a batch, k classes, c = 3 channels, h × w pixels.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from stages.classify import augment, metrics, networks

Pixels = npt.NDArray[np.uint8]
EVALUATION_BATCH = 64
WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""


class Sample(NamedTuple):
    """Images with their class numbers."""

    pixels_nhwc: Pixels
    labels_n: npt.NDArray[np.int64]


class Plan(NamedTuple):
    """The fixed protocol of one training."""

    steps: int
    batch: int
    learning_rate: float
    """Of AdamW, at its peak."""
    weight_decay: float
    evaluations: int
    """How many times val is looked at: at equal distances, the last time after the last step."""
    strength: augment.Strength
    mean: Sequence[float]
    """Of each channel of pixels / 255; the same for training and testing."""
    std: Sequence[float]
    bf16: bool
    """Whether the forward pass is in bfloat16 (weights and optimiser stay float32)."""

    def evaluates(self, step: int) -> bool:
        """Whether val is looked at after this step (counted from 0)."""
        at = self.evaluations * (step + 1) // self.steps
        return at > self.evaluations * step // self.steps


class Best(nn.Module):
    """The weights with the lowest loss on val so far, and that loss."""

    loss: Tensor
    step: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.register_buffer("loss", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("step", torch.tensor(-1))

    def offer(self, network: nn.Module, loss: float, step: int) -> None:
        """Take a copy of the weights of `network` if `loss` is at most the lowest so far."""
        if loss <= float(self.loss):
            self.network.load_state_dict(network.state_dict())
            self.loss.fill_(loss)
            self.step.fill_(step)


class Training:
    """One network on its way: call `step` for k = 0 … plan.steps − 1, then read `best`."""

    def __init__(self, network: nn.Module, train: Sample, val: Sample, plan: Plan, device: torch.device) -> None:
        self.network = network.to(device)
        self.best = Best(self.network)
        self.train, self.val, self.plan, self.device = train, val, plan, device
        self.rows = [np.flatnonzero(train.labels_n == label) for label in np.unique(train.labels_n)]
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything a checkpoint must hold besides the optimiser."""
        return {"network": self.network, "best": self.best}

    def step(self, k: int, generator: Generator) -> dict[str, float]:
        """Train on one batch drawn from `generator`; look at val when the plan says so.

        Returns:
            "loss" (cross entropy of the batch); "val_loss" and "val_bal_acc", NaN where val was not looked at.
        """
        rows_b = balanced_rows(self.rows, self.plan.batch, generator)
        img_bchw = networks.normalise(self.train.pixels_nhwc[rows_b], self.plan.mean, self.plan.std)
        img_bchw = augment.augment(img_bchw, self.plan.strength, generator).to(self.device)
        labels_b = torch.from_numpy(self.train.labels_n[rows_b]).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * cycle(k, self.plan.steps)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bf16):
            logits_bk = self.network(img_bchw)
        loss = F.cross_entropy(logits_bk.float(), labels_b)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        found = self._look(k) if self.plan.evaluates(k) else {"val_loss": math.nan, "val_bal_acc": math.nan}
        return {"loss": float(loss.detach())} | found

    def _look(self, k: int) -> dict[str, float]:
        """Loss and balanced accuracy on val now; the weights with the lowest loss are kept.

        The loss chooses because it is the steadier of the two: on a val of 60 groups the weights of the best accuracy
        were an early, lucky moment (3 points lower on test than the last ones).
        """
        p_nk = predict(self.network, self.val.pixels_nhwc, self.plan, self.device)
        loss = metrics.balanced_log_loss(self.val.labels_n, p_nk)
        self.best.offer(self.network, loss, k)
        return {"val_loss": loss, "val_bal_acc": metrics.scores(self.val.labels_n, p_nk)["balanced_accuracy"]}


def balanced_rows(
    rows_by_class: Sequence[npt.NDArray[np.intp]], batch: int, generator: Generator
) -> npt.NDArray[np.int64]:
    """`batch` rows drawn with replacement, as many of each class as possible (who gets the remainder is drawn)."""
    turn_k = torch.randperm(len(rows_by_class), generator=generator)
    draw_b = torch.rand(batch, generator=generator, dtype=torch.float64)
    chosen = [rows_by_class[int(turn_k[i % len(turn_k)])] for i in range(batch)]
    return np.array([rows[int(draw * len(rows))] for rows, draw in zip(chosen, draw_b.tolist(), strict=True)])


def cycle(k: int, steps: int) -> float:
    """Factor on the learning rate in step k: linear warm-up, then half a cosine down to zero after the last step."""
    warm = max(1, round(WARM_UP * steps))
    if k < warm:
        return (k + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (k + 1 - warm) / (steps + 1 - warm)))


def predict(
    network: nn.Module, pixels_nhwc: Pixels, plan: Plan, device: torch.device, views: int = 1
) -> npt.NDArray[np.float64]:
    """Class probabilities as `probabilities` gives them, with the normalisation and the precision of the training."""
    return probabilities(network, pixels_nhwc, plan.mean, plan.std, device, plan.bf16, views)


@torch.no_grad()
def probabilities(
    network: nn.Module,
    pixels_nhwc: Pixels,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    bf16: bool = False,
    views: int = 1,
) -> npt.NDArray[np.float64]:
    """Class probabilities of `network` in evaluation mode, n × k; one softmax, in float64.

    Args:
        network: any of `networks.build`.
        pixels_nhwc: tiles of the size the network takes.
        mean: of each channel, as in training.
        std: of each channel, as in training.
        device: where the network is.
        bf16: whether the forward pass is in bfloat16.
        views: the mean is taken over the first so many symmetries of the square (`augment.dihedral`): 1 the tile as
            it is, 4 with its flips, 8 with its transpositions too.
    """
    network.eval()
    parts: list[Tensor] = []
    for start in range(0, len(pixels_nhwc), EVALUATION_BATCH):
        img_bchw = networks.normalise(pixels_nhwc[start : start + EVALUATION_BATCH], mean, std).to(device)
        p_vbk: list[Tensor] = []
        for view in range(views):
            view_bchw = augment.dihedral(img_bchw, torch.full((len(img_bchw),), view)) if view else img_bchw
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits_bk = network(view_bchw)
            p_vbk.append(logits_bk.double().softmax(1).cpu())
        parts.append(torch.stack(p_vbk).mean(0))
    return cast(npt.NDArray[np.float64], torch.cat(parts).numpy())


@torch.no_grad()
def features(
    network: nn.Module,
    pixels_nhwc: Pixels,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Feature vectors of a network of `networks.build` that is in evaluation mode, n × d."""
    classifier = cast(networks.Classifier, network)
    parts: list[Tensor] = []
    for start in range(0, len(pixels_nhwc), EVALUATION_BATCH):
        img_bchw = networks.normalise(pixels_nhwc[start : start + EVALUATION_BATCH], mean, std)
        parts.append(classifier.features(img_bchw.to(device)).float().cpu())
    return cast(npt.NDArray[np.float32], torch.cat(parts).numpy())


def channel_statistics(pixels_nhwc: Pixels) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of pixels / 255 (the latter at least one grey level)."""
    counts = [np.bincount(pixels_nhwc[..., channel].ravel(), minlength=256) for channel in range(3)]
    levels = np.arange(256) / 255
    mean = [float(np.average(levels, weights=count)) for count in counts]
    spread = [math.sqrt(np.average((levels - m) ** 2, weights=c)) for m, c in zip(mean, counts, strict=True)]
    return mean, [max(float(s), 1 / 255) for s in spread]


def resize(pixels_nhwc: Pixels, size_px: int) -> Pixels:
    """Square tiles at `size_px`: each new pixel is the mean of the area it covers, to one grey level."""
    if pixels_nhwc.shape[1:3] == (size_px, size_px):
        return pixels_nhwc
    box = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(tile).resize((size_px, size_px), box)) for tile in pixels_nhwc])
