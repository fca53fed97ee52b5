"""Which results stand on which, and what they hold of a patient by the role that the patient's tiles play.

Pure: sealed results as the digests in their seals, and sets of them. `forgetting` reads the seals.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

ONLY_READERS: Mapping[str, frozenset[str]] = {
    "test": frozenset({"benchmark"}),
    "control": frozenset({"audit_images"}),
}
"""Role -> the stages that read its tiles; train and val are read by every stage that is given tiles."""
HOLDS = {"train": "influence", "val": "choices", "test": "figures", "control": "audits"}
"""Role -> what a result holds of a patient in it, unless `holds` knows better."""


class Result(NamedTuple):
    """A sealed result."""

    stage: str
    folder: str
    """Its name in the store."""
    digest: str
    """One digest over its files: what later stages depend on."""
    inputs: frozenset[str]
    """Such digests of what it was made from."""
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Where it lies below `store/`."""
        return f"{self.stage}/{self.folder}"


def standing_on(results: Iterable[Result], firsts: Collection[Result]) -> list[Result]:
    """`firsts` and everything made from them, from that, and so on; in the order of `results`."""
    results = list(results)
    reached = {result.name for result in firsts}
    digests = {result.digest for result in firsts}
    grown = True
    while grown:
        new = [r for r in results if r.name not in reached and not digests.isdisjoint(r.inputs)]
        reached |= {result.name for result in new}
        digests |= {result.digest for result in new}
        grown = bool(new)
    return [result for result in results if result.name in reached]


def touched(results: Iterable[Result], tiles: Result, role: str) -> list[Result]:
    """What stands on the tiles that `tiles` has in `role`: their readers, and everything made from those."""
    results = list(results)
    readers = ONLY_READERS.get(role)
    firsts = [r for r in results if tiles.digest in r.inputs and (readers is None or r.stage in readers)]
    return standing_on(results, firsts)


def holds(result: Result, role: str) -> str:
    """What a touched result holds: copies, influence, choices, figures or audits (see `forgetting_text.MEANING`).

    An autoencoder that is taken as it is learned nothing from the tiles, and none learned from val; but beside it lie
    latents and pictures of the tiles.
    """
    learned = role == "train" and result.settings.get("mode") != "folder"
    if result.stage == "tiles" or (result.stage == "autoencoder" and not learned):
        return "copies"
    return HOLDS[role]


def orphans(results: Iterable[Result]) -> list[Result]:
    """Results made from something that is no longer here, so that nobody can say what they stand on."""
    results = list(results)
    known = {result.digest for result in results}
    return [result for result in results if not result.inputs <= known]
