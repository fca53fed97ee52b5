"""What the report says in numbers: tiles, benchmark, audits. From result folders to plain tuples for the template.

Every function takes the result folders by node and returns None (or nothing) where what it needs is not there yet.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import report_plots as plots
from stages import store
from stages.tables import ROLES

Results = Mapping[str, Path]
"""Folders of the sealed results, by node."""

VERDICTS = {
    "GO": "The image tests found nothing that speaks against sharing.",
    "REVIEW": "A person must look before this is shared.",
    "NO-GO": "The image tests found what must not be shared.",
}
METRICS = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "macro_auc": "Macro AUC",
}
NETWORKS = {"convnet3": "ConvNet-3", "colour": "colour only"}


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Made(NamedTuple):
    """The tiles by role and class."""

    classes: list[str]
    roles: list[tuple[str, list[tuple[int, int]], int, int]]
    """(role, (tiles, groups) of every class, tiles in all, groups in all)."""
    size_px: int
    grey: bool
    notes: list[str]


class Contest(NamedTuple):
    """One contestant seen by one network, on the test tiles."""

    name: str
    network: str
    kind: str
    """real, synthetic or shipped."""
    images: int | None
    metrics: dict[str, Estimate]
    row: Any
    """Its row of the plot."""


class Benchmark(NamedTuple):
    """Every contestant, best first."""

    rows: list[Contest]
    axis: Any
    metrics: dict[str, str]
    """Metric -> its name for people; only those that were measured."""
    agreement: list[tuple[str, list[tuple[str, str]]]]
    """(contestant, (what, value)) of what the judges think of its labels."""
    chance: float


class Audit(NamedTuple):
    """The audit of one selection."""

    selection: str
    shipped: bool
    verdict: str
    meaning: str
    reasons: list[str]
    tests: list[dict[str, str]]
    columns: list[str]
    power: list[tuple[str, str]]
    untested: list[str]
    facts: list[tuple[str, str]]


def facts(results: Results, node: str) -> dict[str, Any]:
    """The `facts.json` of a node; empty where there is none."""
    path = results[node] / "facts.json" if node in results else None
    return dict(store.read_json(path)) if path is not None and path.is_file() else {}


def made(results: Results) -> Made | None:
    """How many tiles and groups of every class play each role."""
    of_tiles = facts(results, "tiles")
    if not of_tiles:
        return None
    classes = list(of_tiles["classes"])
    roles = []
    for role in ROLES:
        tiles_of, groups_of = of_tiles["counts"].get(role, {}), of_tiles["groups"].get(role, {})
        cells = [(int(tiles_of.get(c, 0)), int(groups_of.get(c, 0))) for c in classes]
        roles.append((role, cells, sum(t for t, _ in cells), sum(g for _, g in cells)))
    notes = [f"{count} set aside: {reason}." for reason, count in of_tiles.get("set_aside", {}).items()]
    if of_tiles.get("copies"):
        notes.append(f"{of_tiles['copies']} tiles equal another one pixel for pixel.")
    if of_tiles.get("left_out"):
        notes.append(f"{of_tiles['left_out']} tiles of the source play no role here and were left out.")
    if of_tiles.get("roles"):
        notes.append(f"Roles were {of_tiles['roles']}, by group: no group has tiles in two roles.")
    return Made(classes, roles, int(of_tiles["size_px"]), of_tiles.get("colour") == "grey", notes)


def fidelity(results: Results) -> list[tuple[str, str, str, str]]:
    """How near the candidates are to real tiles: (measure, meaning, candidates, real tiles among themselves)."""
    near = facts(results, "embedding").get("fidelity") or {}
    kid, manifold = ((near.get(name), near.get(f"{name}_train")) for name in ("kid", "manifold"))
    rows = [("KID", "distance to validation tiles, less is nearer", _estimate_words(kid[0]), _estimate_words(kid[1]))]
    for name, meaning in (("precision", "share that looks like real"), ("recall", "share of real that is reached")):
        of_candidates, of_real = (said(m and m.get(name)) for m in manifold)
        rows.append((name, meaning, of_candidates, of_real))
    return [row for row in rows if row[2] != "–"]


def _estimate_words(value: Mapping[str, Any] | None) -> str:
    """An estimate of small numbers, or a dash."""
    return "–" if value is None else "{value:.4f} [{low:.4f}, {high:.4f}]".format(**value)


def benchmark(results: Results, shipped: str | None, chance: float) -> Benchmark | None:
    """Every benchmarked contestant with each of its networks, sorted by balanced accuracy on the test tiles."""
    found: list[Contest] = []
    agreement = []
    for node in results:
        stage, _, name = node.partition("/")
        if stage != "benchmark":
            continue
        of_node = facts(results, node)
        measured = store.read_json(results[node] / "metrics.json")
        for network, roles in measured.items():
            metrics = {metric: estimate(value) for metric, value in roles.get("test", {}).items()}
            if "balanced_accuracy" in metrics:
                kind = _kind(results, name, shipped)
                found.append(Contest(name, network, kind, of_node.get("images"), metrics, None))
        if of_node.get("agreement"):
            agreement.append((name, _flat(of_node["agreement"])))
    if not found:
        return None
    found.sort(key=lambda c: -c.metrics["balanced_accuracy"].value)
    ends = [end for c in found for end in c.metrics["balanced_accuracy"]]
    domain = plots.around(ends)
    rows = [c._replace(row=_row(c, domain, chance)) for c in found]
    named = {m: name for m, name in METRICS.items() if any(m in c.metrics for c in found)}
    return Benchmark(rows, plots.axis(domain), named, agreement, chance)


def _row(contest: Contest, domain: plots.Domain, chance: float) -> Any:
    kind = contest.kind + (" hollow" if contest.network == "colour" else "")
    guides = [chance] if domain.low <= chance <= domain.high else []
    return plots.interval(*contest.metrics["balanced_accuracy"], domain, kind, guides)


def _kind(results: Results, name: str, shipped: str | None) -> str:
    """Whether a contestant's pixels are real or synthetic, or it is the selection that ships."""
    if name == shipped:
        return "shipped"
    condensed = facts(results, f"condensation/{name}")
    return "real" if name == "all_real" or condensed.get("pixels") == "real" else "synthetic"


def estimate(value: Any) -> Estimate:
    """An estimate from JSON: a mapping with value, low and high."""
    return Estimate(float(value["value"]), float(value["low"]), float(value["high"]))


def _flat(value: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (words, number) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{above} {key}".strip().replace("_", " ")
        if isinstance(inner, Mapping) and {"value", "low", "high"} <= inner.keys():
            pairs.append((name, str(estimate(inner))))
        elif isinstance(inner, Mapping):
            pairs += _flat(inner, name)
        else:
            pairs.append((name, said(inner)))
    return pairs


def said(value: Any) -> str:
    """A JSON value as people write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if value and abs(value) < 0.001 else f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return ", ".join(map(said, value))
    return str(value)


def audits(results: Results, shipped: str | None) -> list[Audit]:
    """The audits of all selections, the one that ships first."""
    found = []
    for node, folder in results.items():
        stage, _, name = node.partition("/")
        if stage == "audit_images":
            found.append(_audit(name, name == shipped, store.read_json(folder / "audit.json")))
    return sorted(found, key=lambda a: (not a.shipped, a.selection))


def _audit(name: str, shipped: bool, audit: Mapping[str, Any]) -> Audit:
    tests = [_test(test) for test in audit.get("tests", [])]
    columns = [c for c in ("value", "interval", "control", "guess") if any(t[c] != "–" for t in tests)]
    power = audit.get("power") or {}
    return Audit(
        selection=name,
        shipped=shipped,
        verdict=str(audit["verdict"]),
        meaning=VERDICTS.get(str(audit["verdict"]), ""),
        reasons=[str(reason) for reason in audit.get("reasons", [])],
        tests=tests,
        columns=columns,
        power=_flat(power) if isinstance(power, Mapping) else [("power", said(power))],
        untested=[str(line) for line in audit.get("not_tested", [])],
        facts=[(k.replace("_", " "), said(v)) for k, v in audit.items() if isinstance(v, int | float | str)][:12],
    )


def _test(test: Mapping[str, Any]) -> dict[str, str]:
    """One test of an audit, every cell as text."""
    low, high = test.get("low"), test.get("high")
    passed = test.get("passed")
    return {
        "name": str(test["name"]).replace("_", " "),
        "meaning": str(test.get("meaning", "")),
        "value": said(test.get("value")),
        "interval": "–" if low is None or high is None else f"[{said(low)}, {said(high)}]",
        "control": said(test.get("control")),
        "guess": said(test.get("guess")),
        "outcome": "not run" if passed is None else ("passed" if passed else "failed"),
    }
