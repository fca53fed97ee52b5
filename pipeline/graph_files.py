"""The graph of a selection as a file that other tools open (Gephi, Cytoscape, networkx): GraphML or GEXF.

Nodes are candidates, named by their row; edges point from a candidate to its neighbours, weighted. It holds no picture.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from stages import images, store
from stages.contracts import UserError

if TYPE_CHECKING:
    import networkx as nx

    from pipeline.runner import Run
    from pipeline.steps import Step

SUFFIXES = (".graphml", ".gexf")
TOLD = ("community", "flow", "centrality", "chosen", "reason")
"""What nodes carry beside their tile's id and class."""


def write(run: "Run", steps: "list[Step]", name: str, out: Path) -> Path:
    """Write the graph of the selection `name` to `out`, in the format its suffix names, and return the path.

    Raises:
        UserError: another suffix, no such selection, or it is not sealed.
    """
    from pipeline.sealed import sealed

    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out is {out}; its suffix says the format: {' or '.join(SUFFIXES)}.")
    seals = sealed(run, steps, (f"selection/{name}", "candidates"))
    store.write_bytes(
        out, encoded(graph({node: seal.folder for node, seal in seals.items()}, name), out.suffix.lower())
    )
    return out


def graph(results: Mapping[str, Path], name: str) -> "nx.DiGraph[int]":
    """The stored graph of a selection, all classes in one.

    Args:
        results: folders of `candidates` and `selection/<name>`.
        name: of the selection.
    """
    import networkx as nx

    folder = results[f"selection/{name}"]
    table, classes = images.read_table(results["candidates"] / "images")
    nodes = pd.read_parquet(folder / "communities.parquet")
    told = {
        "tile_id": table["tile_id"].to_numpy()[nodes["row"]].tolist(),
        "class": [classes[label] for label in nodes["label"]],
        **{column: nodes[column].tolist() for column in TOLD},
    }
    drawn: nx.DiGraph[int] = nx.DiGraph(selection=name)
    for row, *values in zip(nodes["row"].tolist(), *told.values(), strict=True):
        drawn.add_node(row, **dict(zip(told, values, strict=True)))
    edges = pd.read_parquet(folder / "edges.parquet")
    ends = (edges[column].tolist() for column in ("source", "target", "weight"))
    drawn.add_weighted_edges_from(zip(*ends, strict=True))
    return drawn


def encoded(drawn: "nx.DiGraph[int]", suffix: str) -> bytes:
    """A graph as GraphML or GEXF; equal graphs give equal bytes."""
    import networkx as nx

    buffer = io.BytesIO()
    if suffix == ".graphml":
        nx.write_graphml(drawn, buffer)
        return buffer.getvalue()
    writer = nx.readwrite.gexf.GEXFWriter(encoding="utf-8")
    writer.add_graph(drawn)
    for meta in writer.xml.iter("meta"):  # the one place where the clock gets in
        meta.attrib.pop("lastmodifieddate", None)
    writer.write(buffer)
    return buffer.getvalue()
