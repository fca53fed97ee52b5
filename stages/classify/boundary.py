"""The contrastive boundary loss of InfoDist: of every class, pull its hard images up and push others down.

Source: Li & Kainz, MICCAI 2024 (arXiv 2406.13536). It is applied once to the softmax; the paper's code applies softmax
again in its cross entropy, which this does not.
Shapes: b images of a batch, k classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SHARE = 0.9
"""The boundary of a class is the value at this share of its images, sorted from the highest."""
MARGIN = 0.3
"""Images of other classes should stay below the boundary by so much."""


def boundaries(p_bk: Tensor, labels_b: Tensor, share: float = SHARE) -> Tensor:
    """b_c of every class, k: the ⌊share · n_c⌋-th largest (at least the first) of p_c over its n_c images.

    NaN for a class without an image in the batch. No gradient passes.
    """
    own_bk = F.one_hot(labels_b, p_bk.shape[1]).bool()
    sorted_bk = p_bk.detach().masked_fill(~own_bk, -torch.inf).sort(dim=0, descending=True).values
    count_k = own_bk.sum(0)
    # A little more than the product, so that no rounding of it can lose a whole rank.
    rank_k = (count_k.double() * share + 1e-9).floor().long().clamp(min=1)
    found_k = sorted_bk.gather(0, (rank_k - 1)[None])[0]
    return found_k.masked_fill(count_k == 0, torch.nan)


def boundary_loss(logits_bk: Tensor, labels_b: Tensor, share: float = SHARE, margin: float = MARGIN) -> Tensor:
    """Σ_c mean(b_c − z | own, z ≤ b_c) + mean(z − (b_c − margin) | other, z ≥ b_c − margin); z = softmax(logits)_c.

    A mean over no image is 0, and so is the term of a class without an image in the batch.

    Args:
        logits_bk: of the batch; softmax is applied here, once.
        labels_b: class numbers.
        share: which of its own images sets the boundary of a class.
        margin: how far below it those of others should stay.
    """
    p_bk = logits_bk.softmax(1)
    b_k = boundaries(p_bk, labels_b, share)
    own_bk = F.one_hot(labels_b, p_bk.shape[1]).bool()
    low_bk = own_bk & (p_bk <= b_k)  # comparisons with NaN are false: a class that is absent selects no image
    high_bk = ~own_bk & (p_bk >= b_k - margin)
    pull = _mean_where(b_k.nan_to_num() - p_bk, low_bk)
    push = _mean_where(p_bk - (b_k.nan_to_num() - margin), high_bk)
    return (pull + push).sum()


def _mean_where(value_bk: Tensor, keep_bk: Tensor) -> Tensor:
    """Mean over the images kept, by class; 0 where none is."""
    return torch.where(keep_bk, value_bk, 0).sum(0) / keep_bk.sum(0).clamp(min=1)
