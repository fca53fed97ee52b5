"""SqueezeNet features: input convention, distance and pooled features."""

from importlib.resources import files

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from stages.features import squeezenet as sq
from stages.streams import torch_stream


@pytest.fixture(scope="module")
def shipped() -> dict[str, Tensor]:
    return load(files("stages.features").joinpath("squeezenet1_1.safetensors").read_bytes())


@pytest.fixture(scope="module")
def net(shipped: dict[str, Tensor]) -> nn.Sequential:
    return sq.build(shipped)


def noise(n: int = 2, side: int = 64) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch_stream(0, "img")) * 2 - 1


def test_the_input_is_bgr_in_grey_levels_minus_the_mean() -> None:
    red = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1)
    expected = torch.tensor([127.5 - 103.939, 0 - 116.779, 255 - 123.68])
    torch.testing.assert_close(sq.network_input(red).flatten(), expected)


def test_building_leaves_the_global_generator_alone_and_freezes_the_weights(shipped: dict[str, Tensor]) -> None:
    before = torch.get_rng_state()
    net = sq.build(shipped)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(p.requires_grad for p in net.parameters())
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_names_with_the_prefix_of_torchvision_are_accepted(shipped: dict[str, Tensor], net: nn.Sequential) -> None:
    other = sq.build({f"features.{name}": tensor for name, tensor in shipped.items()})
    assert torch.equal(sq.pooled_features(other, noise()), sq.pooled_features(net, noise()))


def test_a_missing_tensor_is_refused(shipped: dict[str, Tensor]) -> None:
    with pytest.raises(RuntimeError, match="Missing"):
        sq.build({name: tensor for name, tensor in shipped.items() if name != "0.bias"})


def test_feature_maps_equal_the_plain_network_layer_by_layer(net: nn.Sequential) -> None:
    x_bchw = sq.network_input(noise())
    maps = sq.feature_maps(net, noise())
    for tap, f_bchw in zip(sq.TAPS, maps, strict=True):
        torch.testing.assert_close(f_bchw, net[: tap + 1](x_bchw))
    assert [f.shape[1] for f in maps] == [64, 128, 256, 512]


def test_the_distance_of_equal_images_is_zero_and_of_others_positive_and_symmetric(net: nn.Sequential) -> None:
    a_bchw, b_bchw = noise(4)[:2], noise(4)[2:]
    assert sq.perceptual_distance(net, a_bchw, a_bchw).tolist() == [0.0, 0.0]
    forth_b, back_b = sq.perceptual_distance(net, a_bchw, b_bchw), sq.perceptual_distance(net, b_bchw, a_bchw)
    assert torch.equal(forth_b, back_b)
    assert (forth_b > 0).all() and (forth_b <= 2).all()


def test_a_small_change_is_nearer_than_a_large_one_and_blur_is_far(net: nn.Sequential) -> None:
    img = noise()
    near, far = (
        sq.perceptual_distance(net, img, img + s * torch.randn(img.shape, generator=torch_stream(0)))
        for s in (0.02, 0.4)
    )
    assert (near < far).all()
    blurred = nn.functional.avg_pool2d(img, 5, stride=1, padding=2)
    assert (sq.perceptual_distance(net, img, blurred) > near).all()


def test_gradients_reach_the_image_but_not_the_network(net: nn.Sequential) -> None:
    img = noise().requires_grad_()
    sq.perceptual_distance(net, img, torch.zeros_like(img)).sum().backward()
    assert img.grad is not None and img.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())


def test_unit_channels_have_length_one_and_zero_stays_zero() -> None:
    f_bchw = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(sq.unit_channels(f_bchw).flatten(), torch.tensor([0.6, 0.8]))
    assert not sq.unit_channels(torch.zeros(1, 2, 1, 1)).any()


@pytest.mark.parametrize("side", [32, 64])
def test_pooled_features_are_the_mean_of_the_last_map(net: nn.Sequential, side: int) -> None:
    img = noise(3, side)
    x_bd = sq.pooled_features(net, img)
    assert x_bd.shape == (3, sq.POOLED_DIM)
    torch.testing.assert_close(x_bd, net(sq.network_input(img)).mean(dim=(2, 3)))
    assert sq.pooled_features(net, img, size=96).shape == (3, sq.POOLED_DIM)
