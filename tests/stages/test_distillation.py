import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from textures import CLASSES, Serial, digests, write_tiles

from stages import compute, distillation, distillation_steps, distilling_data, experts, images, store
from stages.condensation_settings import CondensationSettings
from stages.contracts import Inputs, Interrupted, UserError
from stages.experts import ExpertsSettings
from stages.learned_images import Descent, Learned

QUICK: dict[str, Any] = {
    "iterations": 4,
    "image_px": 16,
    "width": 8,
    "mode": "plain",
    "real_batch": 8,
    "evaluations": 2,
    "evaluation_steps": 3,
    "inner": 2,
    "student_steps": 3,
}
ROLES = {"train": 15, "val": 6, "test": 6}
METHODS = ["dc", "dsa", "dm", "mtt", "tesla"]
EXPERTS = ExpertsSettings(count=2, epochs=3, batch=16, image_px=16, width=8, mode="plain")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("inputs")
    found = {"tiles": write_tiles(root / "tiles", ROLES)}
    made = write_tiles(root / "made", {"train": 12}, changed=["train"])
    table = images.read(made / "images")
    columns = {"index": list(range(len(table.labels_n)))}
    images.write(root / "candidates" / "images", images.make(table.pixels_nhwc, table.labels_n, CLASSES, columns))
    found |= {"candidates": root / "candidates", "experts": root / "experts"}
    (root / "experts").mkdir()
    experts.run(EXPERTS, found, root / "experts", 3, Serial())
    return found


def settings(method: str, per_class: int = 2, **changes: Any) -> CondensationSettings:
    return CondensationSettings(method=method, per_class=per_class, distillation=QUICK | changes)  # type: ignore[arg-type]


def learn(run_a_stage: Callable[..., Path], inputs: Inputs, out: Path, method: str, **changes: Any) -> images.ImageSet:
    run_a_stage(distillation.run, settings(method, **changes), inputs, out)
    return images.read(out / "images")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_a_set_in_the_format_of_a_selection(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path, method: str
) -> None:
    found = learn(run_a_stage, inputs, tmp_path / "out", method, start="real")
    assert found.labels_n.tolist() == [0, 0, 1, 1, 2, 2] and found.pixels_nhwc.shape == (6, 16, 16, 3)
    assert {"candidate", "community", "centrality", "rank", "index"} < set(found.table.columns)
    assert found.table["candidate"].tolist() == list(range(6)) and found.table["rank"].tolist() == [0, 1] * 3
    facts = store.read_json(tmp_path / "out" / "facts.json")
    assert facts["pixels"] == "learned" and facts["method"] == method and facts["backoffs"] == 0
    curves = pd.read_parquet(tmp_path / "out" / "curves.parquet")
    assert np.isfinite(curves["loss"]).all() and curves["val_bal_acc"].count() == 2
    assert (tmp_path / "out" / "contact.png").exists()


@pytest.mark.parametrize("method", METHODS)
def test_learning_brings_the_images_nearer_to_what_is_matched(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path, method: str
) -> None:
    many = {
        "iterations": 60,
        "start": "noise",
        "image_rate": {"dm": 10.0}.get(method, 0.3),
        "inner": 1,
        "outer": 1,
        "evaluations": 1,
        "rate_rate": 0.0,  # so that a student comes nearer by its images alone
    }
    learn(run_a_stage, inputs, tmp_path / "out", method, **many)
    loss = pd.read_parquet(tmp_path / "out" / "curves.parquet")["loss"]
    assert loss[-15:].mean() < 0.9 * loss[:15].mean()


def test_from_noise_or_candidates_no_real_pixel_enters(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path
) -> None:
    """With steps too short to change a grey level, what comes out is what went in."""
    still = {"image_rate": 1e-9}
    of = {"real": inputs["tiles"] / "images", "candidates": inputs["candidates"] / "images"}
    ids = {name: set(images.read_table(folder)[0]["tile_id"]) for name, folder in of.items()}
    for start in ("real", "candidates", "noise"):
        found = learn(run_a_stage, inputs, tmp_path / start, "dm", start=start, **still)
        assert set(found.table["tile_id"]) <= ids.get(start, set(found.table["tile_id"]))
        assert not set(found.table["tile_id"]) & ids["real"] or start == "real"


def test_the_set_kept_is_the_one_that_did_best_on_val(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path
) -> None:
    many = {"iterations": 6, "evaluations": 6, "evaluation_steps": 10, "image_rate": 300.0, "start": "real"}
    learn(run_a_stage, inputs, tmp_path / "out", "dm", **many)
    curves = pd.read_parquet(tmp_path / "out" / "curves.parquet")
    looked = {0: curves["val_bal_acc_start"][0]} | dict(zip(curves["step"] + 1, curves["val_bal_acc"], strict=True))
    facts = store.read_json(tmp_path / "out" / "facts.json")
    assert facts["val_bal_acc"] == max(looked.values()) == looked[facts["kept_after"]]
    assert facts["kept_after"] == min(step for step, score in looked.items() if score == max(looked.values()))


@pytest.mark.parametrize("method", METHODS)
def test_soft_labels_are_learned_beside_the_images_and_sum_to_one(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path, method: str
) -> None:
    if method == "dm":
        with pytest.raises(ValueError, match="leave soft_labels out"):
            settings("dm", soft_labels=True)
        return
    found = learn(run_a_stage, inputs, tmp_path / "out", method, soft_labels=True, start="real")
    p_nk = found.table[["p0", "p1", "p2"]].to_numpy()
    assert np.allclose(p_nk.sum(1), 1) and (p_nk.argmax(1) == found.labels_n).all()
    lesson = distillation_steps.prepare(settings(method, soft_labels=True, label_rate=100.0), inputs, seed=3)
    before = lesson.learned.targets().detach().clone()
    Descent(lesson.learned, lesson.rates, lesson.limits).step(lesson.gradient(0))
    assert bool(((lesson.learned.targets().detach() - before).abs().amax(2) > 1e-6).all()), "every image's own"


def test_images_stay_within_what_a_picture_can_show_unless_they_may_leave_it(inputs: Inputs) -> None:
    for clip in (True, False):
        lesson = distillation_steps.prepare(settings("dm", image_rate=1e4, clip=clip), inputs, seed=3)
        descent = Descent(lesson.learned, lesson.rates, lesson.limits)
        descent.step(lesson.gradient(0))
        black, white = distilling_data.limits(lesson.tiles.mean, lesson.tiles.std, torch.device("cpu"))
        image = lesson.learned.image.detach()
        assert bool(((image >= black) & (image <= white)).all()) == clip


def test_the_student_learns_its_rate_and_the_curves_tell_it(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path
) -> None:
    learn(run_a_stage, inputs, tmp_path / "out", "mtt", start="real", network_rate=1.0, iterations=30)
    curves = pd.read_parquet(tmp_path / "out" / "curves.parquet")
    assert curves["student_rate"].iloc[0] == 1.0 and np.isfinite(curves["loss"]).all()
    assert curves["student_rate"].between(1e-3, 0.5).iloc[-1], "far too long at first, it has come down, and not to 0"
    assert curves["loss"].iloc[-1] < 0.1 * curves["loss"].iloc[0]


def mixed_up(folder: Path, roles: list[str]) -> Path:
    """Tiles of which those of some roles show another class than their label says."""
    write_tiles(folder, ROLES | {"control": 6})
    tiles = images.read(folder / "images")
    rows_n = np.flatnonzero(tiles.table["role"].isin(roles))
    pixels_nhwc = tiles.pixels_nhwc.copy()
    pixels_nhwc[rows_n] = np.roll(pixels_nhwc[rows_n], 1 + len(rows_n) // 3, axis=0)
    columns = tiles.table[["group", "role"]].reset_index(drop=True)
    images.write(folder / "images", images.make(pixels_nhwc, tiles.labels_n, CLASSES, columns))
    return folder


@pytest.mark.parametrize("method", ["dm", "mtt"])
def test_what_is_kept_for_the_end_is_not_looked_at(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path, method: str
) -> None:
    """Other test and control tiles change no byte, of experts either; other val tiles do."""
    of_roles: dict[str, dict[str, str]] = {}
    for name, changed in (("a", []), ("b", ["test", "control"]), ("c", ["val"])):
        given = {"tiles": mixed_up(tmp_path / name / "tiles", changed)}
        if method == "mtt":
            given["experts"] = tmp_path / name / "experts"
            given["experts"].mkdir()
            experts.run(EXPERTS, given, given["experts"], 3, Serial())
            of_roles[f"{name} experts"] = digests(given["experts"])
        learn(run_a_stage, given, tmp_path / name / "out", method, start="real", evaluation_steps=12)
        of_roles[name] = digests(tmp_path / name / "out")
    assert of_roles["a"] == of_roles["b"] != of_roles["c"]
    if method == "mtt":
        assert of_roles["a experts"] == of_roles["b experts"] != of_roles["c experts"]


def test_a_stop_during_a_look_at_val_loses_nothing(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = settings("dm", start="real", iterations=6, evaluations=3)
    run_a_stage(distillation.run, quick, inputs, tmp_path / "a")
    looked: list[int] = []
    score = distillation._Looks.score

    def stopping(looks: distillation._Looks, learned: Learned, steps: int) -> float:
        looked.append(steps)
        if steps == 4:
            monkeypatch.setattr(compute, "_asked", asked)
        return score(looks, learned, steps)

    asked = threading.Event()
    asked.set()
    with monkeypatch.context() as patch:
        patch.setattr(distillation._Looks, "score", stopping)
        patch.setattr(compute, "_asked", threading.Event())
        with pytest.raises(Interrupted, match="distillation stopped after step 4 of 6"):
            run_a_stage(distillation.run, quick, inputs, tmp_path / "b")
    monkeypatch.setattr(compute, "_asked", threading.Event())
    assert looked == [0, 2, 4]
    run_a_stage(distillation.run, quick, inputs, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_four_small_images_in_each_stored_one_are_written_enlarged(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path
) -> None:
    found = learn(run_a_stage, inputs, tmp_path / "out", "dsa", per_class=1, formation=2, start="real")
    assert found.labels_n.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and found.pixels_nhwc.shape[1:] == (16, 16, 3)
    facts = store.read_json(tmp_path / "out" / "facts.json")
    assert facts["per_class"] == 1 and facts["images_per_class"] == 4
    with pytest.raises(UserError, match="divisor of their side"):
        learn(run_a_stage, inputs, tmp_path / "odd", "dsa", per_class=1, formation=3)


def test_too_few_tiles_to_begin_with_are_an_error_that_says_what_to_do(
    run_a_stage: Callable[..., Path], inputs: Inputs, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="class stripes has 10"):
        learn(run_a_stage, inputs, tmp_path / "out", "dm", per_class=11, start="real")
    with pytest.raises(UserError, match="candidates of each class are wanted"):
        learn(run_a_stage, inputs, tmp_path / "out", "dm", per_class=30, start="candidates")


def test_a_killed_distillation_continues_to_the_same_bytes(
    kill_a_stage: Callable[..., int], run_a_stage_apart: Callable[..., Path], inputs: Inputs, tmp_path: Path
) -> None:
    import signal

    long = settings("dsa", iterations=12, start="real")
    checkpoint = tmp_path / "b.work" / "distillation.safetensors"
    kill_a_stage(distillation.run, long, inputs, tmp_path / "b", checkpoint.exists, signal.SIGKILL)
    run_a_stage_apart(distillation.run, long, inputs, tmp_path / "a")
    run_a_stage_apart(distillation.run, long, inputs, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
