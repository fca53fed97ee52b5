"""Pseudo-groups by stain: tiles of one class whose colours are alike are kept together.

Where nobody wrote down the slides, tiles of one slide lie on both sides of any random split, and a classifier that
knows a slide's stain looks better than it is. Within a class, slides differ in stain, so clusters of stain stand in
for slides.

**Pseudo-groups are no patients.** A cluster may hold several patients, and a patient several clusters. They make a
split harder and a benchmark more honest; they bear no claim about patients, neither in privacy nor in intervals.

How large they should be: on 12,881 colorectal tiles whose slides are unknown, five nearest neighbours in colour
reach a balanced accuracy of .87 when random tiles are held out, and .61, .51, .38 when whole groups of about 50, 100,
200 tiles are (means of three seeds); a linear model on colour, which cannot know slides by heart, .58, and .54, .50,
.42. About 100 is where the former loses its advantage. This is a choice, no proof that slides were found: neighbours
fall in data without slides too, as a group is by its making what its neighbours in colour are not. A split by stain is
therefore harder than one by slides may be, and errs on the safe side.

Shapes: n tiles, h and w pixels, c = 3 channels, d = 6 features.
"""

import numpy as np
import numpy.typing as npt

from stages import streams

Floats = npt.NDArray[np.float64]
PER_GROUP = 100
"""A good `per_group`, see above."""
LEAST = 8
"""Clusters of a class at least, if it has the tiles: each of four roles then gets one or two."""
MOST = 256
"""Clusters of a class at most; more slides than these are drawn together."""
SAMPLE = 20_000
"""Tiles of a class on which the centres are found, evenly spaced in the order of their stain; the rest join them."""
STARTS = 4
"""k-means starts anew this often, and keeps the tightest."""
AT_ONCE = 1024
"""Tiles whose stain is computed in one go; bounds memory."""


def stain_groups(stain_nd: Floats, labels_n: npt.NDArray[np.int64], per_group: int, seed: int) -> npt.NDArray[np.int64]:
    """Group number of each tile: within each class, k-means on the tiles' stain.

    The order of the tiles changes nothing but the order of the result, and one class nothing for another but the
    numbers: groups are numbered class by class.

    Args:
        stain_nd: what `stain` gave.
        labels_n: class of each tile.
        per_group: tiles a group should hold on average. A class has at least `LEAST` groups (where it has as many
            different tiles) and at most `MOST`, whatever this says.
        seed: decides where k-means starts.

    Returns:
        n numbers from 0 on; no group holds two classes.

    Raises:
        ValueError: `per_group` is below 1, or there is not one label for each tile.
    """
    if per_group < 1 or len(labels_n) != len(stain_nd):
        raise ValueError(
            f"stain groups want 1 tile a group or more and a label for each tile; got {per_group} a group, "
            f"{len(stain_nd)} tiles and {len(labels_n)} labels"
        )
    groups_n, used = np.full(len(labels_n), -1, np.int64), 0
    for label in np.unique(labels_n):
        of_class = labels_n == label
        numbers = _clusters(stain_nd[of_class], per_group, seed, int(label))
        groups_n[of_class] = used + numbers
        used += int(numbers.max()) + 1
    return groups_n


def stain(pixels_nhwc: npt.NDArray[np.uint8]) -> Floats:
    """Mean and standard deviation over a tile of the optical density of each channel, n × 6.

    Optical density −log10((I + 1) / 256) is proportional to the amount of stain (Beer and Lambert; Ruifrok & Johnston,
    *Quantification of histochemical staining by color deconvolution*, 2001, eq. 1).
    """
    density = -np.log10((np.arange(256) + 1) / 256)
    parts = []
    for start in range(0, len(pixels_nhwc), AT_ONCE):
        x_npc = density[pixels_nhwc[start : start + AT_ONCE]].reshape(-1, pixels_nhwc[0, ..., 0].size, 3)
        parts.append(np.concatenate([x_npc.mean(1), x_npc.std(1)], axis=1))
    return np.concatenate(parts) if parts else np.zeros((0, 6))


def _clusters(stain_nd: Floats, per_group: int, seed: int, label: int) -> npt.NDArray[np.int64]:
    """k-means on standardised stain, which sees each different tile once, in the order of the stain itself."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    scale_d = stain_nd.std(0)
    different_md, place_n = np.unique(stain_nd, axis=0, return_inverse=True)
    count = min(max(LEAST, round(len(stain_nd) / per_group)), MOST, len(different_md))
    x_md = (different_md - different_md.mean(0)) / np.where(scale_d > 0, scale_d, 1)
    step = -(-len(x_md) // SAMPLE)
    start = streams.derive(seed, "stain_groups", label) % 2**32
    with threadpool_limits(1):  # sums in another order would end in other last digits
        found = KMeans(count, n_init=STARTS, random_state=start).fit(x_md[::step])
        cluster_m = found.predict(x_md)
    return np.unique(cluster_m, return_inverse=True)[1][place_n.ravel()].astype(np.int64)


def most_frequent(number_n: npt.NDArray[np.int64], unit_n: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each tile's number after every unit (tiles that must stay together) has moved to where most of it are.

    Of equals the smallest number wins. To unite all clusters that a unit touches instead would make one of them all:
    a few units suffice to link clusters to chains.
    """
    from scipy.sparse import coo_matrix

    _, place_n = np.unique(unit_n, return_inverse=True)
    votes_um = coo_matrix((np.ones(len(place_n), np.int64), (place_n, number_n))).tocsr()
    return np.asarray(votes_um.argmax(axis=1)).ravel().astype(np.int64)[place_n]


def united(*numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The finest grouping that keeps every group of each of the given ones whole, numbered by first appearance."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(numbers[0])
    offset, rows, columns = n, [], []
    for number_n in numbers:
        rows.append(np.arange(n))
        columns.append(offset + number_n)
        offset += int(number_n.max(initial=-1)) + 1
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=(offset, offset))
    component_n = connected_components(graph, directed=False)[1][:n]
    _, first, inverse = np.unique(component_n, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    result: npt.NDArray[np.int64] = rank[inverse]
    return result
