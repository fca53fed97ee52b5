"""Tiles stopped or killed at any moment: running again gives the same bytes."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from made_tiles import Serial, digests, key_file, run

from stages import compute, store, tiles
from stages.contracts import Interrupted


def test_asked_to_stop_it_keeps_what_is_decoded_and_goes_on_later(
    tmp_path: Path, parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = digests(run(tmp_path / "whole", source=parquet, chunk_tiles=10))
    monkeypatch.setattr(compute, "stop_asked", lambda: True)
    out = tmp_path / "store" / "out.scratch"
    for _ in range(5):
        with pytest.raises(Interrupted):
            run(out, source=parquet, chunk_tiles=10)
        out.rmdir()
    assert len(list(store.work_folder(out).iterdir())) == 5
    assert digests(run(out, source=parquet, chunk_tiles=10)) == wanted


CHILD = """
    import sys, time
    from pathlib import Path
    from stages import tiles
    class Slow:
        def map(self, function, items):
            for item in items:
                time.sleep(float(sys.argv[3]))
                yield function(item)
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    inputs = {"key": Path(sys.argv[4])}
    tiles.run(tiles.TilesSettings(source=sys.argv[1], chunk_tiles=6), inputs, out, 5, Slow())
"""


def test_killed_at_any_moment_it_continues_to_the_same_bytes(tmp_path: Path, parquet: Path) -> None:
    wanted = digests(run(tmp_path / "whole", source=parquet, chunk_tiles=6))
    out = tmp_path / "store" / "out.scratch"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(parquet), str(out)]
    key = key_file(tmp_path)
    child = subprocess.Popen(
        [*command, "0.1", str(key)], stderr=subprocess.DEVNULL, cwd=Path(tiles.__file__).parents[1]
    )
    work = store.work_folder(out)
    while len(list(work.glob("tiles-*.arrow"))) < 3:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in work.glob("tiles-*.arrow")}
    assert 3 <= len(kept) < 10
    tiles.run(tiles.TilesSettings(source=parquet, chunk_tiles=6), {"key": key}, out, 5, Serial())
    assert digests(out) == wanted
    assert {path.name: path.stat().st_mtime_ns for path in work.glob("tiles-*.arrow")}.items() >= kept.items()
