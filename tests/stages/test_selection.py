"""Stage selection on planted blobs."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from planted_candidates import CLASSES, SETTINGS, candidates_of, lay, select

from stages import images, models, store, tables
from stages.classify import networks
from stages.contracts import UserError
from stages.selection import SelectionSettings

METHODS = get_args(SelectionSettings.model_fields["method"].annotation)


def chosen_ids(out: Path) -> list[str]:
    return images.read(out / "images").table["tile_id"].tolist()


def digests(out: Path) -> dict[str, dict[str, object]]:
    return store.digest_folder(out)


def test_communities_are_the_blobs_and_everyone_is_represented(tmp_path: Path) -> None:
    candidates, x_nd, blob_n = candidates_of(np.random.default_rng(0))
    out = select(lay(tmp_path, candidates, x_nd), tmp_path / "out")
    frame = pd.read_parquet(out / "communities.parquet")
    assert frame["row"].tolist() == list(range(96))
    assert len(frame.groupby(["label", "community"])) == 12
    assert frame.assign(blob=blob_n).groupby(["label", "community"])["blob"].nunique().eq(1).all()
    assert frame.groupby("label")["flow"].sum().tolist() == pytest.approx([1, 1])
    assert set(frame[frame["chosen"]]["reason"]) == {"quota of its community"}
    facts = store.read_json(out / "facts.json")
    assert facts["classes"]["a"]["sizes"] == [8] * 6 and facts["warnings"] == []
    assert facts["classes"]["b"]["communities_reached"] == 6
    assert facts["classes"]["a"]["codelength"] < facts["classes"]["a"]["one_level_codelength"]


def test_the_image_set_holds_the_most_central_by_quota_in_turn(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(1))
    out = select(lay(tmp_path, candidates, x_nd), tmp_path / "out")
    kept = images.read(out / "images")
    table = tables.check(kept.table, "selection")
    assert kept.classes == ("a", "b")
    assert table["label"].tolist() == [0] * 10 + [1] * 10 and table["rank"].tolist() == list(range(10)) * 2
    assert np.array_equal(kept.pixels_nhwc, candidates.pixels_nhwc[table["candidate"]])
    frame = pd.read_parquet(out / "communities.parquet").set_index("row")
    for label in (0, 1):
        of_class = table[table["label"] == label]
        assert of_class["community"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]  # 10 // 6 each, 4 over to the first
        for community, seats in of_class["community"].value_counts().items():
            members = frame[(frame["label"] == label) & (frame["community"] == community)]
            best = members["centrality"].nlargest(seats).index
            assert set(best) == set(of_class[of_class["community"] == community]["candidate"])
    assert frame.loc[table["candidate"], "chosen"].all() and frame["chosen"].sum() == 20


def test_edges_join_candidates_of_one_class_and_leave_each_with_weight_one(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(2))
    edges = pd.read_parquet(select(lay(tmp_path, candidates, x_nd), tmp_path / "out") / "edges.parquet")
    assert len(edges) == 96 * 6
    assert (candidates.labels_n[edges["source"]] == candidates.labels_n[edges["target"]]).all()
    assert edges.groupby("source")["weight"].sum().to_numpy() == pytest.approx(np.ones(96))


@pytest.mark.parametrize("method", METHODS)
def test_the_order_in_which_candidates_were_made_changes_no_choice(method: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    candidates, x_nd, _ = candidates_of(rng)
    shuffled_n = np.concatenate([rng.permutation(48), 48 + rng.permutation(48)])
    settings = SETTINGS.model_copy(update={"method": method})
    one = select(lay(tmp_path / "one", candidates, x_nd), tmp_path / "a", settings)
    two = select(lay(tmp_path / "two", candidates.take(shuffled_n), x_nd[shuffled_n]), tmp_path / "b", settings)
    assert chosen_ids(one) == chosen_ids(two)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bytes(method: str, tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(4))
    inputs, settings = lay(tmp_path, candidates, x_nd), SETTINGS.model_copy(update={"method": method})
    one, two = (select(inputs, tmp_path / name, settings) for name in ("a", "b"))
    assert digests(one) == digests(two)
    assert len(set(chosen_ids(one))) == 20
    if method == "random":
        assert chosen_ids(select(inputs, tmp_path / "c", settings, seed=4)) != chosen_ids(one)


def test_another_seed_searches_anew_where_there_is_no_structure_to_find(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    candidates, _, _ = candidates_of(rng)
    inputs = lay(tmp_path, candidates, rng.normal(size=(96, 16)).astype(np.float32))
    settings = SETTINGS.model_copy(update={"trials": 1})
    found = [tuple(chosen_ids(select(inputs, tmp_path / str(seed), settings, seed))) for seed in range(5)]
    assert len(set(found)) > 1


def test_multiplying_all_vectors_changes_no_choice(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(5))
    one = select(lay(tmp_path / "one", candidates, x_nd), tmp_path / "a")
    two = select(lay(tmp_path / "two", candidates, x_nd * 1024), tmp_path / "b")
    assert digests(one / "images") == digests(two / "images")


def test_a_smaller_selection_is_the_head_of_a_larger_one(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(6))
    inputs = lay(tmp_path, candidates, x_nd)
    small = select(inputs, tmp_path / "a", SETTINGS.model_copy(update={"per_class": 4}))
    assert chosen_ids(small)[:4] == chosen_ids(select(inputs, tmp_path / "b"))[:4]


def test_outliers_are_left_out_until_they_are_needed(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    candidates, x_nd, _ = candidates_of(rng, per_class=32)
    centre_d = 1000.0 * rng.normal(size=16)
    x_nd[[0, 1]] = centre_d + rng.normal(size=(2, 16))  # two of class a, far from all others
    inputs = lay(tmp_path, candidates, x_nd)
    settings = SelectionSettings(per_class=30, neighbours=1)
    few = pd.read_parquet(
        select(inputs, tmp_path / "few", settings.model_copy(update={"per_class": 8})) / "communities.parquet"
    )
    assert few["reason"][:2].tolist() == ["outlier", "outlier"]
    all_of_them = select(inputs, tmp_path / "all", settings.model_copy(update={"per_class": 32}))
    frame = pd.read_parquet(all_of_them / "communities.parquet")
    assert frame["chosen"].all() and frame["reason"][:2].tolist() == ["outlier, to fill up"] * 2
    assert "outlier_communities" in store.read_json(all_of_them / "facts.json")["classes"]["a"]


def test_a_copy_of_another_candidate_is_never_chosen(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(8))
    rows = np.arange(96)
    rows[40:48] = rows[:8]
    inputs = lay(tmp_path, candidates.take(rows), x_nd[rows])
    for method in ("infomap", "kmeans", "random"):
        settings = SelectionSettings(method=method, per_class=40, neighbours=6)
        out = select(inputs, tmp_path / method, settings)
        assert len(set(chosen_ids(out))) == 80
        frame = pd.read_parquet(out / "communities.parquet")
        assert (frame["reason"] == "copy of another candidate").sum() == 8
    with pytest.raises(UserError, match="class a has only 40 different candidates"):
        select(inputs, tmp_path / "too_many", SETTINGS.model_copy(update={"per_class": 41}))


def test_candidates_without_structure_are_told(tmp_path: Path) -> None:
    candidates, _, _ = candidates_of(np.random.default_rng(9), per_class=8)
    out = select(
        lay(tmp_path, candidates, np.ones((16, 4), np.float32)), tmp_path / "out", SelectionSettings(per_class=3)
    )
    assert store.read_json(out / "facts.json")["warnings"][0].startswith("a: one community only")
    assert len(chosen_ids(out)) == 6


def test_vectors_of_other_candidates_are_refused(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(10))
    with pytest.raises(UserError, match="96 candidates, but 95 vectors"):
        select(lay(tmp_path, candidates, x_nd[1:]), tmp_path / "out")


def test_short_vectors_are_chosen_by_where_there_are_any(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    candidates, x_nd, _ = candidates_of(rng)
    wanted = select(lay(tmp_path / "one", candidates, x_nd), tmp_path / "a")
    inputs = lay(tmp_path / "two", candidates, rng.normal(size=(96, 40)).astype(np.float32))
    path = inputs["embedding"] / "features.safetensors"
    store.write_tensors(path, store.read_tensors(path) | {"reduced_nr": torch.from_numpy(x_nd)})
    assert digests(select(inputs, tmp_path / "b")) == digests(wanted)


JUDGE = {"architecture": "convnet3", "classes": CLASSES, "grey": False, "mean": [0.5] * 3, "std": [0.2, 0.3, 0.25]}


def lay_judge(inputs: dict[str, Path], facts: dict[str, object] | None = None) -> dict[str, Path]:
    """A judge of tiles at 8 px, with random weights."""
    facts = JUDGE | {"size_px": 8, "width": 4, "feature_dim": 4, "temperature": 0.25} | (facts or {})
    folder = inputs["candidates"].with_name("judge")
    network = networks.build_seeded(facts, torch.Generator().manual_seed(1))
    models.write_network(folder / "colour", network, facts)
    return inputs | {"judge": folder}


def test_soft_labels_are_the_judges_softmax_at_its_temperature(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(13))
    doubled_nhwc = candidates.pixels_nhwc.repeat(2, 1).repeat(2, 2)  # 16 px; the judge takes 8
    candidates = images.make(doubled_nhwc, candidates.labels_n, CLASSES, {"index": candidates.table["index"]})
    inputs = lay_judge(lay(tmp_path, candidates, x_nd))
    out = select(inputs, tmp_path / "out", SETTINGS.model_copy(update={"soft_labels": True}))
    kept = images.read(out / "images")
    found_nk = kept.table[["p0", "p1"]].to_numpy()
    assert found_nk.dtype == np.float64 and "p2" not in kept.table
    network, _ = models.read_network(inputs["judge"] / "colour", networks.build)
    img_nhwc = (kept.pixels_nhwc[:, ::2, ::2] / 255.0 - JUDGE["mean"]) / JUDGE["std"]
    logits_nk = network(torch.from_numpy(img_nhwc).permute(0, 3, 1, 2).float()).double()
    np.testing.assert_allclose(found_nk, (logits_nk / 0.25).softmax(1), atol=2e-4)
    np.testing.assert_allclose(found_nk.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(found_nk * 1e4, np.rint(found_nk * 1e4), atol=1e-8)
    assert found_nk.std() > 0.01
    told = store.read_json(out / "facts.json")["soft_labels"]
    assert (told["temperature"], told["decimals"]) == (0.25, 4)
    assert told["judge"] == store.digest_file(inputs["judge"] / "colour" / "weights.safetensors")


def test_the_same_tiles_are_chosen_with_and_without_soft_labels(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(14))
    inputs = lay_judge(lay(tmp_path, candidates, x_nd))
    plain = select(inputs, tmp_path / "a")
    soft = select(inputs, tmp_path / "b", SETTINGS.model_copy(update={"soft_labels": True}))
    assert chosen_ids(plain) == chosen_ids(soft)
    assert not [c for c in images.read(plain / "images").table if c.startswith("p")]
    assert store.read_json(plain / "facts.json")["soft_labels"] is None


def test_a_judge_of_other_classes_gives_no_soft_labels(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(15))
    inputs = lay_judge(lay(tmp_path, candidates, x_nd), {"classes": ["b", "a"]})
    with pytest.raises(UserError, match="The judge knows the classes"):
        select(inputs, tmp_path / "out", SETTINGS.model_copy(update={"soft_labels": True}))


def test_the_quota_by_uncertainty_goes_by_the_entropy_of_the_judge_and_needs_one(tmp_path: Path) -> None:
    candidates, x_nd, blob_n = candidates_of(np.random.default_rng(16))
    inputs = lay(tmp_path, candidates, x_nd)
    settings = SETTINGS.model_copy(update={"quota": "uncertainty"})
    with pytest.raises(UserError, match="embedding.encoder to judge"):
        select(inputs, tmp_path / "none", settings)
    p_n = np.where(blob_n % 6 == 0, 0.5, 1.0)  # one blob of every class is in doubt, by one bit
    probabilities = torch.from_numpy(np.stack([p_n, 1 - p_n], axis=1))
    store.write_tensors(inputs["embedding"] / "probabilities.safetensors", {"candidates_nk": probabilities})
    out = select(inputs, tmp_path / "out", settings)
    chosen = images.read(out / "images").table["candidate"].to_numpy()
    assert (blob_n[chosen] % 6 == 0).sum() == 16, "all eight of it in each class; then others fill up"
    reasons = pd.read_parquet(out / "communities.parquet")["reason"]
    assert set(reasons[chosen]) == {"quota of its community", "outlier, to fill up"}


def test_facts_tell_of_the_search_the_partition_and_its_stability(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(17))
    inputs = lay(tmp_path, candidates, x_nd)
    out = select(inputs, tmp_path / "out", SETTINGS.model_copy(update={"method": "leiden"}))
    told = store.read_json(out / "facts.json")
    assert (told["method"], told["graph"], told["quota"]) == ("leiden", "directed", "equal")
    of_class = told["classes"]["a"]
    assert of_class["neighbours_exact"] and of_class["neighbours_recall"] == 1.0
    assert of_class["communities"] == 6 and of_class["stability"] == pytest.approx(1.0)
    assert of_class["edges"] == 48 * 6 and of_class["near_identical"] == 0
    alone = select(inputs, tmp_path / "alone", SETTINGS.model_copy(update={"stability_seeds": 1}))
    assert store.read_json(alone / "facts.json")["classes"]["a"]["stability"] is None


def test_the_rule_of_the_infodist_code_warns_where_it_degenerates(tmp_path: Path) -> None:
    candidates, x_nd, _ = candidates_of(np.random.default_rng(18))
    out = select(
        lay(tmp_path, candidates, x_nd), tmp_path / "out", SETTINGS.model_copy(update={"graph": "infodist_fixed"})
    )
    warnings = store.read_json(out / "facts.json")["warnings"]
    assert any("the graph is complete" in warning for warning in warnings)
