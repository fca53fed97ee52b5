"""How often gradient matching updates images and network: outer and inner loops by images per class.

Zhao et al. 2021 (arXiv 2006.05929) publish six points; the code that comes with the paper stops at any other number.
"""

from itertools import pairwise
from typing import NamedTuple


class Loops(NamedTuple):
    """How often, for every network that is drawn."""

    outer: int
    """Steps of the images, the network being trained on them in between."""
    inner: int
    """Epochs of the network on the images after every outer step but the last."""


PUBLISHED = {
    1: Loops(1, 1),
    10: Loops(10, 50),
    20: Loops(20, 25),
    30: Loops(30, 20),
    40: Loops(40, 15),
    50: Loops(50, 10),
}
"""By images per class."""


def loops(per_class: int) -> Loops:
    """Published loops; on the straight line between the two nearest points elsewhere, held above the last.

    So `outer` is the number of images up to 50, and `inner` climbs from 1 at one image to 50 at ten (5: 23), then falls
    to 10 at fifty. Halves are rounded up.

    Args:
        per_class: images of each class, 1 or more.

    Raises:
        ValueError: `per_class` is less than 1.
    """
    if per_class < 1:
        raise ValueError(f"images per class must be 1 or more, not {per_class}")
    for (low, below), (high, above) in pairwise(PUBLISHED.items()):
        if per_class <= high:
            share = (per_class - low) / (high - low)
            return Loops(*(int(a + share * (b - a) + 0.5) for a, b in zip(below, above, strict=True)))
    return PUBLISHED[max(PUBLISHED)]
