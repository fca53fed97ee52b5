"""What a release changes against the one before it: its version, and which tiles came, stayed and went.

The record of a release, as `pipeline.releases` keeps it: name, version, selection, method, checksums (the digest of its
list of them) and tiles (the ids of every class).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.contracts import UserError

AUTO, FIRST = "auto", "1.0.0"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def next_version(before: Mapping[str, Any] | None) -> str:
    """1.0.0 for the first release; else the minor version after that of the record `before`: 1.1.0 after 1.0.0.

    Raises:
        UserError: the version before is no three numbers.
    """
    if before is None:
        return FIRST
    found = _VERSION.fullmatch(str(before["version"]))
    if found is None:
        raise UserError(
            f"release.version is auto, but the release before is called {before['version']!r}, behind which nothing "
            "follows by rule: give release.version yourself, such as 2.0.0."
        )
    return f"{found[1]}.{int(found[2]) + 1}.0"


def changes(
    before: Mapping[str, Any],
    tiles: Mapping[str, Sequence[str]],
    facts: Mapping[str, Any],
    selection: str,
) -> dict[str, Any]:
    """The list of changes, without any tile's id.

    Args:
        before: record of the release before.
        tiles: ids of the tiles of every class.
        facts: of the selection.
        selection: its name.
    """
    old = before["tiles"]
    by_class = {
        name: {
            "kept": len({*old.get(name, ())} & {*tiles.get(name, ())}),
            "added": len({*tiles.get(name, ())} - {*old.get(name, ())}),
            "removed": len({*old.get(name, ())} - {*tiles.get(name, ())}),
        }
        for name in dict.fromkeys([*old, *tiles])
    }
    return {
        "since": {key: before[key] for key in ("version", "checksums", "selection", "method")},
        "selection": selection,
        "method": facts.get("method"),
        "classes": by_class,
        "left_out": left_out(facts),
    }


def left_out(facts: Mapping[str, Any]) -> dict[str, int]:
    """How many candidates were left out before the choice, by reason; those without any are not told."""
    total: dict[str, int] = {}
    for of_class in ((facts.get("gate") or {}).get("left_out") or {}).values():
        for reason, count in of_class.items():
            total[reason] = total.get(reason, 0) + count
    for one in ((facts.get("pins") or {}).get("excluded") or {}).get("reasons", ()):
        reason = f"by hand: {one['reason']}"
        total[reason] = total.get(reason, 0) + one["tiles"]
    return {reason: count for reason, count in total.items() if count}
