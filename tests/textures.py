"""Small textured tiles, an engine and a child that is killed, for the tests of judge, condensation and benchmark."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from stages import images, store

CLASSES = ("stripes", "checks", "plain")


class Serial:
    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)


class Threads:
    """Two at a time, finishing in any order, as a pool of workers does."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(function, items)


def textured(groups: int, copies: int, seed: int, size_px: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, labels and groups: three textures; copies of a group share its noise and differ by an inversion."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size_px, :size_px]
    pattern = np.stack([y // 2 % 2, (x // 2 + y // 2) % 2, 0 * x])
    labels = np.repeat(np.arange(groups) % 3, copies)
    noise = np.repeat(rng.normal(0, 15, (groups, size_px, size_px, 3)), copies, axis=0)
    pixels = 120 + 60 * pattern[labels][..., None] + noise + rng.normal(0, 5, noise.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), labels, np.repeat(np.arange(groups), copies)


def write_tiles(folder: Path, counts: dict[str, int], copies: int = 2, changed: Sequence[str] = ()) -> Path:
    """A tiles folder with so many groups per role; the pixels of the roles in `changed` are others."""
    parts = []
    for place, (role, groups) in enumerate(counts.items()):
        pixels, labels, group = textured(groups, copies, place + (1000 if role in changed else 0))
        order = np.argsort(labels, kind="stable")
        parts.append((pixels[order], labels[order], group[order] + 1000 * place, [role] * len(labels)))
    pixels, labels, group = (np.concatenate([part[i] for part in parts]) for i in range(3))
    roles = [role for part in parts for role in part[3]]
    images.write(folder / "images", images.make(pixels, labels, CLASSES, {"group": group.tolist(), "role": roles}))
    return folder


def digests(out: Path) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in store.digest_folder(out).items()}


def kill_when(ready: Callable[[], bool], script: str, *words: str | Path) -> None:
    """Run `script` in a process of its own and send it SIGKILL as soon as `ready`."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, words)]
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    child = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    while not ready():
        assert child.poll() is None, child.communicate()[1].decode()[-2000:]
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL


def steps_saved(path: Path) -> int:
    """How many steps the checkpoint at `path` holds."""
    import json

    return len(json.loads(store.read_note(path))) if path.exists() else 0
