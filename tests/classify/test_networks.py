from typing import Any

import numpy as np
import pytest
import torch

from stages.classify import networks

MEAN, STD = [0.7, 0.5, 0.6], [0.2, 0.1, 0.3]
WIDTHS = {"convnet3": 8, "convnet5": 8, "vgg11": 4, "alexnet": 8, "vit": 16, "resnet18": None}
DIMS = {"convnet3": 8 * 4, "convnet5": 8, "vgg11": 32, "alexnet": 12 * 4, "vit": 16, "resnet18": 512}
"""Of features, at 16 px (framed to 32 for ConvNet-5 and VGG-11)."""
FACTS: dict[str, dict[str, Any]] = {
    name: {"architecture": name, "classes": 3, "grey": False, "std": STD, "width": width, "size_px": 16}
    for name, width in WIDTHS.items()
}
CONVNET, RESNET = FACTS["convnet3"], FACTS["resnet18"]


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head_of(network: Any) -> Any:
    net = getattr(network, "net", None)
    return network.head if net is None else net.get_classifier()


@pytest.mark.parametrize("name", networks.NAMES)
def test_logits_are_the_last_layer_on_the_features(name: str) -> None:
    network = networks.build_seeded(FACTS[name], stream()).eval()
    img = torch.randn(3, 3, 16, 16, generator=stream(1))
    x_bd = network.features(img)
    assert x_bd.shape == (3, DIMS[name]) and network.feature_dim == DIMS[name]
    assert torch.allclose(network(img), head_of(network)(x_bd), atol=1e-6)


@pytest.mark.parametrize("size_px", [28, 32, 64])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("name", networks.NAMES)
def test_every_network_takes_a_step_at_every_size_and_gives_finite_features(
    name: str, grey: bool, size_px: int
) -> None:
    network = networks.build_seeded(FACTS[name] | {"grey": grey, "size_px": size_px}, stream())
    img, labels = torch.randn(4, 3, size_px, size_px, generator=stream(1)), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    before = torch.nn.functional.cross_entropy(network(img), labels)
    before.backward()
    weights = {key: weight for key, weight in network.named_parameters() if weight.ndim > 1}
    still = [key for key, weight in weights.items() if weight.grad is None or not weight.grad.any()]
    optimizer.step()
    after = torch.nn.functional.cross_entropy(network(img), labels)
    x_bd = network.eval().features(img).detach()
    assert x_bd.shape == (4, network.feature_dim) and x_bd.isfinite().all()
    assert float(x_bd.std(0).max()) > 1e-4, "features must tell images apart"
    # each block of timm's ResNet starts as its shortcut alone
    assert after < before and not [key for key in still if ".layer" not in key], still


@pytest.mark.parametrize(("name", "norms"), [("convnet5", 5), ("vgg11", 8), ("alexnet", 5)])
def test_the_norm_is_the_one_asked_for(name: str, norms: int) -> None:
    for norm, kind in (("instance", torch.nn.GroupNorm), ("batch", torch.nn.BatchNorm2d)):
        network = networks.build(FACTS[name] | {"norm": norm})
        assert sum(isinstance(module, kind) for module in network.modules()) == norms
    with pytest.raises(ValueError, match="layer"):
        networks.build(FACTS[name] | {"norm": "layer"})


def test_sizes_that_cannot_be_halved_are_framed_in_the_mean_colour() -> None:
    facts = FACTS["convnet5"]
    small, large = (networks.build_seeded(facts | {"size_px": size_px}, stream()) for size_px in (28, 32))
    img = torch.randn(2, 3, 28, 28, generator=stream(1))
    assert torch.equal(small(img), large(torch.nn.functional.pad(img, (2, 2, 2, 2))))


def test_small_tiles_keep_as_much_of_their_map_in_resnet18_as_larger_ones() -> None:
    small, large = (networks.build(RESNET | {"size_px": size_px}) for size_px in (32, 64))
    maps = [n.net.forward_features(torch.zeros(2, 3, s, s)) for n, s in ((small, 32), (large, 64))]
    assert maps[0].shape == maps[1].shape == (2, 512, 2, 2)


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


@pytest.mark.parametrize("name", networks.NAMES)
def test_weights_come_from_the_generator_alone(name: str) -> None:
    torch.manual_seed(1)
    first = networks.build_seeded(FACTS[name], stream(5)).state_dict()
    torch.manual_seed(2)
    second = networks.build_seeded(FACTS[name], stream(5)).state_dict()
    third = networks.build_seeded(FACTS[name], stream(6)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    drawn = [key for key in first if not torch.equal(first[key], third[key])]
    assert {key for key in first if key.endswith("conv1.weight") or key == "blocks.0.weight"} <= {*drawn}
    assert len(drawn) > 3 and (name != "vit" or "net.pos_embed" in drawn)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="vgg19.*vgg11"):
        networks.build(CONVNET | {"architecture": "vgg19"})
