"""Check a folder in full: a release by its own checksums and rules, a run by its seals."""

from pathlib import Path

from pipeline import seals
from stages import release, store
from stages.contracts import UserError


def verify(folder: Path) -> list[str]:
    """What is wrong with a release folder or a run's folder, one line each; nothing when it is whole.

    Raises:
        UserError: the folder is neither.
    """
    if (folder / "checksums.sha256").is_file():
        return release.verify(folder)
    if (folder / "run.json").is_file():
        return _verify_run(folder)
    raise UserError(
        f"{folder} is neither a release (it has no checksums.sha256) nor a run (it has no run.json). "
        "Give results/release/dataset of a run, or the run's folder itself."
    )


def _verify_run(folder: Path) -> list[str]:
    findings = []
    root = folder.resolve().parent.parent
    for node, entry in store.read_json(folder / "run.json")["nodes"].items():
        place = root / "store" / node.partition("/")[0] / entry["folder"]
        seal = seals.read(place)
        if seal is None:
            findings.append(f"{node}: files are missing or of another size than was sealed")
        else:
            findings += [f"{node}: {name} is not what was sealed" for name in seals.damage(seal)]
    return findings
