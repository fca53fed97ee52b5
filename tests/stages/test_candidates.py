"""The stage candidates: streams, chunks, engines, the pipeline beside, and a kill that loses nothing."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.engine import Processes
from stages import candidates, denoiser, images, store
from stages.candidates import CandidatesSettings
from stages.denoiser import DenoiserSettings
from stages.denoiser_networks import UViTSettings
from stages.diffusion.pipeline import TilePipeline
from stages.streams import derive, torch_stream


def inputs_of(chain: Any) -> dict[str, Path]:
    return {"tiles": chain.tiles, "autoencoder": chain.autoencoder, "denoiser": chain.denoiser}


def test_candidates_are_class_major_and_distinct(chain: Any) -> None:
    made = images.read(chain.candidates / "images")
    assert made.labels_n.tolist() == [0] * 5 + [1] * 5 and made.classes == ("dark", "light")
    assert made.table["index"].tolist() == [*range(5), *range(5)]
    assert made.pixels_nhwc.shape == (10, 32, 32, 3)
    assert store.read_json(chain.candidates / "facts.json")["distinct"] == 10


def test_a_candidate_does_not_depend_on_its_batch(
    chain: Any, tmp_path: Path, run_a_stage: Any, candidates_settings: CandidatesSettings
) -> None:
    """Across chunk sizes one grey level is promised; fewer or more candidates do not matter at all."""
    ours = images.read(chain.candidates / "images").pixels_nhwc.reshape(2, 5, 32, 32, 3)
    for chunk, per_class in ((7, 5), (3, 3)):
        settings = candidates_settings.model_copy(update={"chunk": chunk, "per_class": per_class})
        out = run_a_stage(candidates.run, settings, inputs_of(chain), tmp_path / f"{chunk}-{per_class}")
        theirs = images.read(out / "images").pixels_nhwc.reshape(2, per_class, 32, 32, 3)
        gap = np.abs(theirs.astype(int) - ours[:, :per_class].astype(int))
        assert gap.max() <= 1
    assert np.abs(ours[0].astype(int) - ours[1].astype(int)).max() > 1, "classes start from streams of their own"


def test_the_same_again_gives_the_same_bytes(
    chain: Any, tmp_path: Path, run_a_stage: Any, candidates_settings: CandidatesSettings
) -> None:
    again = run_a_stage(candidates.run, candidates_settings, inputs_of(chain), tmp_path / "again")
    assert store.digest_folder(again) == store.digest_folder(chain.candidates)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(
    chain: Any, tmp_path: Path, candidates_settings: CandidatesSettings
) -> None:
    with store.fresh_folder(tmp_path / "pool") as out:
        candidates.run(candidates_settings, inputs_of(chain), out, 3, Processes(2))
    assert store.digest_folder(tmp_path / "pool") == store.digest_folder(chain.candidates)


def test_the_saved_pipeline_draws_the_same_tiles(chain: Any) -> None:
    pipeline = TilePipeline.from_pretrained(chain.candidates / "pipeline", local_files_only=True)
    streams = [torch_stream(3, "candidate", 0, i) for i in range(3)]
    drawn = pipeline(["dark"] * 3, streams)
    made = images.read(chain.candidates / "images")
    for picture, pixels in zip(drawn, made.pixels_nhwc, strict=False):
        assert np.array_equal(np.asarray(picture), pixels)


def test_the_pipeline_says_which_classes_it_knows(chain: Any) -> None:
    pipeline = TilePipeline.from_pretrained(chain.candidates / "pipeline", local_files_only=True)
    with pytest.raises(ValueError, match="grey"):
        pipeline(["grey"])
    with pytest.raises(ValueError, match="2 labels need as many generators"):
        pipeline([0, 1], [torch_stream(0, "x")])
    assert len(pipeline([1, "dark"], torch_stream(0, "x"), guidance_scale=1.0, num_inference_steps=2)) == 2


@pytest.fixture(scope="module", params=["unet", "uvit"])
def drawn(
    request: pytest.FixtureRequest,
    chain: Any,
    tmp_path_factory: pytest.TempPathFactory,
    run_a_stage: Any,
    denoiser_settings: DenoiserSettings,
    candidates_settings: CandidatesSettings,
) -> Path:
    """The candidates of a denoiser that diffusers has, and of the one whose code travels with it."""
    if request.param == "unet":
        return Path(chain.candidates)
    small = {"network": "uvit", "uvit": UViTSettings(width=16, depth=3, heads=2), "checkups": 1}
    settings = denoiser_settings.model_copy(update=small)
    inputs = {"tiles": chain.tiles, "autoencoder": chain.autoencoder}
    root = tmp_path_factory.mktemp(request.param)
    inputs["denoiser"] = run_a_stage(denoiser.run, settings, inputs, root / "denoiser")
    return Path(run_a_stage(candidates.run, candidates_settings, inputs, root / "candidates"))


def test_the_pipeline_draws_the_same_without_this_package(drawn: Path, tmp_path: Path) -> None:
    """As a stranger would: diffusers (and timm) alone, in an empty folder; the code lies beside the weights."""
    folder = str(drawn / "pipeline")
    code = (
        "import sys, numpy, torch; from diffusers import DiffusionPipeline\n"
        "torch.set_num_threads(1)\n"
        f"p = DiffusionPipeline.from_pretrained({folder!r}, custom_pipeline={folder!r}, trust_remote_code=True)\n"
        f"streams = [torch.Generator().manual_seed({derive(3, 'candidate', 1, 0)})]\n"
        "assert not {'stages', 'pipeline.cli'} & set(sys.modules)\n"
        "print(numpy.asarray(p(['light'], streams)[0]).tobytes().hex())"
    )
    environment = {"PATH": "/usr/bin", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours = images.read(drawn / "images", label=1).pixels_nhwc[0].astype(int)
    theirs = np.frombuffer(bytes.fromhex(done.stdout), np.uint8).reshape(32, 32, 3).astype(int)
    assert np.abs(theirs - ours).max() <= 1, "another chunk size may differ by one grey level"


def test_the_contact_sheet_shows_every_class_side_by_side(chain: Any) -> None:
    page = np.asarray(Image.open(chain.candidates / "contact.png"))
    assert page.shape == (2 * 34 + 2, 2 * (2 * 34 + 2) + 8, 3)
    made = images.read(chain.candidates / "images").pixels_nhwc
    assert np.array_equal(page[2:34, 2:34], made[0])
    assert np.array_equal(page[2:34, 80:112], made[5])


def test_killed_between_chunks_it_goes_on_and_gives_the_same_bytes(
    chain: Any, tmp_path: Path, run_a_stage: Any, kill_a_stage: Any, candidates_settings: CandidatesSettings
) -> None:
    settings = candidates_settings.model_copy(update={"chunk": 1, "per_class": 10, "steps": 12})
    whole = run_a_stage(candidates.run, settings, inputs_of(chain), tmp_path / "whole")
    out = tmp_path / "broken"
    work = store.work_folder(out)
    status = kill_a_stage(
        candidates.run, settings, inputs_of(chain), out, lambda: len(list(work.iterdir())) >= 3, signal.SIGKILL
    )
    assert status == -signal.SIGKILL and not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in work.glob("chunk-*")}
    assert 2 <= len(kept) < 20
    run_a_stage(candidates.run, settings, inputs_of(chain), out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished chunks are not computed again"
    assert store.digest_folder(out) == store.digest_folder(whole)
