"""How long a choice takes by our neighbour graph and by the graph rule of the InfoDist code, and in how much memory.

    python tests/speed/infodist_rule.py [fixed] [median]

All ways go from vectors to the ids of the chosen, 50 of each class, through the same Infomap (5 runs, the shortest
description wins), the same centrality and equal quotas; the graph differs, and that ours leaves out near-identical
candidates. Measures that only describe a choice (stability) are left out. `fixed`: 5 classes of 1,000 with the
threshold 0.001, wanted 5 times as fast. `median`: one pool of 5,000 with the median of each row, wanted 20 times as
fast in a twentieth of the memory. Two rivals: `linked` goes about the rule as the InfoDist code does, a loop in Python
over all pairs and a call of `add_link` for every link; `vectorised` is our own writing of it from the formula, which
hands Infomap all links at once, and the harder rival. Both get their distances from our matrix products, block by
block. Every way runs in a process of its own, in turns; the median of the rounds' ratios counts. Seconds are of the
processor, so that a busy machine counts less; memory is the peak of the process less what it held before it began to
choose.
"""

import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal

import infomap
import numpy as np

from stages import choosing
from stages.features.distances import squared_distance_blocks
from stages.graph import communities, detection, infodist_rule, quotas

Threshold = Literal["fixed", "median"]
CASES: dict[str, tuple[int, int]] = {"fixed": (5, 1_000), "median": (1, 5_000)}
"""Classes, and candidates of each."""
WANTED = {"fixed": (5.0, 0.0), "median": (20.0, 20.0)}
"""How many times the time and the memory of ours."""
RIVALS = ("linked", "vectorised")
ROUNDS = 3
DIM, LATENT, BLOBS = 512, 16, 40
WANTED_TILES = 50


def cloud(seed: int, candidates: int) -> np.ndarray:
    """Vectors that vary along few directions, in blobs, with a little noise: as features of images do."""
    rng = np.random.default_rng(seed)
    z_nr = 3.0 * rng.normal(size=(BLOBS, LATENT))[rng.integers(0, BLOBS, candidates)]
    z_nr += rng.normal(size=(candidates, LATENT))
    x_nd = np.maximum(z_nr @ rng.normal(size=(LATENT, DIM)) / np.sqrt(LATENT), 0.0)
    return (x_nd + 0.05 * rng.normal(size=(candidates, DIM))).astype(np.float32)


def forget_peak() -> None:
    """Let the peak be what is held now, so that making the vectors is no part of it (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(x_nd: np.ndarray) -> tuple[int, int, int]:
    """Edges, communities and chosen by the neighbour graph, with the default settings."""
    settings = choosing.ChoosingSettings(per_class=WANTED_TILES, stability_seeds=1)
    found = choosing.choose(settings, x_nd, 0, "speed")
    return len(found.graph.source_e), len(found.partition.sizes_m), len(found.chosen_s)


def vectorised(x_nd: np.ndarray, threshold: Threshold) -> tuple[int, int, int]:
    """The same by the rule of the InfoDist code, written from its formula with arrays throughout."""
    graph = infodist_rule.infodist_original(x_nd, threshold)
    return len(graph.source_e), *seated(detection.detect(graph, "infomap", 0))


def linked(x_nd: np.ndarray, threshold: Threshold) -> tuple[int, int, int]:
    """The same by the rule as the InfoDist code runs it: one pair after the other, one call for every link."""
    network = infomap.Network()
    x_nd = np.asarray(x_nd, np.float64)
    for block, d2_bn in squared_distance_blocks(x_nd, x_nd):
        self_b = np.arange(len(d2_bn)), np.arange(block.start, block.stop)
        w_bn = infodist_rule._row_weights(np.sqrt(d2_bn), self_b)
        for source, w_n in enumerate(w_bn, start=block.start):
            limit = infodist_rule.FIXED if threshold == "fixed" else float(np.median(w_n))
            for target, weight in enumerate(w_n.tolist()):
                if weight >= limit and weight > 0 and target != source:
                    network.add_link(source, target, weight)
    found = network.run(two_level=True, directed=True, seed=1, num_trials=5)
    leaves = sorted((node.node_id, node.module_id, node.flow) for node in found.nodes(1))
    _, module_n, flow_n = (np.array(column) for column in zip(*leaves, strict=True))
    community_n = communities.number_by_flow(module_n, flow_n)
    centrality_n = communities.modular_centrality(flow_n, community_n)
    partition = communities.Partition(community_n, flow_n, centrality_n, found.codelength, found.one_level_codelength)
    return network.num_links, *seated(partition)


def seated(partition: communities.Partition) -> tuple[int, int]:
    """Communities and chosen: the most central of every community, equally many."""
    place_n = quotas.by_centrality(partition.community_n, partition.centrality_n, partition.flow_n)
    seats = quotas.quotas(partition.sizes_m, WANTED_TILES, smallest=3)
    return len(partition.sizes_m), len(quotas.in_turn(partition.community_n, place_n, seats.seats_m))


def once(way: str, case: Threshold) -> None:
    """Choose from every class of a case by one way; print what it took, as JSON."""
    choose = {
        "ours": ours,
        "linked": partial(linked, threshold=case),
        "vectorised": partial(vectorised, threshold=case),
    }
    classes, candidates = CASES[case]
    clouds = [cloud(seed, candidates) for seed in range(classes)]
    choose[way](clouds[0][: 2 * WANTED_TILES])  # what is imported once is no part of any
    forget_peak()
    before, cpu, wall = peak_mib(), time.process_time(), time.perf_counter()
    found = [choose[way](x_nd) for x_nd in clouds]
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
    """Print all ways of every case and how they compare; whether ours reaches what is wanted against both rivals."""
    good = True
    for case in cases:
        told: dict[str, list[dict[str, float]]] = {way: [] for way in ("ours", *RIVALS)}
        for _, way in itertools.product(range(ROUNDS), told):
            words = [sys.executable, __file__, "--once", way, case]
            told[way].append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
            print(f"{case}, {way}: {json.dumps(told[way][-1])}", flush=True)
        for rival in RIVALS:
            rounds = list(zip(told["ours"], told[rival], strict=True))
            faster = statistics.median(theirs["cpu_s"] / mine["cpu_s"] for mine, theirs in rounds)
            smaller = statistics.median(theirs["mib"] / max(mine["mib"], 1.0) for mine, theirs in rounds)
            print(
                f"{case}: ours is {faster:.1f} times as fast as the rule {rival}, in 1/{smaller:.1f} of the memory; "
                f"wanted {WANTED[case]}"
            )
            good = good and faster >= WANTED[case][0] and smaller >= WANTED[case][1]
    return good


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(sys.argv[2], sys.argv[3])  # type: ignore[arg-type] # one of the cases
    else:
        sys.exit(not main(sys.argv[1:] or list(CASES)))
