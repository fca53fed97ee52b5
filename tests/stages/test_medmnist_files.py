"""Files of MedMNIST brought from a server: this test's own, on this machine."""

import hashlib
import io
import ssl
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest
from serving import served

from stages.contracts import UserError
from stages.sources import medmnist_files

CONTENT = bytes(range(256)) * 9000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a folder with three files, and what is asked for there."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("good", "short", "slow"):
        (folder / f"{name}.npz").write_bytes(CONTENT)
    with served(folder) as found:
        yield found


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def left_in(folder: Path) -> list[str]:
    """The files of a folder but the lock."""
    return [path.name for path in folder.iterdir() if path.name != ".bloodmnist.npz.lock"]


def test_a_file_with_the_published_md5_is_kept_whole(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    path = medmnist_files.download(f"{server[0]}/good.npz", md5(CONTENT), tmp_path / "new" / "bloodmnist.npz")
    assert path.read_bytes() == CONTENT
    assert left_in(path.parent) == ["bloodmnist.npz"]


def test_of_several_at_one_file_one_brings_it_and_the_others_find_it(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    path = tmp_path / "new" / "bloodmnist.npz"
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(medmnist_files.download, f"{address}/slow.npz", md5(CONTENT), path) for _ in range(3)]
    assert {one.result() for one in found} == {path} and path.read_bytes() == CONTENT
    assert asked == ["/slow.npz"] and left_in(path.parent) == ["bloodmnist.npz"]


@pytest.mark.parametrize(
    ("name", "digest", "words"),
    [
        ("good", md5(CONTENT + b"x"), "came with the md5 .* and was not kept"),
        ("short", md5(CONTENT), "came with 2304000 of 2304010 bytes"),
        ("none", md5(CONTENT), "cannot be had: HTTP Error 404"),
        ("chunked", md5(CONTENT), r"cannot be had: IncompleteRead\(.*Check the network and run again"),
        ("nonsense", md5(CONTENT), r"cannot be had: BadStatusLine\('welcome.*Check the network and run again"),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    tmp_path: Path, server: tuple[str, list[str]], name: str, digest: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        medmnist_files.download(f"{server[0]}/{name}.npz", digest, tmp_path / "new" / "bloodmnist.npz")
    assert left_in(tmp_path / "new") == []


def test_a_secure_connection_that_breaks_amid_the_file_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(io.BytesIO):
        headers = HTTPMessage()

        def read(self, size: int | None = -1) -> bytes:
            raise ssl.SSLError(1, "decryption failed or bad record mac")

    def opened(*words: Any, **more: Any) -> Breaking:
        return Breaking()

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    with pytest.raises(UserError, match=r"cannot be had: SSLError\(.*bad record mac.* into "):
        medmnist_files.download("https://nowhere.invalid/x.npz", md5(b""), tmp_path / "bloodmnist.npz")
    assert left_in(tmp_path) == []


def test_a_server_that_is_not_there_is_an_error_that_says_where_else_the_file_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bloodmnist.npz from https://zenodo.org/records/10519652"):
        medmnist_files.download("http://127.0.0.1:9/x.npz", md5(b""), tmp_path / "bloodmnist.npz")


def test_a_set_that_medmnist_has_not_is_an_error_that_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'bloodmnist'"):
        medmnist_files.bring("bloodmnis", tmp_path)
    assert "put it there" in medmnist_files.advice("pathmnist", tmp_path)
