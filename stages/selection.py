"""Stage selection: from the candidates of every class, the few that stand for all.

Within a class the candidates form a neighbour graph; Infomap finds its communities; every community sends its most
central tiles, by quota (InfoDist: Li & Kainz, MICCAI 2024, arXiv 2406.13536, with a graph rule that holds at any number
of candidates). The graph is drawn and described for the other ways to choose as well, so that they can be compared.

Writes `images/` (rows by class, then rank; the head of a class is itself a fair selection; with soft labels the columns
p0, p1, … too), `communities.parquet` (a row per candidate), `edges.parquet` (between rows of candidates) and
`facts.json`. Where the embedding made short vectors, the graph is drawn by those.
Shapes: n candidates of one class, d features, s chosen.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from stages import compute, images, models, pins, store, tables
from stages.contracts import Engine, Inputs, UserError
from stages.settings import InputPath, Settings
from stages.streams import derive, numpy_stream

if TYPE_CHECKING:
    from stages.graph.communities import Partition
    from stages.graph.knn import Graph

Ints = npt.NDArray[np.int64]
ALONE = -1
"""The community of a candidate that is not in the graph, because it equals another, pixel for pixel."""


class SelectionSettings(Settings):
    """How the graph is drawn, how it is cut, and how many tiles are kept."""

    method: Literal["infomap", "kmeans", "random"] = "infomap"
    """`infomap`: by communities and modular centrality; `kmeans`: medoids of k-means; `random`: by lot."""
    per_class: int = Field(50, ge=1, le=100_000)
    """Tiles kept of every class."""
    neighbours: int = Field(10, ge=1, le=200)
    """Nearest neighbours every candidate points at."""
    trials: int = Field(5, ge=1, le=100)
    """Runs of Infomap, of which the shortest description wins."""
    smallest_community: int = Field(3, ge=1, le=1000)
    """Communities with fewer candidates are outliers: not represented, unless needed to reach `per_class`."""
    kmeans_starts: int = Field(4, ge=1, le=100)
    """Runs of k-means, of which the tightest wins."""
    soft_labels: bool = False
    """Whether every chosen tile carries the judge's class probabilities, at the temperature that fits val. They come
    from a network that saw the private tiles: the audit asks for a review, and a release has them only when asked."""
    exclude: InputPath | None = None
    """Candidates a person leaves out, before the graph is drawn: CSV with tile_id and reason; None: that of `pins`."""
    keep: InputPath | None = None
    """Candidates a person wants in, counted in the quota of their class: such a CSV; None: that of `pins`."""


class Choice(NamedTuple):
    """What was decided in one class; row numbers are places among the nodes of that class."""

    graph: "Graph"
    partition: "Partition"
    chosen_s: Ints
    reason_n: list[str]


def run(settings: SelectionSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Choose `per_class` candidates of every class and record why."""
    table, classes = images.read_table(inputs["candidates"] / "images")
    vectors = store.read_tensors(inputs["embedding"] / "features.safetensors")
    x_nd = vectors.get("reduced_nr", vectors["candidates_nd"]).numpy()
    if len(x_nd) != len(table):
        raise UserError(f"{len(table)} candidates, but {len(x_nd)} vectors: run the embedding of these candidates")
    tile_ids = table["tile_id"].to_numpy(str)
    pinned = pins.read(settings.exclude, settings.keep, set(tile_ids))

    communities: list[pd.DataFrame] = []
    edges: list[pd.DataFrame] = []
    chosen: list[pd.DataFrame] = []
    facts: dict[str, dict[str, Any]] = {}
    for label, name in enumerate(classes):
        rows_all = np.flatnonzero(table["label"] == label)
        rows_n = pinned.left(by_content(rows_all, tile_ids), tile_ids)
        if len(rows_n) < settings.per_class:
            raise UserError(
                f"selection.per_class is {settings.per_class}, but class {name} has only {len(rows_n)} different "
                f"candidates{' that are not left out by hand' if pinned.exclude else ''}: lower it, or raise "
                "candidates.per_class"
            )
        choice = choose(settings, x_nd[rows_n], seed, name)
        community_n = None if settings.method == "random" else choice.partition.community_n
        chosen_s, reason_n = pins.seat(pinned, tile_ids[rows_n], choice.chosen_s, choice.reason_n, community_n, name)
        choice = choice._replace(chosen_s=chosen_s, reason_n=reason_n)
        communities.append(_community_rows(label, rows_all, rows_n, choice))
        edges.append(_edge_rows(rows_n, choice.graph))
        chosen.append(_chosen_rows(rows_n, choice))
        facts[name] = _facts(settings, len(rows_all), choice)

    frame = pd.concat(communities).sort_values("row", ignore_index=True)
    frame["reason"] = pinned.explain(tile_ids[frame["row"]], frame["reason"])
    frame.to_parquet(out / "communities.parquet", index=False)
    pd.concat(edges, ignore_index=True).to_parquet(out / "edges.parquet", index=False)
    judge = inputs["judge"] / "colour" if settings.soft_labels else None
    soft = _write_images(out / "images", inputs["candidates"] / "images", pd.concat(chosen, ignore_index=True), judge)
    warnings = [f"{name}: {warning}" for name, of_class in facts.items() for warning in of_class["warnings"]]
    kept = {"method": settings.method, "per_class": settings.per_class, "neighbours": settings.neighbours}
    told = {"classes": facts, "warnings": warnings, "soft_labels": soft, "pins": pins.told(pinned)}
    store.write_json(out / "facts.json", kept | told)


def by_content(rows: Ints, tile_ids: npt.NDArray[np.str_]) -> Ints:
    """The rows in the order of their pictures' names, copies left out: the order in which they were made is gone."""
    _, first = np.unique(tile_ids[rows], return_index=True)
    return rows[first]


def choose(settings: SelectionSettings, x_nd: npt.NDArray[np.float32], seed: int, name: str) -> Choice:
    """Choose among the candidates of the class called `name`, given in the order of their content."""
    from stages.graph import communities, knn, medoids

    graph = knn.neighbour_graph(knn.exact_neighbours(x_nd, settings.neighbours))
    partition = communities.infomap_partition(graph, derive(seed, "infomap", name), settings.trials)
    if settings.method == "infomap":
        return _by_community(settings, graph, partition)
    if settings.method == "kmeans":
        kmeans_seed = derive(seed, "kmeans", name)
        chosen_s = medoids.kmeans_medoids(x_nd, settings.per_class, kmeans_seed, settings.kmeans_starts)
        taken, left = "medoid of a k-means cluster", "not a medoid"
    else:
        chosen_s = medoids.random_choice(len(x_nd), settings.per_class, numpy_stream(seed, "random", name))
        taken, left = "drawn by lot", "not drawn"
    reason_n = np.where(np.isin(np.arange(len(x_nd)), chosen_s), taken, left)
    return Choice(graph, partition, chosen_s, reason_n.tolist())


def _by_community(settings: SelectionSettings, graph: "Graph", partition: "Partition") -> Choice:
    """The most central of every community, by quota."""
    from stages.graph import quotas

    community_n = partition.community_n
    place_n = quotas.by_centrality(community_n, partition.centrality_n, partition.flow_n)
    shares = quotas.quotas(partition.sizes_m, settings.per_class, settings.smallest_community)
    chosen_s = quotas.in_turn(community_n, place_n, shares.seats_m)
    chosen_n, fair_n = np.isin(np.arange(len(community_n)), chosen_s), place_n < shares.fair_m[community_n]
    small_n = partition.sizes_m[community_n] < settings.smallest_community
    kinds = [chosen_n & small_n, chosen_n & fair_n, chosen_n, small_n]
    words = ["outlier, to fill up", "quota of its community", "shortage elsewhere", "outlier"]
    reason_n = np.select(kinds, words, default="beyond the quota of its community")
    return Choice(graph, partition, chosen_s, reason_n.tolist())


def _community_rows(label: int, rows_all: Ints, rows_n: Ints, choice: Choice) -> pd.DataFrame:
    """One row per candidate of a class, copies included."""
    chosen_n = np.isin(np.arange(len(rows_n)), choice.chosen_s)
    nodes = pd.DataFrame(
        {
            "row": rows_n,
            "label": label,
            "community": choice.partition.community_n,
            "flow": choice.partition.flow_n,
            "centrality": choice.partition.centrality_n,
            "chosen": chosen_n,
            "reason": choice.reason_n,
        }
    )
    rows_copies = np.setdiff1d(rows_all, rows_n)
    if len(rows_copies) == 0:
        return nodes
    copies = pd.DataFrame(
        {
            "row": rows_copies,
            "label": label,
            "community": ALONE,
            "flow": 0.0,
            "centrality": 0.0,
            "chosen": False,
            "reason": "copy of another candidate",
        }
    )
    return pd.concat([nodes, copies], ignore_index=True)


def _edge_rows(rows_n: Ints, graph: "Graph") -> pd.DataFrame:
    """The edges of one class, between rows of candidates."""
    ends = {"source": rows_n[graph.source_e], "target": rows_n[graph.target_e]}
    return pd.DataFrame(ends | {"weight": graph.weight_e})


def _chosen_rows(rows_n: Ints, choice: Choice) -> pd.DataFrame:
    """The chosen of one class, by rank."""
    return pd.DataFrame(
        {
            "candidate": rows_n[choice.chosen_s],
            "community": choice.partition.community_n[choice.chosen_s],
            "centrality": choice.partition.centrality_n[choice.chosen_s],
            "rank": np.arange(len(choice.chosen_s)),
        }
    )


def _write_images(folder: Path, candidates: Path, chosen: pd.DataFrame, judge: Path | None) -> dict[str, Any] | None:
    """Copy the chosen candidates' pictures into an image set of kind `selection`; tell where soft labels come from."""
    taken = images.read(candidates, rows=chosen["candidate"].to_numpy(np.int64))
    table, soft = pd.concat([taken.table[["label", "tile_id"]], chosen], axis=1), None
    if judge is not None:
        soft_labels, soft = _soft_labels(judge, taken)
        table = pd.concat([table, soft_labels], axis=1)
    images.write(folder, taken._replace(table=tables.check(table, "selection")))
    return soft


def _soft_labels(judge: Path, taken: images.ImageSet) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What the judge says of every tile at its temperature, a column per class; and where this comes from."""
    from stages.classify import networks, protocol
    from stages.classify.soft_labels import DECIMALS, columns, soft_labels

    network, facts = models.read_network(judge, networks.build)
    if tuple(facts["classes"]) != taken.classes:
        raise UserError(f"The judge knows the classes {facts['classes']}, the candidates have {list(taken.classes)}.")
    device, pixels_nhwc = compute.device(), protocol.resize(taken.pixels_nhwc, int(facts["size_px"]))
    with compute.one_thread():
        p_nk = protocol.probabilities(network.to(device), pixels_nhwc, facts["mean"], facts["std"], device)
    soft_nk = soft_labels(p_nk, float(facts["temperature"]))
    told = {
        "temperature": facts["temperature"],
        "decimals": DECIMALS,
        "architecture": facts["architecture"],
        "judge": store.digest_file(judge / "weights.safetensors"),
        "agreement": float((soft_nk.argmax(axis=1) == taken.labels_n).mean()),
        "mean_confidence": float(soft_nk.max(axis=1).mean()),
    }
    return pd.DataFrame(soft_nk, columns=columns(soft_nk.shape[1])), told


def _facts(settings: SelectionSettings, candidates: int, choice: Choice) -> dict[str, Any]:
    """Numbers about one class: the graph, its communities, and how many of them the choice reaches."""
    from stages.graph.communities import degeneracies, quality

    partition = choice.partition
    scores = quality(choice.graph, partition.community_n)
    sizes = partition.sizes_m
    reached = np.unique(partition.community_n[choice.chosen_s])
    return {
        "candidates": candidates,
        "different": len(partition.community_n),
        "communities": len(sizes),
        "outlier_communities": int((sizes < settings.smallest_community).sum()),
        "communities_reached": len(reached),
        "sizes": sizes.tolist(),
        "flow_reached": float(partition.flow_m[reached].sum()),
        "codelength": partition.codelength,
        "one_level_codelength": partition.one_level_codelength,
        "modularity": scores.modularity,
        "coverage": scores.coverage,
        "warnings": degeneracies(partition.community_n, settings.smallest_community),
    }
