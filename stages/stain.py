"""Stain of a tile brought to that of a reference, by torchstain: Macenko et al. 2009 or Reinhard et al. 2001.

Macenko (ISBI 2009): two stain vectors and their strengths, from the angles of optical densities. Reinhard (IEEE CG&A
21:34, 2001): mean and spread of each channel of L*a*b*. Shapes: h × w pixels, 3 channels.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from stages.settings import InputPath, Settings

Pixels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]
Method = Literal["macenko", "reinhard"]
TISSUE = 0.05
"""Least share of a tile that is tissue; below it Macenko's strengths (a 99th percentile) hang on a few pixels."""
LIGHT, DENSITY = 240, 0.15
"""Tissue has an optical density −ln((level + 1) / 240) of at least 0.15 in R, G and B: torchstain's own rule."""
ANGLE = 8.0
"""Least angle between two stain vectors, in degrees. Nearer ones are one stain and its noise, which would be torn
apart; of 841 lung tiles with tissue enough 0.6 % are below, half above 24."""
SPREAD = 0.5
"""Least standard deviation of L*, a* and b* (0 to 100 and about ±100): a grey tile has no colour to stretch."""


class StainSettings(Settings):
    """The stain that all tiles are given."""

    method: Method = Field("macenko")
    """macenko: hematoxylin and eosin, told apart. reinhard: mean and spread of lightness and colour; needs `target`."""
    target: InputPath | None = None
    """A picture whose stain is taken; of one that is not square, its middle square. None: torchstain's own reference,
    which Macenko alone has."""

    @model_validator(mode="after")
    def _has_a_target(self) -> "StainSettings":
        if self.method == "reinhard" and self.target is None:
            raise ValueError(
                "method 'reinhard' needs `target`, a picture whose stain is taken; give one, or set method to 'macenko'"
            )
        return self


class Stain(NamedTuple):
    """A stain that was told: small arrays, which travel to any process."""

    method: Method
    vectors: Vector
    """Macenko: two stain vectors, 3 × 2 (hematoxylin, eosin). Reinhard: means of L*, a*, b*."""
    strengths: Vector
    """Macenko: 99th percentile of each stain's concentration. Reinhard: standard deviations of L*, a*, b*."""


def own_reference() -> Stain:
    """The reference that torchstain brings for Macenko."""
    normalizer = _normalizer("macenko")
    return Stain("macenko", normalizer.HERef, normalizer.maxCRef)


def told(pixels_hwc: Pixels, method: Method) -> Stain | None:
    """The stain of a picture, or None where it cannot be told: too little tissue, one stain, or no colour."""
    if tissue(pixels_hwc) < TISSUE:
        return None
    normalizer = _normalizer(method)
    with np.errstate(all="ignore"):
        normalizer.fit(pixels_hwc)
    if method == "reinhard":
        means, spreads = (np.asarray(v, np.float64) for v in (normalizer.target_means, normalizer.target_stds))
        stain = Stain(method, means, spreads)
        return stain if stain.strengths.min() >= SPREAD else None
    stain = Stain(method, normalizer.HERef, normalizer.maxCRef)
    # densities are above 0, so a vector that is not was not found among them
    sound = np.isfinite(stain.vectors).all() and stain.vectors.min() >= 0 and stain.strengths.min() > 0
    return stain if sound and angle(stain.vectors) >= ANGLE else None


def tissue(pixels_hwc: Pixels) -> float:
    """Share of the pixels that are tissue by torchstain's rule."""
    darkest = LIGHT * np.exp(-DENSITY) - 1
    return float((pixels_hwc.max(axis=2) <= darkest).mean())


def angle(vectors: Vector) -> float:
    """Angle between two stain vectors (columns, 3 × 2), in degrees."""
    first, second = (vectors / np.linalg.norm(vectors, axis=0)).T
    return float(np.degrees(np.arccos(np.clip(first @ second, -1, 1))))


def stained(pixels_hwc: Pixels, wanted: Stain) -> Pixels | None:
    """The picture in the stain that is wanted, or None where its own cannot be told. Equal input, equal output."""
    if told(pixels_hwc, wanted.method) is None:
        return None
    normalizer = _normalizer(wanted.method)
    with np.errstate(all="ignore"):
        if wanted.method == "reinhard":
            normalizer.target_means, normalizer.target_stds = wanted.vectors, wanted.strengths
            found: Pixels = normalizer.normalize(pixels_hwc)
            return found
        normalizer.HERef, normalizer.maxCRef = wanted.vectors, wanted.strengths
        found, _, _ = normalizer.normalize(pixels_hwc, stains=False)
    return found


def _normalizer(method: Method) -> Any:
    # torchstain imports its numpy parts alone, neither torch nor tensorflow
    from torchstain.numpy.normalizers.macenko import NumpyMacenkoNormalizer
    from torchstain.numpy.normalizers.reinhard import NumpyReinhardNormalizer

    return NumpyMacenkoNormalizer() if method == "macenko" else NumpyReinhardNormalizer()
