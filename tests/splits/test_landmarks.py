"""Landmarks: blobs are found where they are, at their scale; descriptions heed neither turn, mirror nor gain."""

import numpy as np
import torch
from planted import original, view

from stages.splits import landmarks


def disc(x: float, y: float, radius: float) -> np.ndarray:
    row, column = np.mgrid[:64, :64]
    inside = 1 / (1 + np.exp(np.clip(3 * (np.hypot(column - x, row - y) - radius), -30, 30)))
    return np.repeat((200 - 120 * inside)[..., None], 3, -1).astype(np.uint8)


def test_the_strongest_landmark_of_a_disc_is_its_middle_and_grows_with_it() -> None:
    found = landmarks.describe(np.stack([disc(30, 25, 4), disc(30, 25, 8)]))
    for (x, y, scale), radius in zip(found.place_bk3[:, 0], (4, 8), strict=True):
        assert abs(x - 30) < 0.3 and abs(y - 25) < 0.3
        assert abs(scale / (radius / np.sqrt(2)) - 1) < 0.2  # Lindeberg 1998: a disc peaks at radius / sqrt 2
    assert abs(found.place_bk3[1, 0, 2] / found.place_bk3[0, 0, 2] - 2) < 0.2


def test_descriptions_heed_neither_turning_nor_mirroring_of_the_rings() -> None:
    rings = landmarks._unit(torch.randn(1, 5, len(landmarks.RINGS), landmarks.ANGLES, generator=torch.manual_seed(0)))
    known = landmarks.invariants(rings)
    assert torch.allclose(landmarks.invariants(rings.roll(5, -1)), known, atol=1e-5)
    assert torch.allclose(landmarks.invariants(rings.flip(-1)), known, atol=1e-5)
    assert (landmarks.invariants(rings[:, :1]) - landmarks.invariants(rings[:, 1:2])).abs().max() > 0.05


def test_a_turned_and_mirrored_tile_has_the_same_landmarks() -> None:
    tile = view(original(0))
    plain, turned = landmarks.describe(np.stack([tile, np.rot90(tile)[:, ::-1]]))[2].astype(np.float64)
    blobs = slice(0, landmarks.BLOBS)
    nearest = np.linalg.norm(plain[blobs, None] - turned[None, blobs], axis=-1).min(1)
    assert np.median(nearest) < 0.05


def test_gain_and_offset_of_brightness_change_nothing() -> None:
    tile = view(original(1))
    known = landmarks.brightness(tile[None])
    assert torch.allclose(landmarks.brightness((tile[None] // 2) + 60), known, atol=0.06)


def test_tiles_of_one_colour_and_of_other_sizes_are_described() -> None:
    flat = landmarks.describe(np.full((2, 28, 28, 3), 200, np.uint8))
    assert np.isfinite(flat.invariant_bkd).all() and not flat.band_b4hw.any()
    for size in (8, 28, 224):
        assert landmarks.describe(np.zeros((1, size, size, 3), np.uint8)).place_bk3.shape == (1, landmarks.LANDMARKS, 3)
