"""The classifiers of the judge and the benchmark, each with features and logits, by name.

All take RGB tiles normalised as (pixels / 255 − mean) / std. The grey variant takes the *same* input and reduces it to
luminance inside the network, by a fixed linear layer, so nobody can feed it the wrong normalisation.
Shapes: b images, c = 3 channels, h × w pixels, d features, k classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from stages.classify import convnets, timm_networks
from stages.classify.sending import sent

NAMES = ("convnet3", "convnet5", "resnet18", "vgg11", "alexnet", "vit")
LUMINANCE = (0.299, 0.587, 0.114)
"""ITU-R BT.601 luma weights of R, G, B."""


class Classifier(Protocol):
    """What `build` returns: an `nn.Module` with these."""

    feature_dim: int
    """Length of a feature vector."""

    def features(self, img_bchw: Tensor) -> Tensor:
        """The vector before the last layer, b × d."""
        ...

    def __call__(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        ...


class Luminance(nn.Module):
    """Normalised RGB to one channel of luminance, centred at the luminance of `mean` (no weights to learn).

    The luma of the pixels minus that of the mean is Σ_c w_c std_c x_c; it is divided by Σ_c w_c std_c.
    """

    weights_c: Tensor

    def __init__(self, std: Sequence[float]) -> None:
        super().__init__()
        weights = torch.tensor(LUMINANCE) * torch.tensor(std)
        self.register_buffer("weights_c", weights / weights.sum(), persistent=False)

    def forward(self, img_bchw: Tensor) -> Tensor:
        """b × 3 × h × w to b × 1 × h × w."""
        return (img_bchw * self.weights_c.view(1, 3, 1, 1)).sum(1, keepdim=True)


def build(facts: Mapping[str, Any]) -> nn.Module:
    """The network that `facts` describe, with random weights from torch's global generator.

    Args:
        facts: "architecture" (one of `NAMES`), "classes" (names, or how many), "grey" (bool), "size_px" (side of a
            tile), "std" (of each channel, of pixels / 255; used when grey), "width" (all but ResNet-18) and "norm"
            ("instance" or "batch"; ConvNets, VGG-11 and AlexNet; instance where it is not told).

    Returns:
        A module that is also a `Classifier`.

    Raises:
        ValueError: an unknown architecture or norm.
    """
    name = facts["architecture"]
    if name not in NAMES:
        raise ValueError(f"architecture {name!r} is not known; take one of {', '.join(NAMES)}")
    classes = facts["classes"] if isinstance(facts["classes"], int) else len(facts["classes"])
    grey = bool(facts.get("grey", False))
    colour: nn.Module = Luminance(facts["std"]) if grey else nn.Identity()
    start = (classes, colour, 1 if grey else 3)
    size_px, norm = int(facts["size_px"]), str(facts.get("norm", "instance"))
    if name == "resnet18":
        return timm_networks.ResNet18(*start, size_px)
    width = int(facts["width"])
    match name:
        case "vit":
            return timm_networks.Vit(*start, width, size_px)
        case "vgg11":
            return convnets.Vgg11(*start, width, size_px, norm)
        case "alexnet":
            return convnets.AlexNet(*start, width, size_px, norm)
    return convnets.ConvNet(*start, width, size_px, int(name.removeprefix("convnet")), norm)


def normalise(pixels_nhwc: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(pixels / 255 − mean) / std as n × 3 × h × w float32: the one normalisation of training and testing."""
    return normalise_bytes(torch.from_numpy(np.ascontiguousarray(pixels_nhwc)), mean, std)


def normalise_bytes(pixels_nhwc: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The same of bytes that lie on a device already."""
    img_nchw = pixels_nhwc.permute(0, 3, 1, 2).float().div_(255)
    mean_1c11, std_1c11 = (sent(torch.tensor(of), img_nchw.device).view(1, 3, 1, 1) for of in (mean, std))
    return img_nchw.sub_(mean_1c11).div_(std_1c11).contiguous()


def build_seeded(facts: Mapping[str, Any], generator: Generator) -> nn.Module:
    """`build` with random weights drawn from `generator` alone (so it is safe wherever others draw too).

    ResNet-18: convolutions Kaiming normal, fan out; transformer: normal of deviation 0.02, cut at ±2, biases 0; both as
    timm. All else: PyTorch's uniform default, as the reference code. Norms stay at weight 1 and bias 0 (timm's ResNet:
    0 for the last norm of each block).
    """
    network = build(facts)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            _reset(module, facts["architecture"], generator)
    if facts["architecture"] == "vit":
        nn.init.trunc_normal_(network.net.pos_embed, std=0.02, generator=generator)  # type: ignore[union-attr, arg-type]
    return network


def _reset(module: nn.Conv2d | nn.Linear, architecture: str, generator: Generator) -> None:
    """New weights for one layer."""
    if architecture == "vit":
        nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        return
    if isinstance(module, nn.Conv2d) and architecture == "resnet18":
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    else:
        nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
    if module.bias is not None:
        bound = 1 / math.sqrt(module.weight[0].numel())
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)
