"""Releases: complete, loadable by others, free of what must not leave."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_tiles import key_file
from PIL import Image
from releasing import AUDIT, CLASSES, PER_CLASS, Serial, make, pixels

from stages import images, release, release_check, store, tiles
from stages.contracts import NoGo, UserError


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
    tiles.run(settings, {"key": key_file(tmp_path)}, out, 1, Serial())
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


def test_class_folders_are_safe_and_differ_whatever_the_case() -> None:
    folders = release.class_folders(("../etc", "a b", "a_b", "A B", "…", "C:\\x"))
    assert folders == ("etc", "a_b", "a_b_2", "A_B_3", "class_4", "C_x")
