"""Where in a root a patient is who withdraws consent: tiles, what stands on them, runs, releases. Deletes nothing.

A patient is sought by the keyed id of the group's name in the tiles results; what stands on these is followed through
the digests in the seals. The findings hold the id and no name of a patient.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline import keys, seals
from pipeline.descent import Result, holds, orphans, touched
from stages import hashing, keyed_groups, store, tables
from stages.contracts import UserError
from stages.release_changes import AUTO
from stages.settings import SCHEME
from stages.sources.table import text

CHECKSUMS = "dataset/checksums.sha256"


def forget(root: Path, patient: str) -> dict[str, Any]:
    """All findings, as numbers and words that JSON can hold.

    Args:
        root: the folder of the store and the runs.
        patient: the group's name, as the source has it.

    Raises:
        UserError: there is no store, no name, or the key cannot be used.
    """
    name = text(patient)
    if name is None:
        raise UserError("PATIENT is empty. Give the group's name as the source has it (its column tiles.group_column).")
    if not (root / "store").is_dir():
        raise UserError(f"There is no store in {root}. Give the folder that holds store/ and runs/ with --root.")
    key = keys.read(root)
    wanted = None if key is None else hashing.keyed(key, keyed_groups.KIND, name)
    by_folder = dict(_seals(root))
    results = [_result(path, seal) for path, seal in by_folder.items()]
    made = [result for result in results if result.stage == "tiles"]
    why = {tiles.name: _unsearchable(root, tiles, by_folder[root / "store" / tiles.name]) for tiles in made}
    tiles_rows = [row for tiles in made if why[tiles.name] is None for row in _tiles(root, tiles, wanted)]
    rows = _touched(results, made, tiles_rows)
    names = {row["result"] for row in [*tiles_rows, *rows]}
    return {
        "hash": wanted,
        "found": bool(tiles_rows),
        "tiles": tiles_rows,
        "results": rows,
        "runs": list(_runs(root, names)),
        "releases": _releases(root, by_folder, rows),
        "unsearchable": [{"result": result, "why": words} for result, words in why.items() if words is not None],
        "orphans": [result.name for result in orphans(results) if result.name not in names],
        "leftovers": _leftovers(root),
    }


def _seals(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and seal of every finished result, damaged or not."""
    for path in sorted((root / "store").glob(f"*/*/{seals.SEAL}")):
        yield path.parent, store.read_json(path)


def _result(folder: Path, seal: dict[str, Any]) -> Result:
    causes = seal["causes"]
    inputs = frozenset(causes["inputs"].values())
    return Result(causes["stage"], folder.name, seal["result"], inputs, causes["settings"])


def _unsearchable(root: Path, tiles: Result, seal: dict[str, Any]) -> str | None:
    """Why a tiles result cannot be asked for a name; None if it can."""
    secrets = seal["causes"].get("secrets", {})
    if "key" not in secrets:
        return "made before results had ids of patients"
    if secrets["key"] != keys.digest(root):
        return "made under another key"
    if keyed_groups.FILE not in seal["files"]:
        return "its source gives no groups: near-duplicates were grouped, or every tile was its own group"
    return None if (root / "store" / tiles.name / keyed_groups.FILE).is_file() else "damaged: its table of ids is gone"


def _tiles(root: Path, tiles: Result, wanted: str | None) -> list[dict[str, Any]]:
    """The roles in which a tiles result holds the patient, and how many tiles."""
    groups = tables.read(root / "store" / tiles.name / keyed_groups.FILE, "groups")
    counts = groups[groups["hash"] == wanted].groupby("role")["tiles"].sum()
    return [{"result": tiles.name, "role": role, "tiles": int(counts[role])} for role in tables.ROLES if role in counts]


def _touched(results: list[Result], made: list[Result], found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each result and role that touches it: what it holds of the patient."""
    by_name = {tiles.name: tiles for tiles in made}
    rows = {
        (result.name, row["role"]): {"result": result.name, "role": row["role"], "holds": holds(result, row["role"])}
        for row in found
        for result in touched(results, by_name[row["result"]], row["role"])
    }
    return [rows[place] for place in sorted(rows)]


def _runs(root: Path, names: set[str]) -> Iterator[dict[str, Any]]:
    """The runs that use any of the results in `names`, with the nodes that do and where their tiles come from."""
    for record in sorted((root / "runs").glob("*/run.json")):
        nodes = store.read_json(record)["nodes"].items()
        uses = [node for node, entry in nodes if f"{node.partition('/')[0]}/{entry['folder']}" in names]
        if uses:
            yield {"run": record.parent.name, "uses": uses} | _source(record.with_name("config.yaml"))


def _source(config: Path) -> dict[str, Any]:
    """Where the tiles of a run come from, by its resolved settings."""
    given = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("tiles", {}) if config.is_file() else {}
    return {name: _place(given.get(name)) for name in ("source", "table", "roles")}


def _place(given: str | None) -> str | None:
    """A path without detours; an address as it is."""
    return given if given is None or SCHEME in given else str(Path(given).resolve())


def _releases(root: Path, by_folder: dict[Path, dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The releases among the touched results; the digest of its checksums tells a copy of one from any other."""
    found = []
    for name in sorted({row["result"] for row in rows if row["result"].startswith("release/")}):
        seal = by_folder[root / "store" / name]
        settings, roles = seal["causes"]["settings"], [row["role"] for row in rows if row["result"] == name]
        found.append(
            {
                "result": name,
                "name": settings["name"],
                "version": _version(root / "store" / name, settings["version"]),
                "checksums": seal["files"][CHECKSUMS]["sha256"],
                "roles": roles,
                "withdraw": "train" in roles,
            }
        )
    return found


def _version(folder: Path, given: str) -> str:
    """The version of a release, also where it was found by rule."""
    return given if given != AUTO else str(store.read_json(folder / "facts.json")["released"]["version"])


def _leftovers(root: Path) -> list[str]:
    """What stopped runs left, which may hold tiles of anybody."""
    paths = sorted((root / "store").glob("*/*"))
    return [p.relative_to(root / "store").as_posix() for p in paths if p.name.endswith((".work", ".scratch"))]
