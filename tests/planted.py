"""Originals made of blobs and streaks, and copies of them: turned, mirrored, cropped, zoomed, recoloured."""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Pixels = np.ndarray


def original(seed: int, side: int = 96) -> Pixels:
    """A picture like no other: dark cells on a pink ground of uneven depth."""
    rng = np.random.default_rng([17, seed])
    ground = gaussian_filter(rng.normal(size=(side, side)), 6, mode="wrap")
    picture = np.stack([210 + 400 * ground, 150 + 500 * ground, 190 + 300 * ground], -1)
    y, x = np.mgrid[:side, :side]
    for _ in range(45):
        cy, cx = rng.uniform(0, side, 2)
        a, b, turn = rng.uniform(2, 5), rng.uniform(1.5, 3.5), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        inside = 1 / (1 + np.exp(np.clip(4 * ((u / a) ** 2 + (v / b) ** 2 - 1), -30, 30)))
        colour = np.array([80, 50, 130]) + rng.normal(0, 15, 3)
        picture += inside[..., None] * (colour - picture)
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def view(
    picture: Pixels, size: int = 64, angle: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0, 0)
) -> Pixels:
    """The middle two thirds, after turning by `angle` degrees, magnified by `zoom`, moved by `shift` pixels."""
    side, span = picture.shape[0], 64 / zoom
    turned = Image.fromarray(picture).rotate(angle, Image.Resampling.BICUBIC)
    left, top = (side - span) / 2 + shift[0], (side - span) / 2 + shift[1]
    return np.asarray(turned.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + span, top + span)))


def recoloured(tile: Pixels) -> Pixels:
    """As another scanner and another stain would show it."""
    x = tile.astype(float) @ np.array([[0.7, 0.1, 0.1], [0.2, 0.8, 0.0], [0.1, 0.0, 0.6]]) + [10, -15, 30]
    return np.clip(x, 0, 255).astype(np.uint8)


def copies(seed: int) -> list[Pixels]:
    """An original's plain view, and eight others of it."""
    picture = original(seed)
    plain = view(picture)
    return [
        plain,
        np.rot90(plain).copy(),
        plain[:, ::-1].copy(),
        view(picture, angle=17),
        view(picture, angle=-24)[::-1].copy(),
        view(picture, zoom=1.35),
        view(picture, zoom=1.2, shift=(6, -5), angle=8),
        recoloured(view(picture, angle=5)),
        (plain * np.array([0.8, 0.9, 0.85]) + 12).astype(np.uint8),
    ]
