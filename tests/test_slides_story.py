"""The whole story on slides that are full of names: nothing but tissue, classes and numbers comes out of it.

Everything in every result is unpacked and searched (`hunting`). So that this proves something, what is sought is
planted in all the ways it could hide, and must be found.
"""

import base64
import hashlib
import html
import io
import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hunting import SHORTEST, Prey, hunt, prey
from made_slides import label, macro
from painted_tissue import clean_scene
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from private_slides import PATIENTS, Ward, ward
from telling import HERE, TINY, histodistill

from stages import store
from stages.hashing import keyed, read_key
from stages.release_check import verify

USER = "federkiel-arbeitsplatz"
RECIPE = """
tiles:
  source: SLIDES
  table: TABLE
  format: slides
  group_column: patient
  site_column: null
  unlisted: leave_out
  max_per_group: 4
  slides: {tile_px: 64, smallest_um2: 4000, preview_px: 256}
"""
OF_TINY = (
    "autoencoder",
    "judge",
    "denoiser",
    "candidates",
    "embedding",
    "selections",
    "experts",
    "condensations",
    "release",
)


class Told(NamedTuple):
    """A story that was told."""

    root: Path
    ward: Ward


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    return ward(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def story(here: Ward, tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("told")
    recipe = yaml.safe_load(RECIPE.replace("SLIDES", str(here.slides)).replace("TABLE", str(here.table)))
    tiny = yaml.safe_load(TINY.read_text())
    recipe |= {name: tiny[name] for name in OF_TINY}
    # learned images take on glaring colours, a sticker's yellow too; with steps so short they stay as candidates were
    recipe["condensations"]["learned"]["distillation"]["image_rate"] = 1e-6
    recipe["autoencoder"]["folder"] = str(HERE / "data" / "autoencoder")
    recipe["benchmark"] = tiny["benchmark"] | {"networks": {"convnet3": tiny["benchmark"]["networks"]["convnet3"]}}
    (folder / "story.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOGNAME", "USER"):
            patch.setenv(name, USER)
        told = histodistill("run", folder / "story.yaml", root=folder / "data")
    assert told.code == 0, told.err[-3000:]
    return Told(folder / "data", here)


def personal(here: Ward) -> set[str]:
    """Everything that points to a person, whole and in parts."""
    whole = {*(Path(name).stem for name in here.names), *here.properties, *here.others, USER}
    parts = {part for words in whole for part in re.split(r"[\s^_]", words)}
    return {words for words in whole | parts | set(here.names) if len(words) >= SHORTEST}


def of_machine(here: Ward) -> set[str]:
    """Everything that points to a place or a computer."""
    places = {str(here.slides), here.slides.name, here.slides.parent.name, here.table.name, str(HERE), str(Path.home())}
    return {words for words in places | {socket.gethostname()} if len(words) >= SHORTEST}


def sought(here: Ward) -> Prey:
    return prey(sorted(personal(here) | of_machine(here)), here.names)


def test_nothing_of_a_slide_but_its_tissue_is_in_any_result(story: Told) -> None:
    key = (story.root / ".key").read_text().strip()
    places = of_machine(story.ward) | {str(story.root), key}
    wanted = prey(sorted(personal(story.ward) | places), story.ward.names)
    # the runner remembers by path which of the user's files it has digested; that is no result
    results = hunt(story.root / "store", wanted, leave_out=("quarantine.csv", ".outside.json"))
    host = f": {socket.gethostname()} "  # TensorBoard's logs beside the denoiser tell it; they are no result either
    assert [line for line in results.found if not (".logs/" in line and host in line)] == []
    assert {"parquet cells", "arrow cells", "json", "safetensors", "html", "picture's text"} <= results.seen.keys()
    assert results.seen["picture"] > 100
    inside = hunt(story.root / "store" / "tiles", wanted).found
    assert {line.split(":")[0].partition("/")[2] for line in inside} == {"quarantine.csv"}


def test_the_report_shows_tissue_but_no_label_no_property_and_no_name(story: Told, tmp_path: Path) -> None:
    shutil.copy(story.root / "runs" / "story" / "report.html", tmp_path)
    seen = hunt(tmp_path, prey(sorted(personal(story.ward)), story.ward.names))
    assert seen.found == []
    assert seen.seen["picture"] > 20


def test_slides_and_patients_are_told_by_keyed_ids_alone(story: Told) -> None:
    tiles = next((story.root / "store" / "tiles").glob("*/facts.json")).parent
    key = read_key(story.root / ".key")
    good = [f"{name}.svs" for name in {Path(name).stem for name in story.ward.names if name.endswith(".svs")}]
    ids = {keyed(key, "slide", name) for name in good}
    assert {path.stem for path in (tiles / "previews").iterdir()} < ids
    assert set(pd.read_parquet(tiles / "coordinates.parquet")["slide"]) < ids
    groups = set(pd.read_parquet(tiles / "groups.parquet")["hash"])
    assert groups == {keyed(key, "group", patient) for patient in PATIENTS}


def test_what_is_set_aside_is_counted_by_kind_and_a_patient_of_two_classes_once(story: Told) -> None:
    facts = json.loads(next((story.root / "store" / "tiles").glob("*/facts.json")).read_text())
    assert facts["slides"]["slides_set_aside"] == {
        "by its name a picture of the label or the whole glass": 2,
        "empty": 1,
        "its annotation cannot be read": 1,
        "not there": 1,
    }
    assert facts["classes"] == ["epithelium", "stroma"]
    assert facts["groups_in_all"] == {"train": 3, "val": 1, "test": 1, "control": 1}
    places = facts["slides"]["background"] + sum(facts["slides"]["rejected"].values()) + facts["slides"]["unlabelled"]
    assert places + sum(sum(of.values()) for of in facts["counts"].values()) == facts["slides"]["positions"]


def test_the_release_passes_its_own_check_and_says_that_slides_were_tiled(story: Told) -> None:
    release = story.root / "runs" / "story" / "results" / "release" / "dataset"
    assert verify(release) == []
    card = (release / "README.md").read_text()
    assert "cut from 7 whole slides of 6 patients" in card and "0.5 µm per pixel" in card


def picture_with(info: dict[str, Any], pixels_hwc: Any = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8) if pixels_hwc is None else pixels_hwc).save(buffer, "PNG", **info)
    return buffer.getvalue()


def texts(zipped: bool) -> PngInfo:
    info = PngInfo()
    info.add_text("Source", PATIENTS[0], zip=zipped)
    return info


def international() -> PngInfo:
    info = PngInfo()
    info.add_itxt("Source", PATIENTS[1], zip=True)
    return info


def commented() -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", "not the mark of a release")
    return info


def exif() -> Image.Exif:
    found = Image.Exif()
    found[270] = PATIENTS[0]  # ImageDescription
    return found


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def shrunk(pixels_hwc: Any, side: int) -> Any:
    return np.asarray(Image.fromarray(pixels_hwc).resize((side, side), Image.Resampling.BOX))


def jpeg(pixels_hwc: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def note_in_weights() -> bytes:
    from safetensors.numpy import save

    return save({"w": np.zeros(3)}, {"note": json.dumps({"by": PATIENTS[1]})})


def sha256(name: str) -> "hashlib._Hash":
    return hashlib.sha256(name.encode())


SLIDE, GRÜN = "Falkenberg_Ottilie S21-47112.svs", PATIENTS[1]
STICKER, MACRO = label(), macro(clean_scene())
PLANTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a name": ("a.txt", lambda: b"of " + PATIENTS[0].encode(), "Mustermann^Erika (UTF-8) in bytes.txt"),
    "capitals": ("a.csv", lambda: "JU\u0308RGEN".encode(), "Jürgen (UTF-8) in bytes.csv"),
    "a surname": ("a.csv", lambda: b"x,quittenbaum,y", "Quittenbaum (UTF-8)"),
    "escapes": ("a.json", lambda: json.dumps([{GRÜN: 1}]).encode(), "Grünspecht^Jürgen (UTF-8) in json"),
    "yaml": ("a.yaml", lambda: yaml.safe_dump({"a": [GRÜN]}).encode(), "Grünspecht^Jürgen (UTF-8) in yaml"),
    "entities": ("a.html", lambda: html.escape(f"<{GRÜN}>").replace("ü", "&uuml;").encode(), "(UTF-8) in html"),
    "UTF-16": ("a.bin", lambda: b"\0" + PATIENTS[2].encode("utf-16-le"), "Falkenberg^Ottilie (UTF-16)"),
    "UTF-16, other order": ("a.bin", lambda: PATIENTS[2].encode("utf-16-be"), "Falkenberg^Ottilie (UTF-16)"),
    "hexadecimal": ("a.bin", lambda: b"x" + PATIENTS[2].encode().hex().upper().encode(), "(hexadecimal)"),
    "base64": ("a.md", lambda: base64.b64encode(PATIENTS[3].encode()), "Haselnuss^Leopold (base64)"),
    "base64, by one": ("a.md", lambda: base64.b64encode(b"1" + PATIENTS[3].encode()), "Haselnuss^Leopold (base64)"),
    "base64, by two": ("a.md", lambda: base64.b64encode(b"12" + PATIENTS[3].encode()), "Haselnuss^Leopold (base64)"),
    "a date": ("a.csv", lambda: b"1957-08-13", "1957-08-13 (UTF-8)"),
    "another date": ("a.csv", lambda: b"03/15/21 12:00", "03/15/21 (UTF-8)"),
    "a property": ("a.txt", lambda: b"ss7061cntlr3", "SS7061CNTLR3 (UTF-8)"),
    "a site": ("a.txt", lambda: b"Waldkrankenhaus", "Waldkrankenhaus (UTF-8)"),
    "a user": ("a.txt", lambda: USER.encode(), f"{USER} (UTF-8)"),
    "a place": ("a.json", lambda: b'"../Weidenbusch-Studie/x"', "Weidenbusch-Studie (UTF-8)"),
    "the house": ("a.json", lambda: json.dumps(f"{HERE}/data").encode(), f"{HERE} (UTF-8)"),
    "the name of a file": ("Birkenstein.png", lambda: picture_with({}), "in its name"),
    "a cell": ("a.parquet", lambda: parquet(pa.table({"a": [["x", PATIENTS[4]]]})), "(UTF-8) in parquet cells"),
    "a note of a table": (
        *("a.parquet", lambda: parquet(pa.table({"a": [1]}).replace_schema_metadata({"n": PATIENTS[4]}))),
        "(UTF-8) in parquet",
    ),
    "an Arrow cell": ("a.arrow", lambda: arrow(pa.table({"a": [PATIENTS[5]] * 9})), "(UTF-8) in arrow cells"),
    "a picture in a cell": (
        *("a.arrow", lambda: arrow(pa.table({"i": [{"bytes": picture_with({"pnginfo": texts(True)})}]}))),
        "Mustermann^Erika (UTF-8) in picture's text",
    ),
    "a text chunk": ("a.png", lambda: picture_with({"pnginfo": texts(False)}), "metadata of a picture (Source)"),
    "a packed chunk": ("a.png", lambda: picture_with({"pnginfo": texts(True)}), "(UTF-8) in picture's text"),
    "an international chunk": (
        *("a.png", lambda: picture_with({"pnginfo": international()})),
        "Grünspecht^Jürgen (UTF-8) in picture's text",
    ),
    "EXIF": ("a.png", lambda: picture_with({"exif": exif()}), "metadata of a picture (exif)"),
    "a colour profile": ("a.png", lambda: picture_with({"icc_profile": profile()}), "a picture (icc_profile)"),
    "a comment": ("a.png", lambda: picture_with({"pnginfo": commented()}), "a comment in picture"),
    "the label": ("a.png", lambda: picture_with({}, STICKER), "the yellow of a sticker in picture"),
    "the label, small": ("a.png", lambda: picture_with({}, shrunk(STICKER, 16)), "the yellow of a sticker"),
    "the macro, small": ("a.png", lambda: picture_with({}, shrunk(MACRO, 64)), "the yellow of a sticker"),
    "the macro on a page": (
        *("a.html", lambda: b"<img src=data:image/jpeg;base64," + base64.b64encode(jpeg(shrunk(MACRO, 128))) + b">"),
        "the yellow of a sticker",
    ),
    "weights": ("a.safetensors", note_in_weights, "Grünspecht^Jürgen (UTF-8) in safetensors"),
    "a plain digest": ("a.json", lambda: json.dumps(sha256(SLIDE).hexdigest()[:16]).encode(), "sha256 of Falken"),
    "of the stem": ("a.csv", lambda: hashlib.md5(Path(SLIDE).stem.encode()).hexdigest().encode(), "md5 of Falken"),
    "of a patient": ("a.csv", lambda: hashlib.sha1(PATIENTS[0].encode()).hexdigest().encode(), "sha1 of Muster"),
    "of a marked name": ("a.csv", lambda: sha256(f"slide\x1f{SLIDE}").hexdigest().encode(), "sha256 of Falken"),
    "in base64": ("a.csv", lambda: b"x," + base64.b64encode(sha256(SLIDE).digest()), "sha256 of Falken"),
    "as bytes": ("a.parquet", lambda: parquet(pa.table({"a": [sha256(SLIDE).digest()]})), "sha256 of Falken"),
}


@pytest.mark.parametrize("how", PLANTS)
def test_the_hunt_finds_what_is_planted(how: str, here: Ward, tmp_path: Path) -> None:
    name, content, wanted = PLANTS[how]
    (tmp_path / "clean.json").write_text('{"tiles": 12, "slide": "0123456789abcdef"}')
    (tmp_path / "clean.png").write_bytes(picture_with({}))
    assert hunt(tmp_path, sought(here)).found == []
    store.write_bytes(tmp_path / "below" / name, content())
    found = hunt(tmp_path, sought(here)).found
    assert any(line.startswith(f"below/{name}: ") and wanted in line for line in found), found
