"""Progress is shown and changes nothing."""

import pytest

from stages import progress


def test_the_items_pass_unchanged_and_quick_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(range(5), "counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_a_log_gets_whole_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e-9)
    for _ in progress.track(range(3), "counting", total=6, done=2, unit="tile"):
        pass
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) > 2 and all(line.startswith("counting:") for line in lines[:-1])
    assert "tile/s" in lines[-2] and "5/6" in lines[-2] and "\r" not in "".join(lines)
