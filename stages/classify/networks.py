"""The two classifiers: ResNet-18 (the judge) and ConvNet-3 (the benchmark), each with features and logits.

Both take RGB tiles normalised as (pixels / 255 − mean) / std. The grey variant takes the *same* input and reduces it to
luminance inside the network, by a fixed linear layer, so nobody can feed it the wrong normalisation.
Shapes: b images, c = 3 channels, h × w pixels, d features, k classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import timm
import torch
from torch import Generator, Tensor, nn

LUMINANCE = (0.299, 0.587, 0.114)
"""ITU-R BT.601 luma weights of R, G, B."""


class Classifier(Protocol):
    """What `build` returns: an `nn.Module` with these two."""

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


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016) as timm builds it, from random weights; features are its pooled 512 channels."""

    def __init__(self, classes: int, colour: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.colour = colour
        self.net: Any = timm.create_model("resnet18", pretrained=False, num_classes=classes, in_chans=in_channels)

    def features(self, img_bchw: Tensor) -> Tensor:
        """The pooled last feature map, b × 512."""
        map_bdhw = self.net.forward_features(self.colour(img_bchw))
        return cast(Tensor, self.net.forward_head(map_bdhw, pre_logits=True))

    def forward(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        return cast(Tensor, self.net.fc(self.features(img_bchw)))


class ConvNet3(nn.Module):
    """ConvNet-3 of the distillation literature (Gidaris & Komodakis 2018; Zhao et al. 2021, arXiv 2006.05929).

    Three blocks of 3×3 convolution, instance norm (affine; written as GroupNorm with a group per channel, as the
    reference code does), ReLU and 2×2 average pooling; then one linear layer on the flattened map.
    """

    def __init__(self, classes: int, colour: nn.Module, in_channels: int, width: int, size_px: int) -> None:
        super().__init__()
        self.colour = colour
        blocks: list[nn.Module] = []
        for channels in (in_channels, width, width):
            blocks += [
                nn.Conv2d(channels, width, kernel_size=3, padding=1),
                nn.GroupNorm(width, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width * (size_px // 8) ** 2, classes)

    def features(self, img_bchw: Tensor) -> Tensor:
        """The flattened last feature map, b × (width · (size / 8)²)."""
        return cast(Tensor, self.blocks(self.colour(img_bchw)).flatten(1))

    def forward(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        return cast(Tensor, self.head(self.features(img_bchw)))


def build(facts: Mapping[str, Any]) -> nn.Module:
    """The network that `facts` describe, with random weights from torch's global generator.

    Args:
        facts: "architecture" ("resnet18" or "convnet3"), "classes" (names, or how many), "grey" (bool),
            "std" (of each channel, of pixels / 255; used when grey), and for "convnet3" "width" and "size_px".

    Returns:
        A module that is also a `Classifier`.

    Raises:
        ValueError: an unknown architecture, or a size that ConvNet-3 cannot halve three times.
    """
    classes = facts["classes"] if isinstance(facts["classes"], int) else len(facts["classes"])
    grey = bool(facts.get("grey", False))
    colour: nn.Module = Luminance(facts["std"]) if grey else nn.Identity()
    in_channels = 1 if grey else 3
    match facts["architecture"]:
        case "resnet18":
            return ResNet18(classes, colour, in_channels)
        case "convnet3":
            size_px, width = int(facts["size_px"]), int(facts["width"])
            if size_px % 8:
                raise ValueError(
                    f"ConvNet-3 halves its input three times: size_px must be a multiple of 8, not {size_px}"
                )
            return ConvNet3(classes, colour, in_channels, width, size_px)
        case unknown:
            raise ValueError(f"architecture {unknown!r} is not known; take 'resnet18' or 'convnet3'")


def normalise(pixels_nhwc: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(pixels / 255 − mean) / std as n × 3 × h × w float32: the one normalisation of training and testing."""
    img_nchw = torch.from_numpy(np.ascontiguousarray(pixels_nhwc)).permute(0, 3, 1, 2).float().div_(255)
    return img_nchw.sub_(torch.tensor(mean).view(1, 3, 1, 1)).div_(torch.tensor(std).view(1, 3, 1, 1)).contiguous()


def build_seeded(facts: Mapping[str, Any], generator: Generator) -> nn.Module:
    """`build` with random weights drawn from `generator` alone (so it is safe wherever others draw too).

    ResNet-18: Kaiming normal, fan out, as timm; ConvNet-3: PyTorch's uniform default, as the reference code.
    Norms stay at weight 1 and bias 0 (timm's ResNet: 0 for the last norm of each block).
    """
    network = build(facts)
    for module in network.modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        if isinstance(module, nn.Conv2d) and facts["architecture"] == "resnet18":
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        else:
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        if module.bias is not None:
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return network
