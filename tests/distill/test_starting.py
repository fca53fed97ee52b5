import pytest
import torch

from stages.distill import formation, starting


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_is_standard_normal_and_of_its_generator_alone() -> None:
    img = starting.noise(3, 20, 3, 16, stream())
    assert img.shape == (3, 20, 3, 16, 16)
    assert abs(float(img.mean())) < 0.02 and abs(float(img.std()) - 1) < 0.02
    assert torch.equal(img, starting.noise(3, 20, 3, 16, stream()))
    assert not torch.equal(img, starting.noise(3, 20, 3, 16, stream(1)))


def test_given_images_are_taken_in_their_order_and_not_by_reference() -> None:
    given = [torch.randn(n, 3, 4, 4, generator=stream(n)) for n in (2, 5)]
    start = starting.from_images(given, 2)
    assert torch.equal(start[1], given[1][:2])
    start.zero_()
    assert given[0].any()


def test_cells_hold_four_images_each() -> None:
    given = [torch.randn(9, 3, 4, 4, generator=stream(n)) for n in range(3)]
    start = starting.from_images(given, 2, factor=2)
    assert start.shape == (3, 2, 3, 4, 4)
    assert torch.equal(start[2], formation.pack(given[2][:8], 2))


def test_a_class_of_too_few_images_is_named() -> None:
    given = [torch.zeros(8, 3, 4, 4), torch.zeros(7, 3, 4, 4)]
    with pytest.raises(ValueError, match="class 1 needs 8 images to start 2 of 2² cells, and has 7"):
        starting.from_images(given, 2, factor=2)


def test_targets_are_one_hot_in_order_of_class() -> None:
    assert starting.targets(3, 2).flatten(0, 1).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    assert starting.targets(3, 2).sum() == 6
