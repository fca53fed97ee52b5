"""The small networks of the distillation literature: ConvNet, VGG-11 and AlexNet, for tiles of any size.

All halve their map several times. A tile that cannot be halved so often is framed in zeros (the mean colour, as tiles
come normalised) up to the next size that can, as the reference code of the field frames 28 px to 32.
Shapes: b images, c channels, h = w pixels, d features, k classes.
"""

from typing import cast

from torch import Tensor, nn

VGG11 = (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0)
"""Channels of each convolution, in widths; 0 is a pooling (Simonyan & Zisserman 2015, configuration A)."""
ALEXNET = ((2, 5), (3, 5), (4, 3), (3, 3), (3, 3))
"""Channels of each convolution, in half widths, and the side of its kernel."""


class ConvNet(nn.Module):
    """ConvNet of the distillation literature (Gidaris & Komodakis 2018; Zhao et al. 2021, arXiv 2006.05929).

    `depth` blocks of 3×3 convolution, norm, ReLU and 2×2 average pooling; then one linear layer on the flattened map.
    """

    def __init__(
        self, classes: int, colour: nn.Module, in_channels: int, width: int, size_px: int, depth: int, norm: str
    ) -> None:
        super().__init__()
        self.colour = colour
        self.frame, framed_px = framed(size_px, 2**depth)
        blocks: list[nn.Module] = []
        for place in range(depth):
            channels = width if place else in_channels
            blocks += [
                nn.Conv2d(channels, width, kernel_size=3, padding=1),
                norm_of(norm, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.feature_dim = width * (framed_px // 2**depth) ** 2
        self.head = nn.Linear(self.feature_dim, classes)

    def features(self, img_bchw: Tensor) -> Tensor:
        """The flattened last feature map, b × (width · (framed size / 2^depth)²)."""
        return cast(Tensor, self.blocks(self.frame(self.colour(img_bchw))).flatten(1))

    def forward(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        return cast(Tensor, self.head(self.features(img_bchw)))


class Vgg11(nn.Module):
    """VGG-11 for small images: eight 3×3 convolutions with norm and ReLU, five poolings, one linear layer.

    The three wide linear layers of the original are left out, as in the distillation literature; what is left of the
    map is averaged, so features are 8 widths at any size.
    """

    def __init__(self, classes: int, colour: nn.Module, in_channels: int, width: int, size_px: int, norm: str) -> None:
        super().__init__()
        self.colour = colour
        self.frame, _ = framed(size_px, 32)
        blocks: list[nn.Module] = []
        channels = in_channels
        for factor in VGG11:
            if factor == 0:
                blocks.append(nn.MaxPool2d(2))
                continue
            blocks += [nn.Conv2d(channels, factor * width, kernel_size=3, padding=1), norm_of(norm, factor * width)]
            blocks.append(nn.ReLU())
            channels = factor * width
        self.blocks = nn.Sequential(*blocks)
        self.feature_dim = channels
        self.head = nn.Linear(channels, classes)

    def features(self, img_bchw: Tensor) -> Tensor:
        """The averaged last feature map, b × (8 · width)."""
        return cast(Tensor, self.blocks(self.frame(self.colour(img_bchw))).mean((2, 3)))

    def forward(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        return cast(Tensor, self.head(self.features(img_bchw)))


class AlexNet(nn.Module):
    """AlexNet for small images (Krizhevsky et al. 2012, in the form of Zhao et al. 2021): stride 1, one linear layer.

    Five convolutions, pooled after the first, the second and the last. A norm follows every convolution, which the
    literature's form has not: without one it hardly starts to learn in a few hundred steps.
    """

    def __init__(self, classes: int, colour: nn.Module, in_channels: int, width: int, size_px: int, norm: str) -> None:
        super().__init__()
        self.colour = colour
        self.frame, framed_px = framed(size_px, 8)
        blocks: list[nn.Module] = []
        channels = in_channels
        for place, (halves, kernel) in enumerate(ALEXNET):
            wide = max(1, halves * width // 2)
            blocks += [nn.Conv2d(channels, wide, kernel, padding=kernel // 2), norm_of(norm, wide), nn.ReLU()]
            if place in (0, 1, 4):
                blocks.append(nn.MaxPool2d(2))
            channels = wide
        self.blocks = nn.Sequential(*blocks)
        self.feature_dim = channels * (framed_px // 8) ** 2
        self.head = nn.Linear(self.feature_dim, classes)

    def features(self, img_bchw: Tensor) -> Tensor:
        """The flattened last feature map, b × (1.5 widths · (framed size / 8)²)."""
        return cast(Tensor, self.blocks(self.frame(self.colour(img_bchw))).flatten(1))

    def forward(self, img_bchw: Tensor) -> Tensor:
        """Logits, b × k."""
        return cast(Tensor, self.head(self.features(img_bchw)))


def framed(size_px: int, multiple: int) -> tuple[nn.Module, int]:
    """What frames tiles of `size_px` in zeros up to the next multiple of `multiple`, and that size."""
    missing = -size_px % multiple
    if missing == 0:
        return nn.Identity(), size_px
    before, after = missing // 2, missing - missing // 2
    return nn.ZeroPad2d((before, after, before, after)), size_px + missing


def norm_of(kind: str, channels: int) -> nn.Module:
    """Instance norm, affine, written as GroupNorm with a group per channel as the reference code does; or batch norm.

    Raises:
        ValueError: `kind` is neither "instance" nor "batch".
    """
    if kind not in ("instance", "batch"):
        raise ValueError(f"the norm is 'instance' or 'batch', not {kind!r}")
    return nn.GroupNorm(channels, channels) if kind == "instance" else nn.BatchNorm2d(channels)
