"""How a classifier is trained and asked: one loop for every protocol, the best weights chosen on val.

Step k depends on the weights, k and the generators of its streams alone, so a training may stop and continue anywhere.
Shapes: n images, b of a batch, k classes, c = 3 channels, h × w pixels.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from stages.classify import augment, metrics, networks, plain
from stages.classify.plan import Draw, Pixels, Plan, Protocol, Rows, Sample
from stages.diffusion.ema import Ema

EVALUATION_BATCH = 64


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

    def __init__(
        self,
        network: nn.Module,
        train: Sample,
        val: Sample,
        plan: Plan,
        device: torch.device,
        protocol: Protocol = plain.PLAIN,
    ) -> None:
        self.network = network.to(device)
        self.best = Best(self.network)
        self.average = None if protocol.decay is None else Ema(self.network, protocol.decay)
        self.train, self.val, self.plan, self.device, self.protocol = train, val, plan, device, protocol
        self.rows = [np.flatnonzero(train.labels_n == label) for label in np.unique(train.labels_n)]
        self.epoch = protocol.epoch(len(train.labels_n), plan.batch)
        self.optimizer = protocol.optimizer(self.network.parameters(), plan)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything a checkpoint must hold besides the optimiser."""
        known = {"network": self.network, "best": self.best}
        return known if self.average is None else known | {"average": self.average}

    def step(self, k: int, draw: Draw) -> dict[str, float]:
        """Train on one batch, drawn from the streams of `draw`; look at val when the plan says so.

        Returns:
            "loss" (of the batch, as the protocol has it), "val_loss" and "val_bal_acc" (NaN where val was not looked
            at).

        Raises:
            FloatingPointError: the loss is no longer a number.
        """
        generator = draw("step", k)
        rows_b = self.protocol.rows(self.rows, self.plan.batch, k, draw, generator)
        img_bchw = networks.normalise(self.train.pixels_nhwc[rows_b], self.plan.mean, self.plan.std)
        img_bchw = self.protocol.augment(img_bchw, self.plan, generator).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * self.protocol.factor(k, self.plan.steps)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.bf16):
            logits_bk = self.network(img_bchw)
        loss = self.protocol.loss(logits_bk.float(), *self._targets(rows_b))
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(f"the loss of step {k + 1} is {float(loss.detach())}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.average is not None and ((k + 1) % self.epoch == 0 or k + 1 == self.plan.steps):
            self.average.update(self.network)
        found = self._look(k) if self.plan.evaluates(k) else {"val_loss": math.nan, "val_bal_acc": math.nan}
        return {"loss": float(loss.detach())} | found

    def _targets(self, rows_b: Rows) -> tuple[Tensor, Tensor | None]:
        """Labels, and soft labels where there are some."""
        labels_b = torch.from_numpy(self.train.labels_n[rows_b]).to(self.device)
        soft_nk = self.train.soft_nk
        return labels_b, None if soft_nk is None else torch.from_numpy(soft_nk[rows_b]).float().to(self.device)

    def _look(self, k: int) -> dict[str, float]:
        """Loss and balanced accuracy on val now; the weights with the lowest loss are kept.

        The loss chooses because it is the steadier of the two: on a val of 60 groups the weights of the best accuracy
        were an early, lucky moment (3 points lower on test than the last ones).
        """
        network = self.network if self.average is None else self.average.network
        p_nk = predict(network, self.val.pixels_nhwc, self.plan, self.device)
        loss = metrics.balanced_log_loss(self.val.labels_n, p_nk)
        self.best.offer(network, loss, k)
        return {"val_loss": loss, "val_bal_acc": metrics.scores(self.val.labels_n, p_nk)["balanced_accuracy"]}


def capped(sample: Sample, at_most: int) -> Sample:
    """At most so many images: of every class the same share of `at_most`, evenly spread, or all where it has fewer."""
    if len(sample.labels_n) <= at_most:
        return sample
    classes = np.unique(sample.labels_n)
    each = max(1, at_most // len(classes))
    rows = [np.flatnonzero(sample.labels_n == label) for label in classes]
    kept = [r if len(r) <= each else r[np.linspace(0, len(r) - 1, each).round().astype(np.int64)] for r in rows]
    rows_m = np.sort(np.concatenate(kept))
    soft_nk = None if sample.soft_nk is None else sample.soft_nk[rows_m]
    return Sample(sample.pixels_nhwc[rows_m], sample.labels_n[rows_m], soft_nk)


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
    """Square tiles at `size_px`: made smaller by the mean over areas, larger by bicubic interpolation."""
    if pixels_nhwc.shape[1:3] == (size_px, size_px):
        return pixels_nhwc
    method = Image.Resampling.BOX if size_px < pixels_nhwc.shape[1] else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(tile).resize((size_px, size_px), method)) for tile in pixels_nhwc])
