"""MedMNIST files become tiles: names and checksums from the package, the split as roles, what is no tile refused."""

import importlib.util
import logging
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from made_tiles import TwoProcesses, digests, run, table_of

from stages import compute, images, store
from stages.contracts import Interrupted, UserError
from stages.sources import medmnist
from stages.tiles import TilesSettings

COUNTS = {"train": 20, "val": 4, "test": 5}
Arrays = dict[str, npt.NDArray[Any]]


def arrays(side: int = 28, grey: bool = False, classes: int = 2) -> Arrays:
    """Noise, laid out as MedMNIST does; `COUNTS` of each class."""
    rng = np.random.default_rng(0)
    found: Arrays = {}
    for role, count in COUNTS.items():
        shape = (classes * count, side, side) if grey else (classes * count, side, side, 3)
        found[f"{role}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        found[f"{role}_labels"] = np.arange(classes * count, dtype=np.uint8)[:, None] % classes
    return found


def saved(path: Path, **changed: Any) -> Path:
    """An npz of `arrays`, some changed or (None) left out."""
    content = {name: value for name, value in (arrays() | changed).items() if value is not None}
    np.savez_compressed(path, **content)
    return path


def test_pixels_class_names_and_the_split_arrive_and_control_is_drawn_from_train(tmp_path: Path) -> None:
    given = arrays()
    out = run(tmp_path / "out", source=saved(tmp_path / "bloodmnist.npz"))
    found = images.read(out / "images")
    assert found.classes == ("basophil", "eosinophil")
    where = {
        images.tile_id(pixels): (role, found.classes[int(label[0])])
        for role in COUNTS
        for pixels, label in zip(given[f"{role}_images"], given[f"{role}_labels"], strict=True)
    }
    assert len(found.table) == len(where) == 58
    for row, pixels in zip(found.table.itertuples(), found.pixels_nhwc, strict=True):
        role, label = where[images.tile_id(pixels)]
        assert found.classes[row.label] == label and role == {"control": "train"}.get(row.role, row.role)
    facts = store.read_json(out / "facts.json")
    assert {role: counts["basophil"] for role, counts in facts["counts"].items()} == {
        "train": 16,  # .15 / (.6 + .15) of 20 went to control
        "val": 4,
        "test": 5,
        "control": 4,
    }
    assert facts["drawn_from_train"] == ["control"] and facts["size_px"] == 28
    assert facts["medmnist"]["set"] == "bloodmnist" and facts["medmnist"]["licence"] == "CC BY 4.0"


@pytest.mark.parametrize("side", [64, 128, 224])
def test_other_sizes_are_read(tmp_path: Path, side: int) -> None:
    small = {name: value[:16] for name, value in arrays(side).items()}
    source = tmp_path / f"pathmnist_{side}.npz"
    np.savez(source, **small)
    assert images.read(run(tmp_path / "out", source=source) / "images").pixels_nhwc.shape[1:] == (side, side, 3)


@pytest.mark.parametrize("axis", [False, True])
def test_grey_sets_are_read_with_or_without_an_axis_for_the_channel(tmp_path: Path, axis: bool) -> None:
    given = arrays(grey=True)
    shown = {name: value[..., None] if axis and value.ndim == 3 else value for name, value in given.items()}
    out = run(tmp_path / "out", source=saved(tmp_path / "pneumoniamnist.npz", **shown))
    assert store.read_json(out / "facts.json")["colour"] == "grey"
    wanted = {images.tile_id(np.repeat(p[..., None], 3, axis=2)) for p in given["test_images"]}
    table = table_of(out / "images")
    assert set(table.loc[table["role"] == "test", "tile_id"]) == wanted


def test_every_flat_set_of_medmnist_is_read_and_every_other_refused(tmp_path: Path) -> None:
    refused = []
    for name, info in medmnist.catalogue().items():
        classes = len(info["label"])
        source = tmp_path / f"{name}.npz"
        np.savez(source, **arrays(8, grey=info["n_channels"] == 1, classes=classes))
        (work := tmp_path / name).mkdir()
        try:
            opened = medmnist.open_medmnist(source, name, True, work)
        except UserError as error:
            refused.append(name)
            assert ("multi-label" if name == "chestmnist" else "volumes") in str(error)
        else:
            assert set(opened.table["label"]) == set(info["label"].values())
    assert len(medmnist.catalogue()) == 18
    assert sorted(refused) == sorted(["chestmnist", *(n for n in medmnist.catalogue() if n.endswith("3d"))])


def test_the_catalogue_is_the_packages_own_and_nothing_heavy_is_loaded_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = importlib.util.find_spec("medmnist")
    assert spec is not None and spec.origin is not None
    assert medmnist.catalogue() == runpy.run_path(str(Path(spec.origin).with_name("info.py")))["INFO"]
    words = "import sys; from stages.sources import medmnist; medmnist.catalogue(); print(*sys.modules)"
    here = Path(store.__file__).parents[1]
    loaded = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, cwd=here)
    assert not {"torch", "torchvision", "medmnist"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bloodmnist.npz", "bloodmnist"),
        ("bloodmnist_224.npz", "bloodmnist"),
        ("bloodmnist_like_28.npz", "bloodmnist"),
        ("My-OrganAMNIST.npz", "organamnist"),
        ("organmnist3d_64.npz", "organmnist3d"),
        ("blood.npz", None),
        ("bloodmnist_or_pathmnist.npz", None),
        ("bloodmnist.parquet", None),
    ],
)
def test_the_files_name_tells_the_set_and_the_settings_hold_it(tmp_path: Path, name: str, found: str | None) -> None:
    assert TilesSettings(source=tmp_path / name).medmnist == found


def test_a_set_that_medmnist_lacks_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no set 'blodmnist'; did you mean 'bloodmnist'"):
        TilesSettings(source=tmp_path, medmnist="blodmnist")


def test_a_file_that_differs_from_the_published_one_is_told_with_both_digests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path / "bloodmnist.npz")
    with caplog.at_level(logging.WARNING):
        facts = store.read_json(run(tmp_path / "a", source=source) / "facts.json")["medmnist"]
    assert f"its md5 is {facts['md5']}, the official one 7053d0359d879ad8a5505303e11de1dc" in caplog.text
    assert not facts["official"] and "zenodo.org" in caplog.text
    caplog.clear()
    monkeypatch.setitem(medmnist.catalogue()["bloodmnist"], "MD5", facts["md5"])  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        out = run(tmp_path / "b", source=source)
    assert "md5" not in caplog.text and store.read_json(out / "facts.json")["medmnist"]["official"]


def test_each_size_is_held_against_its_own_digest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    info = medmnist.catalogue()["bloodmnist"]
    for side in (64, 128, 224, 32):
        np.savez(tmp_path / "bloodmnist.npz", **{n: v[:2] for n, v in arrays(side).items()})
        caplog.clear()
        (work := tmp_path / str(side)).mkdir()
        with caplog.at_level(logging.WARNING):
            medmnist.open_medmnist(tmp_path / "bloodmnist.npz", "bloodmnist", True, work)
        assert info.get(f"MD5_{side}", "not at 32") in caplog.text


def test_an_npz_of_no_known_set_has_numbers_for_classes_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = saved(tmp_path / "mine.npz")
    with caplog.at_level(logging.WARNING):
        out = run(tmp_path / "a", source=source)
    assert images.read_table(out / "images")[1] == ("0", "1") and "set tiles.medmnist" in caplog.text
    named = run(tmp_path / "b", source=source, medmnist="pneumoniamnist")
    assert images.read_table(named / "images")[1] == ("normal", "pneumonia")


def test_the_split_may_be_ignored(tmp_path: Path) -> None:
    out = run(tmp_path / "out", source=saved(tmp_path / "bloodmnist.npz"), role_column=None)
    assert store.read_json(out / "facts.json")["roles"] == "drawn"


def test_chunks_and_processes_change_no_byte(tmp_path: Path) -> None:
    source = saved(tmp_path / "bloodmnist.npz")
    wanted = digests(run(tmp_path / "a", source=source))
    assert digests(run(tmp_path / "b", TwoProcesses(), source=source, chunk_tiles=7)) == wanted


def test_after_a_stop_nothing_is_unpacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "bloodmnist.npz")
    wanted = digests(run(tmp_path / "whole", source=source))
    out = tmp_path / "store" / "out.scratch"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(compute, "stop_asked", lambda: True)
        run(out, source=source, chunk_tiles=9)
    unpacked = {path: path.stat().st_mtime_ns for path in store.work_folder(out).glob("*.npy")}
    out.rmdir()
    assert len(unpacked) == 3 and digests(run(out, source=source, chunk_tiles=9)) == wanted
    assert {path: path.stat().st_mtime_ns for path in unpacked} == unpacked


def damaged(path: Path) -> Path:
    content = bytearray(saved(path).read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    return path


def cut_short(path: Path) -> Path:
    path.write_bytes(saved(path).read_bytes()[:5000])
    return path


def of_text(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", b"no array")
    return path


REFUSED: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "chest": ("chestmnist.npz", saved, "ChestMNIST, which is multi-label"),
    "volumes by name": ("nodulemnist3d_64.npz", saved, "NoduleMNIST3D, whose samples are volumes"),
    "many labels": ("x.npz", lambda p: saved(p, val_labels=np.zeros((8, 14), np.uint8)), "val_labels .* multi-label"),
    "volumes": ("x.npz", lambda p: saved(p, train_images=np.zeros((40, 9, 9, 9), np.uint8)), "40 × 9 × 9 × 9.*volumes"),
    "flat rows": ("x.npz", lambda p: saved(p, train_images=np.zeros((40, 81), np.uint8)), "wanted is images × height"),
    "16 bits": ("x.npz", lambda p: saved(p, train_images=np.zeros((40, 9, 9), np.uint16)), "wanted are 8-bit"),
    "pickled images": ("x.npz", lambda p: saved(p, test_images=np.array([{}] * 10)), "test_images .* is pickled"),
    "pickled labels": ("x.npz", lambda p: saved(p, test_labels=np.array([{}] * 10)), "test_labels .* is pickled"),
    "no labels": ("x.npz", lambda p: saved(p, val_labels=None), "not laid out as MedMNIST.*It holds: test_images"),
    "other arrays": ("x.npz", lambda p: np.savez(p, a=np.zeros(3)) or p, "not laid out as MedMNIST.*It holds: a"),
    "too few labels": ("x.npz", lambda p: saved(p, val_labels=np.zeros((7, 1), np.uint8)), "each of the 8 images"),
    "labels of floats": ("x.npz", lambda p: saved(p, val_labels=np.zeros((8, 1))), "wanted is one whole number"),
    "another set": (
        "pneumoniamnist.npz",
        lambda p: saved(p, test_labels=np.full((10, 1), 2)),
        "class 2, but pneumoniamnist has 2 classes",
    ),
    "a damaged file": ("x.npz", damaged, "cannot be read: .*damaged"),
    "half a file": ("x.npz", cut_short, "cannot be read: .*cut short"),
    "a zip of text": ("x.npz", of_text, "is no NumPy array"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_tiles_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    name, make, message = REFUSED[kind]
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", source=make(tmp_path / name))


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: nearly)
    with pytest.raises(UserError, match="GiB are free"):
        run(tmp_path / "out", source=saved(tmp_path / "x.npz"))
