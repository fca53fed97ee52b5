import numpy as np
import pytest
import torch
from PIL import Image

from stages.distill import formation


def images(n: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_an_image_of_one_cell_is_itself() -> None:
    assert torch.equal(formation.decode(images(), 1), images())
    assert torch.equal(formation.decoder(1)(images()), images())


def test_every_cell_becomes_a_whole_image_row_by_row() -> None:
    img = torch.zeros(2, 1, 6, 6)
    for n in range(2):
        for cell in range(9):
            row, column = 2 * (cell // 3), 2 * (cell % 3)
            img[n, :, row : row + 2, column : column + 2] = 10 * n + cell
    seen = formation.decoder(3)(img)
    assert seen.shape == (18, 1, 6, 6)
    assert torch.allclose(seen, torch.tensor([*range(9), *range(10, 19)]).view(18, 1, 1, 1).expand(18, 1, 6, 6).float())


def test_cells_are_enlarged_as_pillow_does() -> None:
    img = images(1, 16).float()
    cell = Image.fromarray(img[0, 1, :8, 8:].numpy())
    by_pillow = torch.from_numpy(np.array(cell.resize((16, 16), Image.Resampling.BILINEAR)))
    assert torch.allclose(formation.decode(img, 2)[1, 1], by_pillow, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_decoding_is_linear_and_its_gradient_is_its_adjoint(factor: int) -> None:
    a, b = images(), images().flip(0)
    both = formation.decode(2 * a - b, factor)
    assert torch.allclose(both, 2 * formation.decode(a, factor) - formation.decode(b, factor))
    weights = torch.randn(both.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (adjoint,) = torch.autograd.grad(formation.decode(a.requires_grad_(), factor), a, weights)
    assert (adjoint * b).sum() == pytest.approx(float((weights * formation.decode(b, factor)).sum()))


def test_flat_images_come_back_from_packing_and_so_do_their_means() -> None:
    flat = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 8, 8)
    packed = formation.pack(flat, 2)
    assert packed.shape == (2, 3, 8, 8)
    assert torch.equal(formation.decode(packed, 2), flat)
    packed = formation.pack(images(4), 2)
    assert torch.allclose(packed[0, :, :4, 4:].mean((1, 2)), images(4)[1].mean((1, 2)))


def test_targets_are_repeated_with_their_images() -> None:
    assert formation.decode_targets(torch.eye(2), 8).argmax(1).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_what_cannot_be_cut_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match="8 × 8 px cannot be cut in 3 × 3"):
        formation.decode(images(), 3)
    with pytest.raises(ValueError, match="a multiple of 4 images, not 3"):
        formation.pack(images(), 2)
