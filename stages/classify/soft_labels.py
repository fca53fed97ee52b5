"""Soft labels: what a calibrated network says of an image, as numbers that may be written down.

Hinton et al. 2015 (arXiv 1503.02531) for training on them, Guo et al. 2017 (arXiv 1706.04599) for the temperature.
Shapes: n images, k classes.
"""

import numpy as np

from stages.classify.calibration import Floats, soften

DECIMALS = 4
"""Digits kept. More would tell more of the private tiles that the network was trained on, and teach nothing more."""


def soft_labels(p_nk: Floats, temperature: float) -> Floats:
    """The network's probabilities p at another temperature, softmax(log p / T), rounded by `round_rows`; n × k."""
    return round_rows(soften(np.log(np.maximum(p_nk, np.finfo(np.float64).tiny)), temperature))


def round_rows(p_nk: Floats, decimals: int = DECIMALS) -> Floats:
    """Rows of probabilities rounded so that each still sums to 1 (largest remainders; on a tie the first class).

    Every entry stays within one unit of the last digit.
    """
    units = 10**decimals
    scaled_nk = p_nk / p_nk.sum(axis=1, keepdims=True) * units
    whole_nk = np.floor(scaled_nk)
    missing_n1 = np.rint(units - whole_nk.sum(axis=1, keepdims=True))
    order_nk = np.argsort(whole_nk - scaled_nk, axis=1, kind="stable")
    rank_nk = np.argsort(order_nk, axis=1, kind="stable")
    rounded_nk: Floats = (whole_nk + (rank_nk < missing_n1)) / units
    return rounded_nk


def columns(classes: int) -> list[str]:
    """Names of the columns that hold soft labels: p0, p1, …, in the order of the classes."""
    return [f"p{number}" for number in range(classes)]
