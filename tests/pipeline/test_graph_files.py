"""The graph of a selection in other tools' formats, read back by networkx."""

import io
from pathlib import Path

import networkx as nx
import pandas as pd
import pytest
from planted_candidates import Results, explorable
from telling import TINY, histodistill

from pipeline import graph_files
from stages import images

READ = {
    ".graphml": lambda b: nx.read_graphml(io.BytesIO(b), node_type=int),
    ".gexf": lambda b: nx.read_gexf(io.BytesIO(b), node_type=int),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return explorable(tmp_path_factory.mktemp("explorable"), classes=("a & <b>", "ö"))


@pytest.mark.parametrize("suffix", graph_files.SUFFIXES)
def test_what_is_read_back_is_what_the_selection_stored(results: Results, suffix: str) -> None:
    found = READ[suffix](graph_files.encoded(graph_files.graph(results, "planted"), suffix))
    folder = results["selection/planted"]
    edges = pd.read_parquet(folder / "edges.parquet")
    assert found.is_directed() and found.number_of_nodes() == 96 and found.number_of_edges() == len(edges)
    for source, target, weight in edges.itertuples(index=False):
        assert found[source][target]["weight"] == pytest.approx(weight)
    tile_ids = images.read_table(results["candidates"] / "images")[0]["tile_id"]
    for row in pd.read_parquet(folder / "communities.parquet").itertuples():
        node = found.nodes[row.row]
        assert (node["tile_id"], node["class"]) == (tile_ids[row.row], ("a & <b>", "ö")[row.label])
        assert (node["community"], node["chosen"], node["reason"]) == (row.community, row.chosen, row.reason)
        assert (node["centrality"], node["flow"]) == pytest.approx((row.centrality, row.flow))


@pytest.mark.parametrize("suffix", graph_files.SUFFIXES)
def test_equal_graphs_give_equal_bytes_and_tell_no_date(results: Results, suffix: str) -> None:
    one, two = (graph_files.encoded(graph_files.graph(results, "planted"), suffix) for _ in range(2))
    assert one == two and b"lastmodified" not in one


def test_the_command_writes_what_its_suffix_says_and_refuses_others(tiny_root: Path, tmp_path: Path) -> None:
    for suffix in graph_files.SUFFIXES:
        told = histodistill("graph", TINY, "infomap", "--out", tmp_path / f"graph{suffix}", root=tiny_root)
        assert told.code == 0, told.err
        assert READ[suffix]((tmp_path / f"graph{suffix}").read_bytes()).number_of_nodes() == 36
    told = histodistill("graph", TINY, "infomap", "--out", tmp_path / "graph.json", root=tiny_root)
    assert told.code == 2 and ".graphml or .gexf" in told.err
