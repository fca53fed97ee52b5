import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from textures import Serial, Threads, digests, kill_when, steps_saved, write_tiles

from stages import compute, images, judge, models, store, tables
from stages.classify import calibration, networks, protocol
from stages.contracts import Interrupted

SETTINGS = judge.JudgeSettings(
    network="convnet3", width=8, steps=4, batch=12, learning_rate=3e-3, evaluations=2, shift_px=1, precision="no"
)
ALONE = SETTINGS.model_copy(update={"grey_twin": False})
COUNTS = {"train": 18, "val": 9, "test": 9, "control": 6}


def run(out: Path, tiles: Path, settings: judge.JudgeSettings = SETTINGS, engine: Any = None) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    judge.run(settings, {"tiles": tiles}, out, 7, engine or Serial())
    return out


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiles(tmp_path_factory.mktemp("tiles"), COUNTS)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, tiles: Path) -> Path:
    return run(tmp_path_factory.mktemp("judge") / "out", tiles)


def test_both_networks_can_be_read_back_with_what_is_promised(judged: Path) -> None:
    for name in ("colour", "grey"):
        network, facts = models.read_network(judged / name, networks.build)
        assert {
            "architecture",
            "classes",
            "grey",
            "mean",
            "std",
            "size_px",
            "feature_dim",
            "temperature",
        } <= facts.keys()
        assert facts["grey"] == (name == "grey") and facts["size_px"] == 16
        assert network.features(torch.zeros(1, 3, 16, 16)).shape == (1, facts["feature_dim"])
    curves = tables.read(judged / "curves.parquet", "curves")
    assert curves.groupby("network").size().to_dict() == {"colour": 4, "grey": 4}
    assert curves["val_loss"].notna().sum() == 4


def test_the_weights_written_are_those_the_facts_speak_of(judged: Path, tiles: Path) -> None:
    network, facts = models.read_network(judged / "colour", networks.build)
    val = images.read(tiles / "images", role="val")
    p = protocol.probabilities(network, val.pixels_nhwc, facts["mean"], facts["std"], torch.device("cpu"))
    best = calibration.fit_temperature(np.log(p), val.labels_n)
    assert facts["temperature"] == pytest.approx(best) and 0.05 <= best <= 20
    told = store.read_json(judged / "facts.json")["networks"]["colour"]
    assert told["val"]["accuracy"] == pytest.approx((p.argmax(1) == val.labels_n).mean())
    curves = tables.read(judged / "curves.parquet", "curves").query("network == 'colour'").dropna(subset="val_loss")
    assert told["best_step"] == curves.loc[curves["val_loss"].idxmin(), "step"]


def test_any_engine_and_any_number_of_torch_threads_give_the_same_bytes(
    judged: Path, tiles: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert digests(run(tmp_path / "out", tiles, engine=Threads())) == digests(judged)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiles: Path) -> Path:
    """Without the twin, which halves the time."""
    return run(tmp_path_factory.mktemp("judge") / "out", tiles, ALONE)


def test_without_its_twin_the_judge_is_the_same(judged: Path, alone: Path) -> None:
    assert not (alone / "grey").exists()
    assert digests(alone / "colour") == digests(judged / "colour")


def test_neither_test_nor_control_tiles_reach_it(alone: Path, tmp_path: Path) -> None:
    other = write_tiles(tmp_path / "tiles", COUNTS, changed=("test", "control"))
    assert digests(run(tmp_path / "out", other, ALONE)) == digests(alone)


CHILD = """
    import sys
    from pathlib import Path
    from stages import judge, training
    from textures import Serial
    training.SECONDS_BETWEEN_CHECKPOINTS = 0
    settings = judge.JudgeSettings.model_validate_json(sys.argv[3])
    Path(sys.argv[2]).mkdir(parents=True)
    judge.run(settings, {"tiles": Path(sys.argv[1])}, Path(sys.argv[2]), 7, Serial())
"""


def test_killed_in_the_middle_it_continues_to_the_same_bytes(alone: Path, tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "store" / "out.scratch"
    checkpoint = store.work_folder(out) / "judge-colour.safetensors"
    kill_when(lambda: steps_saved(checkpoint) >= 2, CHILD, tiles, out, ALONE.model_dump_json())
    assert 2 <= steps_saved(checkpoint) <= 4
    for file in sorted(out.rglob("*"), reverse=True):  # as the runner clears a scratch folder
        file.unlink() if file.is_file() else file.rmdir()
    assert digests(run(out, tiles, ALONE)) == digests(alone)


def test_asked_to_stop_it_saves_and_continues_to_the_same_bytes(
    alone: Path, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(compute, "stop_asked", lambda: next(asked))
        with pytest.raises(Interrupted, match="step 2 of 4"):
            run(tmp_path / "out", tiles, ALONE)
    assert digests(run(tmp_path / "out", tiles, ALONE)) == digests(alone)


def test_the_protocol_of_the_paper_stopped_between_epochs_continues_to_the_same_bytes(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ALONE.model_copy(update={"protocol": "infodist", "learning_rate": 0.05, "steps": 11, "batch": 12})
    whole = run(tmp_path / "whole", tiles, settings)  # 36 tiles: 3 steps an epoch
    asked = iter([False] * 4 + [True])
    with monkeypatch.context() as patch:
        patch.setattr(compute, "stop_asked", lambda: next(asked))
        with pytest.raises(Interrupted, match="step 5 of 11"):
            run(tmp_path / "out", tiles, settings)
    kept = store.read_tensors(store.work_folder(tmp_path / "out") / "judge-colour.safetensors")
    assert int(kept["module/average/updates"]) == 1
    assert digests(run(tmp_path / "out", tiles, settings)) == digests(whole)


@pytest.mark.slow
def test_structure_is_learnt_by_the_grey_twin_too(tmp_path: Path, tiles: Path) -> None:
    settings = SETTINGS.model_copy(update={"steps": 40, "evaluations": 4})
    found = store.read_json(run(tmp_path / "out", tiles, settings, Threads()) / "facts.json")
    assert found["networks"]["grey"]["val"]["balanced_accuracy"] > 0.8
    assert np.isfinite(found["networks"]["colour"]["val"]["macro_auc"])


def test_the_settings_can_be_read_without_loading_torch() -> None:
    imports = "import sys, stages.judge, stages.benchmark, stages.condensation"
    code = f"{imports}; print(sorted({{'torch', 'sklearn'}} & {{*sys.modules}}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(judge.__file__).parents[1])
    assert told.stdout.strip() == b"[]", told.stderr


def test_stains_are_shifted_where_it_is_asked_and_its_title_says_so(alone: Path, tiles: Path, tmp_path: Path) -> None:
    shifted = run(tmp_path / "out", tiles, ALONE.model_copy(update={"hed": 0.05}))
    assert digests(shifted / "colour") != digests(alone / "colour")
    assert models.read_network(shifted / "colour", networks.build)[1]["title"].endswith("16 px, stains ± 0.05")
    with pytest.raises(ValidationError, match="part of the protocol plain, not of infodist"):
        judge.JudgeSettings(protocol="infodist", hed=0.05)
