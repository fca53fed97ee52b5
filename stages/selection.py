"""Stage selection: from the candidates of every class, the few that stand for all.

Within a class the candidates form a neighbour graph; Infomap, or another detector, finds its communities; every
community sends its most central tiles, by quota (InfoDist: Li & Kainz, MICCAI 2024, arXiv 2406.13536, with a graph rule
that holds at any number of candidates). The graph is drawn and described for the ways to choose that do not look at it
as well, so that they can be compared.

Writes `images/` (rows by class, then rank; the head of a class is itself a fair selection; with soft labels the columns
p0, p1, … too), `contact.png`, `communities.parquet` (a row per candidate), `edges.parquet` (between rows of candidates)
and `facts.json`. Where the embedding made short vectors, the graph is drawn by those.
Shapes: n candidates of one class, d features, s chosen.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages import compute, gating, images, models, pins, scale_bar, store, tables
from stages.choosing import WORDS, Choice, ChoosingSettings, choose
from stages.contact_sheet import contact_sheet
from stages.contracts import Engine, Inputs, UserError
from stages.gating import GateSettings
from stages.settings import InputPath

if TYPE_CHECKING:
    from stages.graph.knn import Graph

Ints = npt.NDArray[np.int64]
ALONE = -1
"""The community of a candidate that is not in the graph, because it equals another, pixel for pixel."""
LEAST_RECALL = 0.98
"""An approximate search that finds less of the nearest neighbours than this is warned of."""
SHEET_PER_CLASS, SHEET_COLUMNS = 48, 12
"""Tiles of every class on the contact sheet, at most, and in a row of it."""


class SelectionSettings(ChoosingSettings):
    """How candidates are chosen, and what the chosen carry."""

    soft_labels: bool = False
    """Whether every chosen tile carries the judge's class probabilities, at the temperature that fits val. They come
    from a network that saw the private tiles: the audit asks for a review, and a release has them only when asked."""
    gate: GateSettings = GateSettings()
    """What a candidate must pass before anything is chosen."""
    exclude: InputPath | None = None
    """Candidates a person leaves out, before the graph is drawn: CSV with tile_id and reason; None: that of `pins`."""
    keep: InputPath | None = None
    """Candidates a person wants in, counted in the quota of their class: such a CSV; None: that of `pins`."""


def run(settings: SelectionSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Choose `per_class` candidates of every class and record why."""
    table, classes = images.read_table(inputs["candidates"] / "images")
    vectors = store.read_tensors(inputs["embedding"] / "features.safetensors")
    x_nd = vectors.get("reduced_nr", vectors["candidates_nd"]).numpy()
    if len(x_nd) != len(table):
        raise UserError(f"{len(table)} candidates, but {len(x_nd)} vectors: run the embedding of these candidates")
    doubt_n = _doubts(settings.quota, inputs["embedding"], len(table))
    tile_ids = table["tile_id"].to_numpy(str)
    pinned = pins.read(settings.exclude, settings.keep, set(tile_ids))
    real: dict[str, Any] = {name: vectors[name].numpy() for name in ("candidates_nd", "train_nd") if name in vectors}
    kept_n = np.isin(tile_ids, list(pinned.keep))
    gate = gating.judged(settings.gate, inputs["candidates"] / "images", real, inputs.get("judge"), kept_n, engine)

    communities: list[pd.DataFrame] = []
    edges: list[pd.DataFrame] = []
    chosen: list[pd.DataFrame] = []
    facts: dict[str, dict[str, Any]] = {}
    for label, name in enumerate(classes):
        rows_all = np.flatnonzero(table["label"] == label)
        rows_n = gate.left(pinned.left(by_content(rows_all, tile_ids), tile_ids))
        if len(rows_n) < settings.per_class:
            blame = gate.blame(label)
            raise UserError(
                f"selection.per_class is {settings.per_class}, but class {name} has only {len(rows_n)} different "
                f"candidates{' that are not left out by hand' if pinned.exclude else ''}{blame}: lower it, "
                f"{'loosen the gate, ' if blame else ''}or raise candidates.per_class"
            )
        choice = choose(settings, x_nd[rows_n], seed, name, None if doubt_n is None else doubt_n[rows_n])
        community_n = None if settings.method in WORDS else choice.partition.community_n
        chosen_s, reason_n = pins.seat(pinned, tile_ids[rows_n], choice.chosen_s, choice.reason_n, community_n, name)
        choice = choice._replace(chosen_s=chosen_s, reason_n=reason_n)
        communities.append(_community_rows(label, rows_all, rows_n, choice))
        edges.append(_edge_rows(rows_n, choice.graph))
        chosen.append(_chosen_rows(rows_n, choice))
        facts[name] = _facts(settings, len(rows_all), choice)

    frame = pd.concat(communities).sort_values("row", ignore_index=True)
    frame["reason"] = gate.explain(frame["row"].to_numpy(np.int64), frame["reason"].tolist())
    frame["reason"] = pinned.explain(tile_ids[frame["row"]], frame["reason"])
    frame.to_parquet(out / "communities.parquet", index=False)
    pd.concat(edges, ignore_index=True).to_parquet(out / "edges.parquet", index=False)
    judge = inputs["judge"] / "colour" if settings.soft_labels else None
    soft = _write_images(out / "images", inputs["candidates"] / "images", pd.concat(chosen, ignore_index=True), judge)
    warnings = [f"{name}: {warning}" for name, of_class in facts.items() for warning in of_class["warnings"]]
    kept = settings.model_dump(include={"method", "per_class", "neighbours", "graph", "representative", "quota"})
    told = {"classes": facts, "warnings": warnings, "soft_labels": soft, "gate": gate.told, "pins": pins.told(pinned)}
    store.write_json(out / "facts.json", kept | told)


def by_content(rows: Ints, tile_ids: npt.NDArray[np.str_]) -> Ints:
    """The rows in the order of their pictures' names, copies left out: the order in which they were made is gone."""
    _, first = np.unique(tile_ids[rows], return_index=True)
    return rows[first]


def _doubts(quota: str, embedding: Path, candidates: int) -> npt.NDArray[np.float64] | None:
    """The judge's entropy about every candidate, in bits, where the quota goes by it."""
    if quota != "uncertainty":
        return None
    path = embedding / "probabilities.safetensors"
    if not path.exists():
        raise UserError(
            "selection.quota is uncertainty, which the judge tells, but the candidates were not embedded by the judge: "
            "set embedding.encoder to judge, or take another quota"
        )
    p_nk = store.read_tensors(path)["candidates_nk"].numpy().astype(np.float64)
    assert len(p_nk) == candidates, "the embedding writes both together"
    return np.asarray(-(p_nk * np.log2(np.where(p_nk > 0, p_nk, 1.0))).sum(axis=1), np.float64)


def _community_rows(label: int, rows_all: Ints, rows_n: Ints, choice: Choice) -> pd.DataFrame:
    """One row per candidate of a class, those included that are not in the graph."""
    chosen_n = np.isin(np.arange(len(rows_n)), choice.chosen_s)
    nodes = pd.DataFrame(
        {
            "row": rows_n,
            "label": label,
            "community": choice.partition.community_n,
            "flow": choice.partition.flow_n,
            "centrality": choice.partition.centrality_n,
            "score": choice.score_n,
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
            "score": 0.0,
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
    """The chosen candidates' pictures as an image set of kind `selection`, and a sheet; where soft labels come from."""
    taken = images.read(candidates, rows=chosen["candidate"].to_numpy(np.int64))
    table, soft = pd.concat([taken.table[["label", "tile_id"]], chosen], axis=1), None
    if judge is not None:
        soft_labels, soft = _soft_labels(judge, taken)
        table = pd.concat([table, soft_labels], axis=1)
    images.write(folder, taken._replace(table=tables.check(table, "selection")))
    mpp = scale_bar.known_mpp(candidates.parent)
    sheet = contact_sheet(taken, SHEET_PER_CLASS, SHEET_COLUMNS, mpp)
    store.write_bytes(folder.with_name("contact.png"), images.png(sheet, level=6))
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
    from stages.graph.comparing import community_reach
    from stages.graph.infodist_rule import graph_degeneracies
    from stages.graph.partition_report import degeneracies, report

    partition, search = choice.partition, choice.search
    told = report(choice.graph, partition, choice.again)
    reached = np.unique(partition.community_n[choice.chosen_s])
    reach = community_reach(partition.community_n, partition.flow_n, choice.chosen_s)
    warnings = degeneracies(partition.community_n, settings.smallest_community) + graph_degeneracies(choice.graph)
    if search.recall < LEAST_RECALL:
        warnings.append(f"the approximate search found {search.recall:.1%} of the nearest neighbours; raise exact_to")
    return {
        "candidates": candidates,
        "different": len(partition.community_n),
        "neighbours_exact": search.exact,
        "neighbours_recall": search.recall,
        "edges": len(choice.graph.source_e),
        **told._asdict(),
        "outlier_communities": int((partition.sizes_m < settings.smallest_community).sum()),
        "near_identical": sum(reason.startswith("near-identical") for reason in choice.reason_n),
        "communities_reached": len(reached),
        "candidates_reached": reach.candidates,
        "flow_reached": reach.flow,
        "warnings": warnings,
    }
