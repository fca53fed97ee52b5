"""How long a choice takes by our neighbour graph and by the graph rule of the InfoDist code, and in how much memory.

    python tests/speed/infodist_rule.py [fixed] [median]

Both ways go from vectors to the ids of the chosen, 50 of each class, through the same Infomap (5 runs, the shortest
description wins), the same centrality and equal quotas; the graph differs, and that ours leaves out near-identical
candidates. Measures that only describe a choice (stability) are left out. `fixed`: 5 classes of 1,000 with the
threshold 0.001, wanted 5 times as fast. `median`: one pool of 5,000 with the median of each row, wanted 20 times as
fast in a twentieth of the memory. Every way runs in a process of its own. Seconds are of the processor, so that a busy
machine does not count; memory is the peak of the process less what it held before it began to choose.
"""

import json
import resource
import subprocess
import sys
import time
from functools import partial
from typing import Literal

import numpy as np

from stages import choosing
from stages.graph import detection, infodist_rule, quotas

CASES = {"fixed": (5, 1_000), "median": (1, 5_000)}
"""Classes, and candidates of each."""
WANTED = {"fixed": (5.0, 0.0), "median": (20.0, 20.0)}
"""How many times the time and the memory of ours."""
DIM, LATENT, BLOBS = 512, 16, 40
WANTED_TILES = 50


def cloud(seed: int, candidates: int) -> np.ndarray:
    """Vectors that vary along few directions, in blobs, with a little noise: as features of images do."""
    rng = np.random.default_rng(seed)
    z_nr = 3.0 * rng.normal(size=(BLOBS, LATENT))[rng.integers(0, BLOBS, candidates)]
    z_nr += rng.normal(size=(candidates, LATENT))
    x_nd = np.maximum(z_nr @ rng.normal(size=(LATENT, DIM)) / np.sqrt(LATENT), 0.0)
    return (x_nd + 0.05 * rng.normal(size=(candidates, DIM))).astype(np.float32)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(x_nd: np.ndarray) -> tuple[int, int, int]:
    """Edges, communities and chosen by the neighbour graph, with the default settings."""
    settings = choosing.ChoosingSettings(per_class=WANTED_TILES, stability_seeds=1)
    found = choosing.choose(settings, x_nd, 0, "speed")
    return len(found.graph.source_e), len(found.partition.sizes_m), len(found.chosen_s)


def published(x_nd: np.ndarray, threshold: Literal["fixed", "median"]) -> tuple[int, int, int]:
    """The same by the rule of the InfoDist code."""
    graph = infodist_rule.infodist_original(x_nd, threshold)
    partition = detection.detect(graph, "infomap", 0)
    place_n = quotas.by_centrality(partition.community_n, partition.centrality_n, partition.flow_n)
    seats = quotas.quotas(partition.sizes_m, WANTED_TILES, smallest=3)
    chosen_s = quotas.in_turn(partition.community_n, place_n, seats.seats_m)
    return len(graph.source_e), len(partition.sizes_m), len(chosen_s)


def once(way: str, classes: int, candidates: int) -> None:
    """Choose from every class by one way; print what it took, as JSON."""
    choose = ours if way == "ours" else partial(published, threshold="fixed" if way == "fixed" else "median")
    clouds = [cloud(seed, candidates) for seed in range(classes)]
    choose(clouds[0][: 2 * WANTED_TILES])  # what is imported once is no part of either
    before, cpu, wall = peak_mib(), time.process_time(), time.perf_counter()
    found = [choose(x_nd) for x_nd in clouds]
    told = {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "mib": peak_mib() - before,
        "edges": sum(edges for edges, _, _ in found),
        "communities": [communities for _, communities, _ in found],
        "chosen": [chosen for _, _, chosen in found],
    }
    print(json.dumps(told))


def main(cases: list[str]) -> bool:
    """Print both ways of every case and their ratios; whether all reach what is wanted."""
    good = True
    for case in cases:
        told = {}
        for way in ("ours", case):
            words = [sys.executable, __file__, "--once", way, *map(str, CASES[case])]
            told[way] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            print(f"{case}, {way}: {json.dumps(told[way])}", flush=True)
        mine, theirs = told.values()
        faster, smaller = theirs["cpu_s"] / mine["cpu_s"], theirs["mib"] / max(mine["mib"], 1.0)
        print(f"{case}: ours is {faster:.1f} times as fast, in 1/{smaller:.1f} of the memory; wanted {WANTED[case]}")
        good = good and faster >= WANTED[case][0] and smaller >= WANTED[case][1]
    return good


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(not main(sys.argv[1:] or list(CASES)))
