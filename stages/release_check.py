"""Look a release over: is it whole, is it what it says, does it hold anything that must not leave? Needs no torch."""

import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image

from stages import store

CARD, LICENCE, CHECKSUMS, REVIEW = "README.md", "LICENSE.txt", "checksums.sha256", "REVIEW.md"
METADATA, SHEET = "train/metadata.parquet", "contact_sheet.png"
AUDIT, BENCHMARK, PROVENANCE = "audit.json", "benchmark.json", "provenance.json"
NEEDED = (CARD, LICENCE, METADATA, SHEET, AUDIT, PROVENANCE)
ALLOWED = {*NEEDED, BENCHMARK, REVIEW, CHECKSUMS}
TILE = re.compile(r"train/[\w.-]+/[\w.-]+\.png")
COLUMNS = ("file_name", "label", "tile_id", "community", "centrality", "rank", "index")
"""Of the metadata; `SCALE` and soft labels (p0, p1, …) may follow where the provenance declares them."""
SCALE = "mpp"
"""Micrometres per pixel, the same for every tile; there where it is known."""
VERDICTS = ("GO", "REVIEW", "NO-GO")
MARK = b"Comment\0Synthetic image; no photograph of tissue."
"""The one text a tile may hold: the PNG chunk that says what it is, wherever it is copied."""
WEIGHTS = {".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".h5", ".onnx", ".joblib", ".npy", ".npz"}
PATHS = re.compile(
    r"""(?:^|[\s"'`(\[<=,;|])/[\w.@+-]+/[\w.@+-]"""  # /home/someone
    r"""|(?:^|[\s"'`(\[<=,;|])~/\w"""  # ~/tiles
    r"""|\b[A-Za-z]:\\+\w|(?:^|[\s"'`(])\\\\+\w"""  # C:\tiles, \\server\share (in JSON the strokes are doubled)
    r"""|file:/""",
    re.MULTILINE,
)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def verify(folder: Path) -> list[str]:
    """What is wrong with a release, one line each, each naming its file; nothing when all is well.

    Checked: checksums (complete, right, nothing missing, altered or extra), kinds of files (no weights, no links), the
    card's head, the audit's verdict, metadata against images, every picture decodes and holds pixels alone, and no
    text or table holds an absolute path.
    """
    links = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink())
    if links:
        return [f"{name}: is a link; a release holds files" for name in links]
    contents = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    found = [*_checksums(contents), *_kinds(contents)]
    checks = (_card, _audit, _metadata, _columns, _pictures, _texts)
    for check in checks:
        found += check(contents)
    return found


def awaits_review(folder: Path) -> bool:
    """Whether a release may not leave before a person signs it: the verdict is REVIEW and REVIEW.md has no name."""
    if json.loads((folder / AUDIT).read_bytes()).get("verdict") != "REVIEW":
        return False
    page = folder / REVIEW
    signed = (
        re.search(r"^Name: *([^_\s].*)$", page.read_text(encoding="utf-8"), re.MULTILINE) if page.exists() else None
    )
    return signed is None


def checksums(folder: Path) -> str:
    """The checksums of a release as `sha256sum -c` reads them; the page a person signs is left out."""
    facts = store.digest_folder(folder)
    return "".join(f"{fact['sha256']}  {name}\n" for name, fact in facts.items() if name not in (CHECKSUMS, REVIEW))


def _checksums(contents: dict[str, bytes]) -> Iterator[str]:
    if CHECKSUMS not in contents:
        yield f"{CHECKSUMS}: missing"
        return
    listed: dict[str, str] = {}
    for number, line in enumerate(contents[CHECKSUMS].decode("utf-8", "replace").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] in listed:
            yield f"{CHECKSUMS}: line {number} is not a checksum and a name, or names a file again"
        else:
            listed[match[2]] = match[1]
    for name, digest in listed.items():
        if name not in contents:
            yield f"{name}: missing"
        elif store.digest_bytes(contents[name]) != digest:
            yield f"{name}: altered"
    for name in sorted(contents.keys() - listed.keys() - {CHECKSUMS, REVIEW}):
        yield f"{name}: extra, it has no checksum"


def _kinds(contents: dict[str, bytes]) -> Iterator[str]:
    for name in NEEDED:
        if name not in contents:
            yield f"{name}: missing"
    for name in contents:
        if Path(name).suffix.lower() in WEIGHTS:
            yield f"{name}: weights or pickles have no place in a release"
        elif name not in ALLOWED and not TILE.fullmatch(name):
            yield f"{name}: a file of this name has no place in a release"


def front_matter(card: str) -> dict[str, Any]:
    """The YAML at the head of a data set card.

    Raises:
        ValueError: there is none, or it is no mapping.
    """
    match = re.match(r"---\n(.*?\n)---\n", card, re.DOTALL)
    try:
        head = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError as error:
        raise ValueError(f"the head is not YAML: {error}") from error
    if not isinstance(head, dict):
        raise ValueError("there is no YAML head between two lines of ---")
    return head


def _card(contents: dict[str, bytes]) -> Iterator[str]:
    if CARD not in contents:
        return
    text = contents[CARD].decode("utf-8", "replace")
    try:
        head = front_matter(text)
    except ValueError as error:
        yield f"{CARD}: {error}"
        return
    for key in ("license", "pretty_name", "tags", "configs"):
        if not head.get(key):
            yield f"{CARD}: the head lacks {key}"
    verdict = _json(contents, AUDIT).get("verdict")
    if verdict in VERDICTS and f"**{verdict}**" not in text:
        yield f"{CARD}: does not tell the audit's verdict, {verdict}"


def _json(contents: dict[str, bytes], name: str) -> dict[str, Any]:
    try:
        value = json.loads(contents.get(name, b"{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _audit(contents: dict[str, bytes]) -> Iterator[str]:
    verdict = _json(contents, AUDIT).get("verdict")
    if verdict not in VERDICTS:
        yield f"{AUDIT}: tells no verdict"
    elif verdict == "NO-GO":
        yield f"{AUDIT}: the verdict is NO-GO; this must not be shared"
    elif verdict == "REVIEW" and REVIEW not in contents:
        yield f"{REVIEW}: missing, but the verdict is REVIEW: a person has to sign"


def _metadata(contents: dict[str, bytes]) -> Iterator[str]:
    if METADATA not in contents:
        return
    try:
        table = pq.read_table(io.BytesIO(contents[METADATA]))
        names = [f"train/{name}" for name in table["file_name"].to_pylist()]
        labels = table["label"].to_pylist()
    except Exception as error:  # a damaged Parquet file raises ArrowInvalid, OSError, KeyError or ValueError
        yield f"{METADATA}: cannot be read ({type(error).__name__})"
        return
    tiles = {name for name in contents if TILE.fullmatch(name)}
    for name in sorted(set(names) - tiles):
        yield f"{METADATA}: names {name}, which is not there"
    for name in sorted(tiles - set(names)):
        yield f"{name}: is not in {METADATA}"
    if len(set(names)) < len(names):
        yield f"{METADATA}: names a file twice"
    folders = {(label, name.split("/")[1]) for name, label in zip(names, labels, strict=True)}
    if len({label for label, _ in folders}) != len(folders) or len({name for _, name in folders}) != len(folders):
        yield f"{METADATA}: its labels do not agree with the folders of the files"
    cells = [str(cell) for column in table.columns for cell in column.to_pylist() if isinstance(cell, str)]
    notes = [value.decode("utf-8", "replace") for value in (table.schema.metadata or {}).values()]
    if any(PATHS.search(text) for text in (*cells, *notes)):
        yield f"{METADATA}: holds an absolute path"


def _columns(contents: dict[str, bytes]) -> Iterator[str]:
    """Columns that have no place there; soft labels that are undeclared, missing, or no probabilities."""
    try:
        table = pq.read_table(io.BytesIO(contents[METADATA]))
        classes = len(set(table["label"].to_pylist()))
    except Exception:  # `_metadata` tells of it
        return
    declared = bool(_json(contents, PROVENANCE).get("release", {}).get("soft_labels"))
    scales = set(table[SCALE].to_pylist()) if SCALE in table.column_names else {None}
    if scales != {_json(contents, PROVENANCE).get("release", {}).get(SCALE)}:
        yield f"{METADATA}: its {SCALE} is not the one that {PROVENANCE} declares"
    more = [name for name in table.column_names if name not in (*COLUMNS, SCALE)]
    if more and more != [f"p{number}" for number in range(classes)]:
        yield f"{METADATA}: holds columns that have no place in a release ({', '.join(more)})"
    elif more and not declared:
        yield f"{METADATA}: holds soft labels (p0 …), which {PROVENANCE} does not declare"
    elif declared and not more:
        yield f"{METADATA}: lacks the soft labels (p0 …) that {PROVENANCE} declares"
    elif more:
        p_nk = np.array([table[name].to_pylist() for name in more], np.float64).T
        if not (np.abs(p_nk.sum(axis=1) - 1) < 1e-6).all() or p_nk.min() < 0:
            yield f"{METADATA}: its soft labels are no probabilities that sum to one"


def _pictures(contents: dict[str, bytes]) -> Iterator[str]:
    sizes = set()
    for name, content in contents.items():
        if not name.endswith(".png"):
            continue
        try:
            yield from (f"{name}: {fault}" for fault in _chunks(content, tile=name != SHEET))
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                pixels = np.asarray(image)
        except Exception as error:  # Pillow and zlib raise many kinds on damaged files
            yield f"{name}: is no whole PNG ({type(error).__name__})"
            continue
        if name != SHEET:
            sizes.add(pixels.shape)
    if len(sizes) > 1:
        yield f"train: the tiles have {len(sizes)} sizes"


def _chunks(content: bytes, tile: bool) -> Iterator[str]:
    """Faults in the build of a PNG: anything but pixels and the one mark, or anything after the end."""
    if not content.startswith(_SIGNATURE):
        yield "is not a PNG"
        return
    at, kind = len(_SIGNATURE), b""
    while at < len(content) and kind != b"IEND":
        length = int.from_bytes(content[at : at + 4], "big")
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        if zlib.crc32(kind + data) != int.from_bytes(content[at + 8 + length : at + 12 + length], "big"):
            yield "a chunk is damaged"
            return
        if kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND") and (kind, data) != (b"tEXt", MARK):
            yield f"holds a chunk of metadata ({kind.decode('latin-1')})"
        at += 12 + length
    if at < len(content):
        yield "holds something after its end"
    if tile and b"tEXt" + MARK not in content:
        yield "lacks the mark that it is synthetic"


def _texts(contents: dict[str, bytes]) -> Iterator[str]:
    for name, content in contents.items():
        if Path(name).suffix not in (".json", ".md", ".txt"):
            continue
        text = content.decode("utf-8", "replace")
        match = PATHS.search(text)
        if match is not None:
            line = text.count("\n", 0, match.end()) + 1
            yield f"{name}: holds an absolute path (line {line})"
        if name.endswith(".json"):
            try:
                json.loads(content)
            except ValueError:
                yield f"{name}: is not JSON"
