"""Who plays which part: groups (a patient, a slide, an original) are divided into roles, class by class.

A group is never cut: all its tiles play one role, so nothing learned from one role has seen another's tissue.
Shapes: n tiles, g groups, r roles, k classes.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stages.splits import stratification

SHOWN = 5
"""How many offenders an error names."""


def draw_roles(
    labels_n: Sequence[str],
    groups_n: Sequence[str],
    fractions: Mapping[str, float],
    stream_of: Callable[[str], np.random.Generator],
    unit: str = "group",
) -> dict[str, str]:
    """Draw a role for every group, stratified by class: in each class, the roles share the groups by `fractions`.

    The order of the rows changes nothing. Where every group holds one class, one class changes nothing for another: the
    groups of a class are sorted by name and shuffled by the class's own stream. Groups of several classes tie the
    classes together; then the rarest class is divided first (`stratification`).

    Args:
        labels_n: the class of each tile.
        groups_n: the group of each tile.
        fractions: role -> share of each class's groups, above 0; they sum to 1.
        stream_of: class -> the random stream of that class.
        unit: what an error calls a group.

    Returns:
        group -> role; every class has a group in every role.

    Raises:
        ValueError: a class has fewer groups than there are roles, or shares them with others so that it cannot be.
    """
    members = groups_of_classes(labels_n, groups_n)
    small = {label: len(groups) for label, groups in members.items() if len(groups) < len(fractions)}
    if small:
        raise _too_few(small, list(fractions), unit)
    if sum(map(len, members.values())) > len(set(groups_n)):
        return _together(members, fractions, stream_of, unit)
    role_of: dict[str, str] = {}
    for label, groups in members.items():
        shuffled = stream_of(label).permutation(np.asarray(groups, dtype=object))
        counts_r = apportion(len(groups), list(fractions.values()))
        roles = np.repeat(np.asarray(list(fractions), dtype=object), counts_r)
        role_of |= {str(group): str(role) for group, role in zip(shuffled, roles, strict=True)}
    return role_of


def _together(
    members: Mapping[str, Sequence[str]],
    fractions: Mapping[str, float],
    stream_of: Callable[[str], np.random.Generator],
    unit: str,
) -> dict[str, str]:
    """As `draw_roles`, from class -> groups, of which some are of several classes."""
    labels, roles, shares = list(members), list(fractions), list(fractions.values())
    names = sorted(set().union(*members.values()))
    place = {name: g for g, name in enumerate(names)}
    holds_gk = np.zeros((len(names), len(labels)), np.bool_)
    for k, label in enumerate(labels):
        holds_gk[[place[group] for group in members[label]], k] = True
    wanted_kr = np.array([apportion(len(groups), shares) for groups in members.values()], np.int64)
    total_r = np.array(apportion(len(names), shares), np.int64)
    drawn_g = stratification.stratify(holds_gk, wanted_kr, total_r, lambda k: stream_of(labels[k]))
    role_g = stratification.mended(holds_gk, drawn_g, len(roles))
    if role_g is None:
        hard = [labels[k] for k in stratification.indivisible(holds_gk, len(roles))]
        raise _too_few({label: len(members[label]) for label in hard}, roles, unit, ", most of them shared")
    return {name: roles[r] for name, r in zip(names, role_g, strict=True)}


def _too_few(counts: Mapping[str, int], roles: Sequence[str], unit: str, more: str = "") -> ValueError:
    told = ", ".join(f"{label} has {count}" for label, count in counts.items())
    return ValueError(
        f"each class needs a {unit} for each of the {len(roles)} roles ({', '.join(roles)}), but {told}{more}. "
        f"Add {unit}s{' (patients, slides)' if unit == 'group' else ''} of these classes, or leave the classes out."
    )


def groups_of_classes(labels_n: Sequence[str], groups_n: Sequence[str]) -> dict[str, list[str]]:
    """Class -> its groups; both sorted by name."""
    members: dict[str, list[str]] = {}
    for label, group in sorted(set(zip(labels_n, groups_n, strict=True))):
        members.setdefault(label, []).append(group)
    return members


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
