"""Augmentation of stain: scikit-image's colours, each image its own draw, nothing where nothing is asked."""

import math

import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed

from stages.classify import augment, hed, networks, plain
from stages.classify.plan import Plan

UNIT = math.log(1e6)
"""scikit-image counts stains in units of the density of its least level."""
MEAN, STD = [0.7, 0.5, 0.6], [0.2, 0.25, 0.15]
LEVELS = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def last(img_bchw: torch.Tensor) -> np.ndarray:
    return img_bchw.permute(0, 2, 3, 1).numpy()


def test_stains_are_those_of_scikit_image() -> None:
    """It cuts amounts below 0, which would change the picture; here they stay."""
    ours = last(hed.to_stains(LEVELS)) / UNIT
    np.testing.assert_allclose(np.maximum(ours, 0), rgb2hed(last(LEVELS)), atol=1e-6)
    assert ours.min() < -0.01


def test_levels_of_stains_are_those_of_scikit_image() -> None:
    stains = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.2
    np.testing.assert_allclose(last(hed.to_rgb(stains * UNIT)), hed2rgb(last(stains)), atol=1e-6)


def test_the_whole_shift_is_that_of_scikit_image_on_tissue() -> None:
    """Of pictures that are sums of the three stains, so that it cuts nothing."""
    amounts = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    tissue = hed.to_rgb(amounts)
    factor, offset = torch.tensor([[0.9, 1.1, 1.2]] * 4), torch.tensor([[0.02, 0.01, 0.03]] * 4)
    theirs = hed2rgb(rgb2hed(last(tissue)) * factor[0].numpy() + offset[0].numpy() / UNIT)
    np.testing.assert_allclose(last(hed.shifted(tissue, factor, offset)), theirs, atol=1e-6)


def test_factor_one_and_offset_zero_leave_the_picture() -> None:
    same = hed.shifted(LEVELS, torch.ones(4, 3), torch.zeros(4, 3))
    torch.testing.assert_close(same, LEVELS, atol=1e-6, rtol=0)


def test_an_offset_of_eosin_takes_its_density_of_every_channel() -> None:
    white = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    out = hed.shifted(white, torch.ones(1, 3), torch.tensor([[0.0, 0.05, 0.0]]))[0, :, 0, 0]
    assert out.tolist() == pytest.approx([math.exp(-0.05 * d) for d in (0.07, 0.99, 0.11)], abs=1e-6)


def test_each_image_has_its_own_draw_and_a_batch_split_in_two_gives_the_same() -> None:
    factor, offset = torch.rand(4, 3) + 0.5, 0.1 * torch.rand(4, 3)
    whole = hed.shifted(LEVELS, factor, offset)
    halves = [hed.shifted(LEVELS[rows], factor[rows], offset[rows]) for rows in (slice(0, 2), slice(2, 4))]
    assert torch.equal(whole, torch.cat(halves))
    img = networks.normalise(np.full((2, 8, 8, 3), 150, np.uint8), MEAN, STD)
    one, two = hed.augment(img, 0.05, MEAN, STD, torch.Generator().manual_seed(0))
    assert not torch.equal(one, two)


def test_zero_strength_changes_nothing_and_draws_nothing() -> None:
    stream = torch.Generator().manual_seed(0)
    before = stream.get_state()
    assert hed.augment(LEVELS, 0.0, MEAN, STD, stream) is LEVELS
    assert torch.equal(stream.get_state(), before)


def test_normalised_pixels_come_back_normalised_and_within_the_strength() -> None:
    pixels = np.random.default_rng(0).integers(60, 250, (200, 4, 4, 3), dtype=np.uint8)
    img = networks.normalise(pixels, MEAN, STD)
    copy = img.clone()
    out = hed.augment(img, 0.05, MEAN, STD, torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    levels, after = img * std + mean, out * std + mean
    assert after.min() >= -1e-6 and after.max() <= 1 + 1e-6 and torch.equal(img, copy)
    amounts = hed.to_stains(levels)
    inside = ((after > 0.01) & (after < 0.99)).all(1, keepdim=True)
    moved = (hed.to_stains(after) - amounts).abs() - (0.05 * amounts.abs() + 0.05)
    assert moved[inside.expand_as(moved)].max() < 1e-4
    assert (after - levels).abs().mean() > 0.005


def plan(strength: float) -> Plan:
    return Plan(1, 8, 1e-3, 0.0, 1, augment.Strength(True, 1, 0.1), MEAN, STD, False)._replace(hed=strength)


def test_the_protocol_plain_shifts_stains_where_it_is_asked() -> None:
    img = networks.normalise(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8), MEAN, STD)
    off, on = (plain.PLAIN.augment(img, plan(s), torch.Generator().manual_seed(3)) for s in (0.0, 0.05))
    without = augment.augment(img, plan(0.0).strength, torch.Generator().manual_seed(3))
    assert torch.equal(off, without) and not torch.equal(on, off)
