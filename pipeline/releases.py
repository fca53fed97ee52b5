"""The releases a run has made, one record each in `runs/<run>/releases/`; and which one the next comes after.

A record is written once a release is sealed, never by a stage. With `release.version: auto` the stage gets the record
of the release before as an outside file, so that its result depends on it, and on nothing else that happened since.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import runner, story
from stages import release_check, store
from stages.release_changes import AUTO

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.runner import Run
    from pipeline.seals import Seal

FOLDER = "releases"


def keep(run: "Run", seal: "Seal") -> None:
    """Write the record of a sealed release, if it is not there."""
    told = store.read_json(seal.folder / "facts.json")["released"]
    path = _path(run.folder, told["name"], told["version"])
    if path.exists() and store.read_json(path)["result"] == seal.result:
        return
    listed = seal.folder / "dataset" / release_check.CHECKSUMS
    number = 1 + max((record["number"] for record in _records(run.folder)), default=0)
    store.write_json(path, told | {"checksums": store.digest_file(listed), "result": seal.result, "number": number})


def with_previous(config: "Config", run: "Run") -> "Config":
    """The settings, where `release.version` is auto with the release that comes before; as they are otherwise.

    Before the last release comes the one it came after, as long as it is what these settings give; else the last.
    """
    if config.release is None or config.release.version != AUTO or config.release.previous is not None:
        return config
    names = [record for record in _records(run.folder) if record["name"] == config.release.name]
    if not names:
        return config
    last, before = names[-1], names[-2] if len(names) > 1 else None
    as_it_was = config if before is None else _after(config, run, before)
    state = next(state for state in runner.states(run, story.tell(as_it_was)) if state.step.stage == "release")
    same = state.seal is not None and state.seal.result == last["result"]
    return as_it_was if same else _after(config, run, last)


def _after(config: "Config", run: "Run", record: dict[str, Any]) -> "Config":
    """The settings of a release that comes after another."""
    assert config.release is not None
    path = _path(run.folder, record["name"], record["version"]).absolute()
    return config.model_copy(update={"release": config.release.model_copy(update={"previous": path})})


def _records(folder: Path) -> list[dict[str, Any]]:
    """All records of a run, in the order in which they were made."""
    found = [store.read_json(path) for path in (folder / FOLDER).glob("*.json")]
    return sorted(found, key=lambda record: int(record["number"]))


def _path(folder: Path, name: str, version: str) -> Path:
    return folder / FOLDER / f"{name}-{version}.json"
