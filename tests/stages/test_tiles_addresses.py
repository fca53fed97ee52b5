"""Sources at an address are brought here and give the same tiles; their seal follows what lies there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import yaml
from made_tiles import as_files, as_parquet, digests, rows, run

from pipeline import config, seals
from stages import store
from stages.contracts import UserError
from stages.settings import external_paths, external_urls
from stages.sources import remote
from stages.tiles import TilesSettings


@pytest.fixture
def memory() -> Iterator[Any]:
    """A file system that lies nowhere."""
    driver = fsspec.filesystem("memory")
    yield driver
    driver.rm("/", recursive=True)


def put(memory: Any, folder: Path, where: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            memory.pipe(f"{where}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_parquet_file_at_an_address_gives_the_same_tiles(tmp_path: Path, parquet: Path, memory: Any) -> None:
    memory.pipe("/bucket/tiles.parquet", parquet.read_bytes())
    wanted = digests(run(tmp_path / "a", source=parquet))
    assert digests(run(tmp_path / "b", source="memory://bucket/tiles.parquet")) == wanted
    assert digests(run(tmp_path / "c", source=f"file://{parquet}")) == wanted


def test_a_folder_at_an_address_gives_the_same_tiles_and_strange_files_stay_there(tmp_path: Path, memory: Any) -> None:
    frame = rows()
    frame["file_name"] = frame["file"]
    folder = as_files(frame, tmp_path / "in")
    frame.drop(columns=["content", "file"]).to_csv(folder / "metadata.csv", index=False)
    put(memory, folder, "/bucket/set")
    memory.pipe("/bucket/set/README.md", b"# A set")
    memory.pipe("/bucket/other/secret.png", b"not asked for")
    out = run(tmp_path / "b", source="memory://bucket/set")
    assert digests(out) == digests(run(tmp_path / "a", source=folder))
    brought = {p.name for p in (store.work_folder(out) / "source").rglob("*") if p.is_file()}
    assert brought == {"metadata.csv", *(Path(name).name for name in frame["file"])}


def test_an_npz_at_an_address_is_known_by_its_name(tmp_path: Path, memory: Any) -> None:
    rng = np.random.default_rng(0)
    content = {f"{r}_images": rng.integers(0, 256, (30, 9, 9), dtype=np.uint8) for r in ("train", "val", "test")}
    content |= {f"{r}_labels": np.arange(30)[:, None] % 2 for r in ("train", "val", "test")}
    np.savez(tmp_path / "x.npz", **content)
    memory.pipe("/b/breastmnist_64.npz", (tmp_path / "x.npz").read_bytes())
    out = run(tmp_path / "out", source="memory://b/breastmnist_64.npz")
    assert store.read_json(out / "facts.json")["medmnist"]["set"] == "breastmnist"


def test_what_came_before_a_stop_is_not_asked_for_again(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        memory.pipe(f"/b/set/{number}.png", bytes(100 + number))
    monkeypatch.setattr(remote, "BATCH", 2)
    asked: list[str] = []
    get = type(memory).get

    def failing(self: Any, names: list[str], paths: list[str]) -> None:
        asked.extend(names)
        if len(asked) == 4:
            raise OSError("the line is dead")
        get(self, names, paths)

    monkeypatch.setattr(type(memory), "get", failing)
    with pytest.raises(UserError, match=r"memory://b/set: a file cannot be had: the line is dead. Run again"):
        remote.bring("memory://b/set", tmp_path)
    assert sorted(p.name for p in (tmp_path / "source").iterdir()) == ["0.png", "1.png"]
    folder = remote.bring("memory://b/set", tmp_path)
    assert asked == [f"/b/set/{n}.png" for n in (0, 1, 2, 3, 2, 3, 4)]
    assert {p.name: p.stat().st_size for p in folder.iterdir()} == {f"{n}.png": 100 + n for n in range(5)}


def test_a_file_that_came_short_is_told_and_not_kept(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/b/x.parquet", bytes(100))
    monkeypatch.setattr(type(memory), "get", lambda self, names, paths: Path(paths[0]).write_bytes(bytes(60)))
    with pytest.raises(UserError, match="x.parquet came with 60 of 100 bytes"):
        remote.bring("memory://b/x.parquet", tmp_path)
    assert not (tmp_path / "source" / "x.parquet").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/tiles.parquet", "needs a driver that is not here. Install s3fs"),
        ("nosuch://bucket/tiles.parquet", "cannot be read: Protocol not known: nosuch"),
        ("memory://nothing/here", "There is nothing at memory://nothing/here"),
    ],
)
def test_an_address_that_cannot_be_read_is_told(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", source=url)


def test_the_seal_follows_what_lies_at_the_address(tmp_path: Path, memory: Any) -> None:
    def sealed() -> str:
        settings = TilesSettings(source="memory://bucket/set")
        assert external_urls(settings) == {"source": "memory://bucket/set"} and not external_paths(settings)
        causes = seals.causes("tiles", settings, 0, "stages.tiles", {}, tmp_path)
        return str(causes["settings"]["source"])

    memory.pipe("/bucket/set/a.png", b"one")
    first = sealed()
    assert first.startswith("address ") and "bucket" not in first and sealed() == first
    memory.pipe("/bucket/set/README.md", b"not brought")
    assert sealed() == first
    memory.pipe("/bucket/set/a.png", b"two")
    assert (second := sealed()) != first
    memory.mv("/bucket/set/a.png", "/bucket/set/b.png")
    third = sealed()
    assert third not in (first, second)


def test_where_servers_give_an_etag_the_clock_is_no_content() -> None:
    info = {"name": "x", "size": 3, "LastModified": "today", "ETag": '"abc"'}
    assert remote._mark(info) == remote._mark(info | {"LastModified": "tomorrow"})
    assert remote._mark(info) != remote._mark(info | {"ETag": '"abd"'})


def test_without_a_network_an_address_is_taken_as_it_was(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory.pipe("/bucket/a.parquet", b"one")
    first = seals.address_digest("memory://bucket/a.parquet", tmp_path)

    def dead(self: Any, path: str) -> bool:
        raise OSError("no route to host")

    monkeypatch.setattr(type(memory), "isfile", dead)
    assert seals.address_digest("memory://bucket/a.parquet", tmp_path) == first
    assert "no route to host" in caplog.text and "as it was when last read" in caplog.text
    with pytest.raises(UserError, match="cannot be reached: no route to host"):
        seals.address_digest("memory://bucket/b.parquet", tmp_path)


def test_a_recipe_keeps_an_address_as_it_is_and_a_file_address_becomes_a_path(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    for given, wanted in (
        ("s3://bucket/tiles", "s3://bucket/tiles"),
        (f"file://{tmp_path}/tiles", tmp_path / "tiles"),
        ("tiles", tmp_path / "tiles"),
    ):
        recipe.write_text(yaml.safe_dump({"tiles": {"source": given}, "autoencoder": {"mode": "train"}}))
        assert config.load(recipe).tiles.source == wanted


def test_a_parquet_file_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    path = as_parquet(rows(), tmp_path / "t.parquet")
    assert external_paths(TilesSettings(source=f"file://{path}")) == {"source": path}
