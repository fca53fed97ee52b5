import pytest
import torch

from stages.classify import augment


def test_the_eight_dihedral_elements_are_the_eight_symmetries_of_the_square() -> None:
    tile = torch.arange(9.0).view(1, 1, 3, 3)
    out = augment.dihedral(tile.expand(8, 1, 3, 3), torch.arange(8))
    turned = [torch.rot90(t, k, (2, 3)) for t in (tile, tile.flip(3)) for k in range(4)]
    assert {tuple(t.flatten().tolist()) for t in out} == {tuple(t.flatten().tolist()) for t in turned}


def test_each_image_gets_its_own_element() -> None:
    tiles = torch.rand(8, 3, 4, 4)
    out = augment.dihedral(tiles, torch.tensor([0, 1, 2, 3, 4, 5, 6, 7]))
    assert torch.equal(out[0], tiles[0])
    assert torch.equal(out[1], tiles[1].flip(2))
    assert torch.equal(out[2], tiles[2].flip(1))
    assert torch.equal(out[4], tiles[4].transpose(1, 2))


def test_shift_moves_up_and_left_and_reflects() -> None:
    row = torch.arange(5.0).view(1, 1, 1, 5).expand(2, 1, 5, 5)
    out = augment.shift(row, torch.tensor([[0, 2], [0, -1]]))
    assert out[0, 0, 0].tolist() == [2, 3, 4, 3, 2]
    assert out[1, 0, 0].tolist() == [1, 0, 1, 2, 3]
    down = augment.shift(row.transpose(2, 3), torch.tensor([[1, 0], [0, 1]]))
    assert down[0, 0, :, 0].tolist() == [1, 2, 3, 4, 3]
    assert down[1, 0, :, 0].tolist() == [0, 1, 2, 3, 4]


def test_jitter_stays_within_its_strength() -> None:
    strength = augment.Strength(dihedral=False, shift_px=0, jitter=0.1)
    img = torch.ones(500, 3, 2, 2)
    change = augment.augment(img, strength, torch.Generator().manual_seed(0)) - 1
    assert 0.15 < change.abs().max() <= 0.2


def test_nothing_asked_is_nothing_changed_and_nothing_drawn() -> None:
    stream = torch.Generator().manual_seed(0)
    before = stream.get_state()
    img = torch.rand(2, 3, 8, 8)
    assert augment.augment(img, augment.Strength(False, 0, 0.0), stream) is img
    assert torch.equal(stream.get_state(), before)


@pytest.mark.parametrize("strength", [augment.Strength(True, 2, 0.2)])
def test_equal_generators_give_equal_batches_and_the_input_is_untouched(strength: augment.Strength) -> None:
    img = torch.rand(4, 3, 8, 8)
    copy = img.clone()
    first, second = (augment.augment(img, strength, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(img, copy) and not torch.equal(first, img)
