"""Searching everything a folder holds, to the last cell and chunk, for what must not be there.

A layer is a piece of content, unpacked: a file as it lies, a column of a table, a text chunk of a picture, a string of
JSON, a picture within a page. Every layer is searched for words in many spellings, for plain digests of names, for
metadata of pictures and for the yellow of the stickers that `made_slides` puts on labels.
"""

import base64
import binascii
import contextlib
import hashlib
import html
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from stages.release_check import MARK

STICKER, NEAR = (250, 230, 60), 40  # the label's yellow, and how far a resampled or compressed one may be from it
SHORTEST = 6  # shorter words are found by chance
PREFIX = 12  # hexadecimal digits of a digest that tell it
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
HARMLESS = {"jfif", "jfif_version", "jfif_unit", "jfif_density"}  # what every JPEG says of itself
LARGE = 2**20  # bytes from which nothing but the plain spellings is sought
DATA_URI = re.compile(rb"data:[\w/+.-]*;base64,([A-Za-z0-9+/=]+)")


class Prey(NamedTuple):
    """What is sought, made ready."""

    plain: dict[bytes, str]  # spelling, in small letters -> the word and how it is spelled
    wrapped: dict[bytes, str]  # spellings in hexadecimal and base64
    digests: dict[bytes, str]  # first hexadecimal digits of a plain digest -> of which name


class Hunt(NamedTuple):
    """What was found, a line each, and how many layers of each kind were seen."""

    found: list[str]
    seen: dict[str, int]


def prey(words: Sequence[str], names: Sequence[str] = ()) -> Prey:
    """Make ready for `hunt`: words sought in every spelling, and names of which no plain digest may be there."""
    plain, wrapped = dict[bytes, str](), dict[bytes, str]()
    for word in words:
        assert len(word) >= SHORTEST, f"{word!r} would be found by chance"
        for text in forms(word):
            plain[text.encode().lower()] = f"{word} (UTF-8)"
            plain[text.lower().encode("utf-16-le")[:-1]] = f"{word} (UTF-16)"  # without its end it is in both orders
            wrapped[text.encode().hex().encode()] = f"{word} (hexadecimal)"
            wrapped |= dict.fromkeys(in_base64(text.encode()), f"{word} (base64)")
    return Prey(plain, wrapped, plain_digests(names))


def forms(word: str) -> set[str]:
    """A word in small and capital letters, composed and decomposed."""
    cases = {word, word.lower(), word.upper()}
    return {unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in cases}


def in_base64(content: bytes) -> list[bytes]:
    """What base64 makes of `content` wherever it stands, without the letters its neighbours have a share in."""
    found = []
    for before in range(3):
        letters = base64.b64encode(b"\0" * before + content)
        found.append(letters[-(-8 * before // 6) : (8 * (before + len(content))) // 6])
    return found


def plain_digests(names: Sequence[str]) -> dict[bytes, str]:
    """Digests that anybody who has a list of names could make: of each name and its parts, as they are and marked."""
    found = {}
    for name in {part for whole in names for part in (whole, Path(whole).name, Path(whole).stem, *whole.split("^"))}:
        for text in {mark + form for form in forms(name) for mark in ("", "group\x1f", "slide\x1f", "patient\x1f")}:
            for how in ("md5", "sha1", "sha224", "sha256", "sha512", "blake2b", "blake2s"):
                digest = hashlib.new(how, text.encode()).hexdigest()[:PREFIX]
                found[digest.encode()] = f"{how} of {name}"
    return found


def hunt(folder: Path, wanted: Prey, leave_out: Sequence[str] = ()) -> Hunt:
    """Search all files below `folder`, and their names; `leave_out` are names of files that may hold anything."""
    found: list[str] = []
    seen: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found += [f"{name}: {what} in its name" for what in tracks(name.encode(), wanted)]
        if not path.is_file() or path.name in leave_out:
            continue
        for kind, content in layers(path.read_bytes(), path.suffix):
            seen[kind] = seen.get(kind, 0) + 1
            what = faults(content) if isinstance(content, Image.Image) else tracks(content, wanted)
            found += [f"{name}: {one} in {kind}" for one in what]
    return Hunt(found, seen)


def tracks(content: bytes, wanted: Prey) -> list[str]:
    """Every spelling of a word, and every plain digest of a name, that stands in `content`."""
    small = content.lower()
    found = [what for spelling, what in wanted.plain.items() if spelling in small]
    if len(content) < LARGE:
        found += [what for spelling, what in wanted.wrapped.items() if spelling in content or spelling in small]
    for run in re.findall(rb"[0-9a-f]{%d,}" % PREFIX, small):
        found += [wanted.digests[run[:PREFIX]]] if run[:PREFIX] in wanted.digests else []
    raw = [content, *(decoded(run) for run in re.findall(rb"[A-Za-z0-9+/]{22,}={0,2}", content[:LARGE]))]
    starts = {binascii.hexlify(one[: PREFIX // 2]) for one in raw}
    return found + [wanted.digests[start] for start in starts & wanted.digests.keys()]


def decoded(run: bytes) -> bytes:
    """The first bytes behind letters of base64."""
    return base64.b64decode(run[:20])


def faults(picture: Image.Image) -> list[str]:
    """What a picture holds beside pixels, and whether it shows a sticker."""
    found = [f"metadata of a picture ({key})" for key in picture.info.keys() - HARMLESS - {"Comment"}]
    comment = picture.info.get("Comment")
    found += ["a comment"] if comment not in (None, MARK.partition(b"\0")[2].decode()) else []
    near_hw = (np.abs(np.asarray(picture.convert("RGB"), np.int16) - STICKER) <= NEAR).all(axis=2)
    square = near_hw[1:, 1:] & near_hw[:-1, 1:] & near_hw[1:, :-1] & near_hw[:-1, :-1]
    return found + (["the yellow of a sticker"] if square.any() else [])


def layers(content: bytes, suffix: str = "") -> Iterator[tuple[str, bytes | Image.Image]]:
    """(kind, content) of a file's bytes, or of a cell's, and of all that can be unpacked from them."""
    yield f"bytes{suffix}", content
    if content.startswith(PICTURES):
        yield from of_picture(content)
    elif content.startswith(b"PAR1"):
        yield from of_table(pq.read_table(io.BytesIO(content)), "parquet")
    elif suffix == ".arrow":
        opened = pa.ipc.open_file if content.startswith(b"ARROW1") else pa.ipc.open_stream
        yield from of_table(opened(io.BytesIO(content)).read_all(), "arrow")
    elif suffix == ".safetensors":
        yield from of_value(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]), "safetensors")
    elif suffix in (".json", ".geojson"):
        yield from of_value(json.loads(content), "json")
    elif suffix in (".yaml", ".yml"):
        yield from of_value(yaml.safe_load(content), "yaml")
    elif suffix in (".html", ".md"):
        yield "html", html.unescape(content.decode()).encode()
        for uri in DATA_URI.findall(content):
            yield from layers(base64.b64decode(uri))


def of_picture(content: bytes) -> Iterator[tuple[str, bytes | Image.Image]]:
    """The pixels of a picture, and its texts unpacked."""
    picture = Image.open(io.BytesIO(content))
    picture.load()  # some chunks stand behind the pixels
    yield "picture", picture
    texts = [picture.info.get("exif", b""), *picture.getexif().values(), *picture.info.values()]
    for text in texts:
        yield "picture's text", text if isinstance(text, bytes) else str(text).encode()


def of_table(table: pa.Table, kind: str) -> Iterator[tuple[str, bytes | Image.Image]]:
    """Names and notes of a table, and its columns; what is bytes is unpacked cell by cell."""
    fields = [table.schema, *(table.schema.field(name) for name in table.column_names)]
    notes = [
        part.decode("utf-8", "replace") for one in fields for pair in (one.metadata or {}).items() for part in pair
    ]
    yield from of_value([*notes, *table.column_names], kind)
    for column in table.columns:
        texts: list[str] = []
        for cell in leaves(column.to_pylist()):
            if isinstance(cell, bytes):
                yield from layers(cell)
            else:
                texts.append(str(cell))
        yield f"{kind} cells", "\n".join(texts).encode()


def of_value(value: Any, kind: str) -> Iterator[tuple[str, bytes]]:
    """All keys and values of parsed JSON or YAML, whose escapes hide letters from whoever reads bytes."""
    yield kind, "\n".join(str(leaf) for leaf in leaves(value)).encode("utf-8", "surrogatepass")


def leaves(value: Any) -> Iterator[Any]:
    """Everything in nested lists and mappings that is neither; JSON within a text is unpacked too."""
    if isinstance(value, str) and value.startswith(("{", "[", '"')):
        with contextlib.suppress(ValueError):
            yield from leaves(json.loads(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value
