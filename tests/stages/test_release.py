"""Releases: complete, loadable by others, free of what must not leave; and a check that finds every tampering."""

import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from stages import images, release, release_card, release_check, store, tiles
from stages.contracts import NoGo, UserError

CLASSES = ("zeta type", "alpha/beta")
PER_CLASS, CANDIDATES = 6, 15
AUDIT = {
    "verdict": "REVIEW",
    "reasons": ["12 tiles were audited; 300 are wanted for GO"],
    "tests": [
        {"name": "near_copies", "value": 0.01, "low": 0.0, "high": 0.05, "control": 0.02, "guess": 0.5, "passed": True}
        | {"meaning": "share of tiles nearer to a training tile than controls are"}
    ],
    "power": {"planted_found": 1.0},
    "nearest": [{"tile": "secret", "group": 7}],
}
SETTINGS = {
    "selection": "infomap_6",
    "licence": "CC-BY-4.0",
    "contact": "Department of Pathology, pathology@example.org",
}


class Serial:
    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


def pixels(count: int, seed: int) -> images.Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Result folders as the stages before would leave them."""
    root = tmp_path_factory.mktemp("store")
    inputs = {key: root / key.replace("/", "_") for key in ("tiles", "candidates", "selection", "audit_images")}
    roles = ["train", "val", "test", "control"] * 10
    real = images.make(pixels(40, 0), np.arange(40) % 2, CLASSES, {"group": np.arange(40), "role": roles})
    images.write(inputs["tiles"] / "images", real)
    tens = {role: dict.fromkeys(CLASSES, 5) for role in ("train", "val", "test", "control")}
    store.write_json(inputs["tiles"] / "facts.json", {"counts": tens, "groups": tens, "classes": CLASSES})
    labels, index = np.repeat([0, 1], CANDIDATES), np.tile(np.arange(CANDIDATES), 2)
    candidates = images.make(pixels(2 * CANDIDATES, 1), labels, CLASSES, {"index": index})
    images.write(inputs["candidates"] / "images", candidates)
    store.write_json(inputs["candidates"] / "facts.json", {"guidance": 2.0, "made_in": "/home/mustermann/run"})
    rows = np.concatenate(
        [CANDIDATES * k + np.random.default_rng(k).permutation(CANDIDATES)[:PER_CLASS] for k in (1, 0)]
    )
    columns = {"candidate": rows, "community": rows % 3, "centrality": rows / 7, "rank": np.tile(np.arange(6), 2)[::-1]}
    images.write(inputs["selection"] / "images", candidates.take(rows)._replace(
        table=candidates.take(rows).table.drop(columns="index").assign(**columns)
    ))  # fmt: skip
    store.write_json(inputs["selection"] / "facts.json", {"method": "infomap"})
    store.write_json(inputs["audit_images"] / "audit.json", AUDIT)
    causes = {"seed": 3, "settings": {"trials": 5, "folder": "/home/mustermann"}, "code": {"stages.selection": "ab"}}
    store.write_json(inputs["selection"] / "seal.json", {"causes": causes, "result": "0" * 64, "files": {}})
    return inputs


def write_benchmark(folder: Path, value: float) -> Path:
    numbers = {"value": value, "low": value - 0.1, "high": value + 0.1}
    metrics = {"convnet3": {"test": {"balanced_accuracy": numbers}, "val": {"balanced_accuracy": numbers}}}
    store.write_json(folder / "metrics.json", metrics)
    store.write_json(folder / "facts.json", {"images": 12, "agreement": {"judge": 0.9}})
    return folder


def make(story: dict[str, Path], out: Path, **settings: Any) -> Path:
    out.mkdir(parents=True)
    release.run(release.ReleaseSettings(**(SETTINGS | settings)), story, out, 11, Serial())
    return out / "dataset"


@pytest.fixture(scope="module")
def shipped(story: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(story, tmp_path_factory.mktemp("release") / "out")


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


def test_the_tiles_are_the_selection_in_the_order_of_class_and_rank(story: dict[str, Path], shipped: Path) -> None:
    table = pd.read_parquet(shipped / "train" / "metadata.parquet")
    chosen = images.read(story["selection"] / "images")
    by_id = dict(zip(chosen.table["tile_id"], chosen.pixels_nhwc, strict=True))
    ranks = chosen.table.set_index("tile_id")
    candidates, _ = images.read_table(story["candidates"] / "images")
    assert len(table) == 2 * PER_CLASS and table["label"].is_monotonic_increasing
    for number, row in table.iterrows():
        np.testing.assert_array_equal(
            np.asarray(Image.open(shipped / "train" / row["file_name"])), by_id[row["tile_id"]]
        )
        assert row["rank"] == number % PER_CLASS == ranks.loc[row["tile_id"], "rank"]
        assert candidates["index"][ranks.loc[row["tile_id"], "candidate"]] == row["index"]
        assert row["file_name"] == ("zeta_type/zeta_type-{:05d}.png", "alpha_beta/alpha_beta-{:05d}.png")[
            row["label"]
        ].format(number % PER_CLASS + 1)


@pytest.mark.parametrize("how", ["imagefolder", "folder"])
def test_others_load_it_with_the_right_classes(shipped: Path, tmp_path: Path, how: str) -> None:
    import datasets

    words = {"path": "imagefolder", "data_dir": str(shipped)} if how == "imagefolder" else {"path": str(shipped)}
    loaded = datasets.load_dataset(**words, cache_dir=str(tmp_path))
    assert list(loaded) == ["train"]
    data = loaded["train"]
    assert data.features["label"].names == list(CLASSES)
    table = pd.read_parquet(shipped / "train" / "metadata.parquet")
    assert data["label"] == table["label"].tolist() and data["community"] == table["community"].tolist()
    ids = [images.tile_id(np.asarray(picture)) for picture in data["image"]]
    assert ids == table["tile_id"].tolist()


def test_sha256sum_agrees(shipped: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "checksums.sha256"], cwd=shipped, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == 2 * PER_CLASS + 6


def test_equal_runs_give_equal_bytes(story: dict[str, Path], shipped: Path, tmp_path: Path) -> None:
    assert store.digest_folder(make(story, tmp_path / "again")) == store.digest_folder(shipped)


def test_the_card_tells_the_verdict_the_numbers_and_what_is_missing(story: dict[str, Path], shipped: Path) -> None:
    text = (shipped / "README.md").read_text()
    head = release_check.front_matter(text)
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"] and "synthetic" in head["tags"]
    for words in (
        "Verdict of the audit: **REVIEW**",
        "12 tiles were audited; 300 are wanted for GO",
        "| near copies | 0.01 | [0, 0.05] | 0.02 | 0.5 | passed |",
        "benchmark: none",
        "| alpha/beta | `train/alpha_beta` | 6 | 3 |",
        "trained on 10 real tiles of 10 groups",
        "It drew 30 candidates",
        "What this does not show",
        "pathology@example.org",
    ):
        assert words in text, words
    assert not re.search(r"\n\n\n|[ \t]\n|\{\{|\{%", text)


def test_the_card_tells_the_kind_of_denoiser_and_where_the_autoencoder_is_from(
    story: dict[str, Path], tmp_path: Path
) -> None:
    origin = "stabilityai/sd-vae-ft-mse, commit 31f26fdeee1355a5c34592e401dd41e45d25a493"
    extra = {name: tmp_path / name for name in ("denoiser", "autoencoder")}
    store.write_json(extra["denoiser"] / "facts.json", {"network": "U-ViT"})
    store.write_json(extra["autoencoder"] / "facts.json", {"mode": "folder", "origin": origin})
    shipped = make(story | extra, tmp_path / "out")
    text = (shipped / "README.md").read_text()
    assert "(a class-conditional latent diffusion model, its denoiser a U-ViT) was trained" in text
    assert f"given, and taken as it is; origin {origin}." in text
    assert release.verify(shipped) == []


def test_tables_of_the_card_are_whole(story: dict[str, Path], tmp_path: Path) -> None:
    extra = {f"benchmark/{name}": write_benchmark(tmp_path / name, 0.7) for name in ("all_real", "infomap_6")}
    text = (make(story | extra, tmp_path / "out") / "README.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = block.splitlines()
        assert len(lines) > 2 and set(lines[1]) <= set("|-: ")
        assert len({line.count("|") for line in lines}) == 1, block


def test_a_benchmark_goes_into_the_card_and_into_a_file_of_its_own(story: dict[str, Path], tmp_path: Path) -> None:
    extra = {"benchmark/all_real": write_benchmark(tmp_path / "a", 0.9)}
    extra["benchmark/infomap_6"] = write_benchmark(tmp_path / "b", 0.8)
    folder = make(story | extra, tmp_path / "out")
    text = (folder / "README.md").read_text()
    assert "| **infomap_6 (this release)** | 12 | 0.8 [0.7, 0.9] |" in text
    assert "| all real training tiles | 12 | 0.9 [0.8, 1] |" in text and "benchmark: none" not in text
    assert set(store.read_json(folder / "benchmark.json")) == {"all_real", "infomap_6"}
    without = make(story | extra, tmp_path / "without", benchmark=False)
    assert "benchmark: none" in (without / "README.md").read_text() and not (without / "benchmark.json").exists()


def test_only_what_may_be_told_is_told(shipped: Path) -> None:
    assert set(store.read_json(shipped / "audit.json")) == {"verdict", "reasons", "tests", "power"}
    provenance = store.read_json(shipped / "provenance.json")
    assert provenance["steps"]["selection"]["told_settings"] == {"trials": 5, "folder": "(a path, left out)"}
    assert provenance["steps"]["selection"]["seed"] == 3 and "facts" not in provenance["steps"]["tiles"]
    for path in shipped.rglob("*"):
        if path.is_file():
            assert b"mustermann" not in path.read_bytes() and b"secret" not in path.read_bytes(), path


def test_nothing_of_the_sources_names_reaches_a_release(story: dict[str, Path], tmp_path: Path) -> None:
    """From a source full of telltale names, by way of the tiles stage, into a release; every byte is decoded."""
    telltale = "MUSTERMANN"
    rows = []
    for number, picture in enumerate(pixels(80, 9)):
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[0x010E] = f"{telltale} exif"
        Image.fromarray(picture).save(buffer, "PNG", exif=exif)
        cell = {"bytes": buffer.getvalue() if number else b"broken", "path": f"{telltale}/{number}.png"}
        rows.append({"image": cell, "label": CLASSES[number % 2], telltale: f"{telltale}-{number // 4}-{number % 2}"})
    source = tmp_path / telltale / f"{telltale}.parquet"
    source.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), source)
    out = tmp_path / "tiles"
    out.mkdir()
    settings = tiles.TilesSettings(source=source, group_column=telltale)
    tiles.run(settings, {}, out, 1, Serial())
    assert telltale in (out / "quarantine.csv").read_text()
    causes = {"seed": 1, "settings": settings.model_dump(mode="json") | {"source": "content 0a1b"}, "code": {}}
    causes["settings"]["table"] = str(tmp_path)
    store.write_json(out / "seal.json", {"causes": causes, "result": "0" * 64})
    folder = make(story | {"tiles": out}, tmp_path / "release")
    assert store.read_json(folder / "provenance.json")["steps"]["tiles"]["given"] == {"source": "content 0a1b"}
    hidden = [telltale, telltale.lower(), str(tmp_path), "broken", *images.read_table(out / "images")[0]["tile_id"]]
    for path in (p for p in folder.rglob("*") if p.is_file()):
        decoded = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            decoded += repr((table.to_pylist(), table.schema.metadata)).encode()
        elif path.suffix == ".png":
            decoded += repr(Image.open(io.BytesIO(decoded)).info).encode()
        assert not [name for name in hidden if name.encode() in decoded], path.name


def test_a_tile_says_that_it_is_synthetic_and_nothing_else(shipped: Path) -> None:
    for path in (shipped / "train").rglob("*.png"):
        with Image.open(path) as image:
            assert image.text == {"Comment": "Synthetic image; no photograph of tissue."}


def test_the_contact_sheet_shows_every_class(story: dict[str, Path]) -> None:
    chosen = images.read(story["selection"] / "images")
    sheet = release.contact_sheet(chosen, per_class=4, columns=3)
    first = np.kron(chosen.where(label=0).pixels_nhwc[0], np.ones((4, 4, 1), np.uint8))
    np.testing.assert_array_equal(sheet[18:82, 2:66], first)
    assert sheet.shape == (2 * (18 + 2 * 66) + 2, 3 * 66 + 2, 3)


def test_no_go_releases_nothing_and_says_why(story: dict[str, Path], tmp_path: Path) -> None:
    store.write_json(tmp_path / "audit" / "audit.json", AUDIT | {"verdict": "NO-GO", "reasons": ["3 exact copies"]})
    with pytest.raises(NoGo, match="selection 'infomap_6': 3 exact copies"):
        make(story | {"audit_images": tmp_path / "audit"}, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_go_needs_no_signature(story: dict[str, Path], tmp_path: Path) -> None:
    store.write_json(tmp_path / "audit" / "audit.json", AUDIT | {"verdict": "GO", "reasons": []})
    folder = make(story | {"audit_images": tmp_path / "audit"}, tmp_path / "out")
    assert not (folder / "REVIEW.md").exists() and not release_check.awaits_review(folder)


def test_a_real_tile_stops_the_release(story: dict[str, Path], tmp_path: Path) -> None:
    candidates = images.read(story["candidates"] / "images")
    row = int(images.read_table(story["selection"] / "images")[0]["candidate"][0])
    roles = {"group": [0], "role": ["control"]}
    images.write(tmp_path / "tiles" / "images", images.make(candidates.pixels_nhwc[[row]], [0], CLASSES, roles))
    with pytest.raises(NoGo, match="1 tiles of the selection equal a real tile"):
        make(story | {"tiles": tmp_path / "tiles"}, tmp_path / "out")


def test_what_is_no_candidate_is_never_released(story: dict[str, Path], tmp_path: Path) -> None:
    chosen = images.read(story["selection"] / "images")
    changed = chosen.pixels_nhwc.copy()
    changed[3, 0, 0, 0] ^= 1
    images.write(tmp_path / "selection" / "images", chosen._replace(pixels_nhwc=changed))
    with pytest.raises(AssertionError, match="no candidate"):
        make(story | {"selection": tmp_path / "selection"}, tmp_path / "out")


def test_a_path_in_the_users_words_is_an_error(story: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"README.md: holds an absolute path .*mend release.title, description"):
        make(story, tmp_path / "out", description="Made from /srv/pathology/tiles.")


def test_licence_and_contact_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"2 validation errors[\s\S]*licence[\s\S]*contact"):
        release.ReleaseSettings(selection="infomap_6")  # type: ignore[call-arg]


def test_licences_by_identifier_and_by_text() -> None:
    assert "SPDX-License-Identifier: ODbL-1.0" in release_card.licence("odbl-1.0")[1]
    assert release_card.head(SETTINGS | {"licence": "odbl-1.0", "title": "T", "version": "1"}, [], 5).startswith(
        "license: odbl"
    )
    long = "You may use this\nfor teaching.\n" * 5
    assert release_card.licence(long) == ("Terms of its own.", long)
    assert "license: other" in release_card.head(SETTINGS | {"licence": long, "title": "T", "version": "1"}, [], 5)


def test_class_folders_are_safe_and_differ_whatever_the_case() -> None:
    folders = release.class_folders(("../etc", "a b", "a_b", "A B", "…", "C:\\x"))
    assert folders == ("etc", "a_b", "a_b_2", "A_B_3", "class_4", "C_x")


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
    begun = time.perf_counter()
    root = Path(release.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, shipped], capture_output=True, text=True, cwd=root)
    assert done.stdout == "[]\n" and done.returncode == 0, done.stderr
    assert time.perf_counter() - begun < 10  # about one second on a quiet machine
