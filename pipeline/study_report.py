"""What a study leaves in `runs/NAME/study/`: results, tables, figures and the prediction."""

from pathlib import Path

import pandas as pd

from pipeline import study_figures, study_prediction, study_results, study_table
from pipeline.study import Measured, Study
from stages import store

NAMED = 8
"""How many broken cells are named."""
RESULTS = "results"
"""Name of the file with a row per cell, .csv, and of what is to be known of it, .json."""


def write(study: Study, measured: Measured) -> Path:
    """Write all of it from what is made, and return the folder. A figure there is nothing for is taken away."""
    out, config = study.run.folder / "study", study.config
    results, means = study_results.cells(study, measured), study_results.means(study, measured)
    store.write_text(out / f"{RESULTS}.csv", results.to_csv(index=False, float_format="%.6g"))
    store.write_json(out / f"{RESULTS}.json", about(study))
    store.write_text(out / "table.csv", means.to_csv(index=False, float_format="%.6g"))
    store.write_text(out / "table.md", study_table.markdown(means, config.level, config.seeds))
    store.write_text(out / "table.tex", study_table.latex(means, config.level, config.seeds))
    for name in ("curves.png", "images.png", "prediction.png"):
        (out / name).unlink(missing_ok=True)
    if means["value"].notna().any():
        study_figures.curves(means, out / "curves.png")
    _images(measured, out / "images.png")
    _prediction(study, results, out)
    return out


def broken(measured: Measured, log: Path) -> str:
    """What to say of the cells that broke by our fault: which, of what, and what to do."""
    found, cells = measured.broken, len(measured.outcomes)
    told = [f"{outcome.cell.named} ({study_table.short(str(outcome.reason))})" for outcome in found[:NAMED]]
    if len(found) > NAMED:
        told.append(f"and {len(found) - NAMED} more")
    return (
        f"{len(found)} of {cells} cells broke and {'was' if len(found) == 1 else 'were'} set aside: {', '.join(told)}. "
        f"The same command tries again; {log} shows where it happened.\nIf the message names nothing you can mend, "
        "this is our fault, not yours."
    )


def about(study: Study) -> dict[str, object]:
    """What whoever predicts from the results must know: whose accuracy it is, how it was trained, the level wanted."""
    config = study.config
    return {
        "network": next(iter(config.benchmark.networks)),
        "seed": study.run.seed,
        "seeds": config.seeds,
        "level": config.level,
        "benchmark": config.benchmark.model_dump(mode="json"),
        "methods": config.methods,
    }


def _images(measured: Measured, path: Path) -> None:
    """The condensed images of the first seed, of each method at the smallest size it was made at."""
    smallest: dict[tuple[str, str], tuple[int, Path]] = {}
    for outcome in measured.outcomes:
        cell, made = outcome.cell, outcome.condensation
        if made is not None and cell.per_class is not None and cell.seed == 0:
            key, found = (cell.task, cell.method), (cell.per_class, made.folder)
            smallest[key] = min(smallest.get(key, found), found)
    if smallest:
        study_figures.condensed({key: folder for key, (_, folder) in smallest.items()}, path)


def _prediction(study: Study, results: pd.DataFrame, out: Path) -> None:
    config = study.config
    of = study_prediction.studied(results, next(iter(config.benchmark.networks)))
    told = study_prediction.findings(of, study.run.seed, config.resamples, config.level)
    store.write_json(out / "prediction.json", told)
    store.write_text(out / "prediction.md", study_prediction.markdown(told))
    if told["correlation"]:  # as many tasks as the page wants: a line through fewer shows nothing
        study_figures.foretold(of.points, out / "prediction.png")
