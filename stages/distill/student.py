"""The network that images are distilled through: ConvNet-3 as a pure function of its parameters.

The same network as `classify.convnets.ConvNet` with instance norm (a test holds the two equal), so that parameters move
freely between them; here they are an argument, because what is differentiated is how they would change. The norm is
written as mean and variance, which a compiler fuses with ReLU and pooling into one pass over memory.
Shapes: b images, c channels, h = w pixels, d features, k classes. Parameters are in the order of
`ConvNet.parameters()`: of every block convolution weight and bias, norm weight and bias; then those of the head.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from stages.classify import convnets, networks

Parameters = list[Tensor]
PER_BLOCK = 4
NORM_EPSILON = 1e-5
"""As `torch.nn.GroupNorm` has it."""


class Shape(NamedTuple):
    """What the network is like."""

    classes: int
    size_px: int = 32
    """Side of what it sees."""
    width: int = 128
    """Channels of each block."""
    depth: int = 3
    """Blocks."""
    channels: int = 3
    """Of the images."""


def facts(shape: Shape) -> dict[str, Any]:
    """What `classify.networks.build` needs to build the same network as a module."""
    return {
        "architecture": f"convnet{shape.depth}",
        "classes": shape.classes,
        "grey": False,
        "size_px": shape.size_px,
        "width": shape.width,
        "norm": "instance",
    }


def draw(shape: Shape, generator: Generator) -> Parameters:
    """Random parameters, as the module draws them (PyTorch's uniform default, norms at 1 and 0)."""
    return [p.detach() for p in networks.build_seeded(facts(shape), generator).parameters()]


def features(parameters: Sequence[Tensor], img_bchw: Tensor, biases: bool = True) -> Tensor:
    """The flattened last feature map, b × d: blocks of 3×3 convolution, instance norm, ReLU, 2×2 average pooling.

    The norm takes the convolutions' biases away again; without `biases` they are left out, which changes rounding only.
    """
    first_bchw = first_convolution(parameters[0], img_bchw, blocks_of(parameters), parameters[1] if biases else None)
    return features_after(parameters, first_bchw, biases)


def blocks_of(parameters: Sequence[Tensor]) -> int:
    """How many blocks the network of these parameters has."""
    return (len(parameters) - 2) // PER_BLOCK


def first_convolution(weight: Tensor, img_bchw: Tensor, blocks: int, bias: Tensor | None = None) -> Tensor:
    """What the first convolution gives, of any number of channels: it is linear in `weight`."""
    frame, _ = convnets.framed(img_bchw.shape[-1], 2**blocks)
    return F.conv2d(frame(img_bchw), weight, bias, padding=1)


def features_after(parameters: Sequence[Tensor], first_bchw: Tensor, biases: bool = True) -> Tensor:
    """`features` from what the first convolution gave, without which `parameters[0]` and `[1]` have no part in it."""
    x_bchw = first_bchw
    for place in range(0, PER_BLOCK * blocks_of(parameters), PER_BLOCK):
        weight, bias, gain_c, shift_c = parameters[place : place + PER_BLOCK]
        if place:
            x_bchw = F.conv2d(x_bchw, weight, bias if biases else None, padding=1)
        x_bchw = F.avg_pool2d(F.relu(_instance_norm(x_bchw, gain_c, shift_c)), 2)
    return x_bchw.flatten(1)


def logits(parameters: Sequence[Tensor], img_bchw: Tensor, biases: bool = True) -> Tensor:
    """Logits, b × k; `biases` as of `features`."""
    return F.linear(features(parameters, img_bchw, biases), parameters[-2], parameters[-1])


def cross_entropy(parameters: Sequence[Tensor], img_bchw: Tensor, target_bk: Tensor, biases: bool = True) -> Tensor:
    """Mean cross entropy of the images to class probabilities `target_bk`, in float32 whatever the logits are in."""
    return cross_entropy_of(parameters, features(parameters, img_bchw, biases), target_bk)


def cross_entropy_of(parameters: Sequence[Tensor], x_bd: Tensor, target_bk: Tensor) -> Tensor:
    """`cross_entropy` from `features`."""
    of_classes_bk = F.linear(x_bd, parameters[-2], parameters[-1])
    return F.cross_entropy(of_classes_bk.to(torch.promote_types(of_classes_bk.dtype, torch.float32)), target_bk)


def _instance_norm(x_bchw: Tensor, gain_c: Tensor, shift_c: Tensor) -> Tensor:
    """(x − mean) / √(variance + ε) of every map of every image, times a gain, plus a shift of its channel."""
    variance_bc11, mean_bc11 = torch.var_mean(x_bchw, (2, 3), correction=0, keepdim=True)
    scale_bc11 = torch.rsqrt(variance_bc11 + NORM_EPSILON) * gain_c.view(1, -1, 1, 1)
    return (x_bchw - mean_bc11) * scale_bc11 + shift_c.view(1, -1, 1, 1)
