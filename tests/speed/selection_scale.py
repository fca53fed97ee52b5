"""How long it takes from vectors to the chosen, and how much memory: the whole way of one class.

    python tests/speed/selection_scale.py [method] [candidates ...]

Vectors are 512 numbers that vary along 16 (features of images do), in 200 blobs. For every number of candidates a fresh
process chooses 50, and prints its seconds (of the clock, and of all its cores) part by part, its peak memory, and the
recall of the neighbour search. Then the ratio of time per candidate between the largest and the smallest number, and
whether the largest kept to the target: 100,000 candidates in 90 seconds and 4 GB on 2 quiet cores.
"""

import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from stages import choosing
from stages.graph import baselines, centrality, detection, representing, search

SECONDS, GIGABYTES = 90.0, 4.0
PARTS: dict[str, tuple[Any, str]] = {
    "neighbours": (search, "nearest"),
    "graph": (choosing, "draw"),
    "communities": (detection, "detect"),
    "scores": (centrality, "scores"),
    "representatives": (representing, "represent"),
    "baseline": (baselines, "choose"),
}


def cloud(candidates: int, dim: int = 512, latent: int = 16, blobs: int = 200) -> np.ndarray:
    """Vectors that vary along few directions, in blobs, with a little noise."""
    rng = np.random.default_rng(0)
    z_nr = 3.0 * rng.normal(size=(blobs, latent))[rng.integers(0, blobs, candidates)]
    z_nr += rng.normal(size=(candidates, latent))
    x_nd = np.maximum(z_nr @ rng.normal(size=(latent, dim)) / np.sqrt(latent), 0.0).astype(np.float32)
    return x_nd + 0.05 * rng.normal(size=(candidates, dim)).astype(np.float32)


@contextmanager
def clocks(took: dict[str, list[float]]) -> Iterator[None]:
    """Take the time of every part while it runs."""

    def timed(name: str, part: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(part)
        def run(*given: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return part(*given, **named)
            finally:
                before = took.get(name, [0.0, 0.0])
                took[name] = [before[0] + time.perf_counter() - wall, before[1] + time.process_time() - cpu]

        return run

    kept = {name: getattr(*place) for name, place in PARTS.items()}
    for name, (module, attribute) in PARTS.items():
        setattr(module, attribute, timed(name, kept[name]))
    try:
        yield
    finally:
        for name, (module, attribute) in PARTS.items():
            setattr(module, attribute, kept[name])


def once(method: str, candidates: int) -> None:
    """Choose from so many candidates and print what it took, as JSON."""
    x_nd, settings, took = cloud(candidates), choosing.ChoosingSettings.model_validate({"method": method}), {}
    wall, cpu = time.perf_counter(), time.process_time()
    with clocks(took):
        found = choosing.choose(settings, x_nd, 0, "speed")
    told = {
        "candidates": candidates,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "recall": found.search.recall,
        "communities": len(found.partition.sizes_m),
        "parts": {name: [round(seconds, 1) for seconds in both] for name, both in took.items()},
    }
    print(json.dumps(told))


def main(method: str, sizes: list[int]) -> bool:
    """Print what every size took; whether the largest kept to the target."""
    told = []
    for candidates in sizes:
        words = [sys.executable, __file__, "--once", method, str(candidates)]
        told.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
        print(json.dumps(told[-1]))
    first, last = told[0], told[-1]
    growth = (last["cpu_s"] / last["candidates"]) / (first["cpu_s"] / first["candidates"])
    print(f"{method}: time per candidate at {last['candidates']} is {growth:.2f} times that at {first['candidates']}")
    return bool(last["wall_s"] <= SECONDS and last["peak_gb"] <= GIGABYTES)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(sys.argv[2], int(sys.argv[3]))
    else:
        method, *sizes = sys.argv[1:] or ["infomap"]
        sys.exit(not main(method, [int(size) for size in sizes] or [10_000, 30_000, 100_000]))
