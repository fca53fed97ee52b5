"""Derivatives of the trajectory matching loss in constant memory: exact by the adjoint, or approximate as TESLA does.

With λ_i = dL/dθ_i, λ_S = 2 (θ_S − θ*) / |θ_0 − θ*|², the chain rule through θ_{i+1} = θ_i − η g(θ_i, x_i, y_i) reads
λ_i = λ_{i+1} − η H_i λ_{i+1},  dL/dx_i = −η ∂⟨g_i, λ_{i+1}⟩/∂x_i,  dL/dy_i likewise,  dL/dη = −Σ_i ⟨g_i, λ_{i+1}⟩.
So it is enough to keep the θ_i (1.3 MB a step for 32-px images and 128 channels) and to build the graph of one step at
a time; beside them lie the images of every step and their gradients (12 KB an image of 32 px), which the caller gives
and takes. Nothing is approximated: the adjoint equals full back-propagation up to the order of sums.

TESLA (Cui et al. 2023, arXiv 2211.10586) takes every g_i as independent of the steps before it: λ_{i+1} = λ_S for all
i, and no H_i λ. That is exact for one step only. Its gradient of the images is off by 0.42 of the exact one's norm
(cosine 0.92) at 10 steps of rate 0.01 with 8 images of 32 px and 128 channels, by 1.4 (cosine 0.84) at 30; that of the
rate by 1.3 and 2.7 of its own size (`tests/speed/trajectory.py same`).
Signature and result of both are those of `trajectory_matching.unrolled`. Shapes as there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.distill.trajectory_matching import Batch, Gradients, Matched, loss, student_steps


def adjoint(gradients: Gradients, start_p: Tensor, target_p: Tensor, batches: Sequence[Batch], rate: Tensor) -> Matched:
    """The loss and its exact derivatives, one step's graph at a time; arguments as `trajectory_matching.unrolled`."""
    thetas, value, lambda_p = _walked(gradients, start_p, target_p, batches, rate)
    d_images, d_targets, d_rate = _empty(batches), _empty(batches), torch.zeros_like(rate)
    for i in reversed(range(len(batches))):
        pulled = gradients.pull(thetas[i], *batches[i], lambda_p)
        d_images[i], d_targets[i] = -rate * pulled.by_images_bchw, -rate * pulled.by_targets_bk
        d_rate = d_rate - pulled.along
        lambda_p = lambda_p - rate * pulled.by_parameters_p
    return Matched(value, d_images, d_targets, d_rate)


def tesla(gradients: Gradients, start_p: Tensor, target_p: Tensor, batches: Sequence[Batch], rate: Tensor) -> Matched:
    """The loss and TESLA's approximate derivatives in two passes; arguments as `trajectory_matching.unrolled`.

    The paper's equations 7 to 9, which write λ_S out as the sum of all g_i.
    """
    thetas, value, lambda_p = _walked(gradients, start_p, target_p, batches, rate)
    d_images, d_targets, d_rate = _empty(batches), _empty(batches), torch.zeros_like(rate)
    for i in range(len(batches)):
        along, by_images_bchw, by_targets_bk = gradients.pull_inputs(thetas[i], *batches[i], lambda_p)
        d_images[i], d_targets[i] = -rate * by_images_bchw, -rate * by_targets_bk
        d_rate = d_rate - along
    return Matched(value, d_images, d_targets, d_rate)


def _walked(
    gradients: Gradients, start_p: Tensor, target_p: Tensor, batches: Sequence[Batch], rate: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """θ_0 … θ_S, the loss, and λ_S."""
    thetas = student_steps(gradients.descent, start_p, batches, rate)
    lambda_p = 2 * (thetas[-1] - target_p) / (start_p - target_p).square().sum()
    return thetas, loss(thetas[-1], start_p, target_p), lambda_p


def _empty(batches: Sequence[Batch]) -> list[Tensor]:
    return [torch.empty(0)] * len(batches)
