"""The root's key: made once, for its owner alone, and refused when it is not as it should be."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from telling import HERE

from pipeline import doctor, keys
from stages import store
from stages.contracts import UserError


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert keys.read(root) is None and keys.digest(root) == "none yet" and not root.exists()
    path = keys.ensure(root)
    content = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(bytes.fromhex(content)) == 32
    assert keys.ensure(root) == path and path.read_text() == content
    assert keys.digest(root) == store.digest_bytes(bytes.fromhex(content))


def test_two_roots_have_two_keys(tmp_path: Path) -> None:
    assert keys.ensure(tmp_path / "a").read_text() != keys.ensure(tmp_path / "b").read_text()


def test_runs_that_start_at_once_find_one_key(tmp_path: Path) -> None:
    code = "import sys, pathlib; from pipeline import keys; print(keys.ensure(pathlib.Path(sys.argv[1])).read_text())"
    command = [sys.executable, "-c", code, str(tmp_path / "root")]
    many = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE) for _ in range(6)]
    told = {one.communicate()[0].strip() for one in many}
    assert len(told) == 1 and len(bytes.fromhex(told.pop())) == 32


def test_what_a_killed_run_left_is_no_key_and_does_no_harm(tmp_path: Path) -> None:
    keys.place(tmp_path).with_name(".key.scratch").write_text("half")
    assert len(bytes.fromhex(keys.ensure(tmp_path).read_text())) == 32
    assert not (tmp_path / ".key.scratch").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_or_write_is_refused_and_the_doctor_says_so(tmp_path: Path, mode: int) -> None:
    assert doctor.key(tmp_path).good
    keys.ensure(tmp_path).chmod(mode)
    for ask in (keys.ensure, keys.digest, keys.read):
        with pytest.raises(UserError, match=f"mode is {mode:o}, 600 is wanted.*chmod 600"):
            ask(tmp_path)
    line = doctor.key(tmp_path)
    assert line.good is False and "chmod 600" in line.advice


@pytest.mark.parametrize("content", ["", "0a1b", "x" * 64, "é" * 64, "00" * 33])
def test_a_malformed_key_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = keys.ensure(tmp_path)
    path.write_text(content)
    with pytest.raises(UserError, match="64 hexadecimal digits are wanted.*backup"):
        keys.ensure(tmp_path)
    assert path.read_text() == content
