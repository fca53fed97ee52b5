"""The quality gate before a selection: who is left out, why, and what is said of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.engine import Serial, Threads
from stages import gating, images, models, selection, store
from stages.classify import networks
from stages.contracts import Engine, UserError
from stages.gating import DOUBTED, OUTSIDE, GateSettings
from stages.selection import SelectionSettings

CLASSES, PER_CLASS = ("a", "b"), 24
NETWORK = {"architecture": "convnet3", "classes": list(CLASSES), "mean": [0.5] * 3, "std": [0.2, 0.3, 0.25]}
NETWORK |= {"size_px": 8, "width": 4, "feature_dim": 4, "temperature": 0.5}


def lay(folder: Path, x_nd: np.ndarray, train_td: np.ndarray, twin: bool = True) -> dict[str, Path]:
    """Candidates of two classes, their vectors and those of real tiles, and a judge with random weights."""
    rng = np.random.default_rng(0)
    pixels_nhwc = rng.integers(0, 256, size=(2 * PER_CLASS, 8, 8, 3), dtype=np.uint8)
    index = {"index": np.tile(np.arange(PER_CLASS), 2)}
    labelled = images.make(pixels_nhwc, np.repeat([0, 1], PER_CLASS), CLASSES, index)
    images.write(folder / "candidates" / "images", labelled)
    tensors = {"candidates_nd": torch.from_numpy(x_nd), "train_nd": torch.from_numpy(train_td)}
    store.write_tensors(folder / "embedding" / "features.safetensors", tensors)
    for seed, name in enumerate(["colour", "grey"] if twin else ["colour"]):
        facts = NETWORK | {"grey": name == "grey"}
        network = networks.build_seeded(facts, torch.Generator().manual_seed(seed))
        models.write_network(folder / "judge" / name, network, facts)
    return {name: folder / name for name in ("candidates", "embedding", "judge")}


def blobs(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2 * PER_CLASS, 6)).astype(np.float32)


def judged(
    inputs: dict[str, Path], settings: GateSettings, engine: Engine | None = None, kept: np.ndarray | None = None
) -> gating.Gate:
    vectors = store.read_tensors(inputs["embedding"] / "features.safetensors")
    plain = {name: tensor.numpy() for name, tensor in vectors.items()}
    kept_n = np.zeros(len(plain["candidates_nd"]), bool) if kept is None else kept
    at_work = engine or Serial()
    return gating.judged(settings, inputs["candidates"] / "images", plain, inputs["judge"], kept_n, at_work)


def select(inputs: dict[str, Path], out: Path, gate: GateSettings, per_class: int = 4) -> Path:
    out.mkdir(parents=True)
    selection.run(SelectionSettings(per_class=per_class, neighbours=4, gate=gate), inputs, out, 3, Serial())
    return out


def by_hand(inputs: dict[str, Path], name: str) -> np.ndarray:
    """The probability of every candidate's own class at temperature 0.5, in plain torch."""
    shown = images.read(inputs["candidates"] / "images")
    network, _ = models.read_network(inputs["judge"] / name, networks.build)
    img_nhwc = (shown.pixels_nhwc / 255.0 - NETWORK["mean"]) / NETWORK["std"]
    logits_nk = network(torch.from_numpy(img_nhwc).permute(0, 3, 1, 2).float()).double()
    p_nk = (logits_nk / 0.5).softmax(1).numpy()
    return np.asarray(p_nk[np.arange(len(p_nk)), shown.labels_n])


@pytest.mark.parametrize(("twin", "asked"), [(True, "grey"), (False, "colour")])
def test_the_grey_twin_is_asked_or_else_the_judge_for_the_calibrated_probability(
    tmp_path: Path, twin: bool, asked: str
) -> None:
    inputs = lay(tmp_path, blobs(0), blobs(1), twin)
    p_n = by_hand(inputs, asked)
    least = float(np.quantile(p_n, 0.3).round(4))  # away from a half, where the temperature matters
    gate = judged(inputs, GateSettings(agreement=least))
    assert gate.doubted_n.tolist() == (p_n < least).tolist() and 10 < gate.doubted_n.sum() < 20
    assert gate.told is not None and gate.told["classifier"] == asked
    counts = {name: gate.told["left_out"][name][DOUBTED] for name in CLASSES}
    assert counts == {"a": int(gate.doubted_n[:PER_CLASS].sum()), "b": int(gate.doubted_n[PER_CLASS:].sum())}


def test_any_number_of_workers_and_any_chunk_leaves_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = lay(tmp_path, blobs(0), blobs(1))
    settings = GateSettings(agreement=float(np.median(by_hand(inputs, "grey"))) + 1e-3)
    wanted = judged(inputs, settings).doubted_n
    monkeypatch.setattr(gating, "CHUNK", 7)
    assert (judged(inputs, settings, Threads(3)).doubted_n == wanted).all()


def test_outside_is_what_no_ball_to_the_kth_neighbour_of_a_real_tile_holds(tmp_path: Path) -> None:
    real_t = np.array([0.0, 1.0, 3.0, 7.0])  # balls to the nearest: 1, 1, 2, 4; to the second: 3, 2, 3, 6
    x_n = np.zeros(2 * PER_CLASS)
    x_n[:6] = [-1.0, -1.1, -3.1, 5.1, 11.0, 11.1]
    inputs = lay(tmp_path, x_n[:, None].astype(np.float32), real_t[:, None].astype(np.float32))
    nearest = judged(inputs, GateSettings(manifold=True, neighbours=1)).outside_n
    assert nearest[:6].tolist() == [False, True, True, False, False, True] and not nearest[6:].any()
    second = judged(inputs, GateSettings(manifold=True, neighbours=2)).outside_n
    assert second[:6].tolist() == [False, False, True, False, False, False]
    with pytest.raises(UserError, match=r"gate.neighbours is 4, but there are only 4 real train tiles"):
        judged(inputs, GateSettings(manifold=True, neighbours=4))


def test_who_is_left_out_is_never_chosen_and_has_its_reason_told(tmp_path: Path) -> None:
    x_nd = blobs(0)
    x_nd[[2, 3, 30]] += 100  # far from all real tiles
    inputs = lay(tmp_path, x_nd, blobs(1))
    least = float(np.quantile(by_hand(inputs, "grey"), 0.3))
    settings = GateSettings(agreement=least, manifold=True, neighbours=20)
    gate, out = judged(inputs, settings), select(inputs, tmp_path / "out", settings)
    frame = pd.read_parquet(out / "communities.parquet").set_index("row")
    assert frame.index.tolist() == list(range(2 * PER_CLASS))
    assert (frame["reason"] == DOUBTED).tolist() == gate.doubted_n.tolist()
    assert (frame["reason"] == OUTSIDE).tolist() == (gate.outside_n & ~gate.doubted_n).tolist()
    assert gate.outside_n[[2, 3, 30]].all()
    assert gate.told is not None
    for why in (DOUBTED, OUTSIDE):
        assert sum(of_class[why] for of_class in gate.told["left_out"].values()) == (frame["reason"] == why).sum()
    left_out = gate.doubted_n | gate.outside_n
    assert not frame["chosen"][left_out].any() and (frame["community"][left_out] == -1).all()
    edges = pd.read_parquet(out / "edges.parquet")
    assert not left_out[edges["source"]].any() and not left_out[edges["target"]].any()
    assert store.read_json(out / "facts.json")["gate"] == gate.told


def test_a_gate_that_lets_all_pass_changes_no_choice(tmp_path: Path) -> None:
    inputs = lay(tmp_path, blobs(0), blobs(0))
    off, open_ = GateSettings(), GateSettings(agreement=0.0, manifold=True)
    one, two = (select(inputs, tmp_path / name, gate) for name, gate in (("one", off), ("two", open_)))
    assert store.digest_folder(one / "images") == store.digest_folder(two / "images")
    assert store.digest_file(one / "communities.parquet") == store.digest_file(two / "communities.parquet")
    assert store.read_json(one / "facts.json")["gate"] is None


def test_what_a_person_keeps_passes_whatever_the_gate_says(tmp_path: Path) -> None:
    inputs = lay(tmp_path, blobs(0), blobs(1) + 9)
    strict = GateSettings(manifold=True, neighbours=3)
    alone = judged(inputs, strict)
    kept = np.zeros(2 * PER_CLASS, bool)
    kept[np.flatnonzero(alone.outside_n)[:2]] = True
    after = judged(inputs, strict, kept=kept)
    assert alone.outside_n.sum() == after.outside_n.sum() + 2 and not after.outside_n[kept].any()
    assert alone.told is not None and after.told is not None and alone.told != after.told


def test_too_few_left_is_said_with_how_many_and_by_which_setting(tmp_path: Path) -> None:
    x_nd = blobs(0)
    x_nd[:10] += 100
    inputs = lay(tmp_path, x_nd, np.concatenate([x_nd[10:], x_nd[10:]]))
    with pytest.raises(UserError, match=r"class a has only 14 .*\(10 by selection.gate.manifold left out\).*loosen"):
        select(inputs, tmp_path / "out", GateSettings(manifold=True), per_class=15)
    with pytest.raises(UserError, match=r"24 by selection.gate.agreement left out"):
        select(inputs, tmp_path / "two", GateSettings(agreement=1.0))


def test_a_judge_of_other_classes_is_refused(tmp_path: Path) -> None:
    inputs = lay(tmp_path, blobs(0), blobs(1))
    path = inputs["judge"] / "grey" / "network.json"
    store.write_json(path, store.read_json(path) | {"classes": ["b", "a"]})
    with pytest.raises(UserError, match="The judge knows the classes"):
        judged(inputs, GateSettings(agreement=0.5))
