"""What is told of new data before any distillation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import studies
from made_tiles import as_parquet, rows

from pipeline import engine, inspection, predicting, study_results
from pipeline.runner import Run
from stages import store
from stages.contracts import UserError

SLOPE, SHIFT = 0.5, {"dc": 0.3, "dm": 0.2}


def results(path: Path, sources: int = 4) -> Path:
    """The results of a study in which distilled = shift of the method + half of random, exactly."""
    found = []
    for place in range(sources):
        task = {"setup": "each", "task": f"t{place}", "source": f"s{place}", "classes": 2, "tiles": 9, "chance": 0.5}
        for size in (1, 10):
            for seed in (0, 1):
                random = 0.5 + 0.1 * place + 0.02 * seed + 0.01 * size
                for method, value in {"random": random, **{m: s + SLOPE * random for m, s in SHIFT.items()}}.items():
                    known = {"method": method, "per_class": size, "seed": seed, "network": "convnet3"}
                    found.append(task | known | {"test_balanced_accuracy": value})
    found.append({**found[0], "method": "all_real", "per_class": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(found, columns=list(study_results.CELLS)).to_csv(path, index=False)
    return path


def test_on_a_study_without_error_the_answer_is_its_line_and_the_interval_a_point(tmp_path: Path) -> None:
    known = predicting.experience(results(tmp_path / "results.csv"), tmp_path)
    dc, dm = predicting.expected(known.studied.points, 0.7, 10, ["dc", "dm"])
    assert dc.expected == pytest.approx((0.65, 0.65, 0.65)) and dm.expected == pytest.approx((0.55, 0.55, 0.55))
    assert len(known.studied.task_n) == 16, "means over seeds; all real tiles and the subsets themselves are no points"


def test_the_study_that_ships_answers_where_there_is_no_other(tmp_path: Path) -> None:
    known = predicting.experience(None, tmp_path)
    assert known.path == predicting.SHIPPED and known.known_benchmark
    assert len(np.unique(known.studied.task_n)) == 11 and len(np.unique(known.studied.points.source_n)) == 4
    (told,) = predicting.expected(known.studied.points, 0.7, 10, ["dm"])
    low, value, high = told.expected.low, told.expected.value, told.expected.high
    assert 0 < low < value < high <= 1 and abs(value - 0.7) < 0.2


def test_the_study_is_the_roots_or_the_one_given_or_an_error_that_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "SHIPPED", tmp_path / "absent.csv")
    with pytest.raises(UserError, match=r"histodistill study configs/feasibility.yaml"):
        predicting.experience(None, tmp_path)
    here = results(tmp_path / "runs" / "feasibility" / "study" / "results.csv")
    assert predicting.experience(None, tmp_path).path == here
    with pytest.raises(UserError, match="other.csv"):
        predicting.experience(tmp_path / "other.csv", tmp_path)
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column setup, task"):
        predicting.experience(tmp_path / "wrong.csv", tmp_path)
    with pytest.raises(UserError, match="of 1 sources"):
        predicting.experience(results(tmp_path / "one.csv", sources=1), tmp_path)


def test_random_subsets_of_the_data_are_trained_on_and_cautions_are_said(tmp_path: Path) -> None:
    store.write_json(tmp_path / "results.json", {"network": "convnet3", "benchmark": studies.BENCHMARK | {"seeds": 1}})
    known = predicting.experience(results(tmp_path / "results.csv"), tmp_path)
    frame = rows().rename(columns={"group": "patient"})
    data = as_parquet(frame, tmp_path / "new.parquet")
    settings, guess = inspection.settings_of(str(data), {})
    assert guess
    run = predicting.run_of(str(data), tmp_path / "root")
    answer = predicting.predict(settings, guess, 4, known, run, engine.Serial(), ["dm"])
    assert len(answer.random) == predicting.DRAWS and answer.chance == 0.5 and len(set(answer.random)) > 1
    (told,) = answer.foretold
    assert told.method == "dm" and told.expected.value == pytest.approx(0.2 + 0.5 * np.mean(answer.random))
    seals = sorted((tmp_path / "root" / "store" / "condensation").glob("*/seal.json"))
    assert len(seals) == 3 and all(store.read_json(p)["causes"]["settings"]["method"] == "random" for p in seals)
    words = predicting.page(answer)
    assert "4 per class" in words and "dm" in words and "! It stands on 4 tasks of 4 sources" in words
    with pytest.raises(UserError, match="nothing of the method 'mtt'; it has dc, dm"):
        predicting.predict(settings, guess, 4, known, run, engine.Serial(), ["mtt"])
    with pytest.raises(UserError, match="class benign has 18 train tiles"):
        predicting.predict(settings, guess, 19, known, run, engine.Serial(), [])


def test_what_lies_outside_of_the_study_is_said_by_method(tmp_path: Path) -> None:
    known = predicting.experience(results(tmp_path / "results.csv"), tmp_path)
    said = " ".join(predicting.cautions(known, 0.3, 50, ["dc", "dm"]))
    assert "outside of what was studied of dc, dm: 0.520 to 0.910" in said and "results.json is missing" in said
    assert "50 per class lies outside of what was studied of dc, dm: 1 to 10" in said
    assert "outside" not in " ".join(predicting.cautions(known, 0.7, 10, ["dc", "dm"]))
    frame = pd.read_csv(tmp_path / "results.csv")
    frame.loc[frame["method"] == "dm", "per_class"] *= 10
    more = frame[frame["method"] == "random"].assign(per_class=frame["per_class"] * 10)
    path = tmp_path / "more.csv"
    pd.concat([frame, more]).drop_duplicates(["task", "method", "per_class", "seed"]).to_csv(path, index=False)
    said = " ".join(predicting.cautions(predicting.experience(path, tmp_path), 0.7, 100, ["dc", "dm"]))
    assert "100 per class lies outside of what was studied of dc: 1 to 10" in said and "of dm" not in said


def test_the_name_of_the_data_names_the_run(tmp_path: Path) -> None:
    assert predicting.run_of("/x/My tiles.parquet", tmp_path) == Run(tmp_path, "predict_My_tiles", 0)
    assert predicting.run_of("/x/folder/", tmp_path).name == "predict_folder"
