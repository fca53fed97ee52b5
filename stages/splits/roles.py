"""Who plays which part: groups (a patient, a slide, an original) are divided into roles, class by class.

A group is never cut: all its tiles play one role, so nothing learned from one role has seen another's tissue.
Shapes: n tiles.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

SHOWN = 5
"""How many offenders an error names."""


def draw_roles(
    labels_n: Sequence[str],
    groups_n: Sequence[str],
    fractions: Mapping[str, float],
    stream_of: Callable[[str], np.random.Generator],
) -> dict[str, str]:
    """Draw a role for every group, stratified by class: in each class, the roles share the groups by `fractions`.

    The order of the rows changes nothing, and one class changes nothing for another: the groups of a class are
    sorted by name and shuffled by the class's own stream.

    Args:
        labels_n: the class of each tile.
        groups_n: the group of each tile.
        fractions: role -> share of each class's groups, above 0; they sum to 1.
        stream_of: class -> the random stream of that class.

    Returns:
        group -> role.

    Raises:
        ValueError: a group holds two classes, or a class has fewer groups than there are roles.
    """
    class_of = class_of_groups(labels_n, groups_n)
    members: dict[str, list[str]] = {}
    for group, label in class_of.items():
        members.setdefault(label, []).append(group)
    small = {label: len(groups) for label, groups in sorted(members.items()) if len(groups) < len(fractions)}
    if small:
        counts = ", ".join(f"{label} has {count}" for label, count in small.items())
        raise ValueError(
            f"each class needs a group for each of the {len(fractions)} roles ({', '.join(fractions)}), but {counts}. "
            "Add groups (patients, slides) of these classes, or leave the classes out."
        )
    role_of: dict[str, str] = {}
    for label, groups in members.items():
        shuffled = stream_of(label).permutation(np.asarray(sorted(groups), dtype=object))
        counts_r = apportion(len(groups), list(fractions.values()))
        roles = np.repeat(np.asarray(list(fractions), dtype=object), counts_r)
        role_of |= {str(group): str(role) for group, role in zip(shuffled, roles, strict=True)}
    return role_of


def class_of_groups(labels_n: Sequence[str], groups_n: Sequence[str]) -> dict[str, str]:
    """The one class of each group.

    Raises:
        ValueError: a group holds two classes; says how many do and names the first.
    """
    class_of: dict[str, str] = {}
    mixed: set[str] = set()
    for label, group in zip(labels_n, groups_n, strict=True):
        if class_of.setdefault(group, label) != label:
            mixed.add(group)
    if mixed:
        raise ValueError(
            f"{len(mixed)} of {len(class_of)} groups hold tiles of two or more classes ({_some(mixed)}), so they "
            "cannot be divided class by class. Give each group its role yourself in a table (tiles.roles), "
            "or mend the labels."
        )
    return class_of


def apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Divide `total` in whole numbers by `shares`: largest remainders (Hamilton), but at least 1 for each share.

    Ties go to the earlier share. `total` must be at least the number of shares.
    """
    assert total >= len(shares) and min(shares) > 0
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (round(counts[i] - exact[i], 9), i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    while min(counts) < 1:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(min(counts))] += 1
    return counts


def role_of_groups(groups_n: Sequence[str], roles_n: Sequence[str]) -> dict[str, str]:
    """The one role of each group, when every tile brings its own.

    Raises:
        ValueError: a group has tiles in two roles, which would leak; says how many do and names the first.
    """
    role_of: dict[str, str] = {}
    torn: set[str] = set()
    for group, role in zip(groups_n, roles_n, strict=True):
        if role_of.setdefault(group, role) != role:
            torn.add(group)
    if torn:
        raise ValueError(
            f"{len(torn)} of {len(role_of)} groups have tiles in two or more roles ({_some(torn)}): what is learned in "
            "one role would be known in another. Give every group one role."
        )
    return role_of


def _some(names: set[str]) -> str:
    shown = sorted(names)[:SHOWN]
    return ", ".join(shown) + (", …" if len(names) > SHOWN else "")
