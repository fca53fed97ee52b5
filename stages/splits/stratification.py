"""Roles for groups of several classes: iterative stratification, whole groups at a time.

A patient whose slide is annotated has tumour, stroma and normal tissue at once; classes cannot be divided one by one.
Sechidis, Tsoumakas, Vlahavas, *On the Stratification of Multi-Label Data*, ECML PKDD 2011, algorithm 1, with two
departures: what a role wants of a class is a whole number of groups, at least 1 (`apportion`), and a class that still
lacks a role in the end is mended by moves and swaps, then by search.

Groups are numbered by their place in a sorted list, roles by their place in the fractions.
Shapes: g groups, r roles, k classes; `holds_gk` says which classes a group holds.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Change = tuple[tuple[int, int], ...]
"""Some groups, each with its new role."""
TRIES = 100_000
"""Steps of the search, after which there is taken to be no division (a second of work; a few classes need dozens)."""


def stratify(holds_gk: Bools, wanted_kr: Ints, total_r: Ints, stream_of: Callable[[int], np.random.Generator]) -> Ints:
    """The role of each group: the class that fewest undivided groups hold first, each of its groups to the role that
    most lacks the class; ties to the role that lacks most groups, then by the stream of the class.

    Args:
        holds_gk: which classes each group holds; at least one.
        wanted_kr: how many groups of each class each role wants.
        total_r: how many groups each role wants.
        stream_of: number of a class -> its random stream; asked once for each class that has a turn.

    Returns:
        role_g: by number.
    """
    role_g = np.full(len(holds_gk), -1, np.int64)
    lacking_kr, lacking_r = wanted_kr.copy(), total_r.copy()
    while (free_g := role_g < 0).any():
        left_k = holds_gk[free_g].sum(axis=0)
        k = int(np.argmin(np.where(left_k > 0, left_k, len(role_g) + 1)))
        stream = stream_of(k)
        for g in stream.permutation(np.flatnonzero(free_g & holds_gk[:, k])):
            best_m = np.flatnonzero(lacking_kr[k] == lacking_kr[k].max())
            best_m = best_m[lacking_r[best_m] == lacking_r[best_m].max()]
            r = int(best_m[0] if len(best_m) == 1 else stream.choice(best_m))
            role_g[g] = r
            lacking_kr[holds_gk[g], r] -= 1
            lacking_r[r] -= 1
    return role_g


def counts(holds_gk: Bools, role_g: Ints, n_roles: int) -> Ints:
    """How many groups of each class play each role, k × r."""
    return np.stack([holds_gk[role_g == r].sum(axis=0) for r in range(n_roles)], axis=1).astype(np.int64)


def mended(holds_gk: Bools, role_g: Ints, n_roles: int) -> Ints | None:
    """`role_g`, changed until every class has a group in every role; None where there is no way.

    Swaps keep the size of the roles and come before moves; what neither mends step by step is searched for.
    """
    role_g = role_g.copy()
    while gaps := int((counts(holds_gk, role_g, n_roles) == 0).sum()):
        better = next(_improved(holds_gk, role_g, n_roles, gaps), None)
        if better is None:
            return searched(holds_gk, role_g, n_roles)
        role_g = better
    return role_g


def _improved(holds_gk: Bools, role_g: Ints, n_roles: int, gaps: int) -> Iterator[Ints]:
    """Changes of one or two groups that leave fewer than `gaps` classes without a role; swaps, then moves."""
    bare_m = np.argwhere(counts(holds_gk, role_g, n_roles) == 0)
    pairs = [(int(g), int(r)) for k, r in bare_m for g in np.flatnonzero(holds_gk[:, k])]
    swaps: Iterator[Change] = (
        ((g, r), (int(h), int(role_g[g]))) for g, r in pairs for h in np.flatnonzero(role_g == r)
    )
    moves: Iterator[Change] = (((g, r),) for g, r in pairs)
    for change in itertools.chain(swaps, moves):
        changed_g = role_g.copy()
        for g, r in change:
            changed_g[g] = r
        if (counts(holds_gk, changed_g, n_roles) == 0).sum() < gaps:
            yield changed_g


def searched(holds_gk: Bools, role_g: Ints, n_roles: int) -> Ints | None:
    """A division in which every class has a group in every role, by depth-first search; None where there is none.

    A step takes the class with the fewest groups to spare, a role it lacks, and each of its free groups for it, first
    those that play that role already. Groups that are not needed keep their role.
    """
    fixed_g = np.full(len(role_g), -1, np.int64)
    tries = [TRIES]
    return np.where(fixed_g >= 0, fixed_g, role_g) if _search(holds_gk, role_g, fixed_g, n_roles, tries) else None


def _search(holds_gk: Bools, role_g: Ints, fixed_g: Ints, n_roles: int, tries: list[int]) -> bool:
    """Fill `fixed_g` until no class lacks a role; False, and as it was, where that cannot be."""
    lacks_kr = counts(holds_gk, fixed_g, n_roles) == 0
    spare_k = holds_gk[fixed_g < 0].sum(axis=0) - lacks_kr.sum(axis=1)
    if not lacks_kr.any():
        return True
    tries[0] -= 1
    if spare_k.min() < 0 or tries[0] < 0:
        return False
    k = int(np.argmin(np.where(lacks_kr.any(axis=1), spare_k, len(fixed_g) + 1)))
    r = int(np.flatnonzero(lacks_kr[k])[0])
    free_m = np.flatnonzero((fixed_g < 0) & holds_gk[:, k])
    for g in free_m[np.argsort(role_g[free_m] != r, kind="stable")]:
        fixed_g[g] = r
        if _search(holds_gk, role_g, fixed_g, n_roles, tries):
            return True
        fixed_g[g] = -1
    return False


def indivisible(holds_gk: Bools, n_roles: int) -> Sequence[int]:
    """The smallest classes that by themselves cannot be divided into `n_roles` roles: those to name in an error."""
    order = np.argsort(holds_gk.sum(axis=0), kind="stable")
    start_g = np.zeros(len(holds_gk), np.int64)
    most = next((m for m in range(1, len(order)) if searched(holds_gk[:, order[:m]], start_g, n_roles) is None), None)
    return [int(k) for k in (order if most is None else order[:most])]
