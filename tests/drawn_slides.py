"""Drawn slides: glass with noise, and what is put on it."""

import numpy as np

GLASS = (243, 242, 244)
PINK = (214, 150, 188)
PALE = (238, 203, 226)
BLUE_INK = (40, 70, 180)


def glass(height: int, width: int, noise: float = 1.5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return grains(np.broadcast_to(np.array(GLASS, float), (height, width, 3)), noise, rng)


def grains(rgb: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(rgb + rng.normal(0, noise, rgb.shape)), 0, 255).astype(np.uint8)


def painted(
    rgb: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], noise: float = 1.5, seed: int = 1
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    filled = grains(np.broadcast_to(np.array(colour, float), rgb.shape), noise, rng)
    return np.where(mask[..., None], filled, rgb)


def ellipse(shape: tuple[int, int], centre: tuple[float, float], axes: tuple[float, float]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2 <= 1
