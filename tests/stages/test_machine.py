"""Streams, the store, tables: the floor that touches the machine."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages import compute, models, store, streams, tables, training
from stages.contracts import Interrupted


def test_a_stream_depends_on_its_names_alone() -> None:
    assert streams.derive(0, "candidate", 3) == streams.derive(0, "candidate", 3)
    seeds = {streams.derive(s, *names) for s in (0, 1) for names in [("a",), ("a", 1), ("a", "1"), ("a1",), (1, "a")]}
    assert len(seeds) == 10, "no two names share a stream, not even 1 and '1'"
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_streams_of_neighbours_are_unrelated() -> None:
    draws = np.stack([streams.numpy_stream(0, "candidate", i).standard_normal(4000) for i in range(8)])
    correlation = np.corrcoef(draws) - np.eye(8)
    assert np.abs(correlation).max() < 0.07, "four standard errors"
    noise = torch.randn(3, generator=streams.torch_stream(0, "x"))
    assert torch.equal(noise, torch.randn(3, generator=streams.torch_stream(0, "x")))


def test_a_write_that_breaks_leaves_the_old_file(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", {"b": 1})
    with pytest.raises(TypeError):
        store.write_json(tmp_path / "a.json", {"b": object()})
    assert store.read_json(tmp_path / "a.json") == {"b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_fresh_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "result"
    with pytest.raises(RuntimeError), store.fresh_folder(final) as out:
        (out / "half").write_text("x")
        raise RuntimeError
    assert not final.exists()
    with store.fresh_folder(final) as out:
        assert not (out / "half").exists(), "what a broken attempt left is gone"
        (out / "whole").write_text("x")
    assert [p.name for p in final.iterdir()] == ["whole"]
    assert list(tmp_path.iterdir()) == [final]


def test_tensors_and_their_note_survive(tmp_path: Path) -> None:
    store.write_tensors(tmp_path / "t.safetensors", {"x": torch.arange(6).reshape(2, 3).T}, note="hello")
    assert torch.equal(store.read_tensors(tmp_path / "t.safetensors")["x"], torch.arange(6).reshape(2, 3).T)
    assert store.read_note(tmp_path / "t.safetensors") == "hello"


def test_a_table_keeps_its_promises(tmp_path: Path) -> None:
    good = pd.DataFrame({"step": [0, 1], "loss": [1.0, 0.5]})
    tables.write(tmp_path / "c.parquet", good, "curves")
    assert tables.read(tmp_path / "c.parquet", "curves").equals(good)
    with pytest.raises(ValueError, match="needs the column 'step'"):
        tables.check(good.drop(columns="step"), "curves")
    with pytest.raises(ValueError, match="should be int, not float64"):
        tables.check(good.astype({"step": float}), "curves")


def _line(out: Path, steps: int, stop_at: int | None, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    adam = torch.optim.AdamW(model.parameters(), lr=0.05)

    def step(k: int) -> dict[str, float]:
        x = torch.randn(4, 2, generator=streams.torch_stream(0, "step", k))
        loss = (model(x) - 1).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        monkeypatch.setattr(training.compute, "stop_asked", lambda: k == stop_at)
        return {"loss": loss.item(), "sometimes": float("nan") if k % 2 else 1.0}

    curves = training.train(out, "line", steps, step, {"model": model}, {"adam": adam})
    assert curves["step"].tolist() == list(range(steps))
    assert curves["sometimes"].isna().tolist() == [bool(k % 2) for k in range(steps)]
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_an_interrupted_training_equals_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _line(tmp_path / "a.scratch", 12, None, monkeypatch)
    with pytest.raises(Interrupted, match="after step 6 of 12"):
        _line(tmp_path / "b.scratch", 12, 5, monkeypatch)
    assert torch.equal(_line(tmp_path / "b.scratch", 12, None, monkeypatch), whole)
    assert torch.equal(_line(tmp_path / "b.scratch", 12, None, monkeypatch), whole), "a finished one is only read back"


def test_a_model_is_loaded_by_one_thread_at_a_time_and_once() -> None:
    inside, calls, crowded = threading.Lock(), [], []

    @compute.loaded_once
    def load(name: str) -> str:
        crowded.append(not inside.acquire(blocking=False))
        time.sleep(0.02)
        inside.release()
        calls.append(name)
        return name.upper()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(load, ["a"] * 8)) == {"A"}
    assert calls == ["a"] and not any(crowded)
    assert (load("b"), load("b"), calls) == ("B", "B", ["a", "b"])


def test_a_model_does_not_tell_where_it_was_once_read(tmp_path: Path) -> None:
    from diffusers import UNet2DModel

    kinds = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=4, block_out_channels=(8,), norm_num_groups=2, layers_per_block=1, **kinds)
    models.write_pretrained(tmp_path / "one", unet)
    again = UNet2DModel.from_pretrained(tmp_path / "one", local_files_only=True)
    models.write_pretrained(tmp_path / "two", again)
    assert str(tmp_path) in str(again.config), "diffusers does remember it"
    assert not [p for p in (tmp_path / "two").iterdir() if str(tmp_path).encode() in p.read_bytes()]


LEAVING = """
import threading
from concurrent.futures import ThreadPoolExecutor
import torch
from stages import compute

first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

def first():
    with compute.one_thread():
        first_in.set()
        second_in.wait(5)
        inside = torch.get_num_threads()
    first_out.set()
    return inside

def second():
    first_in.wait(5)
    with compute.one_thread():
        second_in.set()
        first_out.wait(5)
        return torch.get_num_threads()

with ThreadPoolExecutor(2) as pool:
    inside = [f.result() for f in [pool.submit(first), pool.submit(second)]]
print(inside, torch.get_num_threads())
"""


def test_threads_that_come_and_go_in_any_order_leave_torch_as_it_was() -> None:
    """Also for a thread that first meets torch after them, as the main one does here."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", LEAVING], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "[1, 1] 2\n"


def test_a_bar_survives_what_other_libraries_do_to_its_lock() -> None:
    from tqdm import tqdm
    from tqdm.contrib.concurrent import thread_map

    from stages import progress

    thread_map(abs, [1], disable=True)
    assert hasattr(tqdm, "_lock")
    assert list(progress.track([1], "after")) == [1]


def test_without_a_compiler_what_is_to_be_compiled_is_computed_as_written(tmp_path: Path) -> None:
    script = (
        "from stages import distilling_data; print(distilling_data.usable('exact'), distilling_data.usable('plain'))"
    )
    nowhere = {"CXX": str(tmp_path / "none"), "PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    told = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | nowhere, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["plain", "plain"]
    assert "needs g++ or clang" in told.stderr
