"""ResNet-18 and a small vision transformer as timm builds them, from random weights.

Shapes: b images, c channels, h = w pixels, d features, k classes.
"""

from typing import Any, cast

import timm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from stages.classify.convnets import framed

SMALL_PX = 32
"""Up to this size the first convolution of ResNet-18 keeps the size of its tile."""
PATCHES = 8
"""Patches of the transformer along each side of a tile."""
DEPTH = 6
"""Its layers."""


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016); features are its pooled 512 channels.

    Its stem was made for 224 px and leaves one pixel of a tile of 32. Up to `SMALL_PX` the first convolution therefore
    has stride 1: a tile of 32 px gets the maps that one of 64 gets from the usual stem, at the same cost.
    """

    def __init__(self, classes: int, colour: nn.Module, in_channels: int, size_px: int) -> None:
        super().__init__()
        self.colour = colour
        self.net: Any = timm.create_model("resnet18", pretrained=False, num_classes=classes, in_chans=in_channels)
        if size_px <= SMALL_PX:
            self.net.conv1.stride = (1, 1)
        self.feature_dim = 512

    def features(self, img_bchw: Tensor) -> Tensor:
        """The pooled last feature map, b × 512."""
        map_bdhw = self.net.forward_features(self.colour(img_bchw))
        return cast(Tensor, self.net.forward_head(map_bdhw, pre_logits=True))

    def forward(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        return cast(Tensor, self.net.fc(self.features(img_bchw)))


class Vit(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021): 8 × 8 patches at any size, 6 layers, mean of the tokens."""

    def __init__(self, classes: int, colour: nn.Module, in_channels: int, width: int, size_px: int) -> None:
        super().__init__()
        self.colour = colour
        self.frame, framed_px = framed(size_px, PATCHES)
        heads = max(count for count in range(1, max(1, width // 64) + 1) if width % count == 0)
        self.net: Any = VisionTransformer(
            img_size=framed_px,
            patch_size=framed_px // PATCHES,
            in_chans=in_channels,
            num_classes=classes,
            embed_dim=width,
            depth=DEPTH,
            num_heads=heads,
            class_token=False,
            global_pool="avg",
        )
        self.feature_dim = width

    def features(self, img_bchw: Tensor) -> Tensor:
        """The normalised mean of the last tokens, b × width."""
        tokens_bnd = self.net.forward_features(self.frame(self.colour(img_bchw)))
        return cast(Tensor, self.net.forward_head(tokens_bnd, pre_logits=True))

    def forward(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        return cast(Tensor, self.net.head(self.features(img_bchw)))
