"""A tiny study, run once for all tests that look at it, and again in parts for those that stop it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import studies
from telling import HERE, histodistill, seals_below

from pipeline import cleaning, engine, study_results, study_table
from pipeline.study import NOT_YET, Cell, Measured, Outcome, Study, measure
from pipeline.study_report import write
from stages import images, store
from stages.classify.metrics import scores

TOO_MANY = 11
"""More tiles a class than the tasks of the second source have in train."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study's sources and recipe; its root is `root`."""
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    """Two sizes, of which one is too many for the classes of alpha (its control tiles are drawn from train)."""
    methods = {"random": {}, "herding": {"method": "herding", "per_class": [4]}, "many": {"per_class": [TOO_MANY]}}
    return studies.study(folder / "root", folder, methods=methods)


@pytest.fixture(scope="module")
def measured(study: Study) -> Measured:
    """What became of it."""
    found = measure(study, engine.make("threads", 2))
    write(study, found)
    return found


def frames(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = study.run.folder / "study"
    return pd.read_csv(out / "results.csv"), pd.read_csv(out / "table.csv")


def test_there_is_a_row_for_every_cell_and_a_failing_one_says_why_and_stops_no_other(
    study: Study, measured: Measured
) -> None:
    results, _ = frames(study)
    # five tasks, two seeds; all real, random at two sizes, herding and many at one
    assert len(results) == 5 * 2 * (1 + 2 + 1 + 1) and measured.left == 0
    failed = results[results["reason"].notna()]
    assert set(failed["method"]) == {"many"} and failed["test_balanced_accuracy"].isna().all()
    assert failed["reason"].str.contains("per_class is 11, but class").all()
    good = results[results["reason"].isna()]
    assert good["test_balanced_accuracy"].between(0, 1).all() and len(good) + len(failed) == len(results)
    text = (study.run.folder / "study" / "table.md").read_text()
    assert "| beta | many |" in text and "–, condensation: per_class is 11, but class" in text


def test_numbers_are_those_of_the_predictions_and_chance_is_of_the_classes(study: Study, measured: Measured) -> None:
    results, means = frames(study)
    outcome = next(o for o in measured.outcomes if (o.cell.task, o.cell.method, o.cell.seed) == ("beta", "herding", 1))
    assert outcome.benchmark is not None
    frame = pd.read_parquet(outcome.benchmark.folder / "predictions.parquet")
    frame = frame[(frame["network"] == "convnet3") & (frame["role"] == "test")]
    found = scores(frame["label"].to_numpy(), frame[["p0", "p1", "p2"]].to_numpy())
    of = results[(results["task"] == "beta") & (results["method"] == "herding")]
    row = of[of["seed"] == 1].iloc[0]
    assert row["test_balanced_accuracy"] == pytest.approx(found["balanced_accuracy"], abs=1e-6)
    assert row["test_macro_auc"] == pytest.approx(found["macro_auc"], abs=1e-6)
    assert (row["source"], row["classes"], row["chance"]) == ("beta", 3, pytest.approx(1 / 3, abs=1e-6))
    told = means[(means["task"] == "beta") & (means["method"] == "herding") & (means["per_class"] == 4)].iloc[0]
    assert told["value"] == pytest.approx(of["test_balanced_accuracy"].mean(), abs=1e-6)
    assert told["low"] <= told["value"] <= told["high"] and told["seeds"] == 2
    assert set(results.loc[results["task"] == "alpha_two", "classes"]) == {2}
    assert set(results.loc[results["task"] == "alpha_two", "source"]) == {"alpha"}


def test_seeds_share_the_tiles_and_draw_other_images_and_starts(study: Study, measured: Measured) -> None:
    record = study.run.record()
    assert sum(node.startswith("tiles/") for node in record) == 4 and "simulation/all" in record
    assert sum(node.startswith("judge/") for node in record) == 5
    first, second = two_seeds(measured, "random")
    assert first.benchmark and second.benchmark and ids(first) != ids(second)
    assert first.benchmark.causes["seed"] != second.benchmark.causes["seed"]
    assert first.benchmark.causes["inputs"]["tiles"] == second.benchmark.causes["inputs"]["tiles"]
    alike = two_seeds(measured, "herding")
    assert ids(alike[0]) == ids(alike[1]), "one judge, and no draw"
    assert alike[0].benchmark and alike[1].benchmark and alike[0].benchmark.result != alike[1].benchmark.result


def two_seeds(measured: Measured, method: str) -> list[Outcome]:
    """The cells of beta by a method, four a class."""
    return [o for o in measured.outcomes if o.cell[1:4] == ("beta", method, 4)]


def ids(outcome: Outcome) -> set[str]:
    assert outcome.condensation
    return set(images.read_table(outcome.condensation.folder / "images")[0]["tile_id"])


def test_the_simulation_asks_which_data_set_a_tile_is_from(study: Study, measured: Measured) -> None:
    _, classes = images.read_table(measured.tiles["simulation"].folder / "images")
    assert classes == ("alpha", "beta"), "whole data sets alone"
    results, _ = frames(study)
    assert set(results.loc[results["setup"] == "simulation", "task"]) == {"simulation"}


def test_all_of_it_is_written_and_the_pictures_are_no_blank_sheets(study: Study, measured: Measured) -> None:
    out = study.run.folder / "study"
    for name in ("curves.png", "images.png", "prediction.png"):
        shown = images.pixels((out / name).read_bytes())
        assert min(shown.shape[:2]) > 150 and shown.std() > 10, name
    tex = (out / "table.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2 and r"alpha\_two & herding" in tex
    told = json.loads((out / "prediction.json").read_text())
    assert (told["tasks"], told["sources"], told["points"]) == (4, 3, 4), "the simulation and what failed are no points"
    assert told["detectable_r"]["sources"] == 1 and len(told["predictions"]) == 4
    words = (out / "prediction.md").read_text()
    assert "4 tasks from 3 sources" in words and "no correlation, however strong" in words
    about = store.read_json(out / "results.json")
    assert about["network"] == "convnet3" and about["benchmark"]["seeds"] == 1


def test_a_second_run_makes_nothing_and_writes_the_same(study: Study, measured: Measured, tmp_path: Path) -> None:
    out, before = study.run.folder / "study", seals_below(study.run.root)
    texts = {name: (out / name).read_bytes() for name in ("results.csv", "table.md", "table.tex", "prediction.json")}
    write(study, again := measure(study, engine.Serial()))
    assert again.outcomes == measured.outcomes and seals_below(study.run.root) == before
    assert {name: (out / name).read_bytes() for name in texts} == texts


def test_one_worker_and_two_give_the_same_results(
    study: Study, measured: Measured, folder: Path, tmp_path: Path
) -> None:
    fewer = studies.study(tmp_path, folder, methods={}, setups=["each"], seeds=1, leave_out=["alpha", "gamma"])
    write(fewer, measure(fewer, engine.Serial()))
    mine, theirs = frames(fewer)[0], frames(study)[0]
    theirs = theirs[(theirs["task"] == "beta") & theirs["method"].isin(("all_real", "random")) & (theirs["seed"] == 0)]
    pd.testing.assert_frame_equal(mine, theirs.reset_index(drop=True), check_dtype=False)


def test_a_study_out_of_time_says_what_is_left_and_continues(folder: Path, tmp_path: Path) -> None:
    short = studies.study(tmp_path, folder, methods={}, setups=["each"], seeds=1, leave_out=["alpha", "gamma"])
    none = measure(short, engine.Serial(), until=time.monotonic())
    assert none.left == len(none.outcomes) == 3 and {o.reason for o in none.outcomes} == {NOT_YET}
    write(short, none)
    assert f"–, {NOT_YET}" in (short.run.folder / "study" / "table.md").read_text()
    assert not (short.run.folder / "study" / "curves.png").exists()
    assert measure(short, engine.Serial()).left == 0


def test_small_sets_of_every_task_come_before_large_ones_of_any(study: Study, tmp_path: Path) -> None:
    seen: list[object] = []

    class Seeing:
        def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            given = list(items)
            seen.extend(given)
            return map(function, given)

    left = measure(study._replace(run=study.run._replace(root=tmp_path)), Seeing(), until=time.monotonic()).left
    cells = [item for item in seen if isinstance(item, Cell)]
    assert len(cells) == left and {cell.task for cell in cells[:6]} > {"alpha", "beta"}
    assert [(c.seed, c.per_class or 0) for c in cells] == sorted((c.seed, c.per_class or 0) for c in cells)


def test_ctrl_c_keeps_finished_cells_and_the_same_command_continues(folder: Path, tmp_path: Path) -> None:
    path = studies.recipe(tmp_path, methods={}, setups=["each"], seeds=3, leave_out=["alpha", "gamma"])
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "study",
        str(path),
        "--root",
        str(tmp_path / "root"),
        "--workers",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE) as child:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "root").glob("store/benchmark/*/seal.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "study stopped with" in said, said[-2000:]
    kept = seals_below(tmp_path / "root")
    told = histodistill("study", path, "--workers", "1", root=tmp_path / "root")
    assert told.code == 0 and "| beta | random |" in told.out, told.err
    made = seals_below(tmp_path / "root")
    assert kept.items() <= made.items() and len(made) > len(kept)
    assert cleaning.unused(tmp_path / "root") == [], "the run remembers every result"


def test_tasks_whose_data_are_bad_are_set_aside_whole(tmp_path: Path) -> None:
    methods = {"random": {"per_class": 1}}
    bad = studies.study(tmp_path, tmp_path, methods=methods, seeds=1, setups=["each"], leave_out=["gamma"])
    (tmp_path / "sets" / "beta.npz").write_bytes(b"PK no zip")
    write(bad, found := measure(bad, engine.Serial()))
    reasons = {outcome.cell.task: outcome.reason for outcome in found.outcomes}
    assert reasons["alpha"] is reasons["alpha_two"] is None and "beta.npz cannot be read" in str(reasons["beta"])
    assert "| beta | random | –, " in (bad.run.folder / "study" / "table.md").read_text()


def test_the_mean_over_cells_weighs_networks_of_one_cell_as_one(tmp_path: Path, folder: Path) -> None:
    """Cells of three networks and of one, which no one recipe gives."""
    cells = {"methods": {}, "per_class": [4], "setups": ["each"], "seeds": 2, "leave_out": ["alpha", "gamma"]}
    three, one = (
        studies.study(tmp_path, folder, benchmark={**studies.BENCHMARK, "seeds": count}, **cells) for count in (3, 1)
    )
    many, single = (
        two_seeds(measure(three, engine.Serial()), "random"),
        two_seeds(found := measure(one, engine.Serial()), "random"),
    )
    mixed = found._replace(outcomes=[many[0], single[1]])
    mean = study_results.means(one, mixed)["value"].item()
    of_many, of_one = study_results.cells(one, mixed)["test_balanced_accuracy"]
    assert mean == pytest.approx((of_many + of_one) / 2)
    assert abs(mean - (3 * of_many + of_one) / 4) > 0.01, "the two ways to weigh are told apart"


def test_latex_prints_words_as_they_are() -> None:
    assert study_table.escaped("a_b & 5 % × – c…") == r"a\_b \& 5 \% $\times$ \textendash{} c..."
    assert study_table.escaped("{$x^2$} ~/a\\b #1") == (
        r"\{\$x\textasciicircum{}2\$\} \textasciitilde{}/a\textbackslash{}b \#1"
    )
    assert study_table.escaped("<class 'int'> | --name ---") == (
        r"\textless{}class 'int'\textgreater{} \textbar{} -{}-name -{}-{}-"
    )


def table_of(reason: str | None = None, seeds: int = 3) -> pd.DataFrame:
    """Means of one cell that has results of `seeds` seeds."""
    row = {"setup": "each", "task": "a", "method": "random", "per_class": 1, "network": "convnet3"}
    row |= {"value": 0.5, "low": 0.4, "high": 0.6, "seeds": seeds, "reason": reason}
    return pd.DataFrame([row]).astype({"per_class": "Int64"})


def test_a_long_reason_is_cut_before_it_is_written_for_latex_and_a_bar_ends_no_cell() -> None:
    reason = "{a|b} " + "_" * 100
    tex = study_table.latex(table_of(reason, 0), 0.95, 3)
    assert r"\textendash{}, \{a\textbar{}b\} " + r"\_" * 53 + r"... & " in tex
    assert "| –, {a\\|b} " + "_" * 53 + "… |" in study_table.markdown(table_of(reason, 0), 0.95, 3)


def test_an_interval_of_one_seed_is_said_to_be_over_groups_alone() -> None:
    one, some = study_table.note(table_of(seeds=1), 0.95, 1), study_table.note(table_of(seeds=1), 0.95, 3)
    assert one.endswith("real test tiles, of one seed [95 % interval over groups alone].")
    assert some.endswith("mean of 3 seeds [95 % interval over groups × seeds; of one seed, over groups alone].")
    assert study_table.note(table_of(), 0.95, 3).endswith("mean of 3 seeds [95 % interval over groups × seeds].")
