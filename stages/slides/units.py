"""Lengths on a slide: pixels, micrometres, and what lies between them.

A number of pixels means nothing without the micrometres per pixel (mpp) it was counted at: one type each, so that
a type checker finds the place where they are mixed up.
"""

import math
from typing import NewType

Px = NewType("Px", int)
"""A whole number of pixels, of whatever level or tile is spoken of."""
Microns = NewType("Microns", float)
"""A length in micrometres."""
Mpp = NewType("Mpp", float)
"""Micrometres per pixel: 0.25 is about 40×, 0.5 about 20×."""


def to_microns(px: float, mpp: Mpp) -> Microns:
    """The length of `px` pixels."""
    return Microns(px * checked(mpp))


def to_pixels(length: Microns, mpp: Mpp) -> Px:
    """The whole number of pixels nearest to a length; halves go up."""
    return Px(math.floor(length / checked(mpp) + 0.5))


def checked(mpp: Mpp) -> Mpp:
    """The same value.

    Raises:
        ValueError: not a positive number, as when a slide does not say or an override was mistyped.
    """
    if not (math.isfinite(mpp) and mpp > 0):
        raise ValueError(f"micrometres per pixel must be a positive number, not {mpp}. Give the slide's own value.")
    return mpp
