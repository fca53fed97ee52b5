"""Is this machine fit? Versions, device, memory, disk, threads, OpenSlide, extras; and how to get what is missing."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline import keys
from stages.installed import MISSING, installed

NEEDED = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "accelerate",
    "timm",
    "datasets",
    "infomap",
    "cdlib",
    "networkx",
    "umap-learn",
    "pydantic",
    "openslide-python",
)


class Line(NamedTuple):
    """One thing that was looked at."""

    what: str
    found: str
    good: bool | None
    """True good, False must be mended, None worth knowing."""
    advice: str = ""


def examine(root: Path) -> Iterator[Line]:
    """Look at the machine, one line at a time; imports torch."""
    python = sys.version.split()[0]
    yield Line(
        "python", python, sys.version_info >= (3, 11), "" if sys.version_info >= (3, 11) else "Install 3.11 or newer."
    )
    yield from packages()
    yield own_package()
    yield from devices()
    yield compiler()
    yield memory()
    yield disk(root)
    yield key(root)
    yield slides()
    yield browser()


def packages() -> Iterator[Line]:
    """Versions of the libraries the story stands on."""
    for name in NEEDED:
        found = installed(name)
        if found == MISSING:
            yield Line(name, "missing", False, f"pip install {name} (or make setup in the project's folder)")
        else:
            yield Line(name, found, True)


def own_package() -> Line:
    """Whether the `pipeline` and `stages` that Python finds are ours."""
    import pipeline
    import stages

    places = {Path(str(module.__file__)).parent.parent for module in (pipeline, stages)}
    good = len(places) == 1
    return Line(
        "histodistill", installed("histodistill"), good, "" if good else "Another package shadows pipeline or stages."
    )


def devices() -> Iterator[Line]:
    """Torch, its device and its threads."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    yield Line(
        "device",
        gpu or "CPU",
        True if gpu else None,
        "" if gpu else "The demo takes minutes on a CPU; a GPU helps beyond it.",
    )
    cores = os.cpu_count() or 1
    threads = torch.get_num_threads()
    advice = f"OMP_NUM_THREADS limits torch to {threads} of {cores} cores." if threads < cores // 2 else ""
    yield Line("threads", f"{threads} of {cores} cores", None if advice else True, advice)


def compiler() -> Line:
    """What torch compiles with; only learned images ask for it."""
    from stages import compiling

    good = compiling.compiles()
    advice = "" if good else "Images are learned at half the speed without a C++ compiler; Debian: apt-get install g++"
    return Line("torch.compile", "works" if good else "does not work", True if good else None, advice)


def memory() -> Line:
    """Memory that is free now; the demo needs 4 GiB."""
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return Line("memory", f"{free:.1f} GiB free", free > 4, "" if free > 4 else "The demo needs 4 GiB.")


def disk(root: Path) -> Line:
    """Space and right to write where the store will be."""
    place = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    writable = os.access(place, os.W_OK)
    advice = "" if free > 2 and writable else "Give a folder you may write, with 2 GiB or more, with --root."
    return Line("disk", f"{free:.1f} GiB free for {root}", free > 2 and writable, advice)


def key(root: Path) -> Line:
    """The key under which patients are told; a run refuses one that others may read."""
    path = keys.place(root)
    if keys.open_to_others(root):
        return Line("key", f"{path} may be read or written by others", False, f"chmod 600 {path}")
    found = "for its owner alone" if path.exists() else "none yet; the first run makes one"
    return Line("key", found, True)


def slides() -> Line:
    """OpenSlide's library, as whole slides need it."""
    try:
        openslide = importlib.import_module("openslide")
        return Line("openslide", str(openslide.__library_version__), True)
    except (ImportError, OSError) as fault:
        return Line("openslide", f"does not load: {fault}", False, "pip install openslide-bin openslide-python")


def browser() -> Line:
    """Chromium, which only the tests of the report need."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    advice = "" if found else "Only the report's own tests need it; Debian: apt-get install chromium"
    return Line("chromium", found or "not found", True if found else None, advice)
