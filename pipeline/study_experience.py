"""What a study found, for whoever asks it later and elsewhere: read strictly, as the files may come from anywhere."""

import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import ValidationError

from pipeline import study_prediction, study_results
from pipeline.config import faults
from pipeline.study_config import ALL_REAL
from stages import store
from stages.benchmark import BenchmarkSettings
from stages.contracts import UserError

DEFAULT = Path("runs/feasibility/study/results.csv")
SHIPPED = Path(__file__).resolve().parent.parent / "data" / "feasibility.csv"
LEVEL = 0.95
"""Where the study tells none."""
BOUNDS = {"per_class": (1, math.inf), "seed": (0, math.inf), study_prediction.ACCURACY: (0, 1), "chance": (0, 1)}
"""Columns of numbers that are read, and between which limits they lie. Every other column holds words."""
NOTHING = ("", "na", "nan")
"""What an empty cell of a column of numbers may hold; in a column of words these are words."""
CSV_WANTED = "Give the results.csv that histodistill study wrote, as it is."
JSON_WANTED = (
    "Give the one that histodistill study wrote beside the CSV, as it is, or take it away: defaults then stand in."
)


class Experience(NamedTuple):
    """A study's results."""

    path: Path
    studied: study_prediction.Studied
    network: str
    """Whose accuracy it is, by its name in the study."""
    benchmark: BenchmarkSettings
    """How it was trained."""
    level: float
    """Coverage that the study's intervals aim at."""
    known_benchmark: bool
    """Whether the study tells how it trained; otherwise the defaults stand in."""


def experience(given: Path | None, root: Path) -> Experience:
    """The results of a study: those given, else the root's `feasibility`, else those that ship.

    Raises:
        UserError: there are none (says which command makes them), they are not a study's, or of one source alone.
    """
    places = [given] if given is not None else [root / DEFAULT, SHIPPED]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"There are no results of a study at {' or '.join(map(str, places))}. Make them with: histodistill study "
            "configs/feasibility.yaml, or give those of another study with --study."
        )
    results, beside = _results(path), path.with_suffix(".json")
    about = _about(beside) if beside.is_file() else {}
    network = _network(about, results, beside)
    of = study_prediction.studied(results, network)
    sources = len(np.unique(of.points.source_n))
    if sources < 2:
        raise UserError(
            f"{path} has distilled sets beside random subsets of {sources} sources; to predict for new data, two or "
            "more are wanted. Give another study's results with --study."
        )
    return Experience(
        path, of, network, _benchmark(about, network, beside), _level(about, beside), "benchmark" in about
    )


def _results(path: Path) -> pd.DataFrame:
    """The table, its numbers as numbers and its words as they are written."""
    try:
        content = io.BytesIO(path.read_bytes())
        results = pd.read_csv(content, dtype=str, na_filter=False, encoding="utf-8-sig")
    except ValueError as error:  # empty, no table or no text
        raise UserError(f"{path} cannot be read as a table: {str(error).strip()}. {CSV_WANTED}") from error
    lacking = [name for name in study_results.CELLS if name not in results]
    if lacking:
        raise UserError(
            f"{path} is not the results.csv of a study: it has no column {', '.join(lacking)}. {CSV_WANTED}"
        )
    numbers = {name: _numbers(results[name], path) for name in BOUNDS}
    results = results.assign(**numbers)
    used_n = results[study_prediction.ACCURACY].notna() & (results["method"] != ALL_REAL)
    for name in BOUNDS:
        bare_n = used_n & results[name].isna()
        if bare_n.any():
            row = int(np.flatnonzero(bare_n)[0]) + 1
            raise UserError(f"{path} tells an accuracy without {name} in row {row} below its head. {CSV_WANTED}")
    return results


def _numbers(given_n: "pd.Series[str]", path: Path) -> "pd.Series[float]":
    """A column as numbers, NaN where there is none."""
    low, high = BOUNDS[str(given_n.name)]
    found_n = pd.to_numeric(given_n, errors="coerce").astype(np.float64)
    good_n = found_n.between(low, high) & np.isfinite(found_n)
    bad_n = ~good_n & ~given_n.str.strip().str.lower().isin(NOTHING)
    if bad_n.any():
        row = int(np.flatnonzero(bad_n)[0])
        wanted = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number from {low:g} on"
        raise UserError(
            f"{path} holds {given_n.iloc[row]!r} in column {given_n.name}, row {row + 1} below its head; {wanted} or "
            f"nothing is wanted there. {CSV_WANTED}"
        )
    return found_n


def _about(path: Path) -> dict[str, Any]:
    """What the study tells beside its table."""
    try:
        about = store.read_json(path)
    except ValueError as error:  # cut off, or no text
        raise UserError(f"{path} is not whole JSON: {error}. {JSON_WANTED}") from error
    if not isinstance(about, dict):
        raise UserError(f"{path} holds a {type(about).__name__} and not what a study tells of itself. {JSON_WANTED}")
    return about


def _network(about: dict[str, Any], results: pd.DataFrame, path: Path) -> str:
    """Whose accuracy is asked for."""
    known = list(dict.fromkeys(results["network"]))
    network = about.get("network", known[0] if known else "")
    if known and network not in known:
        raise UserError(
            f"{path} tells of the network {network!r}, but the results beside it are of {', '.join(known)}. "
            f"{JSON_WANTED}"
        )
    return str(network)


def _benchmark(about: dict[str, Any], network: str, path: Path) -> BenchmarkSettings:
    """How the network was trained; it alone."""
    try:
        settings = BenchmarkSettings.model_validate(about.get("benchmark", {"seeds": 1, "resamples": 100}))
    except ValidationError as error:
        told = "\n".join(faults(error, BenchmarkSettings))
        raise UserError(f"The benchmark that {path} tells of cannot be used:\n{told}\n{JSON_WANTED}") from error
    if network not in settings.networks and "benchmark" in about:
        raise UserError(
            f"{path} tells how {', '.join(settings.networks)} are trained, but not {network}, whose results lie beside "
            f"it. {JSON_WANTED}"
        )
    name = network if network in settings.networks else next(iter(settings.networks))
    return settings.model_copy(update={"networks": {name: settings.networks[name]}})


def _level(about: dict[str, Any], path: Path) -> float:
    """The coverage that the study aims at."""
    level = about.get("level", LEVEL)
    if not isinstance(level, float) or not 0 < level < 1:
        raise UserError(f"{path} has the level {level!r}; a number between 0 and 1 is wanted. {JSON_WANTED}")
    return level
