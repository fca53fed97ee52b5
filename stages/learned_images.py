"""Images on their way to be learned: what a checkpoint holds, the guard against coming apart, the best of them on val.

Shapes: k classes, m stored images of each, c = 3 channels, h = w pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.distill import finite

MOST_BACKOFFS = 12
MOST_OF_RATE = 0.1
"""The most one gradient moves the logarithm of the student's rate: a tenth up or down. The loss is a square of how far
a student overshoots: without a bound one step could throw the rate to where nothing is learned any more."""
SURE = 4.0
"""Logit of an image's own class, the others' being 0, where soft labels begin: .89 among eight classes."""


class Rates(NamedTuple):
    """Learning rates of what is learned."""

    image: float
    momentum: float
    label: float
    log_rate: float


class Learned(nn.Module):
    """Images, their labels, the learning rate they are to be learned by, and what the guard needs."""

    good: Tensor
    good_label: Tensor
    good_log_rate: Tensor
    backoffs: Tensor

    def __init__(self, img_kmchw: Tensor, target_kmk: Tensor, soft: bool, rate: float) -> None:
        super().__init__()
        self.image = nn.Parameter(img_kmchw.clone())
        self.label = nn.Parameter(SURE * target_kmk.clone(), requires_grad=soft)
        self.log_rate = nn.Parameter(torch.tensor(math.log(rate)))
        self.soft = soft
        self.register_buffer("good", img_kmchw.clone())
        self.register_buffer("good_label", self.label.detach().clone())
        self.register_buffer("good_log_rate", self.log_rate.detach().clone())
        self.register_buffer("backoffs", torch.tensor(0))

    def targets(self) -> Tensor:
        """Class probabilities of every stored image, k × m × k."""
        return self.label.softmax(2) if self.soft else self.label.detach() / SURE

    def keep(self) -> None:
        """Take all that is learned as it is now for good."""
        self.good.copy_(self.image)
        self.good_label.copy_(self.label)
        self.good_log_rate.copy_(self.log_rate)

    def go_back(self) -> None:
        """To what was good."""
        self.image.copy_(self.good)
        self.label.copy_(self.good_label)
        self.log_rate.copy_(self.good_log_rate)


class Best(nn.Module):
    """The images that did best on val so far."""

    image: Tensor
    label: Tensor
    score: Tensor
    step: Tensor

    def __init__(self, learned: Learned) -> None:
        super().__init__()
        self.register_buffer("image", learned.image.detach().clone())
        self.register_buffer("label", learned.targets().detach().clone())
        self.register_buffer("score", torch.tensor(-1.0, dtype=torch.float64))
        self.register_buffer("step", torch.tensor(0))

    def offer(self, learned: Learned, score: float, steps: int) -> None:
        """Take a copy if `score` is above all before; `steps` were done by then."""
        if score > float(self.score):
            self.image.copy_(learned.image.detach())
            self.label.copy_(learned.targets().detach())
            self.score.fill_(score)
            self.step.fill_(steps)


class Descent:
    """Steps down the gradients that a method has left in `Learned`, none of which may come apart.

    A gradient that is no number is not followed: all that is learned goes back to where it was before the last step,
    momentum is forgotten, and every later step is half as long. What was done is counted in `learned.backoffs`.
    """

    def __init__(self, learned: Learned, rates: Rates, limits: tuple[Tensor, Tensor] | None) -> None:
        self.learned, self.limits = learned, limits
        self.most_pull = MOST_OF_RATE / rates.log_rate if rates.log_rate else math.inf
        groups = [
            {"params": [learned.image], "lr": rates.image, "momentum": rates.momentum},
            {"params": [learned.label], "lr": rates.label, "momentum": rates.momentum},
            {"params": [learned.log_rate], "lr": rates.log_rate, "momentum": rates.momentum},
        ]
        self.rates = [float(group["lr"]) for group in groups]  # type: ignore[arg-type]
        self.optimizer = torch.optim.SGD(groups)

    @torch.no_grad()
    def step(self, loss: float) -> bool:
        """Follow the gradients, or back off; whether they were followed.

        Raises:
            FloatingPointError: it has backed off `MOST_BACKOFFS` times.
        """
        learned = self.learned
        found = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not (math.isfinite(loss) and finite.all_finite(*found)):
            learned.backoffs += 1
            if int(learned.backoffs) >= MOST_BACKOFFS:
                raise FloatingPointError(
                    f"gradients were no numbers {MOST_BACKOFFS} times, though each time images went back a step"
                )
            learned.go_back()
            self.optimizer.state.clear()
            self.optimizer.zero_grad(set_to_none=True)
            return False
        learned.keep()
        if learned.log_rate.grad is not None:
            learned.log_rate.grad.clamp_(-self.most_pull, self.most_pull)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * 0.5 ** int(learned.backoffs)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.limits is not None:
            learned.image.clamp_(*self.limits)
        return True
