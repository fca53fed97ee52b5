"""Files of MedMNIST brought from a server: this test's own, on this machine."""

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stages.contracts import UserError
from stages.sources import medmnist_files

CONTENT = bytes(range(256)) * 9000


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder; `short.npz` is promised longer than it is."""

    def log_message(self, *words: Any) -> None:
        pass

    def send_header(self, keyword: str, value: str) -> None:
        longer = keyword == "Content-Length" and self.path == "/short.npz"
        super().send_header(keyword, str(int(value) + 10) if longer else value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a folder with three files."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("good", "short"):
        (folder / f"{name}.npz").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as at_work:
        thread = threading.Thread(target=at_work.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{at_work.server_port}"
        at_work.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_a_file_with_the_published_md5_is_kept_whole(tmp_path: Path, server: str) -> None:
    path = medmnist_files.download(f"{server}/good.npz", md5(CONTENT), tmp_path / "new" / "bloodmnist.npz")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["bloodmnist.npz"]


@pytest.mark.parametrize(
    ("name", "digest", "words"),
    [
        ("good", md5(CONTENT + b"x"), "came with the md5 .* and was not kept"),
        ("short", md5(CONTENT), "came with 2304000 of 2304010 bytes"),
        ("none", md5(CONTENT), "cannot be had: HTTP Error 404"),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    tmp_path: Path, server: str, name: str, digest: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        medmnist_files.download(f"{server}/{name}.npz", digest, tmp_path / "new" / "bloodmnist.npz")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_server_that_is_not_there_is_an_error_that_says_where_else_the_file_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bloodmnist.npz from https://zenodo.org/records/10519652"):
        medmnist_files.download("http://127.0.0.1:9/x.npz", md5(b""), tmp_path / "bloodmnist.npz")


def test_a_set_that_medmnist_has_not_is_an_error_that_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'bloodmnist'"):
        medmnist_files.bring("bloodmnis", tmp_path)
    assert "put it there" in medmnist_files.advice("pathmnist", tmp_path)
