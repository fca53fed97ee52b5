"""Results in the stages' formats, as a run would leave them, for tests of the report."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import report
from stages import images, store

CLASSES = ("adenocarcinoma", "normal", "squamous")
Draw = Callable[..., images.Pixels]
Results = dict[str, Path]


class Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tiles_like(rng: np.random.Generator, labels: Any, size: int = 16, blur: float = 0) -> images.Pixels:
    """Pink noise with a tint for every class."""
    tint = np.array([[200, 130, 170], [225, 180, 205], [150, 90, 150], [180, 160, 120]])[np.asarray(labels) % 4]
    noise = rng.normal(0, 25 - 10 * blur, (len(labels), size // 4, size // 4, 3)).repeat(4, 1).repeat(4, 2)
    return np.clip(tint[:, None, None] + noise, 0, 255).astype(np.uint8)


def estimate(value: float, spread: float = 0.03) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread}


def make_tiles(folder: Path, rng: np.random.Generator, classes: tuple[str, ...], draw: Draw) -> None:
    per = {"train": 6, "val": 14, "test": 3, "control": 3}
    rows = [(role, label, n) for role, count in per.items() for label in range(len(classes)) for n in range(count)]
    labels = [label for _, label, _ in rows]
    columns = {"group": [100 * label + n for _, label, n in rows], "role": [role for role, _, _ in rows]}
    images.write(folder / "images", images.make(draw(rng, labels), labels, classes, columns))
    counts = {role: dict.fromkeys(classes, count) for role, count in per.items()}
    facts = {"classes": list(classes), "counts": counts, "groups": counts, "size_px": 16, "colour": "rgb", "copies": 2}
    store.write_json(folder / "facts.json", facts | {"set_aside": {"no group": 3}, "left_out": 9, "roles": "given"})


def make_candidates(folder: Path, rng: np.random.Generator, classes: tuple[str, ...], per: int, draw: Draw) -> None:
    labels = np.repeat(np.arange(len(classes)), per)
    index = np.tile(np.arange(per), len(classes))
    images.write(folder / "images", images.make(draw(rng, labels, blur=1), labels, classes, {"index": index}))
    store.write_json(folder / "facts.json", {"classes": list(classes)})


def make_selection(
    folder: Path,
    candidates: Path,
    rng: np.random.Generator,
    classes: tuple[str, ...],
    per: int,
    keep: int,
    method: str,
) -> pd.DataFrame:
    """Writes the selection; returns a map on which its communities lie apart."""
    n = per * len(classes)
    community = rng.integers(0, 5, n)
    community[0] = -1
    order = np.arange(n) % per
    chosen = order < keep
    frame = pd.DataFrame({"row": np.arange(n), "label": np.arange(n) // per, "community": community})
    frame["flow"], frame["centrality"], frame["chosen"] = 1 / n, rng.random(n), chosen
    frame["reason"] = np.where(chosen, "quota of its community", "beyond the quota")
    frame.to_parquet(folder / "communities.parquet", index=False)
    rows = np.flatnonzero(chosen)
    taken = images.read(candidates / "images", rows=rows)
    columns = {"candidate": rows, "community": community[rows], "centrality": frame["centrality"][rows].tolist()}
    columns["rank"] = order[rows]
    images.write(folder / "images", images.make(taken.pixels_nhwc, taken.labels_n, classes, columns))
    store.write_json(folder / "facts.json", {"method": method, "per_class": keep, "warnings": []})
    return pd.DataFrame({"row": np.arange(n), "x": community + rng.normal(0, 0.3, n), "y": rng.normal(0, 1, n)})


def make_benchmark(folder: Path, value: float, number: int, networks: tuple[str, ...]) -> None:
    metrics = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
    of = {network: {"test": {m: estimate(value - 0.05 * i) for m in metrics}} for i, network in enumerate(networks)}
    store.write_json(folder / "metrics.json", of)
    of_judge = {"own": estimate(0.8), "test": estimate(0.95), "ratio": estimate(0.842)}
    agreement = {"images": number, "colour": of_judge, "grey": of_judge}
    titles = {"convnet3": "ConvNet-3, 32 px", "colour": "colour only"}
    told = [{"name": name, "title": titles.get(name, f"about {name}")} for name in networks]
    store.write_json(folder / "facts.json", {"images": number, "agreement": agreement, "networks": told})


def make_audit(folder: Path, verdict: str) -> None:
    bad = verdict == "NO-GO"
    test = estimate(0.2 if bad else 0.01) | {"control": 0.01, "guess": 0.05, "p_adjusted": 0.00012, "passed": not bad}
    words = {"name": "near_copies", "meaning": "How many tiles are nearly a training tile.", "decides": "NO-GO"}
    reasons = ["2 tiles are copies of training tiles."] if bad else ["fewer than 300 tiles were audited"]
    power = {"alarm": estimate(0.9), "planted_share": 0.05, "seen_by_change": {"mirrored": 1.0, "cropped": 0.125}}
    facts = {"verdict": verdict, "reasons": reasons, "tests": [test | words], "power": power, "audited": 42}
    facts |= {"control": {"control_groups": 80, "alarms_on_hold_out": []}, "not_tested": ["attacks on the model"]}
    store.write_json(folder / "audit.json", facts)
    store.write_bytes(folder / "pairs.png", images.png(np.zeros((20, 40, 3), np.uint8)))


def make_curves(folder: Path, steps: int = 50) -> None:
    step = np.arange(steps)
    kid = np.where(step % 10 == 9, 0.3 / (1 + step), np.nan)
    pd.DataFrame({"step": step, "loss": 1 / (1 + step), "kid": kid}).to_parquet(folder / "curves.parquet", index=False)


def make_results(
    root: Path,
    classes: tuple[str, ...] = CLASSES,
    verdict: str = "REVIEW",
    per: int = 20,
    keep: int = 14,
    draw: Draw = tiles_like,
) -> Results:
    """A result of every stage that the report reads, by node."""
    rng = np.random.default_rng(7)
    names = ["tiles", "autoencoder", "judge", "denoiser", "candidates", "embedding", "selection/infomap_14"]
    names += ["selection/random_14", "condensation/real_14"]
    names += [f"benchmark/{n}" for n in ("all_real", "all_synthetic", "real_14", "infomap_14")]
    names += ["audit_images/infomap_14", "audit_images/random_14"]
    results = {name: root / name for name in names}
    for folder in results.values():
        folder.mkdir(parents=True)
    make_tiles(results["tiles"], rng, classes, draw)
    make_candidates(results["candidates"], rng, classes, per, draw)
    for name in ("infomap", "random"):
        folder = results[f"selection/{name}_14"]
        plane = make_selection(folder, results["candidates"], rng, classes, per, keep, name)
    plane.to_parquet(results["embedding"] / "map.parquet", index=False)
    near = {"kid": estimate(0.05), "kid_train": estimate(0.01, 0.02), "manifold": {"precision": 0.75, "recall": 0.5}}
    store.write_json(results["embedding"] / "facts.json", {"encoder": "judge", "fidelity": near})
    labels = np.repeat(np.arange(len(classes)), 2)
    images.write(
        results["condensation/real_14"] / "images",
        images.make(draw(rng, labels), labels, classes, {"rank": [0, 1] * len(classes)}),
    )
    store.write_json(results["condensation/real_14"] / "facts.json", {"pixels": "real", "method": "random"})
    for name, value in {"all_real": 0.93, "all_synthetic": 0.82, "real_14": 0.86, "infomap_14": 0.84}.items():
        networks = ("convnet3", "colour") if name in ("all_real", "real_14") else ("convnet3",)
        make_benchmark(results[f"benchmark/{name}"], value, 42, networks)
    make_audit(results["audit_images/infomap_14"], verdict)
    make_audit(results["audit_images/random_14"], "REVIEW")
    for name in ("judge", "denoiser"):
        make_curves(results[name])
    store.write_json(results["denoiser"] / "facts.json", {"warnings": ["KID against the val tiles did not fall"]})
    for path in (results["autoencoder"] / "reconstruction.png", results["denoiser"] / "samples.png"):
        store.write_bytes(path, images.png(rng.integers(0, 255, (32, 96, 3), dtype=np.uint8)))
    return results


def about(results: Results, shipped: str | None = "infomap_14") -> report.About:
    everything = [*results, "release"]
    nodes = [
        report.Node(n, "sealed" if n in results else "missing", "" if n in results else "never made", 3.0, "a1" * 8)
        for n in everything
    ]
    facts = {"seed": 0, "python": "3.11.0", "versions": {"torch": "2.11"}, "peak_memory_mib": 2100}
    return report.About("demo", nodes, shipped, "for release", 0.95, "seed: 0\n", facts, "1 May 2025, 10:00")
