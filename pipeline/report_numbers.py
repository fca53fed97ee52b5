"""What the report says in numbers: tiles, benchmark, audits. From result folders to plain tuples for the template.

Every function takes the result folders by node and returns None (or nothing) where what it needs is not there yet.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import report_plots as plots
from stages import scale_bar, store
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
REAL_TEST = "real test tiles"
JUDGES = ("judge", "judge_grey")
"""Rows of all real tiles that are not trained by the benchmark: the judge and its grey twin, as they are."""
SOFT = "_soft"
"""Ends the name of a network that was trained with soft labels."""

WORDS = {
    "alarm": "sets with planted copies on which the audit raised an alarm",
    "planted_share": "share of each such set that was planted: training tiles, altered",
    "seen_single": "single planted copies that were noticed",
    "seen_by_change": "noticed, by how it was altered",
    "no_copy_supports": "what finding no copy supports",
    "audited": "released tiles audited",
    "p_adjusted": "p",
}
"""Keys of an audit as people say them; others are said as they are."""


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
    scale: str
    """The scale in words; "not known" where it is not."""
    grey: bool
    notes: list[str]


class Contest(NamedTuple):
    """One contestant, with what each network reaches on the test tiles when it is trained on it."""

    name: str
    kind: str
    """real, synthetic or shipped."""
    images: int | None
    networks: dict[str, dict[str, Estimate]]
    """network -> metric -> estimate; the first named in the settings first."""
    titles: dict[str, str]
    """network -> what it is, for people."""
    agreement: dict[str, Any]
    """images shown, and for the judge ("colour") and its twin ("grey"): own, test, ratio."""

    @property
    def best(self) -> Estimate:
        """Balanced accuracy of the first network, the one that contestants are sorted by."""
        return next(iter(self.networks.values()))["balanced_accuracy"]


class Benchmark(NamedTuple):
    """Every contestant, best first."""

    rows: list[tuple[Contest, Any]]
    """With its row of the plot."""
    axis: Any
    titles: dict[str, str]
    """Network -> what it is, for people; the first is the one that contestants are sorted by."""
    metrics: dict[str, str]
    """Metric -> its name for people; only those that were measured."""
    judged: dict[str, dict[str, Estimate]]
    """judge or grey twin -> contestant -> agreement with its labels; "real test tiles" is one of the contestants."""
    ratios: dict[str, Estimate]
    """contestant -> agreement of the grey twin with its labels, as a share of that with real test tiles."""
    chance: float

    @property
    def first(self) -> str:
        """The network that contestants are sorted by."""
        return next(iter(self.titles))

    @property
    def several(self) -> bool:
        """Whether there is more than one network besides colour, so that marks need names."""
        return len([name for name in self.titles if name != "colour"]) > 1

    @property
    def soft(self) -> bool:
        """Whether a network was trained with soft labels."""
        return any(name.endswith(SOFT) for name in self.titles)

    @property
    def judge(self) -> bool:
        """Whether the judge is among the networks."""
        return any(name in JUDGES for name in self.titles)


class Audit(NamedTuple):
    """The audit of one selection."""

    selection: str
    shipped: bool
    verdict: str
    meaning: str
    reasons: list[str]
    tests: list[dict[str, str]]
    """Of each test: name, meaning, outcome, its colour, and a cell for each of the columns."""
    columns: list[str]
    power: list[tuple[str, str]]
    untested: list[str]
    behind: list[tuple[str, str]]
    """Everything else that the audit tells, as (what, value)."""


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
        groups = of_tiles.get("groups_in_all", {}).get(role, sum(g for _, g in cells))
        roles.append((role, cells, sum(t for t, _ in cells), groups))
    notes = [f"{count} set aside: {reason}." for reason, count in of_tiles.get("set_aside", {}).items()]
    if of_tiles.get("copies"):
        notes.append(f"{of_tiles['copies']} tiles equal another one pixel for pixel.")
    if of_tiles.get("stain"):
        notes.append(f"Every tile was given one stain (method {of_tiles['stain']['method']}).")
    if of_tiles.get("left_out"):
        notes.append(f"{of_tiles['left_out']} tiles of the source play no role here and were left out.")
    if of_tiles.get("roles"):
        notes.append(f"Roles were {of_tiles['roles']}, by group: no group has tiles in two roles.")
    if of_tiles.get("drawn_from_train"):
        notes.append(f"The source has no {' or '.join(of_tiles['drawn_from_train'])}: drawn from its train groups.")
    scale = scale_bar.told(of_tiles.get("mpp"))
    return Made(classes, roles, int(of_tiles["size_px"]), scale, of_tiles.get("colour") == "grey", notes)


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


def benchmark(results: Results, shipped: str | None, chance: float, order: Sequence[str] = ()) -> Benchmark | None:
    """Every benchmarked contestant, sorted by balanced accuracy of its first network on the test tiles.

    Args:
        results: folders by node.
        shipped: the selection that is to be released.
        chance: balanced accuracy of a guess.
        order: networks as the recipe names them; others come behind as their results name them.
    """
    found = [_contest(results, node, shipped, order) for node in results if node.startswith("benchmark/")]
    found = sorted((c for c in found if c.networks), key=lambda c: -c.best.value)
    if not found:
        return None
    every = [metrics for c in found for metrics in c.networks.values()]
    domain = plots.around(end for metrics in every for end in metrics["balanced_accuracy"])
    guides = [chance] if domain.low <= chance <= domain.high else []
    named = {m: name for m, name in METRICS.items() if any(m in metrics for metrics in every)}
    judged, ratios = _agreement(found)
    rows = [(c, plots.intervals(_marks(c), domain, guides)) for c in found]
    titles: dict[str, str] = {}
    for contest in sorted(found, key=lambda c: -len(c.networks)):
        titles |= {name: title for name, title in contest.titles.items() if name not in titles}
    return Benchmark(rows, plots.axis(domain), _in_order(titles, order), named, judged, ratios, chance)


def _contest(results: Results, node: str, shipped: str | None, order: Sequence[str]) -> Contest:
    name = node.partition("/")[2]
    measured = store.read_json(results[node] / "metrics.json")
    of_node = facts(results, node)
    told = {row["name"]: row["title"] for row in of_node.get("networks") or []}
    measured = {name: measured[name] for name in sorted(measured, key=lambda n: (n not in told, [*told, n].index(n)))}
    networks = {
        network: {metric: estimate(value) for metric, value in measured[network]["test"].items()}
        for network in measured
        if "balanced_accuracy" in measured[network].get("test", {})
    }
    titles = _in_order({network: told.get(network, network) for network in networks}, order)
    networks = {network: networks[network] for network in titles}
    kind, agreement = _kind(results, name, shipped), of_node.get("agreement") or {}
    return Contest(name, kind, of_node.get("images"), networks, titles, agreement)


def _in_order(titles: dict[str, str], order: Sequence[str]) -> dict[str, str]:
    """Networks in the order they were named, a soft twin behind its own; then colour, then the judge."""
    named = [*order] + [name.removesuffix(SOFT) for name in titles]

    def place(name: str) -> tuple[int, int, bool]:
        last = ("colour", *JUDGES)
        return (last.index(name) + 1 if name in last else 0), named.index(name.removesuffix(SOFT)), name.endswith(SOFT)

    return {name: titles[name] for name in sorted(titles, key=place)}


def _marks(contest: Contest) -> list[plots.Mark]:
    return [
        plots.Mark(*metrics["balanced_accuracy"], contest.kind + _sign(network))
        for network, metrics in contest.networks.items()
    ]


def _sign(network: str) -> str:
    """What its mark is drawn as, besides a disc."""
    if network in JUDGES:
        return " square"
    return " hollow" if network == "colour" else " ring" if network.endswith(SOFT) else ""


def _agreement(contests: list[Contest]) -> tuple[dict[str, dict[str, Estimate]], dict[str, Estimate]]:
    """What the judge and its twin that sees no colour make of the labels."""
    judged: dict[str, dict[str, Estimate]] = {}
    for contest in contests:
        for judge, name in (("colour", "judge"), ("grey", "grey twin")):
            if judge in contest.agreement:
                of_judge = judged.setdefault(name, {})
                of_judge[REAL_TEST] = estimate(contest.agreement[judge]["test"])
                of_judge[contest.name] = estimate(contest.agreement[judge]["own"])
    ratios = {c.name: estimate(c.agreement["grey"]["ratio"]) for c in contests if "grey" in c.agreement}
    return judged, ratios


def _kind(results: Results, name: str, shipped: str | None) -> str:
    """Whether a contestant's pixels are real or synthetic, or it is the selection that ships."""
    if name == shipped:
        return "shipped"
    condensed = facts(results, f"condensation/{name}")
    return "real" if name == "all_real" or condensed.get("pixels") == "real" else "synthetic"


def estimate(value: Any) -> Estimate:
    """An estimate from JSON: a mapping with value, low and high."""
    return Estimate(float(value["value"]), float(value["low"]), float(value["high"]))


def _flat(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A mapping as (words, value) pairs; a mapping within it becomes one value."""
    known = list(WORDS)
    keys = sorted(value, key=lambda k: known.index(k) if k in WORDS else len(known))
    return [(WORDS.get(key, key.replace("_", " ")), _worded(value[key])) for key in keys]


def _worded(value: Any) -> str:
    """A JSON value, an estimate or a nested mapping as people write it."""
    if not isinstance(value, Mapping):
        return said(value)
    if {"value", "low", "high"} <= value.keys():
        return str(estimate(value))
    return " · ".join(f"{key.replace('_', ' ')} {_worded(inner)}" for key, inner in value.items())


def said(value: Any) -> str:
    """A JSON value as people write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if value and abs(value) < 0.001 else f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return ", ".join(map(said, value)) or "none"
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
    told = ("verdict", "reasons", "tests", "power", "not_tested")
    return Audit(
        selection=name,
        shipped=shipped,
        verdict=str(audit["verdict"]),
        meaning=VERDICTS.get(str(audit["verdict"]), ""),
        reasons=[str(reason) for reason in audit.get("reasons", [])],
        tests=tests,
        columns=[c for c in ("found", "control", "guess", "p") if any(t[c] != "–" for t in tests)],
        power=_flat(audit.get("power") or {}),
        untested=[str(line) for line in audit.get("not_tested", [])],
        behind=_flat({key: value for key, value in audit.items() if key not in told}),
    )


def _test(test: Mapping[str, Any]) -> dict[str, str]:
    """One test of an audit, every cell as text."""
    low, high = test.get("low"), test.get("high")
    passed, decides = test.get("passed"), test.get("decides", "NO-GO")
    return {
        "name": str(test["name"]).replace("_", " "),
        "meaning": str(test.get("meaning", "")),
        "found": said(test.get("value")) + ("" if low is None or high is None else f" [{said(low)}, {said(high)}]"),
        "control": said(test.get("control")),
        "guess": said(test.get("guess")),
        "p": said(test.get("p_adjusted")),
        "outcome": "not run" if passed is None else ("passed" if passed else "alarm"),
        "colour": decides if passed is False else "",
    }
