"""How near the candidates are to real tiles, each number beside the same number for real against real.

Shapes: n, t and v vectors of candidates, training and validation tiles, d features.
"""

import numpy as np
import numpy.typing as npt

from stages.features.distances import Vectors
from stages.features.kid import kid_interval
from stages.features.manifold import precision_recall

Groups = npt.NDArray[np.int64]
Facts = dict[str, dict[str, float]]
NEIGHBOURS = 3


def fidelity(
    candidates_nd: Vectors,
    train_td: Vectors,
    train_group_t: Groups,
    val_vd: Vectors,
    val_group_v: Groups,
    generator: np.random.Generator,
    at_most: int,
    resamples: int,
) -> Facts:
    """KID against validation tiles, and precision and recall against training tiles, with their real-real references.

    At most `at_most` vectors of each kind enter (drawn at random); precision and recall compare equal numbers, and the
    real reference halves the training groups. Numbers that need more vectors or groups than there are, are left out.
    """
    drawn_n = _some(np.arange(len(candidates_nd)), at_most, generator)
    drawn_t = _some(np.arange(len(train_td)), at_most, generator)
    facts: Facts = {}
    if min(len(np.unique(val_group_v)), len(np.unique(train_group_t[drawn_t])), len(drawn_n)) > 1:
        for name, x_nd, group_n in (
            ("kid", candidates_nd[drawn_n], None),
            ("kid_train", train_td[drawn_t], train_group_t[drawn_t]),
        ):
            estimate = kid_interval(x_nd, val_vd, generator, resamples, group_n=group_n, group_m=val_group_v)
            facts[name] = estimate._asdict()

    groups = generator.permutation(np.unique(train_group_t))
    half_t = np.isin(train_group_t, groups[: len(groups) // 2])
    count = min(len(drawn_n), int(half_t.sum()), int((~half_t).sum()))
    if count > NEIGHBOURS:
        real_td = train_td[_some(np.flatnonzero(half_t), count, generator)]
        other_td = train_td[_some(np.flatnonzero(~half_t), count, generator)]
        facts["manifold"] = precision_recall(real_td, candidates_nd[drawn_n[:count]], NEIGHBOURS)._asdict()
        facts["manifold_train"] = precision_recall(real_td, other_td, NEIGHBOURS)._asdict()
        facts["manifold"]["count"] = facts["manifold_train"]["count"] = count
    return facts


def _some(rows: npt.NDArray[np.int64], count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most `count` of the rows, in random order."""
    chosen: npt.NDArray[np.int64] = generator.permutation(rows)[:count]
    return chosen
