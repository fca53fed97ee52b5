"""A study in which something breaks that nobody can mend in its recipe: the cell is set aside, the others are made."""

import errno
import functools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import studies
from telling import seals_below

from pipeline import engine, faults
from pipeline.cli import app
from pipeline.study import NOT_YET, begin, made, measure
from stages import condensation, judge

ONE = {"methods": {}, "setups": ["each"], "seeds": 1, "leave_out": ["alpha", "gamma"]}
"""Three cells of beta: all real, random 1 and random 4."""
MEMORY = RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")
Breaking = Callable[[BaseException, int], None]


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Condensations of one size raise from now on."""
    whole = condensation.run

    def install(error: BaseException, size: int) -> None:
        @functools.wraps(whole)
        def run(settings: condensation.CondensationSettings, *rest: object) -> None:
            if settings.per_class == size:
                raise error
            whole(settings, *rest)

        monkeypatch.setattr(condensation, "run", run)

    return install


def tell(recipe: Path, *words: str) -> int:
    """The exit code of the command, in this process."""
    root = str(recipe.parent / "root")
    return faults.guarded(lambda: app(args=["study", str(recipe), "--root", root, "--workers", "1", *words]), False)


def test_a_cell_that_breaks_is_set_aside_and_the_same_command_tries_it_again(
    tmp_path: Path, breaking: Breaking, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = studies.recipe(tmp_path, **ONE), tmp_path / "root" / "runs" / "study"
    breaking(MEMORY, 1)  # the first that would be made
    assert tell(recipe) == faults.OURS
    said = capsys.readouterr()
    words = " ".join(said.err.split())
    assert "1 of 3 cells broke and was set aside: beta/random_1/seed0 (RuntimeError: CUDA out of memory.)." in words
    assert "The same command tries again" in words and "log.txt shows where it happened" in words
    assert "Traceback" not in said.err and "Traceback" in (out / "log.txt").read_text()
    assert "| beta | random | –, RuntimeError: CUDA out of memory. | 0." in said.out
    rows = pd.read_csv(out / "study" / "results.csv").set_index("per_class")
    assert rows.loc[1, "reason"] == f"RuntimeError: {MEMORY}" and rows.loc[4, "test_balanced_accuracy"] > 0
    kept = seals_below(tmp_path / "root")
    monkeypatch.undo()
    assert tell(recipe) == faults.DONE
    assert kept.items() < seals_below(tmp_path / "root").items(), "what was made stays, what broke is made"
    assert "RuntimeError" not in (out / "study" / "table.md").read_text()


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(errno.ENOSPC, "No space left on device"), faults.MEND), (KeyboardInterrupt(), faults.STOPPED)],
)
def test_what_would_stop_every_cell_ends_the_study_and_leaves_a_report_of_what_there_is(
    tmp_path: Path, breaking: Breaking, error: BaseException, code: int
) -> None:
    breaking(error, 4)
    recipe = studies.recipe(tmp_path, **ONE)
    assert tell(recipe) == code
    table = (tmp_path / "root" / "runs" / "study" / "study" / "table.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| beta | random |"))
    assert row.startswith("| beta | random | 0.") and f"–, {NOT_YET}" in row
    assert (tmp_path / "root" / "runs" / "study" / "results" / "benchmark" / "beta" / "random_1").is_dir(), "linked"


def test_what_stands_on_a_broken_judge_is_set_aside_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @functools.wraps(judge.run)
    def broken(*given: object) -> None:
        raise MEMORY

    monkeypatch.setattr(judge, "run", broken)
    recipe = studies.recipe(tmp_path, **ONE | {"methods": {"herding": {"method": "herding"}}})
    assert tell(recipe) == faults.OURS
    words = " ".join(capsys.readouterr().err.split())
    assert "2 of 5 cells broke and were set aside: beta/herding_1/seed0 (RuntimeError: CUDA" in words


def test_a_measurement_that_may_not_go_on_raises_what_broke(tmp_path: Path, breaking: Breaking) -> None:
    breaking(MEMORY, 1)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        measure(studies.study(tmp_path, tmp_path, **ONE), engine.Serial())


def test_what_earlier_runs_made_is_known_before_any_work(tmp_path: Path) -> None:
    study = studies.study(tmp_path, tmp_path, **ONE)
    assert made(study, begin(study)).left == 3
    done = measure(study, engine.Serial())
    assert made(study, begin(study)) == done and done.left == 0
