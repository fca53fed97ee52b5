"""From the sealed results of a run to what `comparison` compares. Real test tiles are not read.

Benchmark and audit are told where they are sealed; nothing is run here but the judge, on the chosen tiles.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import comparison, comparison_text, runner
from pipeline.steps import find
from stages import agreement, images, store, streams, tables
from stages.contracts import UserError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.runner import Run
    from pipeline.steps import Step

Ints = npt.NDArray[np.int64]
MOST = 12
"""Selections that fit side by side."""
METRIC = "balanced_accuracy"


class Side(NamedTuple):
    """One selection, its tiles in turn."""

    name: str
    folder: Path
    rows_s: Ints
    """Their numbers among the candidates."""
    label_s: Ints
    place_s: Ints
    """Their rows in the selection's image set."""


def compare(run: "Run", steps: "Sequence[Step]", config: "Config", names: Sequence[str]) -> dict[str, Any]:
    """Selections side by side, as numbers and words that JSON can hold; the first is what others are held against.

    Raises:
        UserError: fewer than two names, one given twice, or a selection that is not sealed.
    """
    if not 2 <= len(names) <= MOST or len(set(names)) < len(names):
        raise UserError(f"Give from two to {MOST} different selections to compare; got {', '.join(names)}.")
    results = _sealed(run, steps, names)
    sides = [_side(name, results[f"selection/{name}"]) for name in names]
    table, classes = images.read_table(results["candidates"] / "images")
    rows = [_row(side, classes) for side in sides]
    judged = _judged(results, sides, config)
    benchmarks = _benchmarks(results, names, config, len(classes))
    near = _near(results, sides, config)
    partition = _partition(sides[0].folder)
    for row, side, of_side in zip(rows, sides, near["selections"], strict=True):
        row |= comparison.reach(partition, side.rows_s) | of_side
        row |= {"judge": judged.get(side.name), "benchmark": benchmarks["of"].get(side.name)}
        audit = results.get(f"audit_images/{side.name}")
        row["audit"] = None if audit is None else store.read_json(audit / "audit.json")["verdict"]
    told = {key: near[key] for key in ("real", "equal_count", "val_tiles")}
    told |= {"encoder": store.read_json(results["embedding"] / "facts.json").get("name")}
    told |= {"network": benchmarks["network"], "metric": METRIC, "level": config.benchmark.level}
    told["audited"] = config.audited
    return {
        "run": run.name,
        "candidates": len(table),
        "classes": list(classes),
        "selections": rows,
        "overlap": comparison.overlaps([side.rows_s for side in sides], len(table)),
        **told,
    }


def told(
    run: "Run", steps: "Sequence[Step]", config: "Config", names: Sequence[str], out: Path | None, as_json: bool
) -> str:
    """The comparison as text, or JSON; written to `out` as well where one is given, in the form that its suffix tells.

    Raises:
        UserError: as `compare`, or another suffix.
    """
    if out is not None and out.suffix not in (".html", ".md", ".csv"):
        raise UserError(f"--out writes .html, .md or .csv, not {out.name!r}.")
    found = compare(run, steps, config, names)
    if out is not None:
        match out.suffix:
            case ".html":
                store.write_text(out, comparison_text.page(found, _sheets(run, steps, names)))
            case ".md":
                store.write_text(out, comparison_text.markdown(found))
            case _:
                store.write_text(out, comparison_text.csv_table(found))
    return json.dumps(found, indent=1) + "\n" if as_json else comparison_text.text(found)


def _sheets(run: "Run", steps: "Sequence[Step]", names: Sequence[str]) -> dict[str, bytes]:
    """The contact sheet of every selection, a PNG."""
    results = _sealed(run, steps, names)
    return {name: (results[f"selection/{name}"] / "contact.png").read_bytes() for name in names}


def _sealed(run: "Run", steps: "Sequence[Step]", names: Sequence[str]) -> dict[str, Path]:
    """Folders of all sealed results by node; the selections must be among them."""
    wanted = [find(steps, f"selection/{name}").node for name in names]
    states = {state.step.node: state for state in runner.states(run, steps)}
    for node in wanted:
        if states[node].seal is None:
            raise UserError(
                f"{node} is {states[node].word} ({'; '.join(states[node].why[:3])}). Make it first: "
                f"histodistill run RECIPE --until {node}"
            )
    return {node: state.seal.folder for node, state in states.items() if state.seal is not None}


def _side(name: str, folder: Path) -> Side:
    table, _ = images.read_table(folder / "images")
    label_s, rank_s = table["label"].to_numpy(np.int64), table["rank"].to_numpy(np.int64)
    order_s = comparison.in_turn(label_s, rank_s)
    return Side(name, folder, table["candidate"].to_numpy(np.int64)[order_s], label_s[order_s], order_s)


def _row(side: Side, classes: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(side.label_s, minlength=len(classes)).tolist()
    facts = store.read_json(side.folder / "facts.json")
    return {
        "name": side.name,
        "method": facts["method"],
        "tiles": len(side.rows_s),
        "per_class": dict(zip(classes, counts, strict=True)),
        "warnings": facts["warnings"],
    }


def _partition(folder: Path) -> comparison.Partition:
    """The communities of a selection, without the candidates that are in none."""
    frame = pd.read_parquet(folder / "communities.parquet")
    frame = frame[frame["community"] >= 0]
    row_n, label_n, community_n = (frame[name].to_numpy(np.int64) for name in ("row", "label", "community"))
    return comparison.Partition(row_n, label_n, community_n, frame["flow"].to_numpy(np.float64))


def _near(results: dict[str, Path], sides: list[Side], config: "Config") -> dict[str, Any]:
    """KID, precision, recall and Vendi score of every selection, and of as many real train tiles, against val."""
    vectors = store.read_tensors(results["embedding"] / "features.safetensors")
    tiles, _ = images.read_table(results["tiles"] / "images")
    of_role = {role: tiles[tiles["role"] == role] for role in ("train", "val")}
    group_v = of_role["val"]["group"].to_numpy(np.int64)
    most, seed = config.embedding.compared, config.seed
    drawn_v = streams.numpy_stream(seed, "comparison", "val").permutation(len(group_v))[:most]
    real = comparison.Real(vectors["val_nd"].numpy()[drawn_v], group_v[drawn_v])
    count = min(most, *(len(side.rows_s) for side in sides))
    measured = partial(
        comparison.nearness,
        real=real,
        count=count,
        draws=lambda: streams.numpy_stream(seed, "comparison", "bootstrap"),
        resamples=config.embedding.resamples,
        level=config.benchmark.level,
    )
    x_nd, train_td = vectors["candidates_nd"].numpy(), vectors["train_nd"].numpy()
    train = of_role["train"].reset_index(drop=True)
    shuffled = train.sample(frac=1, random_state=streams.numpy_stream(seed, "comparison", "train"))
    place_t = shuffled.groupby("label").cumcount().reindex(train.index).to_numpy()
    drawn_t = comparison.in_turn(train["label"].to_numpy(np.int64), place_t)[:count]
    return {
        "selections": [measured(x_nd[side.rows_s[:most]], None) for side in sides],
        "real": measured(train_td[drawn_t], train["group"].to_numpy(np.int64)[drawn_t]),
        "equal_count": count,
        "val_tiles": len(real.x_vd),
    }


def _judged(results: dict[str, Path], sides: list[Side], config: "Config") -> dict[str, dict[str, Any]]:
    """How often the judge, and its grey twin, agree with the labels of every selection; nothing without a judge."""
    if "judge" not in results:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for side in sides:
        shown = images.read(side.folder / "images", rows=side.place_s[: config.benchmark.agreement_images])
        found[side.name] = {
            network: comparison.agreement(
                agreement.predict(results["judge"] / network, shown), shown.labels_n, config.benchmark.level
            )
            for network in agreement.networks_in(results["judge"])
        }
    return found


def _benchmarks(results: dict[str, Path], names: Sequence[str], config: "Config", classes: int) -> dict[str, Any]:
    """What the first network reached on each selection that was benchmarked, and the paired differences."""
    from stages.classify.metrics import weighted_scores

    network, settings = next(iter(config.benchmark.networks)), config.benchmark
    of: dict[str, dict[str, Any]] = {}
    contests, groups, title = {}, 0, network
    for name in (name for name in names if f"benchmark/{name}" in results):
        folder = results[f"benchmark/{name}"]
        of[name] = dict(store.read_json(folder / "metrics.json")[network]["test"][METRIC])
        told = store.read_json(folder / "facts.json")["networks"]
        title = next((row["title"] for row in told if row["name"] == network), network)
        frame = tables.read(folder / "predictions.parquet", "predictions")
        frame = frame[(frame["network"] == network) & (frame["role"] == "test")]
        parts = [part.sort_values("row") for _, part in frame.groupby("seed")]
        columns = [f"p{k}" for k in range(classes)]
        p_snk = np.stack([part[columns].to_numpy(np.float64) for part in parts])
        label_n, group_n = (parts[0][c].to_numpy(np.int64) for c in ("label", "group"))
        contests[name] = (weighted_scores(label_n, group_n, p_snk)[METRIC], len(parts))
        groups = len(np.unique(group_n))
    paired = comparison.differences(
        contests,
        names[0],
        groups,
        lambda: streams.numpy_stream(config.seed, "comparison", "benchmark"),
        settings.resamples,
        settings.level,
    )
    for name, found in paired.items():
        of[name]["difference"] = found
    return {"of": of, "network": {"name": network, "title": title}}
