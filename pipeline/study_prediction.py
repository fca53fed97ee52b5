"""How well a random real subset foretells what a distilled set of its size reaches: findings, and words for people.

Works on the rows of `results.csv`, so that they serve later, elsewhere, to answer for new data.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.study_config import ALL_REAL, RANDOM
from stages import streams
from stages.stats import correlation, prediction
from stages.stats.prediction import Points

ACCURACY = "test_balanced_accuracy"
ALL = "all"
SAME = ["task", "per_class", "seed"]
"""What a distilled set and the random subset that it is held against have in common."""


class Studied(NamedTuple):
    """The points of a study."""

    points: Points
    task_n: npt.NDArray[np.str_]
    chance_n: npt.NDArray[np.float64]
    results: int
    """Results of distilled sets (task × method × size × seed) that the points are the means of."""
    alike: int
    """Those of them that another method reached as well, to the last digit, for the same task, size and seed."""

    @property
    def skill(self) -> Points:
        """The points as (accuracy − chance) / (1 − chance): what the number of classes alone gives is taken out."""
        p, c = self.points, self.chance_n
        return p._replace(random_n=(p.random_n - c) / (1 - c), distilled_n=(p.distilled_n - c) / (1 - c))


def studied(results: pd.DataFrame, network: str) -> Studied:
    """A point for every task, method and size: the means over the seeds that both it and the random subset have.

    Args:
        results: of `study_results.cells`.
        network: whose accuracy.
    """
    of = results[(results["setup"] == "each") & (results["network"] == network) & results[ACCURACY].notna()]
    random = of[of["method"] == RANDOM].groupby(SAME)[ACCURACY].mean().reset_index(name="x")
    rest = of[~of["method"].isin((RANDOM, ALL_REAL))]
    keys = ["task", "source", "method", "per_class", "chance"]
    pairs = rest.groupby([*keys, "seed"])[ACCURACY].mean().reset_index(name="y").merge(random, on=SAME)
    order = ["source", "task", "method", "per_class"]
    joined = pairs.groupby(keys)[["x", "y"]].mean().reset_index().sort_values(order)
    number = {name: joined[name].to_numpy(np.float64) for name in ("x", "y", "per_class", "chance")}
    name = {name: joined[name].to_numpy(np.str_) for name in ("method", "source", "task")}
    points = Points(number["x"], number["y"], name["method"], number["per_class"], name["source"])
    return Studied(points, name["task"], number["chance"], len(pairs), _alike(pairs))


def _alike(pairs: pd.DataFrame) -> int:
    """How many `y` another method has as well, to 1e-12, for the same task, size and seed."""
    ordered = pairs.sort_values([*SAME, "y"])
    near = ordered.groupby(SAME)["y"].diff() <= 1e-12
    return int((near | near.shift(-1, fill_value=False)).sum())


def findings(of: Studied, seed: int, resamples: int, level: float) -> dict[str, Any]:
    """Correlations, power, the model and its test, as JSON values; NaN is null."""
    points, counts = of.points, {"points": len(of.task_n), "results": of.results, "results_alike": of.alike}
    if len(np.unique(of.task_n)) < 2:
        return counts | {"tasks": len(np.unique(of.task_n)), "correlation": [], "test": None}
    sizes = [len(np.unique(of.task_n[points.source_n == s])) for s in np.unique(points.source_n)]
    effective = correlation.effective_clusters(sizes)
    tested, model = prediction.tested(points), prediction.fitted(points)
    told: dict[str, Any] = counts | {
        "metric": ACCURACY,
        "level": level,
        "tasks": sum(sizes),
        "sources": len(sizes),
        "effective_sources": effective,
        "detectable_r": {
            "sources": correlation.detectable(effective, level=level),
            "tasks": correlation.detectable(sum(sizes), level=level),
        },
        "correlation": list(_correlations(of, seed, resamples, level)),
        "model": {"terms": list(model.terms), "coefficients": model.named},
        "test": None,
    }
    if tested is not None:
        predicted = zip(_rows(of), tested.predicted_n.tolist(), strict=True)
        told["test"] = {name: getattr(tested, name)._asdict() for name in ("model", "same", "mean")}
        told["predictions"] = [row | {"predicted": value} for row, value in predicted]
    return {key: _without_nan(value) for key, value in told.items()}


def _rows(of: Studied) -> Iterator[dict[str, Any]]:
    for task, point in zip(of.task_n.tolist(), zip(*of.points, strict=True), strict=True):
        yield {"task": task} | {
            name.removesuffix("_n"): value.item() for name, value in zip(Points._fields, point, strict=True)
        }


def _correlations(of: Studied, seed: int, resamples: int, level: float) -> Iterator[dict[str, Any]]:
    """Of all points, of each method, and of each method and size, where they are of three tasks or more."""
    p = of.points
    kinds = [(ALL, None), *((m, None) for m in np.unique(p.method_n).tolist())]
    kinds += [(m, n) for m in np.unique(p.method_n).tolist() for n in np.unique(p.per_class_n).tolist()]
    for method, size in kinds:
        keep_n = np.ones(len(of.task_n), bool)
        if method != ALL:
            keep_n &= p.method_n == method
        if size is not None:
            keep_n &= p.per_class_n == size
        if len(np.unique(of.task_n[keep_n])) < 3:
            continue
        sources = len(np.unique(p.source_n[keep_n]))
        row: dict[str, Any] = {"method": method, "per_class": size, "points": int(keep_n.sum()), "sources": sources}
        for scale, points in (("accuracy", p), ("skill", of.skill)):
            some = points.where(keep_n)
            for name, statistic in (("pearson", correlation.pearson), ("spearman", correlation.spearman)):
                stream = streams.numpy_stream(seed, "study", "correlation")
                x, y = some.random_n, some.distilled_n
                found = correlation.clustered(
                    statistic, x, y, some.source_n, of.task_n[keep_n], stream, resamples, level
                )
                row[f"{scale}_{name}"] = found._asdict()
        yield row


def _without_nan(value: Any) -> Any:
    """The same with None for NaN, as JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown(told: Mapping[str, Any]) -> str:
    """The findings in words and tables."""
    if not told["correlation"]:
        few = (
            f"The study has {told['tasks']} tasks with results of a distilled set and of a random subset; three or "
            "more are wanted to correlate them."
        )
        return "\n\n".join([few, *_alike_told(told)]) + "\n"
    return "\n".join([*_head(told), "", *_correlation_table(told), "", *_test(told)]) + "\n"


def _head(told: Mapping[str, Any]) -> list[str]:
    found, level = told["detectable_r"], f"{100 * told['level']:g} %"
    can = (
        f"a correlation below {found['sources']:.2f} would not be found"
        if found["sources"] < 0.995
        else "no correlation, however strong, could be told from none"
    )
    return [
        "# Does a random real subset foretell the distilled set?",
        "",
        f"{told['points']} points (task × method × size) of {told['tasks']} tasks from {told['sources']} sources, "
        f"which tell as much as {told['effective_sources']:.1f} equal ones. Power: with so many independent sources "
        f"{can} (80 % power, {level} two-sided, Fisher's z); were every task independent, none below "
        f"{found['tasks']:.2f}. {' '.join(_limits_told(told))}",
        *(word for line in _alike_told(told) for word in ("", line)),
    ]


def _limits_told(told: Mapping[str, Any]) -> Iterator[str]:
    """What the intervals are worth, or why there are none."""
    least, level = correlation.LEAST_SOURCES, f"{100 * told['level']:g} %"
    if told["sources"] >= least:
        yield f"Intervals ({level}) are over sources and their tasks;"
        known = correlation.covered(told["sources"], told["level"])
        yield (
            "of so few sources they cover the truth less often than that."
            if known is None
            else f"simulated with {known[0]} sources they cover the truth in {100 * known[1]:.0f} to "
            f"{100 * known[2]:.0f} of 100 studies."
        )
        first = told["correlation"][0]["accuracy_pearson"]
        if first["low"] is not None:
            yield f"The interval of r is {first['high'] - first['low']:.2f} wide."
    if any(row["sources"] < least for row in told["correlation"]):
        yield (
            f"Correlations over fewer than {least} sources have no limits: resamples of so few are nearly always ±1, "
            "and limits taken from them would look sure where nothing is."
        )


def _alike_told(told: Mapping[str, Any]) -> list[str]:
    """That some results are one and the same, where they are."""
    if not told["results_alike"]:
        return []
    return [
        f"{told['results_alike']} of the {told['results']} results of distilled sets (task × method × size × seed) are "
        "another method's too, to the last digit: either nothing was learned there beyond the random start that the "
        "methods share, or the test tiles are too few to part them. They are no evidence independent of each other."
    ]


def _correlation_table(told: Mapping[str, Any]) -> list[str]:
    head = ["method", "per class", "points", "Pearson r", "Spearman ρ", "r of skill", "ρ of skill"]
    lines = ["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    for row in told["correlation"]:
        size = ALL if row["per_class"] is None else f"{row['per_class']:g}"
        values = [_estimate(row[f"{s}_{n}"]) for s in ("accuracy", "skill") for n in ("pearson", "spearman")]
        lines.append("| " + " | ".join([row["method"], size, str(row["points"]), *values]) + " |")
    lines += ["", "Skill is (accuracy − chance) / (1 − chance): tasks of few classes are easier by chance alone."]
    return lines


def _estimate(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "–"
    shown = f"{value['value']:.2f}"
    return shown if value["low"] is None else f"{shown} [{value['low']:.2f}, {value['high']:.2f}]"


def _test(told: Mapping[str, Any]) -> list[str]:
    intercept, *rest = told["model"]["coefficients"].items()
    beta = "".join(f" {'-' if value < 0 else '+'} {abs(value):.3f} · {name}" for name, value in rest)
    lines = [f"Model: distilled = {intercept[1]:.3f}{beta}."]
    if told["test"] is None:
        return [*lines, "", "All tasks are of one source: there is none to test it on."]
    lines += ["", "Each source predicted from the others:", ""]
    lines += [
        "| prediction | mean absolute error | root mean square | R² against the mean |",
        "| --- | ---: | ---: | ---: |",
    ]
    names = {"model": "the model", "same": "distilled = random", "mean": "the mean of the others"}
    for key, name in names.items():
        scores = told["test"][key]
        r2 = "–" if scores["r2"] is None else f"{scores['r2']:.2f}"
        lines.append(f"| {name} | {scores['mae']:.3f} | {scores['rmse']:.3f} | {r2} |")
    return lines
