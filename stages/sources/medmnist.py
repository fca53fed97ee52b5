"""MedMNIST: npz files with images, class numbers and a split; names, tasks and checksums from the `medmnist` package.

An npz is a zip: a member cannot be read in part. Images are therefore unpacked once, as a stream, into plain arrays in
the stage's work folder (PathMNIST at 224 px: 16 GB of disk, no memory), which every process maps instead of reading.

Yang et al., *MedMNIST v2*, Scientific Data 10 (2023), 41.
"""

import ast
import difflib
import functools
import hashlib
import importlib.util
import logging
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages import store
from stages.contracts import UserError
from stages.sources.table import Source
from stages.tables import ROLES

log = logging.getLogger(__name__)
SIDES_PX = (28, 64, 128, 224)
"""The sizes in which the sets were published."""
RESERVE = 1.2
"""Free disk wanted, as a multiple of what is unpacked: the decoded tiles need room too."""


class Images(NamedTuple):
    """The head of an array of images."""

    member: str
    role: str
    shape: tuple[int, ...]
    n_bytes: int


@functools.cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """What the `medmnist` package knows of each set: task, class names, checksums, licence.

    Its table is read, not run: importing the package loads torchvision and makes a folder in the user's home.
    """
    spec = importlib.util.find_spec("medmnist")
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).with_name("info.py").read_text(encoding="utf-8"))
    values = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "INFO")
    found: dict[str, dict[str, Any]] = ast.literal_eval(next(values))
    return found


def set_named(name: str) -> str | None:
    """The set that a file's name tells, as in bloodmnist_64.npz; None if it tells none, or two."""
    words = set(re.split(r"[^a-z0-9]+", name.lower())) & set(catalogue())
    return words.pop() if len(words) == 1 else None


def known_set(name: str) -> str:
    """`name`, if MedMNIST has a set of that name; otherwise a ValueError that suggests the nearest."""
    if name in catalogue():
        return name
    near = difflib.get_close_matches(name.lower(), catalogue(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"MedMNIST has no set {name!r}; {hint}it has {', '.join(catalogue())}")


def open_medmnist(path: Path, flag: str | None, split: bool, work: Path) -> Source:
    """An npz with `{train,val,test}_images` (n × h × w grey or n × h × w × 3, uint8) and `_labels` (n × 1 numbers).

    Args:
        path: the file.
        flag: the set of MedMNIST it is; None: unknown, classes are then called by their numbers.
        split: whether its split gives the roles.
        work: where the images are unpacked to.

    Raises:
        UserError: damaged, another layout, multi-label, three-dimensional, pickled, not 8-bit, or no room to unpack.
    """
    if flag is not None:
        _check_task(path, flag)
    try:
        with zipfile.ZipFile(path) as archive:
            images = _heads(path, archive)
            labels = [_labels(path, archive, head, flag) for head in images]
            facts = _vouched(path, flag, images[0].shape[1])
            _check_room(work, images)
            paths = tuple(_unpacked(archive, head, work) for head in images)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted
        raise UserError(f"{path} cannot be read: {error}. It may be damaged or cut short; get it again.") from error
    tables, places = [], []
    for number, (head, names) in enumerate(zip(images, labels, strict=True)):
        rows_n = np.arange(len(names))
        tables.append(pd.DataFrame({"name": [f"{head.member} {row}" for row in rows_n], "label": names}, dtype=object))
        tables[-1]["role"] = head.role if split else None
        places.append(np.stack([np.full(len(names), number), np.zeros(len(names), np.int64), rows_n], 1))
    table = pd.concat(tables, ignore_index=True).astype(object)
    table["group"], table["site"] = table["name"], None
    columns = table[["name", "label", "group", "role", "site"]]
    return Source(columns, False, "array", paths, np.concatenate(places), facts={"medmnist": facts})


def _check_task(path: Path, flag: str) -> None:
    """Refuse what is no set of single pictures with one class each."""
    info = catalogue()[flag]
    if "multi-label" in info["task"]:
        raise UserError(
            f"{path.name} is {info['python_class']}, which is multi-label: a picture has several findings or none, so "
            "it has no class to be distilled by. Give a set with one class for each picture."
        )
    if flag.endswith("3d"):
        raise UserError(
            f"{path.name} is {info['python_class']}, whose samples are volumes (28 or 64 voxels a side); tiles are "
            "flat pictures. Give a 2D set, or cut the volumes into slices yourself and mind that a volume is one group."
        )


def _heads(path: Path, archive: zipfile.ZipFile) -> list[Images]:
    """The arrays of images in an npz, checked by their heads alone."""
    members = {name.removesuffix(".npy") for name in archive.namelist()}
    roles = [role for role in ROLES if f"{role}_images" in members]
    lacking = [f"{role}_labels" for role in roles if f"{role}_labels" not in members]
    if not roles or lacking:
        raise UserError(
            f"{path} is not laid out as MedMNIST, with train_images, train_labels, val_images and so on. "
            f"It holds: {', '.join(sorted(members)) or 'nothing'}."
        )
    return [_head(path, archive, role) for role in roles]


def _head(path: Path, archive: zipfile.ZipFile, role: str) -> Images:
    member = f"{role}_images"
    with archive.open(f"{member}.npy") as file:
        shape, dtype = _npy_head(path, member, file)
    said = f"{member} of {path} is {' × '.join(map(str, shape))} {dtype}"
    if dtype != np.uint8:
        raise UserError(f"{said}; wanted are 8-bit numbers (uint8). Scale it to 0–255 and save it as uint8.")
    if len(shape) == 5 or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise UserError(f"{said}: volumes, or pictures of neither 1 nor 3 channels. Tiles are flat, grey or RGB.")
    if len(shape) not in (3, 4):
        raise UserError(f"{said}; wanted is images × height × width, or images × height × width × 3.")
    return Images(member, role, shape, int(np.prod(shape, dtype=np.int64)))


def _npy_head(path: Path, member: str, file: IO[bytes]) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except ValueError as error:
        raise UserError(f"{member} of {path} is no NumPy array: {error}. Get the file again.") from error
    if dtype.hasobject:
        raise UserError(f"{member} of {path} is pickled, and a pickle can run anything. Save it as plain numbers.")
    return shape, dtype


def _labels(path: Path, archive: zipfile.ZipFile, head: Images, flag: str | None) -> list[str]:
    """The class of each image by name, or by number where the set is unknown."""
    member = f"{head.role}_labels"
    with archive.open(f"{member}.npy") as file:
        shape, dtype = _npy_head(path, member, file)
    said = f"{member} of {path} is {' × '.join(map(str, shape))} {dtype}"
    if len(shape) == 2 and shape[1] > 1:
        raise UserError(f"{said}: multi-label. A tile has one class; give a set with one number for each image.")
    if dtype.kind not in "iu" or int(np.prod(shape)) != head.shape[0]:
        raise UserError(f"{said}; wanted is one whole number for each of the {head.shape[0]} images.")
    with archive.open(f"{member}.npy") as file:
        numbers_n: npt.NDArray[np.int64] = np.lib.format.read_array(file, allow_pickle=False).reshape(-1)
    if flag is None:
        return [str(number) for number in numbers_n]
    names = catalogue()[flag]["label"]
    strange = sorted({int(number) for number in numbers_n} - {int(key) for key in names})
    if strange:
        raise UserError(
            f"{member} of {path} holds the class {strange[0]}, but {flag} has {len(names)} classes from 0. Is it "
            "another set? Set tiles.medmnist to its name."
        )
    return [str(names[str(number)]) for number in numbers_n]


def _vouched(path: Path, flag: str | None, side_px: int) -> dict[str, Any]:
    """What is known of the file as a whole; warns where it is not the one that MedMNIST published."""
    if flag is None:
        log.warning(
            "%s: its name tells no set of MedMNIST, so its classes are called by their numbers and it is not checked; "
            "set tiles.medmnist to the set's name if it is one",
            path.name,
        )
        return {"set": None, "official": False}
    info = catalogue()[flag]
    key = "" if side_px == SIDES_PX[0] else f"_{side_px}"
    wanted = info.get(f"MD5{key}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if wanted is None:
        sides = ", ".join(map(str, SIDES_PX))
        log.warning("%s: %s was published at %s px, not at %d; nothing to check it by", path.name, flag, sides, side_px)
    elif found != wanted:
        log.warning(
            "%s is not the %s that MedMNIST published: its md5 is %s, the official one %s. It may be damaged, rebuilt "
            "or of another version; numbers from it cannot be compared with published ones. The official file: %s",
            path.name,
            flag,
            found,
            wanted,
            info[f"url{key}"],
        )
    return {"set": flag, "official": found == wanted, "md5": found, "licence": info["license"]}


def _check_room(work: Path, images: list[Images]) -> None:
    """Unpacking must not fill the disk."""
    need = RESERVE * sum(head.n_bytes for head in images if not (work / f"{head.member}.npy").exists())
    free = shutil.disk_usage(work).free
    if need > free:
        raise UserError(
            f"Unpacking takes {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free at {work}. Make room, or "
            "give --root on a larger disk."
        )


def _unpacked(archive: zipfile.ZipFile, head: Images, work: Path) -> Path:
    """A member of the npz as a file of its own; one that is there already, from before a stop, is whole."""
    path = work / f"{head.member}.npy"
    if not path.exists():
        with archive.open(path.name) as file:
            store.write_stream(path, file)
    return path
