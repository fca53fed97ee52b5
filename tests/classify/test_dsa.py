import pytest
import torch

from stages.classify import dsa

OFF = dsa.Strength(0, 0, 0, 0, 0, 0, 1, 0)
ONE = {
    "color": OFF._replace(brightness=1.0, saturation=2.0, contrast=1.0),
    "crop": OFF._replace(crop=0.125),
    "cutout": OFF._replace(cutout=0.5),
    "flip": OFF._replace(flip=0.5),
    "scale": OFF._replace(scale=1.2),
    "rotate": OFF._replace(rotate=15.0),
}


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 40, size: int = 16, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=stream(seed), dtype=torch.float64)


def part(parameters: dsa.Parameters, rows: slice) -> dsa.Parameters:
    """Those of some of the images."""
    return dsa.Parameters(*(value[rows] for value in parameters))


def test_a_batch_split_in_two_is_augmented_as_the_whole() -> None:
    img, parameters = images(), dsa.draw(40, stream())
    whole = dsa.apply(img, parameters)
    halves = [dsa.apply(img[rows], part(parameters, rows)) for rows in (slice(0, 13), slice(13, None))]
    assert torch.equal(torch.cat(halves), whole)
    assert not torch.equal(whole, img)


def test_an_image_is_augmented_alone_as_among_others_though_only_what_it_has_drawn_is_computed() -> None:
    img, parameters = images(), dsa.draw(40, stream())
    alone = [dsa.apply(img[n : n + 1], part(parameters, slice(n, n + 1))) for n in range(40)]
    assert torch.equal(torch.cat(alone), dsa.apply(img, parameters))


def test_siamese_parameters_act_alike_on_batches_of_any_size() -> None:
    img = images()
    for seed in range(12):
        parameters = dsa.draw(40, stream(seed), siamese=True)
        assert torch.allclose(dsa.apply(img, parameters)[7:9], dsa.apply(img[7:9], parameters))
        changed = (dsa.apply(img, parameters) != img).flatten(1).any(1)
        assert changed.all() or not changed.any()


def test_the_same_stream_draws_the_same_parameters() -> None:
    assert all(torch.equal(a, b) for a, b in zip(dsa.draw(9, stream(3)), dsa.draw(9, stream(3)), strict=True))


def test_at_zero_strength_images_stay_as_they_are_bit_for_bit() -> None:
    assert torch.equal(dsa.apply(images(), dsa.draw(40, stream(), OFF)), images())


@pytest.mark.parametrize("name", dsa.OPERATIONS)
def test_every_operation_is_drawn_for_about_a_sixth_of_the_images(name: str) -> None:
    img = images(1200, 8)
    touched = (dsa.apply(img, dsa.draw(1200, stream(), ONE[name])) != img).flatten(1).any(1).double().mean()
    least = 1 / 12 if name == "flip" else 1 / 6  # half of those drawn are flipped; of 9 × 9 shifts one is none
    assert 0.7 * least < touched < 1.2 * least


def test_gradients_pass_to_the_images() -> None:
    img = images(12, 6)
    parameters = dsa.draw(12, stream(4))
    assert torch.autograd.gradcheck(lambda x: dsa.apply(x, parameters), img.requires_grad_(), fast_mode=True)


def parameters_of(**changes: list) -> dsa.Parameters:
    still = dsa.draw(1, stream(), OFF)
    return still._replace(**{name: torch.tensor(value) for name, value in changes.items()})


def test_color_adds_then_scales_the_spread_of_channels_and_of_the_image() -> None:
    img = images(1)
    found = dsa.apply(img, parameters_of(brightness_n=[0.4], saturation_n=[0.0], contrast_n=[1.5]))
    grey = img.mean(1, keepdim=True).expand_as(img) + 0.4
    assert torch.allclose(found, grey.mean() + 1.5 * (grey - grey.mean()), atol=1e-6)


def test_crop_moves_by_whole_pixels_and_lets_zeros_in() -> None:
    img = images(1, 8)
    found = dsa.apply(img, parameters_of(shift_n2=[[0.99, 0.0]], reach_n=[0.25]))  # 2 px down, 2 px left
    assert torch.equal(found[..., 2:, :6], img[..., :6, 2:])
    assert not found[..., :2, :].any() and not found[..., 6:].any()


def test_shifts_are_spread_evenly_and_as_far_as_asked() -> None:
    img = torch.zeros(4000, 1, 16, 16)
    img[:, :, 8, 8] = 1
    p = dsa.draw(4000, stream(), ONE["crop"])
    at = dsa.apply(img, p._replace(reach_n=torch.full((4000,), 0.125))).flatten(1).argmax(1)
    down = torch.bincount(at // 16, minlength=16)
    assert down.nonzero().flatten().tolist() == [6, 7, 8, 9, 10] and down[6:11].min() > 700


def test_cutout_sets_a_square_to_zero() -> None:
    img = images(1, 8) + 10
    found = dsa.apply(img, parameters_of(cut_n2=[[0.5, 0.5]], cut_side_n=[0.5]))
    assert not found[..., 2:6, 2:6].any() and int((found == 0).sum()) == 3 * 16
    corner = dsa.apply(img, parameters_of(cut_n2=[[0.0, 0.0]], cut_side_n=[0.5]))
    assert int((corner == 0).sum()) == 3 * 4, "what lies outside is not cut"


def test_rotation_turns_about_the_middle_and_scale_stretches() -> None:
    img = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    img[..., 4, 4], img[..., 4, 6] = 1, 2
    quarter = parameters_of(affine_n22=[[[0.0, -1.0], [1.0, 0.0]]], warped_n=[True])
    found = dsa.apply(img, quarter)
    assert found[0, 0, 4, 4] == pytest.approx(1) and max(found[0, 0, 2, 4], found[0, 0, 6, 4]) == pytest.approx(2)
    half = parameters_of(affine_n22=[[[0.5, 0.0], [0.0, 1.0]]], warped_n=[True])
    assert dsa.apply(img, half)[0, 0, 4, 8] == pytest.approx(2)
    p = dsa.draw(3000, stream(), OFF._replace(scale=1.2, rotate=15.0))
    turn = torch.atan2(p.affine_n22[:, 1, 0], p.affine_n22[:, 0, 0]).rad2deg().abs()
    scales = p.affine_n22.norm(dim=1)
    assert 14 < turn.max() <= 15 and scales.min() + 1e-6 >= 1 / 1.2 and 1.19 < scales.max() <= 1.2 + 1e-6


def test_as_many_parameters_as_images_or_one_are_wanted() -> None:
    with pytest.raises(ValueError, match="5 images need as many parameters or one, not 4"):
        dsa.apply(images(5), dsa.draw(4, stream()))
