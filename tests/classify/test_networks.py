from typing import Any

import numpy as np
import pytest
import torch

from stages.classify import networks

MEAN, STD = [0.7, 0.5, 0.6], [0.2, 0.1, 0.3]
CONVNET = {"architecture": "convnet3", "classes": 3, "grey": False, "std": STD, "width": 8, "size_px": 16}
RESNET = {"architecture": "resnet18", "classes": ["a", "b"], "grey": False, "std": STD}


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("facts", "dim", "classes"), [(CONVNET, 8 * 4, 3), (RESNET, 512, 2)])
def test_logits_are_the_last_layer_on_the_features(facts: dict[str, Any], dim: int, classes: int) -> None:
    network = networks.build_seeded(facts, stream()).eval()
    img = torch.randn(3, 3, 16, 16, generator=stream(1))
    x_bd = network.features(img)
    head = network.head if facts is CONVNET else network.net.fc
    assert x_bd.shape == (3, dim) and network(img).shape == (3, classes)
    assert torch.allclose(network(img), head(x_bd))


def test_convnet3_block_is_convolution_instance_norm_relu_and_mean_of_four() -> None:
    network = networks.build_seeded(CONVNET, stream())
    img = torch.randn(2, 3, 16, 16, generator=stream(1))
    conv = network.blocks[0](img)
    centred = conv - conv.mean((2, 3), keepdim=True)
    normed = centred / (conv.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = normed.clamp(min=0).unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean((3, 5))
    assert torch.allclose(network.blocks[:4](img), expected, atol=1e-5)


def test_luminance_is_the_luma_of_the_pixels_up_to_the_shift_and_scale_of_the_statistics() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    y = networks.Luminance(STD)(networks.normalise(pixels, MEAN, STD))[:, 0]
    weights = np.array(networks.LUMINANCE)
    luma = pixels / 255 @ weights
    expected = (luma - weights @ MEAN) / (weights @ STD)
    assert np.allclose(y.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("facts", [CONVNET, RESNET])
def test_grey_variant_cannot_tell_two_colours_of_equal_luma(facts: dict[str, Any]) -> None:
    red = np.full((1, 16, 16, 3), (200, 50, 60), np.uint8)
    other = np.full((1, 16, 16, 3), (200, 50, 60), float) + np.array([0.587, -0.299, 0]) * 100
    img = torch.from_numpy(np.concatenate([red, other]) / 255).float().permute(0, 3, 1, 2)
    img = (img - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for grey, same in ((True, True), (False, False)):
        network = networks.build_seeded(facts | {"grey": grey}, stream()).eval()
        with torch.no_grad():
            logits = network(img) if facts is RESNET else network.blocks[0](network.colour(img))
        assert torch.allclose(logits[0], logits[1], atol=1e-4) == same


def test_weights_come_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = networks.build_seeded(CONVNET, stream(5)).state_dict()
    torch.manual_seed(2)
    second = networks.build_seeded(CONVNET, stream(5)).state_dict()
    third = networks.build_seeded(CONVNET, stream(6)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["blocks.0.weight"], third["blocks.0.weight"])


def test_a_size_that_cannot_be_halved_three_times_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        networks.build(CONVNET | {"size_px": 28})


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="vgg"):
        networks.build(CONVNET | {"architecture": "vgg"})
