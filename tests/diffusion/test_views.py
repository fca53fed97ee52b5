"""Turns and mirrors, padding, sheets."""

import numpy as np
import pytest
import torch

from stages.diffusion import views


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_the_first_views_are_distinct_and_form_a_group(count: int) -> None:
    img = torch.arange(9.0).view(1, 1, 3, 3)
    pictures = [views.view(img, v) for v in range(count)]
    names = {tuple(p.flatten().tolist()) for p in pictures}
    assert len(names) == count
    assert {tuple(views.view(p, v).flatten().tolist()) for p in pictures for v in range(count)} == names
    assert torch.equal(pictures[0], img)


def test_padding_goes_to_the_next_multiple_and_crop_undoes_it() -> None:
    assert [views.padded_side(side, 16) for side in (28, 32, 33, 64)] == [32, 32, 48, 64]
    img = torch.rand(2, 3, 27, 27)
    padded = views.pad(img, 32)
    assert padded.shape == (2, 3, 32, 32)
    assert torch.equal(views.crop(padded, 27), img)
    assert torch.equal(padded[:, :, 1], padded[:, :, 3]), "the border is mirrored"


def test_at_once_go_as_many_pixels_as_64_tiles_of_64_px_have() -> None:
    assert [views.at_once(side) for side in (28, 64, 96, 128, 256, 2048)] == [64, 64, 28, 16, 4, 1]
    assert [views.at_once(side, most=50) for side in (32, 64, 128)] == [50, 50, 12]


def test_a_sheet_places_pictures_in_rows() -> None:
    pictures = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    page = views.sheet(pictures, columns=2, gap=1)
    assert page.shape == (7, 9, 3)
    assert page[1:3, 1:4].max() == 10 and page[1:3, 5:8].min() == 20 and page[4:6, 1:4].min() == 30
    assert page[4:6, 5:8].min() == 255
