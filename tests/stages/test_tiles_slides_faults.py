"""Slides that are broken, and work that is broken off: the ones are set aside, the other continues."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import tifffile
from laid_slides import COHORT, SLIDES, cut_slides, lay, piece, slide_id
from made_slides import aperio_slide
from made_tiles import Serial, digests, key_file, table_of
from PIL import Image

from pipeline.engine import Threads
from stages import compute, store, tiles
from stages.contracts import Interrupted, UserError
from stages.sources import slide_reading

WHOLE = COHORT[1]
HERE = Path(tiles.__file__).parents[1]


class Whole(NamedTuple):
    """Good slides, and what is cut from them."""

    source: Path
    out: Path
    digests: dict[str, str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = tmp_path_factory.mktemp("whole")
    lay(root / "slides")
    out = cut_slides(root / "out", root / "slides")
    return Whole(root / "slides", out, digests(out))


@pytest.fixture
def source(whole: Whole, tmp_path: Path) -> Path:
    """A copy of the good slides, to be spoilt."""
    return Path(shutil.copytree(whole.source, tmp_path / "slides"))


def pages(path: Path) -> list[tuple[list[int], list[int]]]:
    """Where the tiles of each level lie in a file, and how long they are."""
    with tifffile.TiffFile(path) as file:
        return [(list(page.dataoffsets), list(page.databytecounts)) for page in file.pages]


def with_a_hole(path: Path, level: int) -> bytes:
    """A slide of which the middle of a level's first tile is nought."""
    content, (offsets, sizes) = bytearray(path.read_bytes()), pages(path)[level]
    content[offsets[0] + 50 : offsets[0] + sizes[0] - 50] = bytes(sizes[0] - 100)
    return bytes(content)


def cut_off_in_a_tile(path: Path) -> bytes:
    """A slide whose last tile of level 0 lies at the end of the file, which is cut off in its middle: it opens."""
    content, (offsets, sizes) = path.read_bytes(), pages(path)[0]
    table = b"".join(offset.to_bytes(4, "little") for offset in offsets)
    assert content.count(table) == 1
    moved = content.replace(table, table[:-4] + len(content).to_bytes(4, "little"))
    return moved + content[offsets[-1] : offsets[-1] + sizes[-1] // 2]


def spoil(source: Path, scratch: Path) -> dict[str, str]:
    """Lay broken slides of one patient among the good ones; the reason that is wanted for each."""
    good, folder = source / WHOLE, source / "normal"
    svs = aperio_slide(scratch / "a.svs", piece(0)).path.read_bytes()
    Image.fromarray(piece(0).pixels_hwc).save(scratch / "picture.png")
    misnamed, damaged = "damaged, or not what its name says", "damaged"
    contents = {
        "N9_empty.svs": (b"", "empty"),
        "N9_text.svs": (b"not a slide at all\n" * 40, misnamed),
        "N9_picture.svs": ((scratch / "picture.png").read_bytes(), misnamed),
        "N9_half.svs": (svs[: len(svs) // 2], misnamed),
        "N9_unknown.bif": (os.urandom(4096), misnamed),
        "N9_half.tiff": (
            good.read_bytes()[: good.stat().st_size // 2],
            "damaged, or of a kind that OpenSlide does not read",
        ),
        "N9_noise.tiff": (os.urandom(4096), "not a slide"),
        "N9_reduced.tiff": (with_a_hole(good, 1), damaged),
        "N9_tile.tiff": (with_a_hole(good, 0), damaged),
        "N9_torn.tiff": (cut_off_in_a_tile(good), damaged),
        "N9_half.png": ((scratch / "picture.png").read_bytes()[:50_000], damaged),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / "N9_folder.svs").mkdir()
    (folder / "N9_loop.svs").symlink_to(folder / "N9_loop.svs")
    (folder / "N9_dangling.svs").symlink_to(folder / "nothing.svs")
    wanted = {f"normal/{name}": reason for name, (_, reason) in contents.items()}
    links = {"N9_folder.svs": "unreadable", "N9_loop.svs": "unreadable", "N9_dangling.svs": "not there"}
    return wanted | {f"normal/{name}": reason for name, reason in links.items()}


def quarantined(out: Path) -> dict[str, str]:
    aside = pd.read_csv(out / "quarantine.csv")
    assert not aside["tile"].duplicated().any()
    return dict(zip(aside["tile"], aside["reason"], strict=True))


def assert_the_rest_is_whole(out: Path, whole: Whole) -> None:
    mine = digests(out)
    for name in ("images/data-00000.arrow", "groups.parquet", *(f"previews/{slide_id(name)}.png" for name in COHORT)):
        assert mine[name] == whole.digests[name], name


def test_a_slide_that_opens_though_it_was_cut_off_fails_where_it_was(source: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.tiff"
    torn.write_bytes(cut_off_in_a_tile(source / WHOLE))
    assert slide_reading.facts(torn).downsamples == (1.0, 4.0)
    truth = piece(COHORT.index(WHOLE)).pixels_hwc
    np.testing.assert_array_equal(slide_reading.region(torn, 64, 64, 0, 64, 64), truth[64:128, 64:128])
    with pytest.raises(slide_reading.Unreadable, match="damaged"):
        slide_reading.region(torn, 320, 320, 0, 64, 64)


@pytest.mark.parametrize("engine", [Serial(), Threads(3)], ids=["serial", "threads"])
def test_broken_slides_are_set_aside_by_name_and_the_rest_goes_on(
    whole: Whole, source: Path, tmp_path: Path, engine: Any
) -> None:
    wanted = spoil(source, tmp_path)
    out = cut_slides(tmp_path / "out", source, engine)
    assert quarantined(out) == wanted
    assert_the_rest_is_whole(out, whole)
    told = store.read_json(out / "facts.json")["slides"]
    assert told["slides"] == len(COHORT) and told["slides_set_aside"] == pd.Series(wanted).value_counts().to_dict()
    assert told["rejected"]["of a damaged slide"] == 2 * 30
    assert "N9" not in (out / "facts.json").read_text()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_slide_that_may_not_be_read_is_set_aside(whole: Whole, source: Path, tmp_path: Path) -> None:
    closed = source / "normal" / "N9_closed.svs"
    shutil.copy(source / WHOLE, closed)
    closed.chmod(0)
    out = cut_slides(tmp_path / "out", source)
    assert quarantined(out) == {"normal/N9_closed.svs": "unreadable"}
    assert_the_rest_is_whole(out, whole)


class Vanishing:
    """Serial; deletes a file before it maps for the nth time: slides are surveyed first, then read, then drawn."""

    def __init__(self, path: Path, turn: int) -> None:
        self.path, self.turns_left = path, turn

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        self.turns_left -= 1
        if self.turns_left == 0:
            self.path.unlink()
        return map(function, items)


@pytest.mark.parametrize("turn", [1, 2], ids=["before it is surveyed", "before it is read"])
def test_a_slide_that_vanishes_is_set_aside(whole: Whole, source: Path, tmp_path: Path, turn: int) -> None:
    gone = source / "normal" / "N9_gone.tiff"
    shutil.copy(source / WHOLE, gone)
    out = cut_slides(tmp_path / "out", source, Vanishing(gone, turn))
    assert quarantined(out) == {"normal/N9_gone.tiff": "not there"}
    assert_the_rest_is_whole(out, whole)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{ not json", r"its annotation cannot be read \(Expecting property name"),
        (b"\xff\xfe\x00", r"its annotation cannot be read \('utf-8' codec"),
        (b"[" * 100_000, r"its annotation cannot be read \("),
        (b'{"features": ["MUSTERMANN"]}', r"its annotation cannot be read \(feature 0 .* 'MUSTERMANN'"),
        (
            b'{"features": [{"properties": {"classification": "a"},'
            b'"geometry": {"type": "Polygon", "coordinates": [[[0]]]}}]}',
            r"its annotation cannot be read \(feature 0 .* broken geometry",
        ),
    ],
)
def test_a_slide_with_a_broken_annotation_is_set_aside_and_its_words_stay_in_the_quarantine(
    whole: Whole, source: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    slide = source / "normal" / "N9_drawn.tiff"
    shutil.copy(source / WHOLE, slide)
    slide.with_suffix(".geojson").write_bytes(content)
    out = cut_slides(tmp_path / "out", source)
    aside = pd.read_csv(out / "quarantine.csv")
    assert aside["tile"].tolist() == ["normal/N9_drawn.tiff"] and aside["reason"].str.match(reason).all(), aside
    assert_the_rest_is_whole(out, whole)
    told = store.read_json(out / "facts.json")["slides"]
    assert told["slides_set_aside"] == {"its annotation cannot be read": 1}


@pytest.mark.parametrize("properties", ["null", '["x"]', '"x"', '{"classification": {"names": [3, "b"]}}'])
def test_odd_properties_of_an_annotation_do_not_stop_the_run(
    whole: Whole, source: Path, tmp_path: Path, properties: str
) -> None:
    beside = (source / WHOLE).with_suffix(".geojson")
    beside.write_text(
        f'{{"features": [{{"geometry": {{"type": "Point", "coordinates": [0, 0]}}, "properties": {properties}}}]}}'
    )
    out = cut_slides(tmp_path / "out", source)
    assert not quarantined(out)
    table = pd.read_parquet(out / "coordinates.parquet")
    assert table.loc[table["slide"] == slide_id(WHOLE), "label"].isna().all()


def test_where_nothing_is_left_it_is_said_what_was_wrong(source: Path, tmp_path: Path) -> None:
    for name in COHORT:
        (source / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"No tile could be cut from the 10 slides of .*10 × empty.*inspect"):
        cut_slides(tmp_path / "empty", source)
    for name in COHORT:
        Image.new("RGB", (640, 640), (244, 242, 242)).save(source / f"{name[:-5]}.png")
        (source / name).unlink()
    with pytest.raises(UserError, match=r"No tile could be cut from the 10 slides of "):
        cut_slides(tmp_path / "glass", source, slides={"mpp_override": 0.5})


def test_where_every_slide_fails_when_it_is_read_it_is_said(source: Path, tmp_path: Path) -> None:
    for name in COHORT:
        (source / name).write_bytes(with_a_hole(source / name, 0))
    with pytest.raises(UserError, match=r"No tile of .* could be used: 300 × of a damaged slide"):
        cut_slides(tmp_path / "out", source)


def test_plain_pictures_are_read_whole_by_threads_that_meet_at_one(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    for attempt in range(4):
        path = tmp_path / f"{attempt}.png"
        Image.fromarray(truth).save(path, compress_level=1)
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(lambda at, path=path: slide_reading.region(path, at, at, 0, 50, 50), range(0, 1200, 80))
            )
        for at, pixels in zip(range(0, 1200, 80), found, strict=True):
            np.testing.assert_array_equal(pixels, truth[at : at + 50, at : at + 50])


def test_plain_pictures_give_the_tiles_of_the_slides_they_show(whole: Whole, tmp_path: Path) -> None:
    for seed, name in enumerate(COHORT):
        path = tmp_path / "slides" / f"{name[:-5]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(piece(seed).pixels_hwc).save(path, compress_level=1)
    out = cut_slides(tmp_path / "out", tmp_path / "slides", Threads(3), slides={"mpp_override": 0.5}, chunk_tiles=4)
    assert digests(out)["images/data-00000.arrow"] == whole.digests["images/data-00000.arrow"]


def test_asked_to_stop_it_goes_on_slide_by_slide_and_chunk_by_chunk_to_the_same_bytes(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "stop_asked", lambda: True)
    out = tmp_path / "store" / "out.scratch"
    said = []
    for _ in range(2 * len(COHORT) - 2):
        with pytest.raises(Interrupted) as stop:
            cut_slides(out, whole.source)
        said.append(str(stop.value).split(";")[0])
        out.rmdir()
    slides = [f"tiles stopped after surveying {n} of 10 slides" for n in range(1, 10)]
    assert said == [*slides, *(f"tiles stopped after chunk {n} of 10" for n in range(1, 10))]
    assert digests(cut_slides(out, whole.source)) == whole.digests


CHILD = """
    import pickle, sys, time
    from pathlib import Path
    from stages import tiles
    class Slow:
        def map(self, function, items):
            for item in items:
                time.sleep(0.05)
                yield function(item)
    settings, key, out = pickle.loads(bytes.fromhex(sys.argv[1]))
    out.mkdir(parents=True, exist_ok=True)
    tiles.run(settings, {"key": key}, out, 5, Slow())
"""


@pytest.mark.parametrize(("kept", "least"), [("slide-*.json", 3), ("tiles-*.arrow", 3)], ids=["surveying", "reading"])
def test_killed_at_any_moment_it_continues_to_the_same_bytes(
    whole: Whole, tmp_path: Path, kept: str, least: int
) -> None:
    import pickle

    out, key = tmp_path / "store" / "out.scratch", key_file(tmp_path)
    settings = tiles.TilesSettings(source=whole.source, format="slides", slides=SLIDES)
    work = store.work_folder(out)
    job = pickle.dumps((settings, key, out)).hex()
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(CHILD), job], cwd=HERE) as child:
        while len(list(work.glob(kept))) < least:
            assert child.poll() is None
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    done = {path.name: path.stat().st_mtime_ns for path in work.glob(kept)}
    assert least <= len(done) < len(COHORT)
    tiles.run(settings, {"key": key}, out, 5, Serial())
    assert digests(out) == whole.digests
    assert {path.name: path.stat().st_mtime_ns for path in work.glob(kept)}.items() >= done.items()


FULL = """
    set -e
    mount -t tmpfs -o size=1m tmpfs "$ROOT"
    full=0
    {run} || full=$?
    mount -t tmpfs -o remount,size=64m tmpfs "$ROOT"
    ls "$ROOT"/store/tiles/*.work > "$KEPT"
    again=0
    {run} || again=$?
    cp -r "$ROOT"/store/tiles/* "$KEPT.store"
    echo "$full $again"
"""


APART = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def own_mounts() -> bool:
    """Whether a process may have file systems of its own here."""
    if shutil.which("unshare") is None:
        return False
    job = f'mount -t tmpfs tmpfs /mnt && "{sys.executable}" -c ""'
    return subprocess.run([*APART, job], capture_output=True).returncode == 0


def test_a_full_disk_stops_it_cleanly_and_it_goes_on_where_there_is_space(whole: Whole, tmp_path: Path) -> None:
    if not own_mounts():
        pytest.skip("no small disk can be made here: a process may not mount")
    recipe, root, kept = tmp_path / "recipe.yaml", tmp_path / "root", tmp_path / "kept"
    root.mkdir()
    Path(f"{kept}.store").mkdir()
    recipe.write_text(
        f"tiles: {{source: {whole.source}, format: slides, slides: {json.dumps(SLIDES)}}}\n"
        "autoencoder: {mode: train}\n"
    )
    command = f'"{sys.executable}" -m pipeline.cli run "{recipe}" --until tiles --root "$ROOT" --workers 1'
    done = subprocess.run(
        [*APART, textwrap.dedent(FULL.format(run=command))],
        env=os.environ | {"ROOT": str(root), "KEPT": str(kept)},
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-2:] == ["2", "0"], done.stderr[-3000:]
    assert "the disk is full. Free some space" in done.stderr and "Traceback" not in done.stderr
    assert kept.read_text().split(), "what was finished before is kept"
    (result,) = (path for path in Path(f"{kept}.store").iterdir() if path.is_dir())
    ids, wanted = (set(table_of(out / "images")["tile_id"]) for out in (result, whole.out))
    assert ids == wanted
