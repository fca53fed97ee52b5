"""What to say beside a partition: how good it is by the measures of others, how stable, and when it says little.

Shapes: n nodes, e edges, m communities.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.graph.communities import Partition
from stages.graph.knn import Graph, Ints


class Quality(NamedTuple):
    """How good a partition is, by the measures of others."""

    modularity: float
    """Directed, weighted (Leicht & Newman 2008); 0 for one community, towards 1 for many separate ones."""
    coverage: float
    """Share of the edges (not weighted) that stay inside a community."""


class PartitionReport(NamedTuple):
    """A partition in numbers."""

    communities: int
    sizes: list[int]
    """Nodes per community, in the order of flow."""
    codelength: float
    """Bits per step of the walk under this partition."""
    one_level_codelength: float
    """Bits per step without communities."""
    modularity: float
    coverage: float
    stability: float | None
    """Mean agreement (NMI) of partitions from different seeds; None where only one was made."""


def report(graph: Graph, partition: Partition, again: Sequence[Ints] = ()) -> PartitionReport:
    """Describe a partition; `again` holds those that other seeds gave of the same graph."""
    scores = quality(graph, partition.community_n)
    return PartitionReport(
        communities=len(partition.sizes_m),
        sizes=partition.sizes_m.tolist(),
        codelength=partition.codelength,
        one_level_codelength=partition.one_level_codelength,
        modularity=scores.modularity,
        coverage=scores.coverage,
        stability=stability([partition.community_n, *again]) if again else None,
    )


def quality(graph: Graph, community_n: Ints) -> Quality:
    """Modularity and coverage of a partition; both 0 where there are no edges.

    Modularity is Σ_c [w_c / W − out_c in_c / W²], with w_c the weight inside a community, out_c and in_c what leaves
    and enters its nodes, and W all of it (Leicht & Newman 2008, Phys. Rev. Lett. 100, 118703, eq. 3).
    """
    if len(graph.source_e) == 0:
        return Quality(0.0, 0.0)
    from_e, to_e = community_n[graph.source_e], community_n[graph.target_e]
    count, total = int(community_n.max()) + 1, float(graph.weight_e.sum())
    inside_m = np.bincount(from_e[from_e == to_e], weights=graph.weight_e[from_e == to_e], minlength=count)
    out_m = np.bincount(from_e, weights=graph.weight_e, minlength=count)
    in_m = np.bincount(to_e, weights=graph.weight_e, minlength=count)
    modularity = float((inside_m / total - out_m * in_m / total**2).sum())
    return Quality(modularity, float((from_e == to_e).mean()))


def stability(partitions: Sequence[Ints]) -> float:
    """Mean normalised mutual information over all pairs of partitions of the same nodes; 1 when all are the same.

    Normalised by the mean of both entropies (Danon et al. 2005, J. Stat. Mech. P09008).

    Raises:
        ValueError: fewer than two partitions.
    """
    from sklearn.metrics import normalized_mutual_info_score

    if len(partitions) < 2:
        raise ValueError(f"stability compares at least two partitions, got {len(partitions)}: use more seeds")
    pairs = itertools.combinations(partitions, 2)
    return float(np.mean([normalized_mutual_info_score(one, other) for one, other in pairs]))


def degeneracies(community_n: Ints, smallest_community: int) -> list[str]:
    """Warnings, in words, about a partition that says little; empty when all is well."""
    size_m = np.bincount(community_n)
    if len(size_m) == len(community_n) and len(community_n) > 1:
        return ["every candidate is a community of its own: the graph has no structure, the choice follows flow alone"]
    warnings = []
    if len(size_m) == 1:
        warnings.append("one community only: the choice is the most central candidates, without a spread over kinds")
    outliers = int(size_m[size_m < smallest_community].sum())
    if outliers * 2 > len(community_n):
        warnings.append(
            f"{outliers} of {len(community_n)} candidates are in communities smaller than {smallest_community}: "
            "most count as outliers; more neighbours or a smaller smallest_community would change that"
        )
    return warnings
