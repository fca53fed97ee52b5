"""Seals and results -> one HTML page for people: offline, self-contained, readable at any width and on paper."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import pages
from stages import store

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.report_numbers import Audit, Benchmark, Estimate, Made
    from pipeline.runner import Run
    from pipeline.steps import Step


class Node(NamedTuple):
    """How one node of the story stands."""

    name: str
    word: str
    """sealed, stale, waiting or missing."""
    why: str
    seconds: float | None
    digest: str
    """The first digits of the digest of its result."""


class About(NamedTuple):
    """What the report says of the run itself."""

    name: str
    nodes: Sequence[Node]
    shipped: str | None
    """The selection the page is about: the one that is to be released, or the first."""
    purpose: str
    """What it is shown as: "for release", or only "shown here"."""
    level: float
    """Coverage that the intervals of the benchmark aim at."""
    settings: str
    """The resolved settings as YAML."""
    facts: Mapping[str, Any]
    """run.json: versions, python, seed, peak_memory_mib; may be empty."""
    when: str
    """When the run last ended, in words; may be empty."""
    networks: Sequence[str] = ()
    """Networks of the benchmark as the recipe names them; contestants are sorted by the first."""


class Tally(NamedTuple):
    """One figure of the headline."""

    value: str
    what: str
    note: str


def write(run: "Run", steps: "list[Step]", config: "Config") -> Path:
    """Write `report.html` into the run's folder from whatever is sealed at the moment, and return its path."""
    from pipeline import config as configs
    from pipeline import runner

    record = run.record()
    results, nodes = {}, []
    for state in runner.states(run, steps):
        digest = ""
        seconds = None
        if state.seal is not None:
            results[state.step.node] = state.seal.folder
            digest = state.seal.result[:16]
            known = record.get(state.step.node, {})
            seconds = known.get("seconds") if known.get("folder") == state.seal.folder.name else None
        nodes.append(Node(state.step.node, state.word, "; ".join(state.why[:3]), seconds, digest))
    path = run.folder / "run.json"
    about = About(
        name=run.name,
        nodes=nodes,
        shipped=config.release.selection if config.release else next(iter(config.selections), None),
        purpose="for release" if config.release else "shown here",
        level=config.benchmark.level,
        settings=configs.dump(config),
        facts=store.read_json(path) if path.is_file() else {},
        when=f"{datetime.fromtimestamp(path.stat().st_mtime).astimezone():%d %B %Y, %H:%M}" if path.is_file() else "",
        networks=list(config.benchmark.networks),
    )
    page = run.folder / "report.html"
    store.write_text(page, render(results, about))
    return page


def render(results: Mapping[str, Path], about: About) -> str:
    """The page as HTML.

    Args:
        results: folder of every sealed result, by node; parts whose nodes are missing say so.
        about: the run itself.
    """
    from pipeline import report_numbers as numbers
    from pipeline import report_slides
    from pipeline import report_views as views

    tiles = numbers.made(results)
    contest = numbers.benchmark(
        results, about.shipped, 1 / max(len(tiles.classes), 1) if tiles else 0.0, about.networks
    )
    audits = numbers.audits(results, about.shipped)
    return pages.template("report.html.jinja").render(
        about=about,
        nodes={node.name: node for node in about.nodes},
        tiles=tiles,
        slides=report_slides.slides(results),
        audit=next((audit for audit in audits if audit.shipped), None),
        audits=audits,
        tallies=_tallies(results, about, tiles, contest),
        look=views.look(results, about.shipped),
        scale=views.scale(results),
        fidelity=numbers.fidelity(results),
        figures=views.figures(results),
        curves=views.curves(results),
        warnings=views.warnings(results),
        maps=views.maps(results, about.shipped),
        benchmark=contest,
        pairs=_pairs(results, audits),
        sets=_sets(results),
        times=_times(about.nodes),
    )


def _tallies(
    results: Mapping[str, Path], about: About, tiles: "Made | None", benchmark: "Benchmark | None"
) -> list[Tally]:
    """The figures of the headline, as far as they are known."""
    from pipeline.report_numbers import SOFT
    from stages import images

    found = []
    node = next((n for n in (f"selection/{about.shipped}", f"condensation/{about.shipped}") if n in results), None)
    if node is not None:
        table, classes = images.read_table(results[node] / "images")
        size = f" · {tiles.size_px} × {tiles.size_px} px" if tiles else ""
        found.append(Tally(f"{len(table):,}", f"synthetic tiles in {about.shipped}", f"{len(classes)} classes{size}"))
    elif tiles:
        count = sum(in_all for _, _, in_all, _ in tiles.roles)
        found.append(Tally(f"{count:,}", "real tiles", f"{len(tiles.classes)} classes · {tiles.size_px} px"))
    equal = _equal_real(results, benchmark, about.shipped)
    first = benchmark.first if benchmark else ""
    for name, network, what in (
        (about.shipped, first, "balanced accuracy on real test tiles, trained on these alone"),
        (equal, first, f"trained on as many real tiles instead ({equal})"),
        ("all_real", first, "trained on all real tiles"),
        ("all_real", "colour", "from mean and spread of colour alone, all real tiles"),
    ):
        best = _of(benchmark, name, network)
        soft = _of(benchmark, name, f"{network}{SOFT}")
        if best is not None:
            note = f"{about.level:.0%} interval {best.low:.3f} to {best.high:.3f}"
            note += f"; with soft labels {soft.value:.3f}" if soft else ""
            found.append(Tally(f"{best.value:.3f}", what, note))
    return found


def _of(benchmark: "Benchmark | None", name: str | None, network: str) -> "Estimate | None":
    """Balanced accuracy of one network trained on one contestant, where it was measured."""
    for contest, _ in benchmark.rows if benchmark else ():
        if contest.name == name and network in contest.networks:
            return contest.networks[network]["balanced_accuracy"]
    return None


def _equal_real(results: Mapping[str, Path], benchmark: "Benchmark | None", name: str | None) -> str | None:
    """The random real contestant with as many images as the selection, if there is one."""
    from pipeline.report_numbers import facts

    rows = [contest for contest, _ in benchmark.rows] if benchmark else []
    images = next((c.images for c in rows if c.name == name), None)
    same = [c.name for c in rows if c.kind == "real" and c.images == images and images is not None]
    return next((n for n in same if facts(results, f"condensation/{n}").get("method") == "random"), None)


def _sets(results: Mapping[str, Path]) -> list[tuple[str, str, list[int], int]]:
    """(name, kind, images of every class, in all) of everything that was made."""
    from pipeline.report_numbers import facts
    from stages import images

    found = []
    for node, folder in results.items():
        stage, _, name = node.partition("/")
        if stage in ("candidates", "selection", "condensation"):
            table, classes = images.read_table(folder / "images")
            counts = [int((table["label"] == label).sum()) for label in range(len(classes))]
            of_node = facts(results, node)
            method, real = str(of_node.get("method", "")), of_node.get("pixels") == "real"
            kind = f"{'real' if real else 'synthetic'}{', chosen: ' if method else ''}{method}"
            kind = f"learned: {method}" if of_node.get("pixels") == "learned" else kind
            found.append((name or stage, kind, counts, sum(counts)))
    return found


def _pairs(results: Mapping[str, Path], audits: "Sequence[Audit]") -> dict[str, str]:
    """The picture of the nearest pairs, by selection."""
    from pipeline.report_pictures import figure

    found = {a.selection: figure(results[f"audit_images/{a.selection}"] / "pairs.png") for a in audits}
    return {name: uri for name, uri in found.items() if uri is not None}


def _times(nodes: Sequence[Node]) -> list[tuple[Node, str, Any]]:
    """(node, its time in words, a bar) of every node; no bar where the time is not known."""
    from pipeline import report_plots as plots
    from pipeline.runner import duration

    longest = max((node.seconds or 0.0 for node in nodes), default=0.0) or 1.0
    return [
        (node, duration(node.seconds), plots.bar(node.seconds / longest))
        if node.seconds is not None
        else (node, "", "")
        for node in nodes
    ]
