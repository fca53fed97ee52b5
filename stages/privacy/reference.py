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

TWIN_LEVEL = 0.01
"""The chance that any control tile of a clean division is taken for a twin."""


class Calibration(NamedTuple):
    """Which groups count, and the lines that were drawn from them."""

    kept_g: npt.NDArray[np.int64]
    """Columns of a fresh `Nearness` that count: all train groups, and control groups without a twin."""
    real: Real
    twins: int
    """Control groups left out because a train tile is a near copy of one of theirs."""


class Reference(NamedTuple):
    """Ready for comparison with any number of sets."""

    description: Description
    references: References
    kept_g: npt.NDArray[np.int64]
    real: Real
    twins: int

    def nearness(self, pixels_nhwc: npt.NDArray[np.uint8]) -> Nearness:
        """Similarity of tiles, if there are any, to the groups that count."""
        if len(pixels_nhwc) == 0:
            none_ng = np.zeros((0, len(self.kept_g)))
            return Nearness(none_ng.astype(np.float32), none_ng.astype(np.int64))
        near = similarity.nearness(self.description, similarity.to_tensor(pixels_nhwc), self.references)
        return Nearness(near.similarity_ng[:, self.kept_g], near.tile_ng[:, self.kept_g])


def assemble(
    pixels_rhwc: npt.NDArray[np.uint8],
    group_r: npt.NDArray[np.int64],
    label_r: npt.NDArray[np.int64],
    is_train_r: npt.NDArray[np.bool_],
    components: int,
) -> Reference:
    """Describe the real tiles, compare them with each other and draw the lines.

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
    calibration = calibrate(own_rg, number_r, Groups(is_train_g, strata(number_r, label_r)))
    return Reference(description, references, *calibration)


def calibrate(own_rg: npt.NDArray[np.float32], number_r: npt.NDArray[np.int64], groups: Groups) -> Calibration:
    """Draw the lines that clean tiles seldom cross, and take out control groups with twins in train.

    The lines come from every real tile's similarity to the nearest train tile of *another* group: what such a tile
    shows is clean of that group by construction. Control tiles alone would be too few: with 400 of 80 groups the set
    of clean tiles alarmed in 11 % of trials instead of 5 % (`tests/privacy/test_false_alarms.py`).

    Real collections hold the same tissue under two names. A control tile whose double was trained on is no control:
    it is found with the audit's own threshold (level `TWIN_LEVEL` for all control tiles together) and its whole group
    left out; how many is told.

    Args:
        own_rg: similarity of every real tile to every group, −1 to its own.
        number_r: the group (column) of each tile.
        groups: role and class of each group.
    """
    is_control_r = ~groups.is_train_g[number_r]
    nearest_r = nearest(own_rg, groups.is_train_g)
    has_other_r = nearest_r > -1.0  # false for the tiles of an only train group
    tail = fit_tail(nearest_r[has_other_r])
    twin_r = is_control_r & (nearest_r >= tail.threshold(one_of(TWIN_LEVEL, max(1, int(is_control_r.sum())))))
    twin_g = np.bincount(number_r, weights=twin_r) > 0
    kept_g = np.flatnonzero(~twin_g)
    real = Real(
        Groups(groups.is_train_g[kept_g], groups.stratum_g[kept_g]),
        own_rg[:, kept_g],
        tail,
        float(np.quantile(nearest_r[has_other_r], 0.95)),
    )
    return Calibration(kept_g, real, int(twin_g.sum()))


def strata(number_r: npt.NDArray[np.int64], label_r: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The class of most tiles of each group, the first of equals."""
    votes_gs = np.zeros((int(number_r.max()) + 1, int(label_r.max()) + 1))
    np.add.at(votes_gs, (number_r, label_r), 1.0)
    stratum_g: npt.NDArray[np.int64] = votes_gs.argmax(1)
    return stratum_g
