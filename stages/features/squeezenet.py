"""SqueezeNet 1.1 features: a perceptual distance and pooled features, from weights given as tensors.

Source of the network: Iandola et al. 2016 (arXiv 1602.07360), version 1.1, ImageNet weights of keras-squeezenet (MIT).
Source of the distance: Zhang et al. 2018 (arXiv 1801.03924), without learned layer weights.

Shapes: `img_bchw` batch, colour (RGB), height, width in [-1, 1]; `f_bchw` features; `x_bd` one vector per image.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

MEAN_BGR = (103.939, 116.779, 123.68)
TAPS = (1, 4, 7, 12)  # first ReLU, then the last fire module before each pooling and the last of all
POOLED_DIM = 512


def build(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Return the frozen convolutional part of SqueezeNet 1.1.

    Args:
        weights: state dict of `torchvision.models.squeezenet1_1()`, with or without the prefix `features.`; any
            floating type, it is converted to float32.

    Raises:
        RuntimeError: a tensor is missing, unknown or of the wrong shape.
    """
    with torch.device("meta"):  # builds the layers without drawing from the global generator
        net = squeezenet1_1(weights=None).features
    assert isinstance(net, nn.Sequential)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # tapped features must stay what they were
    state = {name.removeprefix("features."): tensor.to(torch.float32) for name, tensor in weights.items()}
    net.load_state_dict(state, assign=True)
    return net.eval().requires_grad_(False)


def network_input(img_bchw: Tensor) -> Tensor:
    """Turn RGB in [-1, 1] into what the weights expect: BGR 0-255 minus the ImageNet mean of each channel."""
    bgr_bchw = (img_bchw.flip(1) + 1.0) * 127.5
    return bgr_bchw - torch.tensor(MEAN_BGR, dtype=img_bchw.dtype, device=img_bchw.device).view(1, 3, 1, 1)


def feature_maps(net: nn.Sequential, img_bchw: Tensor, taps: tuple[int, ...] = TAPS) -> list[Tensor]:
    """Return the outputs of the layers numbered `taps`, in order.

    Args:
        net: result of `build`.
        img_bchw: RGB in [-1, 1], at least 32 px a side.
        taps: layer indices in increasing order.
    """
    x_bchw, maps = network_input(img_bchw), []
    for index, layer in enumerate(net):
        x_bchw = layer(x_bchw)
        if index in taps:
            maps.append(x_bchw)
        if index >= taps[-1]:
            break
    return maps


def unit_channels(f_bchw: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale the channel vector at every position to length one (zero vectors stay zero)."""
    return f_bchw / (f_bchw.square().sum(dim=1, keepdim=True) + eps).sqrt()


def perceptual_distance(net: nn.Sequential, img_a_bchw: Tensor, img_b_bchw: Tensor) -> Tensor:
    """Return one distance per pair: squared difference of unit feature vectors, mean over positions and layers.

    It is 0 for equal images, symmetric and at most 2 (features after a ReLU cannot point apart). Gradients flow to
    both images. Shape of the result: (b,).
    """
    pairs = zip(feature_maps(net, img_a_bchw), feature_maps(net, img_b_bchw), strict=True)
    layers = [(unit_channels(a) - unit_channels(b)).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs]
    return torch.stack(layers).mean(dim=0)


def pooled_features(net: nn.Sequential, img_bchw: Tensor, size: int | None = None) -> Tensor:
    """Return the last feature map averaged over positions, shape (b, 512): the features for KID.

    Args:
        net: result of `build`.
        img_bchw: RGB in [-1, 1].
        size: side in px to which tiles are resized first (bilinear, antialiased); None leaves them as they are.
    """
    if size is not None and img_bchw.shape[-1] != size:
        img_bchw = F.interpolate(img_bchw, size=(size, size), mode="bilinear", antialias=True)
    return feature_maps(net, img_bchw, taps=(TAPS[-1],))[0].mean(dim=(2, 3))
