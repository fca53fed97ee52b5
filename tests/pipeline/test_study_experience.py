"""The results of a study, read again: whose they are, and what is said of files that are not whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import studies
from studies import results

from pipeline import predicting, study_experience
from pipeline.study_experience import experience
from stages import store
from stages.contracts import UserError

NETWORK = studies.BENCHMARK["networks"]["convnet3"]


def about(**changes: Any) -> dict[str, Any]:
    return {"network": "convnet3", "benchmark": studies.BENCHMARK, "level": 0.8} | changes


def test_the_study_that_ships_answers_where_there_is_no_other(tmp_path: Path) -> None:
    known = experience(None, tmp_path)
    assert known.path == study_experience.SHIPPED and known.known_benchmark
    assert len(np.unique(known.studied.task_n)) == 11 and len(np.unique(known.studied.points.source_n)) == 4
    (told,) = predicting.expected(known.studied.points, 0.7, 10, ["dm"], 0.95)
    low, value, high = told.expected.low, told.expected.value, told.expected.high
    assert 0 < low < value < high <= 1 and abs(value - 0.7) < 0.2


def test_the_study_is_the_roots_or_the_one_given_or_an_error_that_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_experience, "SHIPPED", tmp_path / "absent.csv")
    with pytest.raises(UserError, match=r"histodistill study configs/feasibility.yaml"):
        experience(None, tmp_path)
    here = results(tmp_path / "runs" / "feasibility" / "study" / "results.csv")
    assert experience(None, tmp_path).path == here
    with pytest.raises(UserError, match="other.csv"):
        experience(tmp_path / "other.csv", tmp_path)
    with pytest.raises(UserError, match="of 1 sources"):
        experience(results(tmp_path / "one.csv", sources=1), tmp_path)


def test_level_network_and_benchmark_are_the_studys(tmp_path: Path) -> None:
    path = results(tmp_path / "results.csv")
    known = experience(path, tmp_path)
    assert (known.level, known.network, known.known_benchmark) == (0.95, "convnet3", False)
    networks = {"convnet3": NETWORK, "aaa": NETWORK | {"network": "convnet3", "steps": 3}}
    store.write_json(tmp_path / "results.json", about(benchmark={"networks": networks}))
    known = experience(path, tmp_path)
    assert (known.level, known.network, known.known_benchmark) == (0.8, "convnet3", True)
    assert list(known.benchmark.networks) == ["convnet3"], "not the first by name, which JSON sorts to the front"
    assert known.benchmark.networks["convnet3"].steps == NETWORK["steps"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a table: No columns"),
        (b"a,b\n1,2,3\n1,2,3,4\n", "cannot be read as a table: Error tokenizing"),
        (b"\x00\x01\xff\xfe", "cannot be read as a table: .*codec"),
        (b"a,b\n1,2\n", "has no column setup, task"),
    ],
)
def test_a_file_that_is_no_table_of_results_is_named_with_what_to_give(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)bad\.csv.*{said}.*Give the results.csv that histodistill study wrote"):
        experience(tmp_path / "bad.csv", tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("test_balanced_accuracy", "good", "'good' in column test_balanced_accuracy, row 2 .* from 0 to 1"),
        ("test_balanced_accuracy", "1.5", "'1.5' in column test_balanced_accuracy"),
        ("per_class", "0", "'0' in column per_class, row 2 .* from 1 on"),
        ("per_class", "inf", "'inf' in column per_class"),
        ("chance", "", "an accuracy without chance in row 2"),
        ("seed", "NA", "an accuracy without seed in row 2"),
    ],
)
def test_a_number_that_is_none_is_named_with_its_row(tmp_path: Path, column: str, value: str, said: str) -> None:
    path = results(tmp_path / "results.csv")
    frame = pd.read_csv(path, dtype=str, na_filter=False)
    frame.loc[1, column] = value
    frame.to_csv(path, index=False)
    with pytest.raises(UserError, match=rf"results\.csv .*{said}.*Give the results.csv"):
        experience(path, tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"network": "convn', "is not whole JSON"),
        (b"\xff\xfe\x00", "is not whole JSON"),
        (b"[]", "holds a list and not"),
        (about(benchmark={"sedes": 1}), "(?s)unknown key 'sedes'; did you mean 'seeds'"),
        (about(benchmark=[]), "(?s)benchmark that .* cannot be used"),
        (about(benchmark={"networks": {"vit": {}}}), "how vit are trained, but not convnet3"),
        (about(network="vit"), "network 'vit', but the results beside it are of convnet3"),
        (about(network=["vit"]), "network \\['vit'\\], but"),
        (about(level=95), "has the level 95; a number between 0 and 1"),
    ],
)
def test_what_lies_beside_the_results_and_is_not_whole_is_named_with_what_to_do(
    tmp_path: Path, content: bytes | dict[str, Any], said: str
) -> None:
    path, beside = results(tmp_path / "results.csv"), tmp_path / "results.json"
    if isinstance(content, bytes):
        beside.write_bytes(content)
    else:
        store.write_json(beside, content)
    with pytest.raises(UserError, match=rf"{said}") as caught:
        experience(path, tmp_path)
    assert "results.json" in str(caught.value) and "or take it away" in str(caught.value)


def test_sources_and_tasks_called_like_nothing_or_like_numbers_are_names(tmp_path: Path) -> None:
    path = results(tmp_path / "results.csv")
    frame = pd.read_csv(path, dtype=str, na_filter=False)
    names = {"s0": "NA", "s1": "null", "s2": "01", "s3": "1"}
    frame.assign(source=frame["source"].map(names)).to_csv(path, index=False)
    points = experience(path, tmp_path).studied.points
    assert set(points.source_n) == set(names.values()) and len(points.source_n) == 16
