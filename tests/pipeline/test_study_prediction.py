"""What a study's results say of random subsets and distilled sets, in numbers and in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import study_prediction, study_report
from pipeline.runner import Run
from pipeline.study import Study
from pipeline.study_config import StudyConfig
from pipeline.study_prediction import ACCURACY


def frame(rows: list[tuple[str, str, str, int, float]]) -> pd.DataFrame:
    """Results from (task, source, method, seed, accuracy), two classes, ten images each."""
    found = pd.DataFrame(rows, columns=["task", "source", "method", "seed", ACCURACY])
    return found.assign(setup="each", network="convnet3", per_class=10, chance=0.5)


def study(sources: str, seed: int = 0) -> pd.DataFrame:
    """A task of each source's, in which DC and DM do a little better than the random subset."""
    rng, rows = np.random.default_rng(seed), []
    for number, source in enumerate(sources):
        random = 0.4 + 0.05 * number
        values = {"random": random, "dc": random + rng.uniform(0, 0.1), "dm": random + rng.uniform(0, 0.1)}
        rows += [(f"t{number}", source, method, 0, value) for method, value in values.items()]
    return frame(rows)


def told(results: pd.DataFrame, level: float = 0.95) -> dict[str, Any]:
    return study_prediction.findings(study_prediction.studied(results, "convnet3"), 0, 50, level)


def test_a_distilled_set_is_held_against_the_random_subsets_of_its_own_seeds() -> None:
    rows = [("t", "s", "random", 0, 0.5), ("t", "s", "random", 1, 0.9), ("t", "s", "dc", 0, 0.5)]
    rows += [("t", "s", "dm", 0, 0.6), ("t", "s", "dm", 1, 0.7), ("t", "s", "dm", 2, 0.1)]
    points = study_prediction.studied(frame(rows), "convnet3").points
    assert points.method_n.tolist() == ["dc", "dm"]
    assert points.random_n == pytest.approx([0.5, 0.7]) and points.distilled_n == pytest.approx([0.5, 0.65])


def test_fewer_than_four_sources_have_correlations_without_limits_and_the_page_says_why() -> None:
    found = told(study("aabbc"))
    assert all(row["sources"] == 3 for row in found["correlation"])
    assert found["correlation"][0]["accuracy_spearman"]["value"] > 0.5
    assert all(row["accuracy_spearman"]["low"] is None for row in found["correlation"])
    words = study_prediction.markdown(found)
    assert "fewer than 4 sources have no limits" in words and "cover the truth" not in words and " wide." not in words


def test_what_intervals_are_worth_is_told_of_so_many_sources_and_that_level() -> None:
    words = study_prediction.markdown(told(study("abcd")))
    assert "simulated with 4 sources they cover the truth in 74 to 87 of 100" in words and "no limits" not in words
    assert "simulated with 6 sources they cover the truth in 87 to 91" in study_prediction.markdown(
        told(study("abcdefg"))
    )
    words = study_prediction.markdown(told(study("abcd"), level=0.8))
    assert "Intervals (80 %)" in words and "less often than that" in words and "of 100 studies" not in words


def test_a_method_of_few_sources_in_a_study_of_more_has_no_limits_of_its_own() -> None:
    results = study("abcde")
    few = results[(results["method"] != "dm") | results["source"].isin(list("abc"))]
    found = {row["method"]: row for row in told(few)["correlation"] if row["per_class"] is None}
    assert found["dm"]["accuracy_pearson"]["low"] is None and found["dc"]["accuracy_pearson"]["low"] is not None
    words = study_prediction.markdown(told(few))
    assert "fewer than 4 sources have no limits" in words and "simulated with 5 sources" in words


def test_results_that_several_methods_share_to_the_last_digit_are_counted() -> None:
    results = study("abcd")
    assert told(results)["results_alike"] == 0 and "to the last digit" not in study_prediction.markdown(told(results))
    distilled = results["method"].isin(("dc", "dm"))
    results.loc[distilled & (results["task"] == "t1"), ACCURACY] = 0.75
    apart = results[distilled & (results["task"] == "t1") & (results["method"] == "dc")].assign(seed=1)
    other = results[(results["method"] == "random") & (results["task"] == "t1")].assign(seed=1)
    found = told(pd.concat([results, apart, other]))
    assert (found["results_alike"], found["results"]) == (2, 9), "another seed's equal number is no copy"
    assert "2 of the 9 results of distilled sets" in study_prediction.markdown(found)
    results.loc[distilled & (results["task"] == "t1") & (results["method"] == "dm"), ACCURACY] += 1e-9
    assert told(results)["results_alike"] == 0


def test_with_one_task_the_page_says_what_is_wanted_and_still_tells_of_copies() -> None:
    results = study("a").assign(**{ACCURACY: 0.5})
    words = study_prediction.markdown(told(results))
    assert "has 1 tasks" in words and "three or more are wanted" in words and "2 of the 2 results" in words


@pytest.mark.parametrize(("sources", "drawn"), [("a", False), ("ab", False), ("abc", True)])
def test_the_figure_is_drawn_of_as_many_tasks_as_the_page_wants(tmp_path: Path, sources: str, drawn: bool) -> None:
    of = Study(StudyConfig(resamples=20), Run(tmp_path, "some", 0), ())
    study_report._prediction(of, study(sources), tmp_path)
    assert (tmp_path / "prediction.png").exists() == drawn
    assert ("three or more are wanted" in (tmp_path / "prediction.md").read_text()) != drawn
