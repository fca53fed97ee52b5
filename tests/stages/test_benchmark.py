from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from textures import CLASSES, Serial, Threads, digests, kill_when, steps_saved, textured, write_tiles

from stages import agreement, benchmark, images, models, store, tables
from stages.classify import metrics, networks
from stages.contracts import Inputs, UserError

CONVNET3 = benchmark.TrainingSettings(
    network="convnet3",
    image_px=16,
    width=8,
    steps=12,
    batch=9,
    learning_rates=(3e-3, 1e-5),
    evaluations=3,
    shift_px=1,
    precision="no",
)
SETTINGS = benchmark.BenchmarkSettings(
    seeds=2,
    networks={"convnet3": CONVNET3},
    colour_penalties=(0.1, 1.0),
    resamples=50,
    agreement_images=20,
)


def short(steps: int, **networks: dict[str, Any]) -> benchmark.BenchmarkSettings:
    """One seed and so few steps; `networks` differ from ConvNet-3 as they say."""
    of_all = CONVNET3.model_copy(update={"steps": steps})
    named = {name: of_all.model_copy(update=changes) for name, changes in networks.items()} or {"convnet3": of_all}
    return SETTINGS.model_copy(update={"seeds": 1, "networks": named})


COUNTS = {"train": 18, "val": 9, "test": 9, "control": 6}
FACTS = {
    "architecture": "convnet3",
    "width": 4,
    "classes": list(CLASSES),
    "mean": [0.5] * 3,
    "std": [0.2] * 3,
    "size_px": 16,
    "feature_dim": 16,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("inputs")
    for name in ("colour", "grey"):
        facts = FACTS | {"grey": name == "grey"}
        network = networks.build_seeded(facts, torch.Generator().manual_seed(0))
        models.write_network(root / "judge" / name, network, facts)
    pixels, labels, _ = textured(12, 1, 50)
    chosen = images.make(pixels, labels, CLASSES, {"rank": list(range(12))})
    images.write(root / "contestant" / "images", chosen)
    tiles = write_tiles(root / "tiles", COUNTS)
    return {"tiles": tiles, "judge": root / "judge", "contestant": root / "contestant"}


def run(out: Path, inputs: Inputs, engine: Any = None, settings: benchmark.BenchmarkSettings = SETTINGS) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    benchmark.run(settings, inputs, out, 7, engine or Serial())
    return out


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Path:
    return run(tmp_path_factory.mktemp("benchmark") / "out", inputs)


def test_predictions_hold_every_seed_network_role_and_tile_once(judged: Path, inputs: Inputs) -> None:
    found = tables.read(judged / "predictions.parquet", "predictions")
    counts = found.groupby(["network", "seed", "role"]).size().to_dict()
    assert counts == {
        (n, s, r): 18 for n, s in (("convnet3", 0), ("convnet3", 1), ("colour", 0)) for r in ("val", "test")
    }
    assert np.allclose(found[["p0", "p1", "p2"]].sum(axis=1), 1)
    for role in ("val", "test"):
        table = images.read(inputs["tiles"] / "images", role=role).table
        rows = found.query("network == 'colour' and role == @role")
        for column in ("group", "label"):
            assert rows[column].to_numpy().tolist() == table[column].iloc[rows["row"]].tolist()


def test_metrics_are_the_means_over_seeds_of_scikit_learns_on_the_predictions(judged: Path) -> None:
    found = tables.read(judged / "predictions.parquet", "predictions")
    told = store.read_json(judged / "metrics.json")
    assert set(told) == {"convnet3", "colour"}
    for (network, role), part in found.groupby(["network", "role"]):
        scores = [
            metrics.scores(p["label"].to_numpy(), p[["p0", "p1", "p2"]].to_numpy()) for _, p in part.groupby("seed")
        ]
        for name in metrics.NAMES:
            entry = told[network][role][name]
            assert entry["value"] == pytest.approx(np.mean([score[name] for score in scores]))
            assert 0 <= entry["low"] <= entry["high"] <= 1


def test_the_learning_rate_that_learns_is_chosen_on_val(judged: Path) -> None:
    facts = store.read_json(judged / "facts.json")
    told = facts["trainings"]["convnet3"]
    assert told["learning_rate"] == 3e-3 and len(told["val_loss_by_rate"]) == 2
    assert facts["images"] == 12 and facts["per_class"] == dict.fromkeys(CLASSES, 4)
    curves = tables.read(judged / "curves.parquet", "curves")
    assert curves.groupby(["learning_rate", "seed"]).size().to_dict() == {
        (rate, seed): 12 for rate in (3e-3, 1e-5) for seed in (0, 1)
    }


def test_agreement_compares_the_judge_on_the_contestants_labels_with_real_test_tiles(
    judged: Path, inputs: Inputs
) -> None:
    told = store.read_json(judged / "facts.json")["agreement"]
    assert told["images"] == 12
    for name in ("colour", "grey"):
        own, real, ratio = (told[name][key] for key in ("own", "test", "ratio"))
        assert ratio["value"] == pytest.approx(own["value"] / real["value"])
        assert own["low"] <= own["value"] <= own["high"]
    network, facts = models.read_network(inputs["judge"] / "grey", networks.build)
    chosen = images.read(inputs["contestant"] / "images")
    with torch.no_grad():
        logits = network(networks.normalise(chosen.pixels_nhwc, facts["mean"], facts["std"]))
    assert told["grey"]["own"]["value"] == pytest.approx((logits.argmax(1).numpy() == chosen.labels_n).mean())


def test_any_engine_and_any_number_of_torch_threads_give_the_same_bytes(
    judged: Path, inputs: Inputs, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert digests(run(tmp_path / "out", inputs, Threads())) == digests(judged)
    finally:
        torch.set_num_threads(threads)


def choices(out: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """What was decided before test tiles are read: curves, predictions on val, settings chosen."""
    found = tables.read(out / "predictions.parquet", "predictions").query("role == 'val'").reset_index(drop=True)
    facts = store.read_json(out / "facts.json")
    return tables.read(out / "curves.parquet", "curves"), found, {key: facts[key] for key in ("trainings", "colour")}


@pytest.mark.parametrize("contestant", ["contestant", "tiles"])
def test_test_and_control_tiles_change_no_training_and_no_choice(
    inputs: Inputs, tmp_path: Path, contestant: str
) -> None:
    settings = short(4)
    plain = run(tmp_path / "plain", inputs | {"contestant": inputs[contestant]}, settings=settings)
    for role in ("test", "control"):
        other = write_tiles(tmp_path / role, COUNTS, changed=(role,))
        poisoned = {**inputs, "tiles": other, "contestant": other if contestant == "tiles" else inputs["contestant"]}
        found = run(tmp_path / f"out-{role}", poisoned, settings=settings)
        for one, two in zip(choices(plain)[:2], choices(found)[:2], strict=True):
            pd.testing.assert_frame_equal(one, two)
        assert choices(plain)[2] == choices(found)[2]
        changed = digests(plain)["predictions.parquet"] != digests(found)["predictions.parquet"]
        assert changed == (role == "test"), "the poison must be visible where it belongs"


def test_of_tiles_with_roles_only_the_train_tiles_are_learnt_from(inputs: Inputs, tmp_path: Path) -> None:
    settings = short(4)
    train = images.read(inputs["tiles"] / "images", role="train")
    images.write(tmp_path / "alone" / "images", images.make(train.pixels_nhwc, train.labels_n, CLASSES))
    alone = run(tmp_path / "a", inputs | {"contestant": tmp_path / "alone"}, settings=settings)
    whole = run(tmp_path / "b", inputs | {"contestant": inputs["tiles"]}, settings=settings)
    found = tables.read(whole / "predictions.parquet", "predictions")
    trained = found[~found["network"].isin(agreement.ROWS.values())].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables.read(alone / "predictions.parquet", "predictions"), trained)
    assert len(trained) < len(found), "of all real tiles the judge has rows as well"
    assert store.read_json(whole / "facts.json")["images"] == 36


def test_the_judge_is_a_row_of_all_real_tiles_as_it_is(inputs: Inputs, tmp_path: Path) -> None:
    out = run(tmp_path / "out", inputs | {"contestant": inputs["tiles"]}, settings=short(2))
    found = tables.read(out / "predictions.parquet", "predictions")
    for name, row in agreement.ROWS.items():
        network, facts = models.read_network(inputs["judge"] / name, networks.build)
        for role in ("val", "test"):
            tiles = images.read(inputs["tiles"] / "images", role=role)
            with torch.no_grad():
                logits = network(networks.normalise(tiles.pixels_nhwc, facts["mean"], facts["std"]))
            told = found.query(f"network == '{row}' and role == @role")[["p0", "p1", "p2"]].to_numpy()
            assert np.allclose(told, logits.double().softmax(1).numpy(), atol=1e-6)
    rows = [row["name"] for row in store.read_json(out / "facts.json")["networks"]]
    assert rows == ["convnet3", "colour", "judge", "judge_grey"] and {*rows} == {*store.read_json(out / "metrics.json")}


def test_without_a_judge_the_networks_are_the_same_and_nothing_is_said_of_agreement(
    inputs: Inputs, tmp_path: Path
) -> None:
    asked = inputs | {"contestant": inputs["tiles"]}
    without = {name: folder for name, folder in asked.items() if name != "judge"}
    found = [run(tmp_path / name, given, settings=short(2)) for name, given in (("a", asked), ("b", without))]
    metrics = [store.read_json(out / "metrics.json") for out in found]
    assert metrics[1] == {name: value for name, value in metrics[0].items() if not name.startswith("judge")}
    assert store.read_json(found[1] / "facts.json")["agreement"] is None


def test_trainings_that_are_the_same_in_everything_are_done_once(inputs: Inputs, tmp_path: Path) -> None:
    settings = short(3, first={}, twin={"learning_rates": (1e-5, 3e-3)}, grey={"grey": True}, wide={"width": 16})
    out = run(tmp_path / "store" / "out.scratch", inputs, settings=settings)
    trained = sorted(path.stem for path in store.work_folder(out).iterdir())
    assert trained == [f"{n}-rate{r}-seed0" for n in ("first", "grey", "wide") for r in (0, 1)]
    found = tables.read(out / "predictions.parquet", "predictions").drop(columns="seed")
    of = {name: part.drop(columns="network").reset_index(drop=True) for name, part in found.groupby("network")}
    assert of["twin"].equals(of["first"])
    assert not of["grey"].equals(of["first"]) and not of["wide"].equals(of["first"])
    told = store.read_json(out / "facts.json")
    assert told["trainings"]["twin"]["val_loss_by_rate"] == told["trainings"]["first"]["val_loss_by_rate"][::-1]
    titles = {row["name"]: row["title"] for row in told["networks"]}
    assert (titles["grey"], titles["wide"]) == ("ConvNet-3, width 8, 16 px, grey", "ConvNet-3, width 16, 16 px")


def test_several_networks_see_tiles_at_sizes_of_their_own(inputs: Inputs, tmp_path: Path) -> None:
    settings = short(
        2, vit={"network": "vit", "width": 16}, deep={"network": "convnet5", "image_px": None}, convnet3={}
    )
    settings.networks["convnet3"] = settings.networks["convnet3"].model_copy(update={"image_px": 8})
    out = run(tmp_path / "out", inputs, settings=settings)
    rows = [(row["name"], row["title"]) for row in store.read_json(out / "facts.json")["networks"]]
    assert rows == [
        ("convnet3", "ConvNet-3, width 8, 8 px"),
        ("deep", "ConvNet-5, width 8, 16 px"),
        ("vit", "ViT, width 16, 16 px"),
        ("colour", "colour only"),
    ]
    assert {*store.read_json(out / "metrics.json")} == {name for name, _ in rows}
    turned = settings.model_copy(update={"networks": dict(reversed(settings.networks.items()))})
    assert digests(run(tmp_path / "turned", inputs, settings=turned)) == digests(out), "order is for the report alone"


def soft(inputs: Inputs, folder: Path, p_nk: np.ndarray) -> Inputs:
    """The inputs, with class probabilities on the contestant's images."""
    chosen = images.read(inputs["contestant"] / "images")
    table = chosen.table.assign(**{f"p{c}": p_nk[:, c] for c in range(3)})
    images.write(folder / "images", chosen._replace(table=table))
    return {**inputs, "contestant": folder}


@pytest.mark.parametrize("protocol", ["plain", "infodist"])
def test_a_contestant_with_soft_labels_trains_every_network_with_and_without_them(
    inputs: Inputs, tmp_path: Path, protocol: str
) -> None:
    settings = short(4, convnet3={"protocol": protocol}, grey={"protocol": protocol, "grey": True})
    labels = images.read(inputs["contestant"] / "images").labels_n
    one_hot = run(tmp_path / "a", soft(inputs, tmp_path / "one_hot", np.eye(3)[labels]), settings=settings)
    mixed = run(tmp_path / "b", soft(inputs, tmp_path / "mixed", np.full((12, 3), 1 / 3)), settings=settings)
    hard = run(tmp_path / "c", inputs, settings=settings)
    of = {}
    for name, out in (("one_hot", one_hot), ("mixed", mixed), ("hard", hard)):
        rows = [row["name"] for row in store.read_json(out / "facts.json")["networks"]]
        twins = [] if name == "hard" else ["convnet3_soft", "grey_soft"]
        assert sorted(rows) == sorted(["convnet3", "grey", "colour", *twins])
        found = tables.read(out / "predictions.parquet", "predictions")
        of |= {(name, row): part[["p0", "p1", "p2"]].to_numpy() for row, part in found.groupby("network")}
    for network in ("convnet3", "grey"):
        assert np.array_equal(of["mixed", network], of["hard", network]), "hard labels know nothing of soft ones"
        assert np.allclose(of["one_hot", f"{network}_soft"], of["hard", network], atol=1e-4)
        assert not np.allclose(of["mixed", f"{network}_soft"], of["hard", network], atol=1e-3)


def test_a_training_that_comes_apart_says_which_and_what_to_do(inputs: Inputs, tmp_path: Path) -> None:
    settings = short(6, wild={"learning_rates": (1.0,), "network": "vgg11", "width": 4, "norm": "batch"})
    settings.networks["wild"] = settings.networks["wild"].model_copy(update={"learning_rates": (1e30,)})
    with pytest.raises(UserError, match="wild-rate0-seed0.*learning rate"):
        run(tmp_path / "out", inputs, settings=settings)


CHILD = """
    import sys
    from pathlib import Path
    from stages import agreement, benchmark, training
    from textures import Serial
    training.SECONDS_BETWEEN_CHECKPOINTS = 0
    settings = benchmark.BenchmarkSettings.model_validate_json(sys.argv[1])
    inputs = dict(zip(("tiles", "judge", "contestant"), map(Path, sys.argv[3:6])))
    Path(sys.argv[2]).mkdir(parents=True)
    benchmark.run(settings, inputs, Path(sys.argv[2]), 7, Serial())
"""


def test_killed_in_the_middle_it_continues_to_the_same_bytes_and_keeps_finished_trainings(
    judged: Path, inputs: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "store" / "out.scratch"
    work = store.work_folder(out)
    kill_when(
        lambda: steps_saved(work / "convnet3-rate0-seed1.safetensors") >= 3,
        CHILD,
        SETTINGS.model_dump_json(),
        out,
        inputs["tiles"],
        inputs["judge"],
        inputs["contestant"],
    )
    finished = work / "convnet3-rate0-seed0.safetensors"
    before = finished.stat().st_mtime_ns
    assert steps_saved(finished) == 12 and not (work / "convnet3-rate1-seed1.safetensors").exists()
    assert digests(run(out, inputs)) == digests(judged)
    assert finished.stat().st_mtime_ns == before


def test_a_contestant_of_one_class_or_of_other_classes_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    pixels, labels, _ = textured(9, 1, 3)
    images.write(tmp_path / "one" / "images", images.make(pixels[labels == 1], labels[labels == 1], CLASSES))
    images.write(tmp_path / "other" / "images", images.make(pixels, labels, ("a", "b", "c")))
    with pytest.raises(UserError, match="one class"):
        run(tmp_path / "x", inputs | {"contestant": tmp_path / "one"})
    with pytest.raises(UserError, match="stripes"):
        run(tmp_path / "y", inputs | {"contestant": tmp_path / "other"})


def test_a_contestant_that_lacks_a_class_is_judged_all_the_same(inputs: Inputs, tmp_path: Path) -> None:
    pixels, labels, _ = textured(12, 1, 3)
    images.write(tmp_path / "two" / "images", images.make(pixels[labels < 2], labels[labels < 2], CLASSES))
    settings = short(2)
    out = run(tmp_path / "out", inputs | {"contestant": tmp_path / "two"}, settings=settings)
    assert store.read_json(out / "metrics.json")["colour"]["test"]["balanced_accuracy"]["value"] <= 2 / 3 + 1e-9
