"""What is told of new data before any distillation."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import studies
import yaml
from made_tiles import CLASSES, as_parquet, rows
from studies import results

from pipeline import config, engine, inspection, predicting, runner, story
from pipeline.study_experience import Experience, experience
from stages import store
from stages.contracts import UserError


@pytest.fixture
def known(tmp_path: Path) -> Experience:
    """A study without error, and how it trained."""
    about = {"network": "convnet3", "benchmark": studies.BENCHMARK | {"seeds": 1}, "level": 0.8}
    store.write_json(tmp_path / "results.json", about)
    return experience(results(tmp_path / "results.csv"), tmp_path)


def answer(data: Path, known: Experience, root: Path, per_class: int = 4, **given: object) -> predicting.Answer:
    """What `predict` answers of DM, in this thread."""
    settings, guess = inspection.settings_of(str(data), given)
    run = predicting.run_of(str(data), root)
    return predicting.predict(settings, guess, per_class, known, run, engine.Serial(), ["dm"])


def test_on_a_study_without_error_the_answer_is_its_line_and_the_interval_a_point(tmp_path: Path) -> None:
    known = experience(results(tmp_path / "results.csv"), tmp_path)
    dc, dm = predicting.expected(known.studied.points, 0.7, 10, ["dc", "dm"], 0.95)
    assert dc.expected == pytest.approx((0.65, 0.65, 0.65)) and dm.expected == pytest.approx((0.55, 0.55, 0.55))
    assert len(known.studied.task_n) == 16, "means over seeds; all real tiles and the subsets themselves are no points"


def test_random_subsets_of_the_data_are_trained_on_and_cautions_are_said(
    tmp_path: Path, known: Experience, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = as_parquet(rows().rename(columns={"group": "patient"}), tmp_path / "new.parquet")
    told = answer(data, known, tmp_path / "root")
    assert "set aside" not in caplog.text and "no column" not in caplog.text, "that there are no groups is no fault"
    assert len(told.random) == predicting.DRAWS and told.chance == 0.5 and len(set(told.random)) > 1
    (dm,) = told.foretold
    assert dm.method == "dm" and dm.expected.value == pytest.approx(0.2 + 0.5 * np.mean(told.random))
    seals = sorted((tmp_path / "root" / "store" / "condensation").glob("*/seal.json"))
    assert len(seals) == 3 and all(store.read_json(p)["causes"]["settings"]["method"] == "random" for p in seals)
    words = predicting.page(told)
    assert "4 per class" in words and "dm" in words and "! It stands on 4 tasks of 4 sources" in words
    assert told.level == 0.8 and "80 % prediction interval" in words, "the study's"
    run = predicting.run_of(str(data), tmp_path / "root")
    assert "tiles/data" in run.record()
    with pytest.raises(UserError, match="nothing of the method 'mtt'; it has dc, dm"):
        predicting.predict(*inspection.settings_of(str(data), {}), 4, known, run, engine.Serial(), ["mtt"])
    with pytest.raises(UserError, match=r"class benign has 18 train tiles.*per_class is --ipc"):
        answer(data, known, tmp_path / "root", 19)


def test_of_one_class_without_groups_the_class_is_what_is_told(
    tmp_path: Path, known: Experience, caplog: pytest.LogCaptureFixture
) -> None:
    frame = rows().drop(columns="group")
    data = as_parquet(frame[frame["label"] == CLASSES[0]], tmp_path / "one.parquet")
    with pytest.raises(UserError, match="The source has one class") as caught:
        answer(data, known, tmp_path / "root")
    assert "group" not in str(caught.value) and "no column" not in caplog.text


def test_groups_that_are_asked_for_and_absent_are_told_with_the_option_for_them(
    tmp_path: Path, known: Experience
) -> None:
    data = as_parquet(rows(), tmp_path / "new.parquet")
    with pytest.raises(UserError, match=r"no column 'patient'.*tiles.group_column is --group-column \(\"\" for null\)"):
        answer(data, known, tmp_path / "root", group_column="patient")


def test_groups_that_are_there_and_too_few_are_not_given_up(tmp_path: Path, known: Experience) -> None:
    frame = rows()
    frame["group"] = frame["label"] + frame["group"].str[-1:].isin(list("01234")).astype(str)
    data = as_parquet(frame, tmp_path / "few.parquet")
    with pytest.raises(UserError, match="but benign has 2, tumour has 2"):
        answer(data, known, tmp_path / "root")


def test_settings_are_told_as_options_or_as_a_recipes() -> None:
    said = "Set tiles.size_px, or tiles.roles and tiles.min_patients_per_class."
    assert predicting.in_options(said) == (
        f"{said} For predict, tiles.size_px is --size. A recipe, which DATA may be, sets "
        "tiles.roles, tiles.min_patients_per_class."
    )
    assert predicting.in_options("The source has one class.") == "The source has one class."


def test_what_lies_outside_of_the_study_is_said_by_method(tmp_path: Path) -> None:
    known = experience(results(tmp_path / "results.csv"), tmp_path)
    said = " ".join(predicting.cautions(known, 0.3, 50, ["dc", "dm"]))
    assert "outside of what was studied of dc, dm: 0.520 to 0.910" in said and "results.json is missing" in said
    assert "50 per class lies outside of what was studied of dc, dm: 1 to 10" in said
    assert "outside" not in " ".join(predicting.cautions(known, 0.7, 10, ["dc", "dm"]))
    frame = pd.read_csv(tmp_path / "results.csv")
    frame.loc[frame["method"] == "dm", "per_class"] *= 10
    more = frame[frame["method"] == "random"].assign(per_class=frame["per_class"] * 10)
    path = tmp_path / "more.csv"
    pd.concat([frame, more]).drop_duplicates(["task", "method", "per_class", "seed"]).to_csv(path, index=False)
    said = " ".join(predicting.cautions(experience(path, tmp_path), 0.7, 100, ["dc", "dm"]))
    assert "100 per class lies outside of what was studied of dc: 1 to 10" in said and "of dm" not in said


def test_the_name_and_the_place_of_the_data_name_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = predicting.run_of(str(tmp_path / "My tiles.parquet"), tmp_path)
    assert run.name.startswith("predict_My_tiles_") and len(run.name) == len("predict_My_tiles_") + 8 and run.seed == 0
    assert predicting.run_of(str(tmp_path / "other" / "My tiles.parquet"), tmp_path).name != run.name
    monkeypatch.chdir(tmp_path)
    assert predicting.run_of("My tiles.parquet", tmp_path) == run, "however the path is written"
    assert predicting.run_of(f"{tmp_path}/x/../My tiles.parquet/", tmp_path) == run
    far = predicting.run_of("s3://bucket/new.parquet?key=secret", tmp_path).name
    assert far.startswith("predict_new_") and far != predicting.run_of("s3://other/new.parquet", tmp_path).name


def test_a_recipes_tiles_serve_as_they_were_made_for_it(tmp_path: Path, known: Experience) -> None:
    as_parquet(rows(), tmp_path / "new.parquet")
    recipe, root = tmp_path / "mine.yaml", tmp_path / "root"
    recipe.write_text(yaml.safe_dump({"seed": 7, "tiles": {"source": "new.parquet"}, "autoencoder": {"mode": "train"}}))
    loaded = config.load(recipe)
    runner.go(runner.Run(root, "mine", loaded.seed), [story.tell(loaded)[0]], engine.Serial())
    before = sorted((root / "store" / "tiles").glob("*/seal.json"))
    with pytest.raises(UserError, match="per_class"):
        answer(recipe, known, root, 1000)
    assert len(before) == 1 and sorted((root / "store" / "tiles").glob("*/seal.json")) == before
