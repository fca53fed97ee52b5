"""Does choosing help? Ways to choose, sizes and networks, over pools of candidates that are drawn anew.

    python tests/measure_selection.py RECIPE [--root DIR] [--set KEY=VALUE ...] [--until-minutes 60] [--first-pool 3]

    python tests/measure_selection.py configs/bloodmnist.yaml --set tiles.source=PATH/bloodmnist.npz
    python tests/measure_selection.py configs/demo.yaml        (LC25000 lung; networks see 32 px)

Tiles, autoencoder, judge and denoiser are the recipe's run and made once. Every pool has a seed of its own, from which
its candidates, their vectors, the choices and the networks' random starts derive. Each of these is a stage's result in
the store, so the script continues wherever it was stopped, and two of it that begin with different pools share the work
(each training keeps one core busy). Its `study/` in the run's folder then holds `table.md`,
`table.csv` and `figure.png`: balanced accuracy on real test tiles, and by how much a way exceeds random synthetic tiles
of the same pool and start, with intervals over groups × pools (paired in both). With few pools such an interval is
rather too narrow.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline import config as configs
from pipeline import engine, runner, steps, story
from pipeline.config import Config
from pipeline.runner import Run
from pipeline.seals import Seal
from pipeline.steps import Step
from stages import benchmark, compute, store, streams, tables
from stages.benchmark import BenchmarkSettings, TrainingSettings
from stages.classify.metrics import weighted_scores
from stages.contracts import Interrupted
from stages.selection import SelectionSettings
from stages.stats import intervals, paired

RANDOM = "random"
METHODS = (RANDOM, "infomap", "leiden", "kmeans", "herding")
SHARED = ("tiles", "autoencoder", "judge", "denoiser")
METRIC, RESAMPLES, LEVEL = "balanced_accuracy", 1000, 0.95


class Study(NamedTuple):
    """What is measured."""

    config: Config
    run: Run
    pools: int
    methods: tuple[str, ...]
    per_class: tuple[int, ...]
    second_at: int
    """Tiles of a class at which ResNet-18 is trained as well."""
    first_pool: int = 0
    """The pool that is measured first."""

    @property
    def columns(self) -> list[tuple[str, int]]:
        """Network and tiles of a class."""
        return [(self.first, count) for count in self.per_class] + [("resnet18", self.second_at)]

    @property
    def first(self) -> str:
        """The recipe's first network."""
        return next(iter(self.config.benchmark.networks))

    def pool(self, number: int) -> Run:
        """The run of a pool: it remembers what belongs to it, so that `histodistill clean` leaves it."""
        seed = streams.derive(self.run.seed, "pool", number)
        return Run(self.run.root, f"{self.run.name}_pool{number}", seed)

    def steps(self) -> list[Step]:
        """Candidates, vectors, every choice and its benchmark: of any pool."""
        named = {
            f"{method}_{count}": SelectionSettings.model_validate(
                {"method": method, "per_class": count, "stability_seeds": 1}
            )
            for count in self.per_class
            for method in self.methods
        }
        given = {
            "selections": named,
            "embedding": self.config.embedding.model_copy(update={"plane": "pca"}),  # nobody looks at the map
            "release": None,
        }
        told = story.tell(self.config.model_copy(update=given))
        found = [step for step in told if step.stage in ("candidates", "embedding", "selection")]
        for name, selected in named.items():
            needs = {"tiles": "tiles", "judge": "judge", "contestant": f"selection/{name}"}
            found.append(Step(f"benchmark/{name}", benchmark.run, self.networks(selected.per_class), needs))
        return found

    def networks(self, per_class: int) -> BenchmarkSettings:
        """The first network of the recipe, once for each pool; ResNet-18 beside it where it is asked for."""
        first = self.config.benchmark.networks[self.first]
        alike = {name: getattr(first, name) for name in ("steps", "batch", "evaluations", "image_px", "views")}
        second = TrainingSettings.model_validate({"network": "resnet18", **alike})
        networks = {self.first: first} | ({"resnet18": second} if per_class == self.second_at else {})
        return self.config.benchmark.model_copy(update={"seeds": 1, "networks": networks, "agreement_images": 60})


def measure(study: Study, until: float) -> bool:
    """Make every result of every pool that is not there; whether all are, `until` a time of the monotonic clock."""
    at_work, told = engine.make("threads", engine.cores()), story.tell(study.config)
    wanted = {step.node for node in SHARED for step in steps.upstream(told, node)}
    shared = runner.go(study.run, [step for step in told if step.node in wanted], at_work)
    left = study.pools * len(study.steps())
    with compute.graceful():
        for turn in range(study.pools):
            run, sealed = study.pool((study.first_pool + turn) % study.pools), dict(shared)
            run.folder.mkdir(parents=True, exist_ok=True)
            record = run.record()
            for step in study.steps():
                state = runner.look(run, step, sealed, record)
                left -= 1
                if state.seal is None:
                    if time.monotonic() > until:
                        return False
                    state = state._replace(seal=_made(run, step, state, sealed, at_work, record, left))
                assert state.seal is not None
                sealed[step.node] = state.seal
                record[step.node] = record.get(step.node) or {"folder": state.seal.folder.name}
                runner.keep_record(run, record)
            runner.link(run, record)
    return True


def _made(
    run: Run,
    step: Step,
    state: runner.State,
    sealed: dict[str, Seal],
    at_work: Any,
    record: dict[str, Any],
    left: int,
) -> Seal:
    """One result; a line of what it took."""
    started = time.monotonic()
    seal = runner.make(run, step, state, sealed, at_work, anew=False)
    seconds = round(time.monotonic() - started, 1)
    record[step.node] = {"folder": seal.folder.name, "seconds": seconds}
    print(f"{run.name} {step.node}: {seconds} s, {left} results left at most", flush=True)
    if compute.stop_asked():
        runner.keep_record(run, record)
        raise Interrupted(f"stopped after {step.node} of {run.name}; run the same command again to continue")
    return seal


def table(study: Study) -> pd.DataFrame:
    """A row for each way and column: the mean over pools, and the paired difference to random synthetic tiles."""
    rows = []
    for network, count in study.columns:
        metrics = {method: _metric(study, network, f"{method}_{count}") for method in study.methods}
        for method, (metric, groups) in metrics.items():
            stream = streams.numpy_stream(study.run.seed, "study")
            value = intervals.two_way(metric, groups, study.pools, stream, RESAMPLES, LEVEL)
            row: dict[str, Any] = {"network": network, "per_class": count, "method": method, **value._asdict()}
            row["pools"] = study.pools
            if method != RANDOM:
                stream = streams.numpy_stream(study.run.seed, "study")
                more = paired.difference_of_pairs(
                    metric, metrics[RANDOM][0], groups, study.pools, stream, RESAMPLES, LEVEL
                )
                row |= {f"more_{key}": number for key, number in more._asdict().items()}
            rows.append(row)
    return pd.DataFrame(rows)


def _metric(study: Study, network: str, name: str) -> tuple[intervals.Weighted, int]:
    """The metric of every pool's network on the test tiles, b × pools; and the number of groups."""
    found = [_predictions(study.pool(number), network, name) for number in range(study.pools)]
    first = found[0]
    columns = [column for column in first if column[0] == "p" and column[1:].isdigit()]
    p_pnk = np.stack([frame[columns].to_numpy(np.float64) for frame in found])
    groups_n = first["group"].to_numpy(np.int64)
    metric = weighted_scores(first["label"].to_numpy(np.int64), groups_n, p_pnk)[METRIC]
    return metric, len(np.unique(groups_n))


def _predictions(run: Run, network: str, name: str) -> pd.DataFrame:
    folder = run.root / "store" / "benchmark" / run.record()[f"benchmark/{name}"]["folder"]
    frame = tables.read(folder / "predictions.parquet", "predictions")
    return frame[(frame["network"] == network) & (frame["role"] == "test")].sort_values("row", ignore_index=True)


def markdown(study: Study, frame: pd.DataFrame) -> str:
    """The table for people: a row for each way, its value and, behind it, by how much it exceeds random."""
    head = [f"{network}, {count} a class" for network, count in study.columns]
    lines = ["| chosen by | " + " | ".join(head) + " |", "| --- |" + " --- |" * len(head)]
    for method in study.methods:
        of = frame[frame["method"] == method]
        lines.append(f"| {method} | " + " | ".join(_cell(row) for _, row in of.iterrows()) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: pd.Series) -> str:
    shown = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    if row["method"] == RANDOM:
        return shown
    return shown + f"; {row['more_value']:+.3f} [{row['more_low']:+.3f}, {row['more_high']:+.3f}]"


def figure(study: Study, frame: pd.DataFrame, path: Path) -> None:
    """What every way reaches, and by how much it exceeds random, column by column."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    place = {column: i for i, column in enumerate(study.columns)}
    for number, method in enumerate(study.methods):
        of = frame[frame["method"] == method]
        at = [place[row.network, row.per_class] + 0.13 * (number - len(study.methods) / 2) for row in of.itertuples()]
        for axis, head in zip(axes, ("", "more_"), strict=True):
            if head and method == RANDOM:
                continue
            value, low, high = (of[head + key].to_numpy(np.float64) for key in ("value", "low", "high"))
            axis.errorbar(
                at, value, [value - low, high - value], fmt="o", ms=4, capsize=2, color=f"C{number}", label=method
            )
    for axis, title in zip(axes, ("balanced accuracy, real test tiles", "more than random synthetic"), strict=True):
        axis.set_xticks(range(len(place)), [f"{network}\n{count} a class" for network, count in place])
        axis.set_title(title)
    axes[1].axhline(0, color="0.6", lw=0.8)
    axes[0].legend(fontsize=8)
    drawn.savefig(path, dpi=150, metadata={"Software": None})


def asked() -> Iterator[Any]:
    """The words of the command line: a study, and until when."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("recipe", type=Path)
    words.add_argument("--root", type=Path, default=Path("data"))
    words.add_argument("--name", help="of the run, if not the recipe's")
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--pools", type=int, default=5)
    words.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    words.add_argument("--per-class", nargs="+", type=int, default=(1, 10, 50))
    words.add_argument("--second-at", type=int, help="tiles of a class for ResNet-18; default: the most")
    words.add_argument("--first-pool", type=int, default=0, help="the pool to begin with, from 0")
    words.add_argument("--until-minutes", type=float, default=float("inf"), help="begin nothing after so many")
    given = words.parse_args()
    config = configs.load(given.recipe, given.set)
    run = Run(given.root, given.name or given.recipe.stem, config.seed)
    sizes, methods = tuple(given.per_class), tuple(dict.fromkeys((RANDOM, *given.methods)))
    yield Study(config, run, given.pools, methods, sizes, given.second_at or max(sizes), given.first_pool)
    yield time.monotonic() + 60 * given.until_minutes


def main() -> None:
    """Measure, then write the table and the figure."""
    study, until = asked()
    if not measure(study, until):
        print("not finished; run the same command again to continue")
        return
    frame, out = table(study), study.run.folder / "study"
    store.write_text(out / "table.csv", frame.to_csv(index=False))
    store.write_text(out / "table.md", text := markdown(study, frame))
    figure(study, frame, out / "figure.png")
    print(f"{text}{out}")


if __name__ == "__main__":
    main()
