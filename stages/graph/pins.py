"""Seats for nodes that a person wants kept, whatever way the others were chosen.

Shapes: n nodes, s chosen, k kept.
"""

import numpy as np

from stages.graph.knn import Ints


def with_kept(chosen_s: Ints, kept_k: Ints, community_n: Ints | None = None) -> Ints:
    """As many nodes as were chosen: the kept first, in the order given, then the chosen that still have a seat.

    A kept node that was not chosen anyway takes the seat of the last chosen of its own community; where that has none
    to give (or communities do not matter), of the last chosen of all.

    Args:
        chosen_s: distinct nodes, by rank.
        kept_k: distinct nodes.
        community_n: community of every node; None where the choice did not go by any, as by lot.

    Raises:
        ValueError: more are kept than there are seats.
    """
    if len(kept_k) > len(chosen_s):
        raise ValueError(f"{len(kept_k)} are kept, but there are only {len(chosen_s)} seats")
    others, homeless = chosen_s[~np.isin(chosen_s, kept_k)].tolist(), 0
    for node in kept_k[~np.isin(kept_k, chosen_s)]:
        same = [] if community_n is None else np.flatnonzero(community_n[others] == community_n[node]).tolist()
        if same:
            del others[same[-1]]
        else:
            homeless += 1
    return np.concatenate([kept_k, np.array(others[: len(others) - homeless], np.int64)])
