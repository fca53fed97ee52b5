import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from textures import Serial, Threads, digests, write_tiles

from stages import compute, expert_reading, experts, store, streams
from stages.contracts import Inputs, Interrupted, UserError
from stages.distill import student
from stages.experts import ExpertsSettings

QUICK: dict[str, Any] = {"count": 3, "epochs": 2, "batch": 16, "image_px": 16, "width": 8, "mode": "plain"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return {"tiles": write_tiles(tmp_path_factory.mktemp("inputs") / "tiles", {"train": 15, "val": 6, "test": 6})}


def run(inputs: Inputs, out: Path, engine: Any = None, **changes: Any) -> expert_reading.Experts:
    out.mkdir(parents=True)
    experts.run(ExpertsSettings(**QUICK | changes), inputs, out, 3, engine or Serial())
    return expert_reading.read(out)


def test_every_epoch_of_every_expert_is_kept_and_no_two_are_alike(inputs: Inputs, tmp_path: Path) -> None:
    found = run(inputs, tmp_path / "out")
    assert len(found.files) == 3 and found.epochs == 2 and found.network["width"] == 8
    moments = [p for number in range(3) for p in (*found.moments(number, 0, 1), found.moments(number, 0, 2)[1])]
    assert len({tuple(p[:50].tolist()) for p in moments}) == 9
    assert all(torch.isfinite(p).all() for p in moments)


def test_every_epoch_of_every_expert_sees_its_tiles_in_an_order_of_its_own(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[tuple[int, ...]] = []

    def watched(size: int, *, generator: torch.Generator) -> torch.Tensor:
        orders.append(tuple(drawn(size, generator=generator).tolist()))
        return torch.tensor(orders[-1])

    drawn = torch.randperm
    monkeypatch.setattr(torch, "randperm", watched)
    run(inputs, tmp_path / "out")
    assert len(set(orders)) == len(orders) == 6
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_experts_learn(inputs: Inputs, tmp_path: Path) -> None:
    run(inputs, tmp_path / "out", epochs=12, count=1, learning_rates=(0.05,), augment=False)
    curve = pd.read_parquet(tmp_path / "out" / "curves.parquet")
    assert curve["val_loss"].iloc[-1] < 0.8 * curve["val_loss"].iloc[0]


def test_side_by_side_they_are_the_same(inputs: Inputs, tmp_path: Path) -> None:
    run(inputs, tmp_path / "a")
    run(inputs, tmp_path / "b", Threads())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_val_chooses_among_rates_and_one_at_which_all_comes_apart_is_never_chosen(
    inputs: Inputs, tmp_path: Path
) -> None:
    run(inputs, tmp_path / "out", learning_rates=(1e-6, 0.05), epochs=6, augment=False)
    curve = pd.read_parquet(tmp_path / "out" / "curves.parquet")
    ends = curve[(curve["expert"] == 0) & (curve["epoch"] == 6)].set_index("rate")["val_loss"]
    assert store.read_json(tmp_path / "out" / "facts.json")["learning_rate"] == ends.idxmin() == 0.05
    with pytest.raises(UserError, match="Lower them"):
        run(inputs, tmp_path / "apart", learning_rates=(1e38,), epochs=2)


@pytest.mark.parametrize("rates", [(0.0,), (-0.01,), (math.inf,)])
def test_a_rate_at_which_nothing_can_be_learned_is_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="learning_rates"):
        ExpertsSettings(learning_rates=rates)


def test_an_expert_that_comes_apart_is_set_aside_and_the_others_stay(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(inputs, tmp_path / "whole")
    draw = student.draw

    def spoilt(shape: student.Shape, generator: torch.Generator) -> student.Parameters:
        drawn = draw(shape, generator)
        return [p * math.nan for p in drawn] if generator.initial_seed() == seed else drawn

    seed = streams.torch_stream(3, "expert", 1, "weights").initial_seed()
    monkeypatch.setattr(student, "draw", spoilt)
    found = run(inputs, tmp_path / "out")
    assert "1 of 3 experts came apart" in caplog.text
    assert len(found.files) == 2 and all(path.exists() for path in found.files)
    assert store.read_json(tmp_path / "out" / "facts.json")["set_aside"] == 1
    for kept, number in ((0, 0), (1, 2)):
        for mine, other in zip(found.moments(kept, 0, 2), whole.moments(number, 0, 2), strict=True):
            assert torch.equal(mine, other)


def test_a_stop_keeps_the_epochs_that_were_done(
    inputs: Inputs, tmp_path: Path, run_a_stage: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ExpertsSettings(**QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(compute, "stop_asked", lambda: True)
        with pytest.raises(Interrupted, match="after epoch 1"):
            run_a_stage(experts.run, settings, inputs, tmp_path / "b")
    kept = next((tmp_path / "b.work").rglob("epoch_001.safetensors"))
    before = kept.stat().st_mtime_ns
    run_a_stage(experts.run, settings, inputs, tmp_path / "b")
    run_a_stage(experts.run, settings, inputs, tmp_path / "a")
    assert kept.stat().st_mtime_ns == before
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_what_val_says_is_of_the_network_these_parameters_make(inputs: Inputs, tmp_path: Path) -> None:
    run(inputs, tmp_path / "out", count=1)
    curve = pd.read_parquet(tmp_path / "out" / "curves.parquet")
    assert np.isfinite(curve["val_loss"]).all() and curve["val_bal_acc"].between(0, 1).all()
