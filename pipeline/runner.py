"""Run what is stale, in order; seal what is done. Nothing half-written is ever used, and running again continues."""

import logging
import resource
import shutil
import sys
import time
from collections.abc import Collection, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from pipeline import keys, seals
from pipeline.seals import Seal
from pipeline.steps import Step, find
from stages import compute, store, streams
from stages.contracts import Engine, Interrupted, UserError
from stages.installed import installed

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """One recipe at work under one root."""

    root: Path
    """Holds `store/` and `runs/`."""
    name: str
    """The recipe's name, unless the person gave another."""
    seed: int
    """The recipe's seed."""

    @property
    def folder(self) -> Path:
        """`runs/<name>/`: which result each node has, the resolved settings, the log, the report, links to results."""
        return self.root / "runs" / self.name

    def record(self) -> dict[str, Any]:
        """The nodes of the last run: digest, seconds and whether it ran or was kept."""
        path = self.folder / "run.json"
        return dict(store.read_json(path)["nodes"]) if path.exists() else {}


class State(NamedTuple):
    """How a node stands."""

    step: Step
    causes: dict[str, Any] | None
    """None while an input is not sealed."""
    digest: str
    seal: Seal | None
    why: tuple[str, ...]
    """Why it is not sealed, in words; empty when it is."""

    @property
    def word(self) -> str:
        """sealed, stale (an older result exists), waiting (for an input) or missing."""
        if self.seal is not None:
            return "sealed"
        return "waiting" if self.causes is None else ("stale" if self.why[0] != "never made" else "missing")


def states(run: Run, steps: Sequence[Step]) -> Iterator[State]:
    """How every node stands, in order, by stat alone."""
    record, sealed = run.record(), dict[str, Seal]()
    for step in steps:
        state = look(run, step, sealed, record)
        if state.seal is not None:
            sealed[step.node] = state.seal
        yield state


def look(run: Run, step: Step, sealed: dict[str, Seal], record: dict[str, Any]) -> State:
    """How `step` stands, given the seals of what comes before it."""
    unready = [node for node in dict.fromkeys(step.needs.values()) if node not in sealed]
    if unready:
        return State(step, None, "", None, (f"waits for {', '.join(unready)}",))
    inputs = {role: sealed[node].result for role, node in step.needs.items()}
    seed = streams.derive(run.seed, step.stage)
    secrets = {name: keys.digest(run.root) for name in step.secrets}
    causes = seals.causes(step.stage, step.settings, seed, step.run.__module__, inputs, run.root, secrets)
    digest = seals.digest_of(causes)
    seal = seals.find(run.root, step.stage, digest)
    if seal is not None:
        return State(step, causes, digest, seal, ())
    old = previous(run, step, record)
    why = tuple(seals.differences(old.causes, causes)) if old is not None else ()
    if old is not None and not why:
        why = ("the result's files are damaged or gone",)
    return State(step, causes, digest, None, why or ("never made",))


def previous(run: Run, step: Step, record: dict[str, Any]) -> Seal | None:
    """The result the last run had for this node, whatever it was made from."""
    known = record.get(step.node)
    if known is None:
        return None
    folder = run.root / "store" / step.stage / known["folder"]
    return Seal(folder, **store.read_json(folder / seals.SEAL)) if (folder / seals.SEAL).is_file() else None


def go(run: Run, steps: Sequence[Step], engine: Engine, again: frozenset[str] = frozenset()) -> dict[str, Seal]:
    """Bring every step up to date and return the seals by node; nodes in `again` run even when sealed."""
    run.folder.mkdir(parents=True, exist_ok=True)
    if any(step.secrets for step in steps):
        keys.ensure(run.root)
    sealed: dict[str, Seal] = {}
    record = run.record()
    with compute.graceful():
        for number, step in enumerate(steps, 1):
            state = look(run, step, sealed, record)
            title = f"[{number}/{len(steps)}] {step.node}"
            if state.seal is not None and step.node not in again:
                log.debug("%s: unchanged", title)
                sealed[step.node] = state.seal
                record[step.node] = _entry(state.seal, record.get(step.node))
                continue
            log.info("%s: %s", title, "; ".join(state.why[:3]) or "asked for again")
            started = time.monotonic()
            sealed[step.node] = make(run, step, state, sealed, engine, anew=step.node in again)
            seconds = time.monotonic() - started
            record[step.node] = {"folder": sealed[step.node].folder.name, "seconds": round(seconds, 1)}
            keep_record(run, record, sealed)
            link(run, record)
            log.info("%s: done in %s", title, duration(seconds))
            if compute.stop_asked() and step is not steps[-1]:
                raise Interrupted(f"stopped after {step.node}; run the same command again to continue")
    keep_record(run, record, sealed)
    link(run, record)
    return sealed


def _entry(seal: Seal, known: dict[str, Any] | None) -> dict[str, Any]:
    """What to remember of a result that was kept: how long it once took, if this run made it."""
    same = known is not None and known["folder"] == seal.folder.name
    return known if same and known is not None else {"folder": seal.folder.name}


def make(run: Run, step: Step, state: State, sealed: dict[str, Seal], engine: Engine, anew: bool) -> Seal:
    """Run one stage into a scratch folder, rename it, seal it; unless another run has just done so and not `anew`."""
    assert state.causes is not None
    final = seals.place(run.root, step.stage, state.digest)
    final.parent.mkdir(parents=True, exist_ok=True)
    if step.stage == "release":
        check_whole(sealed, step)
    with FileLock(f"{final}.lock"):  # two runs that share a result: the second waits, then finds it made
        made = seals.find(run.root, step.stage, state.digest)
        if made is not None and not anew:
            return made
        inputs = {role: sealed[node].folder for role, node in step.needs.items()}
        inputs |= dict.fromkeys(step.secrets, keys.place(run.root))
        seed = streams.derive(run.seed, step.stage)
        with store.fresh_folder(final) as out:
            step.run(step.settings, inputs, out, seed, engine)
        seal = seals.write(final, state.causes)
    shutil.rmtree(final.with_name(final.name + ".work"), ignore_errors=True)
    return seal


def check_whole(sealed: dict[str, Seal], step: Step) -> None:
    """Before a release: every file of everything it stands on, hashed in full."""
    for node in dict.fromkeys(step.needs.values()):
        damaged = seals.damage(sealed[node])
        if damaged:
            raise UserError(
                f"The result of {node} is not what was sealed: {', '.join(damaged[:5])} changed on disk. "
                f"Remove {sealed[node].folder} and run again; it will be made anew."
            )


def keep_record(run: Run, record: dict[str, Any], mine: Container[str]) -> None:
    """Write the run's record, which holds times and versions and is no part of any result.

    Another command of the run may be at work: `record` takes over what that one wrote, but for the nodes in `mine`.
    """
    with _alone(run):
        record |= {node: entry for node, entry in run.record().items() if node not in mine}
        _write_record(run, record)


def drop(run: Run, nodes: Collection[str]) -> None:
    """Take `nodes` out of the run's record, and their links away; the results stay in the store."""
    path = run.folder / "run.json"
    with _alone(run):
        facts = store.read_json(path)
        facts["nodes"] = {node: entry for node, entry in facts["nodes"].items() if node not in nodes}
        store.write_json(path, facts)
    link(run, facts["nodes"])


def _alone(run: Run) -> FileLock:
    """Held while a run's record or links are changed."""
    return FileLock(run.folder / ".run.lock")


def _write_record(run: Run, record: dict[str, Any]) -> None:
    libraries = ("histodistill", "torch", "diffusers", "timm", "infomap", "datasets")
    facts = {
        "nodes": record,
        "seed": run.seed,
        "python": sys.version.split()[0],
        "versions": {name: installed(name) for name in libraries},
        "peak_memory_mib": peak_mib(),
    }
    store.write_json(run.folder / "run.json", facts)


def peak_mib() -> int:
    """The most memory this process and its children held, in MiB."""
    scale = 1024 if sys.platform != "darwin" else 1024**2
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(most // scale)


def link(run: Run, record: dict[str, Any]) -> None:
    """Links from the run's folder into the store, one for each node's latest result, so that people find it by name."""
    links = run.folder / "results"
    with _alone(run):
        shutil.rmtree(links, ignore_errors=True)
        for node, entry in record.items():
            place = Path("store") / node.partition("/")[0] / entry["folder"]
            path = links / node
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(Path("../" * (len(node.split("/")) + 2)) / place)


def accept(run: Run, steps: Sequence[Step], node: str, why: str) -> str:
    """Record a person's word that a change of code alters no result of `node`; returns what was recorded.

    Raises:
        UserError: nothing to accept, or more than code changed.
    """
    step = find(steps, node)
    state = next(s for s in states(run, steps) if s.step.node == step.node)
    if state.seal is not None:
        raise UserError(f"{node} is sealed; there is nothing to accept.")
    if state.causes is None:
        raise UserError(f"{node} {state.why[0]}; accept or run that first.")
    old = previous(run, step, run.record())
    if old is None:
        raise UserError(f"{node} has no earlier result that could stand; run it.")
    if not acceptable(run, steps, node):
        raise UserError(f"More than code changed for {node}: {'; '.join(state.why)}. Run it again instead.")
    facts = {"stands_for": seals.digest_of(old.causes), "why": why, "changed": list(state.why)}
    store.write_json(seals.accepted_path(run.root, step.stage, state.digest), facts)
    return "; ".join(state.why)


def acceptable(run: Run, steps: Sequence[Step], node: str) -> bool:
    """Whether `node` is stale by its code alone."""
    step = find(steps, node)
    state = next(s for s in states(run, steps) if s.step.node == node)
    old = previous(run, step, run.record())
    if state.seal is not None or state.causes is None or old is None:
        return False
    return all(old.causes.get(head) == state.causes.get(head) for head in ("settings", "seed", "inputs", "secrets"))


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
