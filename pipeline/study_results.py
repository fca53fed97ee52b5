"""The numbers of a study: a row for every cell, and means over seeds with intervals over groups × seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.study import Cell, Measured, Outcome, Study
from stages import store, streams, tables
from stages.classify.metrics import weighted_scores
from stages.stats import intervals

METRIC = "balanced_accuracy"
ABOUT = ("setup", "task", "source", "classes", "tiles", "method", "per_class")
SCORES = ("val_balanced_accuracy", "test_balanced_accuracy", "test_accuracy", "test_macro_auc")
CELLS = (*ABOUT, "seed", "network", *SCORES, "chance", "reason")
MEANS = (*ABOUT, "network", "value", "low", "high", "chance", "seeds", "reason")


class Told(NamedTuple):
    """What is known of a task."""

    source: str
    classes: int | None
    tiles: int | None
    """Train tiles."""


def cells(study: Study, measured: Measured) -> pd.DataFrame:
    """A row for every cell and network, as in `CELLS`; one that has no result says why."""
    rows: list[dict[str, Any]] = []
    for outcome in measured.outcomes:
        known = _known(study, measured, outcome.cell)
        if outcome.benchmark is None:
            first = next(iter(study.config.benchmark.networks))
            rows.append(known | {"network": first, "reason": outcome.reason})
            continue
        metrics = store.read_json(outcome.benchmark.folder / "metrics.json")
        for network in study.config.benchmark.networks:
            of = {role: {name: v["value"] for name, v in metrics[network][role].items()} for role in ("val", "test")}
            told = {"network": network, "val_balanced_accuracy": of["val"][METRIC]}
            told |= {f"test_{name}": of["test"][name] for name in (METRIC, "accuracy", "macro_auc")}
            rows.append(known | told)
    return pd.DataFrame(rows, columns=list(CELLS)).astype({"per_class": "Int64", "classes": "Int64", "tiles": "Int64"})


def _known(study: Study, measured: Measured, cell: Cell) -> dict[str, Any]:
    told = of_task(study, measured, cell.task)
    chance = None if told.classes is None else 1 / told.classes
    return cell._asdict() | told._asdict() | {"chance": chance, "reason": None}


def of_task(study: Study, measured: Measured, task: str) -> Told:
    """What is known of a task; little where its tiles could not be made."""
    source = next((one.source for one in study.tasks if one.name == task), task)
    if task not in measured.tiles:
        return Told(source, None, None)
    facts = store.read_json(measured.tiles[task].folder / "facts.json")
    return Told(source, len(facts["classes"]), sum(facts["counts"]["train"].values()))


def means(study: Study, measured: Measured) -> pd.DataFrame:
    """A row for every task, method and size, as in `MEANS`: test balanced accuracy of the first network."""
    network = next(iter(study.config.benchmark.networks))
    alike: dict[Cell, list[Outcome]] = {}
    for outcome in measured.outcomes:
        alike.setdefault(outcome.cell._replace(seed=0), []).append(outcome)
    rows = []
    for cell, outcomes in alike.items():
        known = _known(study, measured, cell) | {"network": network}
        good = [outcome for outcome in outcomes if outcome.benchmark is not None]
        known["seeds"] = len(good)
        known["reason"] = next((outcome.reason for outcome in outcomes if outcome.reason is not None), None)
        rows.append(known | (_interval(study, network, good)._asdict() if good else {}))
    return pd.DataFrame(rows, columns=list(MEANS)).astype({"per_class": "Int64", "classes": "Int64", "tiles": "Int64"})


def _interval(study: Study, network: str, outcomes: Sequence[Outcome]) -> intervals.Interval:
    """The mean over the seeds of the cells, with its interval over groups × seeds."""
    metric, groups = _metric(network, outcomes)
    stream = streams.numpy_stream(study.run.seed, "study", "means")
    return intervals.two_way(metric, groups, len(outcomes), stream, study.config.resamples, study.config.level)


def _metric(network: str, outcomes: Sequence[Outcome]) -> tuple[intervals.Weighted, int]:
    """Test balanced accuracy of every cell, b × cells, and the number of groups; several networks of a cell: mean."""
    folders = [outcome.benchmark.folder for outcome in outcomes if outcome.benchmark is not None]
    found = [predictions(network, folder) for folder in folders]
    labels_n, groups_n, _ = found[0]
    each = [weighted_scores(labels_n, groups_n, p_snk)[METRIC] for _, _, p_snk in found]

    def metric(w_bg: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.stack([of_cell(w_bg).mean(1) for of_cell in each], axis=1)

    return metric, len(np.unique(groups_n))


def predictions(
    network: str, benchmark: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels and groups of the test tiles, n each, and what the networks of a benchmark say of them, s × n × k."""
    frame = tables.read(benchmark / "predictions.parquet", "predictions")
    frame = frame[(frame["network"] == network) & (frame["role"] == "test")].sort_values(["seed", "row"])
    columns = [name for name in frame.columns if name[0] == "p" and name[1:].isdigit()]
    parts = [part for _, part in frame.groupby("seed")]
    p_snk = np.stack([part[columns].to_numpy(np.float64) for part in parts])
    return parts[0]["label"].to_numpy(np.int64), parts[0]["group"].to_numpy(np.int64), p_snk
