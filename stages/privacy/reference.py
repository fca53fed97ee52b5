"""The real tiles as the audits use them: described, grouped, calibrated, freed of control groups that are none.

Shapes: r real tiles, g groups, h and w pixels.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.privacy import similarity
from stages.privacy.battery import Real, nearest
from stages.privacy.copies import fit_tail, one_of
from stages.privacy.exchange import Groups
from stages.privacy.similarity import Description, Nearness, References

LEAST_TILES = 10
TWIN_LEVEL = 0.01
"""The chance that any control tile of a clean division is taken for a twin."""


class Reference(NamedTuple):
    """Ready for comparison with any number of sets."""

    description: Description
    references: References
    kept_g: npt.NDArray[np.int64]
    """Columns of a fresh `Nearness` that count: all train groups, and control groups without a twin."""
    real: Real
    twins: int
    """Control groups left out because a train tile is a near copy of one of theirs."""
    calibrated_on: str
    """Whose nearest train similarities drew the line: control tiles, or train tiles among other groups."""

    def nearness(self, pixels_nhwc: npt.NDArray[np.uint8]) -> Nearness:
        """Similarity of tiles to the groups that count."""
        near = similarity.nearness(self.description, similarity.to_tensor(pixels_nhwc), self.references)
        return Nearness(near.similarity_ng[:, self.kept_g], near.tile_ng[:, self.kept_g])


def assemble(
    pixels_rhwc: npt.NDArray[np.uint8],
    group_r: npt.NDArray[np.int64],
    label_r: npt.NDArray[np.int64],
    is_train_r: npt.NDArray[np.bool_],
    components: int,
) -> Reference:
    """Describe the real tiles, draw the lines from the control, and take out control groups with twins in train.

    Real collections hold the same tissue under two names. A control tile whose double was trained on is no control:
    it is found with the audit's own threshold (level `TWIN_LEVEL` for all control tiles together) and its whole group
    left out; how many is told.

    Raises:
        ValueError: a group with tiles on both sides, or too few tiles to draw a line.
    """
    _, number_r = np.unique(group_r, return_inverse=True)
    is_train_g = np.bincount(number_r, weights=is_train_r) > 0
    if (is_train_g[number_r] != is_train_r).any():
        raise ValueError("a group has tiles both in train and in control; roles must be given by whole groups")
    img_rchw = similarity.to_tensor(pixels_rhwc)
    description = similarity.fit_description(img_rchw, components)
    references = similarity.prepare(description, img_rchw, number_r)
    near = similarity.nearness(description, img_rchw, references)
    own_rg = similarity.without_own_group(near.similarity_ng, number_r)
    clean_r, calibrated_on = ~is_train_r, "control tiles"
    if clean_r.sum() < LEAST_TILES:
        clean_r, calibrated_on = np.ones(len(number_r), np.bool_), "all real tiles, each without its own group"
    nearest_r = nearest(own_rg, is_train_g)
    tail = fit_tail(nearest_r[clean_r])
    twin_r = ~is_train_r & (nearest_r >= tail.threshold(one_of(TWIN_LEVEL, int(clean_r.sum()))))
    twin_g = np.bincount(number_r, weights=twin_r) > 0
    kept_g = np.flatnonzero(~twin_g)
    line_r = clean_r & ~twin_g[number_r]
    real = Real(
        Groups(is_train_g[kept_g], _strata(number_r, label_r)[kept_g]),
        own_rg[:, kept_g],
        tail,
        float(np.quantile(nearest_r[line_r if line_r.any() else clean_r], 0.95)),
    )
    return Reference(description, references, kept_g, real, int(twin_g.sum()), calibrated_on)


def _strata(number_r: npt.NDArray[np.int64], label_r: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The class of most tiles of each group, the first of equals."""
    votes_gs = np.zeros((int(number_r.max()) + 1, int(label_r.max()) + 1))
    np.add.at(votes_gs, (number_r, label_r), 1.0)
    stratum_g: npt.NDArray[np.int64] = votes_gs.argmax(1)
    return stratum_g
