"""The findings of `forgetting` as a page of plain text, folded at 100 columns, that ends with what to do."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTH = 100
MEANING = {
    "copies": "copies: latents or pictures of the patient's tiles",
    "influence": "influence: learned from the patient's tiles, or made by what was",
    "choices": "choices were made on the patient's tiles; nothing was learned from them",
    "figures": "figures that were also measured on the patient's tiles",
    "audits": "audits that had the patient's tiles as a control",
}
"""What a result holds, in words."""


def page(found: dict[str, Any], root: Path) -> str:
    """The whole report."""
    parts = [*_tiles(found), *_results(found), *_runs(found), *_releases(found), *_doubts(found)]
    steps = todo(found, root)
    if steps:
        parts += ["", "What to do", *(line for n, words in enumerate(steps, 1) for line in _fold(words, f"  {n}. "))]
    return "\n".join(parts) + "\n"


def _fold(words: str, start: str = "") -> list[str]:
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _tiles(found: dict[str, Any]) -> Iterator[str]:
    if not found["found"]:
        yield from _fold(
            "Not found: no tiles of this root that can be asked for a name hold this group. The name must be as in the "
            "source's column of groups, letter for letter; where groups are slides, ask for each slide of the patient. "
            "Tiles whose groups were not given (near-duplicates are then grouped) cannot be searched by name; results "
            "that were deleted, and other roots, are not searched."
        )
        return
    yield f"Found, under the id {found['hash']}."
    yield ""
    yield "Tiles"
    for row in found["tiles"]:
        yield f"  {row['result']}  {row['role']}: {row['tiles']:,} tiles"


def _results(found: dict[str, Any]) -> Iterator[str]:
    if found["results"]:
        yield from ("", "What stands on them")
    for kind, meaning in MEANING.items():
        rows = [row for row in found["results"] if row["holds"] == kind]
        if rows:
            yield f"  {meaning}"
        yield from (f"    {row['result']}  ({row['role']})" for row in rows)


def _runs(found: dict[str, Any]) -> Iterator[str]:
    if found["runs"]:
        yield from ("", "Runs that use any of this")
    for run in found["runs"]:
        yield from _fold(f"{run['run']}: {', '.join(run['uses'])}", "  ")


def _releases(found: dict[str, Any]) -> Iterator[str]:
    if found["releases"]:
        yield from ("", "Releases")
    for release in found["releases"]:
        word = "withdraw" if release["withdraw"] else "make anew"
        yield f"  {word}: {release['name']} {release['version']}, {release['result']} ({', '.join(release['roles'])})"
        yield f"    sha256 of checksums.sha256: {release['checksums']}"


def _doubts(found: dict[str, Any]) -> Iterator[str]:
    if found["unsearchable"]:
        yield from ("", "Tiles that cannot be searched by name")
        yield from (f"  {row['result']}: {row['why']}" for row in found["unsearchable"])
        yield from _fold(
            "Whether the patient is in these only their source can tell. If so, treat all that stands on them alike.",
            "  ",
        )
    if found["orphans"]:
        yield from ("", "Made from results that are no longer here; nobody can say what they hold")
        yield from (f"  {name}" for name in found["orphans"])
    if found["leftovers"]:
        yield from ("", "Leftovers of stopped runs; they may hold tiles of anybody")
        yield from (f"  {name}" for name in found["leftovers"])


def todo(found: dict[str, Any], root: Path) -> list[str]:
    """What to do, in order, each step a sentence or two; nothing where the patient was not found."""
    if not found["found"]:
        return []
    places = sorted({str(run[name]) for run in found["runs"] for name in ("source", "table", "roles") if run[name]})
    steps = [_of_release(release) for release in found["releases"]]
    steps += [
        "Look into your own records for releases whose results were deleted since: they are not listed here.",
        f"Remove the patient's files and rows from {', '.join(places) or 'the source'}. Those of other patients stay, "
        "in the same file or table too.",
    ]
    if found["runs"]:
        steps.append(
            f"Run the recipe of each of these runs again, with histodistill run RECIPE --root {root}: "
            f"{', '.join(run['run'] for run in found['runs'])}. All that stands on the tiles is made anew. Of a recipe "
            f"that will not be run again, delete the folder in {root / 'runs'}."
        )
    return [
        *steps,
        f"Delete what is no longer used, and leftovers: histodistill clean --root {root} --yes",
        "Ask again: nothing should be found. If a run still uses a result that its recipe no longer makes, delete the "
        "run's folder, run its recipe and clean again.",
        f"Names of files may also stand in the logs of {root / 'runs'} and in {root / 'store' / '.outside.json'}, real "
        "tiles in old reports; everything in backups. Delete them there.",
    ]


def _of_release(release: dict[str, Any]) -> str:
    """What to do about a release."""
    told = f"{release['name']} {release['version']} (checksums {release['checksums'][:12]}…)"
    if release["withdraw"]:
        return (
            f"Withdraw {told}: its images were learned from this patient among others. Tell everybody who has it to "
            "delete it, and give them the new one under another version."
        )
    return (
        f"Make {told} anew under another version: no image in it was learned from this patient, but choices or "
        "figures in it stand on the patient's tiles. Whether the old one must be withdrawn, your data protection "
        "officer decides."
    )
