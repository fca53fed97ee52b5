"""Temperature scaling: one number that makes a trained network as sure as it is right.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), equations 3 (expected
calibration error) and 9 (temperature). Dividing all logits by one number changes no decision, only how sure it is.
The targets are those of Platt 1999 ("Probabilistic outputs for support vector machines", section 2.2.1): as if one more
tile of every class had been seen. Without them a small val where every tile is right asks for T → 0, and the one tile
that goes wrong later costs more than all that was gained.
Shapes: n tiles, k classes.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RANGE = (0.05, 20.0)
"""Temperatures lie between these. Where guesses are better the best one would be ∞."""


def fit_temperature(logits_nk: npt.NDArray[np.floating], labels_n: Ints) -> float:
    """The temperature T with the lowest mean cross entropy of softmax(logits / T), within `RANGE`.

    The target of a tile is its class with weight (n + 1) / (n + k) and every other with 1 / (n + k). The cross entropy
    is convex in 1/T, so its slope there has one root. Logits may be shifted by a number per tile (log-probabilities
    serve as well). Logits that say nothing (all equal in every tile) give 1.

    Args:
        logits_nk: of tiles that the network was not trained on.
        labels_n: their true classes.

    Raises:
        ValueError: no tile, shapes that do not agree, or logits that are not finite.
    """
    z_nk = np.asarray(logits_nk, np.float64)
    if z_nk.ndim != 2 or len(z_nk) == 0 or z_nk.shape[:1] != np.shape(labels_n):
        raise ValueError(f"a temperature needs n × k logits and n labels; got {z_nk.shape} and {np.shape(labels_n)}")
    if not np.isfinite(z_nk).all():
        raise ValueError("a temperature needs finite logits")
    z_nk = z_nk - z_nk.max(axis=1, keepdims=True)
    if not z_nk.any():
        return 1.0
    n, k = z_nk.shape
    wanted = float((n * z_nk[np.arange(n), labels_n] + z_nk.sum(axis=1)).mean() / (n + k))

    def slope(sharpness: float) -> float:
        """Derivative of the mean cross entropy by 1/T: the logit that softmax expects less that of the targets."""
        return float((softmax(sharpness * z_nk, axis=1) * z_nk).sum(axis=1).mean()) - wanted

    coldest, hottest = RANGE
    if slope(1 / hottest) >= 0:
        return hottest
    if slope(1 / coldest) <= 0:
        return coldest
    return float(1 / brentq(slope, 1 / hottest, 1 / coldest, xtol=1e-10))


def soften(logits_nk: npt.NDArray[np.floating], temperature: float) -> Floats:
    """softmax(logits / T) in float64, n × k (Guo et al. 2017, equation 9)."""
    return np.asarray(softmax(np.asarray(logits_nk, np.float64) / temperature, axis=1), np.float64)


def log_loss(logits_nk: npt.NDArray[np.floating], labels_n: Ints, temperature: float = 1.0) -> float:
    """Mean cross entropy of softmax(logits / T), in nats."""
    log_p_nk = log_softmax(np.asarray(logits_nk, np.float64) / temperature, axis=1)
    return float(-log_p_nk[np.arange(len(log_p_nk)), labels_n].mean())


def calibration_error(p_nk: Floats, labels_n: Ints, bins: int = 15) -> float:
    """Expected calibration error: |share right − mean confidence| over bins of confidence, weighted by tiles.

    Bins are of equal width, open below and closed above (Guo et al. 2017, equations 2 and 3).
    """
    sure_n = p_nk.max(axis=1)
    right_n = p_nk.argmax(axis=1) == labels_n
    bin_n = np.clip(np.ceil(sure_n * bins).astype(np.int64) - 1, 0, bins - 1)
    gap_m = np.bincount(bin_n, right_n - sure_n, minlength=bins)
    return float(np.abs(gap_m).sum() / len(p_nk))
