"""Trajectory matching (MTT): Cazenavette et al. 2022 (arXiv 2203.11932).

A student starts where an expert was, θ_0, walks S steps of gradient descent on synthetic mini-batches,
θ_{i+1} = θ_i − η g(θ_i, x_i, y_i), and should end where the expert was some epochs later, θ*:
L = |θ_S − θ*|² / |θ_0 − θ*|² (equation 2). Images, targets and the rate η are moved along the derivatives of L.
Here: the loss, the steps, the derivatives by full back-propagation, in memory that grows with S; in constant memory
they are in `trajectory_adjoint`. Images come normalised and augmented: d_images is of what the student saw, to be
pulled back through the augmentation.
Shapes: p parameters, b images of a batch, c channels, h = w pixels, k classes, n synthetic images.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from stages.distill import compiled, flat, student


class Batch(NamedTuple):
    """What the student sees in one step."""

    img_bchw: Tensor
    target_bk: Tensor
    """Class probabilities."""


class Matched(NamedTuple):
    """The loss and its derivatives, all detached."""

    loss: Tensor
    """Scalar; 1: the student is as far as it began, 0: it is on the target."""
    d_images: list[Tensor]
    """By the images of every step, b × c × h × w."""
    d_targets: list[Tensor]
    """By the targets of every step, b × k."""
    d_rate: Tensor
    """By the rate, scalar."""


class Pulled(NamedTuple):
    """⟨g, λ⟩ of one step, g the gradient of the cross entropy by the parameters, and its derivatives."""

    along: Tensor
    """⟨g, λ⟩, scalar."""
    by_parameters_p: Tensor
    """H λ, H the Hessian."""
    by_images_bchw: Tensor
    by_targets_bk: Tensor


class Gradients(NamedTuple):
    """What one step needs, of one network, each prepared once; compiled at its first call for every size of batch."""

    plain: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(θ_p, img_bchw, target_bk) -> g_p, as written: it can be differentiated again."""
    descent: Callable[[Tensor, Tensor, Tensor], Tensor]
    """The same in the mode that was asked for."""
    pull: Callable[[Tensor, Tensor, Tensor, Tensor], Pulled]
    """(θ_p, img_bchw, target_bk, λ_p) -> ⟨g, λ⟩ and all its derivatives."""
    pull_inputs: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    """The same -> ⟨g, λ⟩ and its derivatives by images and targets."""


def gradients(shape: student.Shape, mode: compiled.Mode, device: str = "cpu") -> Gradients:
    """The gradient of the student's cross entropy by its parameters, and the derivatives of ⟨gradient, λ⟩.

    ⟨g, λ⟩ is computed as the derivative of the cross entropy along λ, forward, and only that is differentiated
    backward: one convolution in nine less than backward twice, and of the gradient itself nothing is kept. What is
    compiled sees images with channels last, which convolutions take as they are (about 10 % of the time on a CPU).
    The convolutions' biases are left out, as the norm takes them away again: their derivatives are 0, and computing
    them gives rounding and takes 5 % of the time.

    Args:
        shape: of the network.
        mode: how to compute (`compiled.prepare`); in `exact` and `fast` every new size of batch costs a compilation.
        device: type of the device.
    """
    _load_forward_derivatives()
    sizes = flat.sizes(shape)
    layout = torch.contiguous_format if mode == "plain" else torch.channels_last

    def cross_entropy(theta_p: Tensor, img_bchw: Tensor, target_bk: Tensor) -> Tensor:
        laid_out_bchw = img_bchw.contiguous(memory_format=layout)
        return student.cross_entropy(flat.unflatten(theta_p, sizes), laid_out_bchw, target_bk, biases=False)

    def along(theta_p: Tensor, img_bchw: Tensor, target_bk: Tensor, lambda_p: Tensor) -> Tensor:
        parameters, moves = flat.unflatten(theta_p, sizes), flat.unflatten(lambda_p, sizes)
        blocks, laid_out_bchw = student.blocks_of(parameters), img_bchw.contiguous(memory_format=layout)
        # linear in its weights and given images that do not move: jvp would convolve their movement, which is 0
        first, moved = (student.first_convolution(p[0], laid_out_bchw, blocks) for p in (parameters, moves))

        def at(first_bchw: Tensor, parameters: list[Tensor]) -> Tensor:
            x_bd = student.features_after(parameters, first_bchw, biases=False)
            return student.cross_entropy_of(parameters, x_bd, target_bk)

        return torch.func.jvp(at, (first, parameters), (moved, moves))[1]  # type: ignore[no-any-return]

    def pull(theta_p: Tensor, img_bchw: Tensor, target_bk: Tensor, lambda_p: Tensor) -> Pulled:
        derivatives = torch.func.grad_and_value(along, argnums=(0, 1, 2))
        (by_parameters_p, by_images, by_targets), value = derivatives(theta_p, img_bchw, target_bk, lambda_p)
        return Pulled(value, by_parameters_p, by_images, by_targets)

    def pull_inputs(
        theta_p: Tensor, img_bchw: Tensor, target_bk: Tensor, lambda_p: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        derivatives = torch.func.grad_and_value(along, argnums=(1, 2))
        (by_images, by_targets), value = derivatives(theta_p, img_bchw, target_bk, lambda_p)
        return value, by_images, by_targets

    descent = torch.func.grad(cross_entropy)
    return Gradients(
        descent,
        compiled.prepare(descent, mode, device),
        compiled.prepare(pull, mode, device),
        compiled.prepare(pull_inputs, mode, device),
    )


def _load_forward_derivatives() -> None:
    """Let torch load its forward derivatives, which it does at their first use, warning of an old way of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))


def loss(end_p: Tensor, start_p: Tensor, target_p: Tensor) -> Tensor:
    """|end − target|² / |start − target|², a scalar: 1 when the student has not moved, 0 on the target.

    Not finite where the expert did not move from `start_p` to `target_p`.
    """
    return (end_p - target_p).square().sum() / (start_p - target_p).square().sum()


def minibatches(images: int, batch: int, steps: int, generator: Generator) -> list[Tensor]:
    """The rows of every step: a permutation of all images cut into batches, a new one when it is used up.

    The last of a permutation is smaller where `batch` does not divide `images`; so there are two sizes at most. (The
    public code takes the batches of a permutation from its end, so that its smaller one comes first.)

    Args:
        images: how many there are.
        batch: images of a step; all of them where there are fewer.
        steps: how many steps.
        generator: on the CPU.

    Raises:
        ValueError: no images, or a batch of none.
    """
    if images < 1 or batch < 1:
        raise ValueError(f"mini-batches need at least one image each, not {batch} of {images}: give more")
    rows: list[Tensor] = []
    while len(rows) < steps:
        rows += torch.split(torch.randperm(images, generator=generator), batch)
    return rows[:steps]


def student_steps(
    descent: Callable[[Tensor, Tensor, Tensor], Tensor], start_p: Tensor, batches: Sequence[Batch], rate: Tensor
) -> list[Tensor]:
    """θ_0 … θ_S of θ_{i+1} = θ_i − rate · g(θ_i, x_i, y_i), each with memory of its own but θ_0, which is `start_p`."""
    thetas = [start_p]
    for batch in batches:
        thetas.append(thetas[-1] - rate * descent(thetas[-1], *batch))
    return thetas


def unrolled(
    gradients: Gradients, start_p: Tensor, target_p: Tensor, batches: Sequence[Batch], rate: Tensor
) -> Matched:
    """The loss and its exact derivatives by full back-propagation through all steps, as the paper's code has it.

    Every step's graph is kept until the end. Always computed as written (`gradients.plain`), whatever the mode.

    Args:
        gradients: of the student's network.
        start_p: where the expert was and the student starts.
        target_p: where the expert was later.
        batches: of every step; their images and targets need no gradient set.
        rate: of the student's steps, a scalar.
    """

    def matched(images: list[Tensor], targets: list[Tensor], rate: Tensor) -> Tensor:
        seen = [Batch(*both) for both in zip(images, targets, strict=True)]
        return loss(student_steps(gradients.plain, start_p, seen, rate)[-1], start_p, target_p)

    given = [batch.img_bchw for batch in batches], [batch.target_bk for batch in batches], rate
    (d_images, d_targets, d_rate), value = torch.func.grad_and_value(matched, argnums=(0, 1, 2))(*given)
    return Matched(value, d_images, d_targets, d_rate)
