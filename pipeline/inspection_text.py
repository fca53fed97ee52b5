"""What an inspection found, as a page of text; lines that call for a decision begin with an exclamation mark."""

from collections.abc import Sequence

from pipeline.inspection import SHOWN, TELLING, Facts, confounded
from stages.tables import ROLES


def written(facts: Facts) -> str:
    """The facts as a page of text."""
    parts = [_head(facts), _class_lines(facts), _aside_lines(facts), _copy_lines(facts["duplicates"])]
    parts += [_near_lines(facts.get("near_duplicates")), _group_lines(facts), _colour_lines(facts["colour_alone"])]
    parts += [_role_lines(facts["roles"]), ["A recipe could say", *facts["recipe"].rstrip().splitlines()]]
    return "\n\n".join("\n".join([part[0], *(f"  {line}" for line in part[1:])]) for part in parts) + "\n"


def _head(facts: Facts) -> list[str]:
    sizes = ", ".join(f"{row['width']}×{row['height']} ({row['tiles']})" for row in facts["sizes"][:SHOWN])
    more = f", and {len(facts['sizes']) - SHOWN} more" if len(facts["sizes"]) > SHOWN else ""
    left = f", {facts['left_out']} more left out by their role" if facts["left_out"] else ""
    lines = [f"{facts['source']}: {facts['tiles']} tiles{left}", f"pixels  {sizes}{more}", f"colour  {facts['colour']}"]
    return lines + (["! sizes differ: set tiles.size_px"] if len(facts["sizes"]) > 1 else [])


def _class_lines(facts: Facts) -> list[str]:
    roles = sorted({role for row in facts["classes"].values() for role in row}, key=_role_place)
    rows = [[label, *(str(row.get(role, 0)) for role in roles)] for label, row in facts["classes"].items()]
    return ["Classes, in tiles", *_columns([["", *(["tiles"] if roles == ["all"] else roles)], *rows])]


def _role_place(role: str) -> tuple[int, str]:
    return (ROLES.index(role) if role in ROLES else len(ROLES), role)


def _aside_lines(facts: Facts) -> list[str]:
    aside = facts["set_aside"]
    lines = [f"{count:>6}  {reason}" for reason, count in aside["reasons"].items()]
    lines += [f"        {name}: {reason}" for name, reason in aside["examples"]]
    return ["Set aside", *(lines or ["nothing"])]


def _copy_lines(found: Facts) -> list[str]:
    if not found["pictures"]:
        return ["Exact duplicates", "none"]
    lines = [f"{found['pictures']} pictures occur more than once ({found['tiles']} tiles)"]
    lines += [f"   {' = '.join(names)}" for names in found["examples"]]
    for key, what in (
        ("in_two_classes", "in two classes: all set aside"),
        ("in_two_roles", "in two given roles: a leak"),
    ):
        if found[key]:
            lines += [f"! {found[key]} {what}", *(f"   {' = '.join(names)}" for names in found[f"{key}_examples"])]
    return ["Exact duplicates", *lines]


def _near_lines(found: Facts | None) -> list[str]:
    if found is None:
        return ["Near-duplicates", "not looked for (--fast)"]
    lines = [
        f"{found['tiles_in_them']} tiles are alike, in {found['near_duplicate_clusters']} clusters; the largest holds "
        f"{found['largest_cluster']}",
        f"sure above the score {found['sure_above']:.2f}; above {found['likely_above']:.2f} if several links agree",
        *(f"   {a} ~ {b}" for a, b in found["examples"]),
    ]
    told = {
        "in_two_classes": "pairs of near copies in two classes: both are set aside",
        "in_two_roles": "pairs of near copies in two given roles: a leak; that of the lesser role is set aside",
        "in_two_groups": "pairs of near copies in two given groups: are the groups right?",
    }
    for key, what in told.items():
        if found.get(key, {}).get("pairs"):
            lines += [f"! {found[key]['pairs']} {what}", *(f"   {a} ~ {b}" for a, b in found[key]["examples"])]
    if found["links_refused"]:
        lines.append(f"! {found['links_refused']} links were not followed: a cluster would have become too large")
    return ["Near-duplicates", *lines]


def _group_lines(facts: Facts) -> list[str]:
    given = facts["groups"]["given"]
    if given is None:
        return ["Groups", "none are given: name the column of patients or slides with --group-column, if there is one"]
    return [
        "Groups, as given",
        f"{given['groups']}; the largest has {given['largest_group']} tiles, {given['of_one_tile']} have one",
    ]


def _colour_lines(found: Facts | None) -> list[str]:
    if found is None:
        return ["Colour alone", "not tried: fewer than two classes have enough tiles"]
    chance = f"chance {100 * found['chance']:.0f} %"
    lines = [f"mean and spread of colour alone classify a random split at {100 * found['random']:.0f} % ({chance})"]
    if found["grouped"] is not None:
        lines.append(f"and a split by groups ({found['groups']}) at {100 * found['grouped']:.0f} %")
    if found["random"] - found["chance"] > TELLING:
        lines.append(
            "! colour tells the classes apart: a good score says little of morphology; see the colour contestant"
        )
    if confounded(found):
        lines.append("! a random split flatters by what tiles of one group share: never split at random")
    return ["Colour alone", *lines]


def _role_lines(found: Facts) -> list[str]:
    head = "Roles, as given" if found["given"] else "Roles that would be drawn"
    if "fault" in found:
        return [head, f"! {found['fault']}"]
    rows = [[label, *(f"{n} ({g})" for n, g in row.values())] for label, row in found["tiles_and_groups"].items()]
    lines = [f"by the rule {found['rule']}: {found['groups']} groups, the largest of {found['largest_group']} tiles"]
    if found["drawn_from_train"]:
        lines.append(f"{', '.join(found['drawn_from_train'])} is drawn from train")
    bare = [
        f"{label} in {role}" for label, row in found["tiles_and_groups"].items() for role in ROLES if not row[role][0]
    ]
    lines += _columns([["tiles (groups)", *ROLES], *rows])
    return [head, *lines, *([f"! no tile of {', '.join(bare)}"] if bare else [])]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
