"""The check of a release finds every tampering, and nothing in one that is whole."""

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

from stages import release, release_check


@pytest.fixture
def copy(shipped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped, tmp_path / "copy"))


def test_a_fresh_release_is_whole_and_awaits_its_signature(shipped: Path, copy: Path) -> None:
    assert release.verify(shipped) == []
    assert release_check.awaits_review(shipped)
    page = copy / "REVIEW.md"
    page.write_text(page.read_text().replace("Name: ____", "Name: A. Pathologist ____"))
    assert not release_check.awaits_review(copy)
    assert release.verify(copy) == []


TILE = "train/zeta_type/zeta_type-00001.png"


def rewritten(folder: Path) -> None:
    (folder / "checksums.sha256").write_text(release_check.checksums(folder))


def with_text(folder: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"tEXt", release_check.MARK)
    info.add_text("patient", "M.")
    Image.open(folder / TILE).copy().save(folder / TILE, pnginfo=info)


def with_exif(folder: Path) -> None:
    info, exif = PngImagePlugin.PngInfo(), Image.Exif()
    info.add(b"tEXt", release_check.MARK)
    exif[0x010E] = "patient"
    Image.open(folder / TILE).copy().save(folder / TILE, pnginfo=info, exif=exif)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def append(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes((path.read_bytes() if path.exists() else b"") + content)

    return change


def moved(folder: Path) -> None:
    (folder / TILE).rename(folder / "train" / "alpha_beta" / "zeta_type-00001.png")
    table = pd.read_parquet(folder / "train" / "metadata.parquet")
    table["file_name"] = table["file_name"].replace("zeta_type/zeta_type-00001.png", "alpha_beta/zeta_type-00001.png")
    table.to_parquet(folder / "train" / "metadata.parquet", index=False)


def path_in_table(folder: Path) -> None:
    table = pd.read_parquet(folder / "train" / "metadata.parquet").assign(origin="/mnt/slides/a.svs")
    table.to_parquet(folder / "train" / "metadata.parquet", index=False)


def other_size(folder: Path) -> None:
    (folder / TILE).write_bytes(release.marked_png(np.zeros((8, 8, 3), np.uint8)))


def unmarked(folder: Path) -> None:
    Image.open(folder / TILE).copy().save(folder / TILE)


def linked(folder: Path) -> None:
    (folder / "more").symlink_to("/etc")


TAMPERINGS: dict[str, tuple[Callable[[Path], None], bool, str]] = {
    "a missing tile": (lambda f: (f / TILE).unlink(), False, rf"{TILE}: missing"),
    "a missing tile, checksums anew": (lambda f: (f / TILE).unlink(), True, rf"metadata.parquet: names {TILE}, which"),
    "an altered card": (append("README.md", b"x"), False, "README.md: altered"),
    "an altered licence": (edit("LICENSE.txt", "CC-BY", "CC-XX"), False, "LICENSE.txt: altered"),
    "an extra file": (append("notes.txt", b"x"), False, "notes.txt: extra"),
    "a strange file": (append("notes.txt", b"x"), True, "notes.txt: a file of this name has no place"),
    "an unlisted tile": (
        lambda f: shutil.copy(f / TILE, f / "train/zeta_type/other.png"), True, "other.png: is not in train/metadata",
    ),
    "weights": (append("unet.safetensors", b"x"), True, "unet.safetensors: weights or pickles"),
    "a pickle": (append("train/cache.pkl", b"x"), True, "cache.pkl: weights or pickles"),
    "no checksums": (lambda f: (f / "checksums.sha256").unlink(), False, "checksums.sha256: missing"),
    "a damaged line of checksums": (append("checksums.sha256", b"abc\n"), False, "checksums.sha256: line 19 is not"),
    "a truncated tile": (lambda f: (f / TILE).write_bytes((f / TILE).read_bytes()[:300]), True, rf"{TILE}: .*"),
    "a tile that is no picture": (lambda f: (f / TILE).write_bytes(b"x"), True, rf"{TILE}: is not a PNG"),
    "text in a tile": (with_text, True, rf"{TILE}: holds a chunk of metadata \(tEXt\)"),
    "exif in a tile": (with_exif, True, rf"{TILE}: holds a chunk of metadata \(eXIf\)"),
    "a tile without its mark": (unmarked, True, rf"{TILE}: lacks the mark"),
    "a tail on a tile": (append(TILE, b"patient"), True, rf"{TILE}: holds something after its end"),
    "a tile of another size": (other_size, True, "train: the tiles have 2 sizes"),
    "a tile in another class's folder": (moved, True, "labels do not agree with the folders"),
    "damaged metadata": (lambda f: (f / "train/metadata.parquet").write_bytes(b"x"), True, "metadata.parquet: cannot"),
    "a path in the metadata": (path_in_table, True, "metadata.parquet: holds an absolute path"),
    "a path in the card": (append("README.md", b"see /home/m/tiles\n"), True, "README.md: holds an absolute path"),
    "a path in JSON": (edit("provenance.json", '"steps"', '"at": "/home/m/x", "steps"'), True, "provenance.json: ho"),
    "a Windows path": (edit("provenance.json", '"steps"', '"at": "D:\\\\x", "steps"'), True, "provenance.json: holds"),
    "broken JSON": (lambda f: (f / "provenance.json").write_text("{"), True, "provenance.json: is not JSON"),
    "no head": (edit("README.md", "---\nlicense", "license"), True, "README.md: there is no YAML head"),
    "a broken head": (edit("README.md", "license: cc", "license: [cc"), True, "README.md: the head is not YAML"),
    "a head without a licence": (edit("README.md", "license: cc-by-4.0\n", ""), True, "the head lacks license"),
    "another verdict in the card": (edit("README.md", "**REVIEW**", "**GO**"), True, "does not tell the audit"),
    "a NO-GO audit": (edit("audit.json", "REVIEW", "NO-GO"), True, "audit.json: the verdict is NO-GO"),
    "an audit without a verdict": (lambda f: (f / "audit.json").write_text("{}"), True, "audit.json: tells no verdict"),
    "no audit": (lambda f: (f / "audit.json").unlink(), True, "audit.json: missing"),
    "no page to sign": (lambda f: (f / "REVIEW.md").unlink(), False, "REVIEW.md: missing, but the verdict is REVIEW"),
    "a link": (linked, False, "more: is a link"),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERINGS)
def test_every_tampering_is_found(copy: Path, how: str) -> None:
    tamper, hidden, finding = TAMPERINGS[how]
    tamper(copy)
    if hidden:  # with the checksums made anew, so that they tell nothing
        rewritten(copy)
    found = release.verify(copy)
    assert any(re.search(finding, line) for line in found), found


@pytest.mark.parametrize(
    "text",
    [
        "see https://spdx.org/licenses/MIT.html.",
        "`train/a/b.png`",
        "[x](https://a.org/b)",
        "and/or 1/2 </a/>",
        "(a/b/c)",
    ],
)
def test_addresses_and_relative_names_are_no_paths(text: str) -> None:
    assert release_check.PATHS.search(text) is None


@pytest.mark.parametrize(
    "text", ["/home/m", '"/srv/x/y.svs"', "~/tiles", "C:\\data", '"\\\\\\\\host\\\\d"', "file:///x"]
)
def test_absolute_paths_are_known(text: str) -> None:
    assert release_check.PATHS.search(text)


def test_the_check_is_quick_and_needs_no_torch(shipped: Path) -> None:
    code = (
        "import sys; from stages.release import verify; from pathlib import Path; print(verify(Path(sys.argv[1])));"
        + ("assert not {'torch', 'datasets', 'matplotlib'} & set(sys.modules)")
    )
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    root = Path(release.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, shipped], capture_output=True, text=True, cwd=root)
    assert done.stdout == "[]\n" and done.returncode == 0, done.stderr
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    of_processor = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    assert of_processor < 10  # about one second, however busy the machine is
