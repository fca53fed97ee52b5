"""What counts as code, and how outside files are digested."""

import ast
import os
from pathlib import Path

import pytest

from pipeline import seals
from stages import store
from stages.contracts import UserError
from stages.embedding import EmbeddingSettings


def digest(source: str) -> str:
    return ast.dump(seals._without_docstrings(ast.parse(source)))


def test_comments_layout_and_docstrings_are_no_code() -> None:
    plain = "def f(x):\n    return x + 1\n"
    dressed = '"""Module."""\n\n\ndef f(x):  # why\n    """Doc."""\n    return (x\n            + 1)\n'
    assert digest(plain) == digest(dressed)
    assert digest(plain) != digest(plain.replace("1", "2"))


def test_a_stage_stands_on_every_module_below_it() -> None:
    found = seals.code_of("stages.training")
    assert {"stages.training", "stages.store", "stages.compute", "stages.contracts"} <= found.keys()
    assert not any(name.startswith(("torch", "pipeline")) for name in found)


def test_the_modules_inside_a_package_count_each_by_itself() -> None:
    below = {f"stages.sources.{name}" for name in ("opening", "table", "chunks", "parquet", "folders", "medmnist")}
    assert below | {"stages.sources", "stages.dividing", "stages.decoding"} <= seals.code_of("stages.tiles").keys()


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import stages.store\ndef f():\n    from stages import images\n    from stages.graph import knn\n"
    names = seals._imports(ast.parse(source), "stages")
    assert {"stages.store", "stages", "stages.images", "stages.graph"} <= set(names)


def test_relative_imports_start_from_the_package() -> None:
    assert "stages.graph.knn" in seals._imports(ast.parse("from .knn import f"), "stages.graph")
    assert "stages.store" in seals._imports(ast.parse("from ..store import f"), "stages.graph")


def test_an_outside_folder_is_its_names_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("a")
    first = seals.external_digest(folder, tmp_path)
    os.utime(folder / "deep" / "a.txt", (1, 1))
    assert seals.external_digest(folder, tmp_path) == first, "the clock is no content"
    (folder / "deep" / "a.txt").rename(folder / "deep" / "b.txt")
    assert seals.external_digest(folder, tmp_path) != first


def test_a_changed_outside_file_is_seen_though_its_digest_was_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    os.utime(path, (1, 1))
    first = seals.external_digest(path, tmp_path)
    assert (tmp_path / "store" / ".outside.json").exists()
    path.write_bytes(b"two")
    assert seals.external_digest(path, tmp_path) != first


def test_a_missing_outside_file_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing at .*gone"):
        seals.external_digest(tmp_path / "gone", tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="wants a file that nobody can read from its start")
def test_an_outside_file_that_cannot_be_read_counts_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.svs").write_bytes(b"a")
    without = seals.external_digest(folder, tmp_path)
    (folder / "b.svs").symlink_to("/proc/self/mem")
    unreadable = seals.external_digest(folder, tmp_path)
    assert unreadable != without and seals.external_digest(folder, tmp_path) == unreadable
    (folder / "b.svs").unlink()
    (folder / "b.svs").write_bytes(b"b")
    assert seals.external_digest(folder, tmp_path) not in (unreadable, without)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_outside_file_that_may_not_be_read_counts_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"a")
    readable = seals.external_digest(tmp_path / "a.svs", tmp_path)
    (tmp_path / "a.svs").chmod(0)
    assert seals.external_digest(tmp_path / "a.svs", tmp_path) != readable


def test_an_outside_file_may_vanish_while_the_others_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    digest_file = store.digest_file

    def slow(path: Path) -> str:
        (folder / "b").unlink(missing_ok=True)  # while a is read
        return digest_file(path)

    monkeypatch.setattr(store, "digest_file", slow)
    first = seals.external_digest(folder, tmp_path)
    assert seals.external_digest(folder, tmp_path) != first, "it is no part of the folder any more"


def test_differences_are_said_in_words() -> None:
    old = {"settings": {"a": 1}, "code": {"m": "x"}, "inputs": {"i": "1"}, "seed": 0}
    new = {"settings": {"a": 2}, "code": {"m": "y"}, "inputs": {"i": "2"}, "seed": 1}
    assert seals.differences(old, new) == [
        "setting a: 1 -> 2",
        "code of m changed",
        "input i changed",
        "the seed changed",
    ]


def test_a_template_counts_where_code_names_it() -> None:
    assert "stages.release_card:release_card.md.jinja" in seals.code_of("stages.release")
    assert not any("jinja" in name for name in seals.code_of("stages.tiles"))


def test_an_outside_file_in_a_section_of_the_settings_is_sealed_by_content(tmp_path: Path) -> None:
    sealed = []
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        section = {"model": "resnet18", "weights": path}
        settings = EmbeddingSettings.model_validate({"encoder": "timm", "timm": section})
        causes = seals.causes("embedding", settings, 0, "stages.settings", {}, tmp_path)
        sealed.append(causes["settings"])
        assert str(tmp_path) not in str(causes)
    assert sealed[0] == sealed[1] != sealed[2]
    assert sealed[0]["timm"]["weights"].startswith("content ")
