"""A tiny chain tiles -> autoencoder -> denoiser -> candidates, made once, and stages in processes that are killed."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from made_tiles import as_parquet, rows
from releasing import lay_story, make

from pipeline.engine import Serial
from stages import autoencoder, candidates, compute, denoiser, images, store
from stages.contracts import Inputs
from stages.denoiser_networks import UNetSettings

CHILD = """
import pickle, sys, torch
from pathlib import Path
from stages import compute, store, training
from stages.contracts import Interrupted
from pipeline.engine import Serial
torch.set_num_threads(1)
training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
stage, settings, inputs, out, seed = pickle.loads(bytes.fromhex(sys.argv[1]))
with compute.graceful(), store.fresh_folder(out) as scratch:
    try:
        stage(settings, inputs, scratch, seed, Serial())
    except Interrupted:
        sys.exit(3)
"""


class Chain(NamedTuple):
    """Result folders."""

    tiles: Path
    autoencoder: Path
    denoiser: Path
    candidates: Path


AUTOENCODER = autoencoder.AutoencoderSettings(
    mode="train",
    steps=6,
    width=64,
    blocks=(1, 1),
    pca_tiles=16,
    batch=4,
    views=2,
    warmup=1,
    precision="no",
    latent_channels=2,
)
DENOISER = denoiser.DenoiserSettings(
    unet=UNetSettings(widths=(8, 16), attention=(False, False), head_width=8),
    steps=8,
    batch=4,
    warmup=1,
    checkups=3,
    checkup_images=6,
    checkup_steps=2,
    precision="no",
)
CANDIDATES = candidates.CandidatesSettings(per_class=5, chunk=3, steps=3, sheet=4)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """The same sums in the same order in this process and in those it starts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_tiles(folder: Path, side: int, seed: int = 0) -> Path:
    """Two classes, dark and light, with a gradient; 8 train and 4 val tiles of each."""
    generator = np.random.default_rng(seed)
    labels, roles = np.repeat([0, 1, 0, 1], [8, 8, 4, 4]), np.repeat(["train", "val"], [16, 8])
    ramp = np.linspace(0, 60, side)[None, :, None, None] + np.zeros((1, 1, side, 3))
    noise = generator.normal(0, 12, (24, side, side, 3))
    pixels = np.clip(70 + 90 * labels[:, None, None, None] + ramp + noise, 0, 255).astype(np.uint8)
    columns: dict[str, Any] = {"group": list(range(24)), "role": roles.tolist()}
    images.write(folder / "images", images.make(pixels, labels, ["dark", "light"], columns))
    return folder


def run_stage(run: Callable[..., None], settings: Any, inputs: Inputs, out: Path, seed: int = 3) -> Path:
    """Run a stage as the runner does, in this process."""
    with compute.graceful(), store.fresh_folder(out) as scratch:
        run(settings, inputs, scratch, seed, Serial())
    return out


def kill_stage(
    run: Callable[..., None],
    settings: Any,
    inputs: Inputs,
    out: Path,
    ready: Callable[[], bool],
    number: signal.Signals,
    seed: int = 3,
) -> int:
    """Run a stage in a process of its own, send it a signal once `ready` says so, return its exit status."""
    job = pickle.dumps((run, settings, inputs, out, seed)).hex()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", CHILD, job], env=environment, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 120
        while not ready() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert child.poll() is None, "the stage was over before it could be stopped"
        child.send_signal(number)
        return child.wait(timeout=60)


def run_apart(run: Callable[..., None], settings: Any, inputs: Inputs, out: Path, seed: int = 3) -> Path:
    """Run a stage to its end in a process of its own, as a person's command does."""
    job = pickle.dumps((run, settings, inputs, out, seed)).hex()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", CHILD, job], env=environment, stderr=subprocess.DEVNULL, check=True)
    return out


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Chain:
    """The tiny chain; tests read it and leave it as it is."""
    root = tmp_path_factory.mktemp("chain")
    inputs = {"tiles": make_tiles(root / "tiles", 32)}
    inputs["autoencoder"] = run_stage(autoencoder.run, AUTOENCODER, inputs, root / "autoencoder")
    inputs["denoiser"] = run_stage(denoiser.run, DENOISER, inputs, root / "denoiser")
    inputs["candidates"] = run_stage(candidates.run, CANDIDATES, inputs, root / "candidates")
    return Chain(**inputs)


@pytest.fixture(scope="session")
def run_a_stage(one_thread: None) -> Callable[..., Path]:
    """`run_stage`, for tests."""
    return run_stage


@pytest.fixture(scope="session")
def run_a_stage_apart() -> Callable[..., Path]:
    return run_apart


@pytest.fixture(scope="session")
def kill_a_stage() -> Callable[..., int]:
    """`kill_stage`, for tests."""
    return kill_stage


@pytest.fixture(scope="session")
def tiles_of() -> Callable[..., Path]:
    """`make_tiles`, for tests."""
    return make_tiles


@pytest.fixture(scope="session")
def autoencoder_settings() -> autoencoder.AutoencoderSettings:
    """The chain's."""
    return AUTOENCODER


@pytest.fixture(scope="session")
def denoiser_settings() -> denoiser.DenoiserSettings:
    """The chain's."""
    return DENOISER


@pytest.fixture(scope="session")
def candidates_settings() -> candidates.CandidatesSettings:
    """The chain's."""
    return CANDIDATES


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    return as_parquet(rows(), tmp_path / "in" / "tiles.parquet")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The results a release is made from."""
    return lay_story(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def shipped(story: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release made from them."""
    return make(story, tmp_path_factory.mktemp("release") / "out")
