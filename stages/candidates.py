"""The stage that draws synthetic tiles: N per class, each from a random stream of its own.

Shapes: `pixels_bhwc` the tiles of one chunk.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stages import compute, denoiser_networks, images, models, progress, scale_bar, store
from stages.contracts import Engine, Inputs, Interrupted, UserError
from stages.settings import Settings


class CandidatesSettings(Settings):
    """How many tiles, and how they are sampled."""

    per_class: int = Field(200, ge=1, le=10_000_000)
    """Candidates of each class."""
    guidance: float = Field(1.25, ge=1, le=20)
    """Classifier-free guidance; 1 is none, more is more typical and less diverse."""
    steps: int = Field(14, ge=1, le=1000)
    """Sampling steps of DPM-Solver++; each evaluates the network twice, or once without guidance."""
    chunk: int = Field(50, ge=1, le=100_000)
    """Tiles computed at once; engines move whole chunks, so any number of workers gives the same bytes."""
    sheet: int = Field(64, ge=1, le=10_000)
    """Tiles of each class on the contact sheet."""


Candidate = tuple[int, int]
"""Class number, and number within the class."""


def run(settings: CandidatesSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Save the pipeline, sample chunk by chunk, write the image set and its contact sheet."""
    facts = store.read_json(inputs["denoiser"] / "facts.json")
    classes: list[str] = facts["classes"]
    autoencoder_facts = store.read_json(inputs["autoencoder"] / "facts.json")
    if facts["latent_shape"] != autoencoder_facts["latent_shape"]:
        raise UserError(
            f"The denoiser makes latents of {facts['latent_shape']}, the autoencoder reads "
            f"{autoencoder_facts['latent_shape']}: they do not belong together."
        )
    save_pipeline(out / "pipeline", settings, inputs, classes, facts["noise"], int(autoencoder_facts["size_px"]))
    everyone = [(y, i) for y in range(len(classes)) for i in range(settings.per_class)]
    starts = range(0, len(everyone), settings.chunk)
    chunks = [everyone[start : start + settings.chunk] for start in starts]
    chunks[-1] = (chunks[-1] + [chunks[-1][-1]] * settings.chunk)[: settings.chunk]
    pixels_nhwc = _all_chunks(out, engine, chunks, seed)[: len(everyone)]
    labels, index = zip(*everyone, strict=True)
    images.write(out / "images", images.make(pixels_nhwc, labels, classes, {"index": index}))
    mpp = scale_bar.known_mpp(inputs["autoencoder"])
    page = scale_bar.under(contact_sheet(pixels_nhwc, settings, len(classes)), mpp, pixels_nhwc.shape[1])
    store.write_bytes(out / "contact.png", images.png(page, level=6))
    store.write_json(
        out / "facts.json",
        {
            "classes": classes,
            "per_class": settings.per_class,
            "guidance": settings.guidance,
            "steps": settings.steps,
            "size_px": int(pixels_nhwc.shape[1]),
            "distinct": len({images.tile_id(pixels_hwc) for pixels_hwc in pixels_nhwc}),
            "rounding": "grey level = 127.5 (v + 1) to the nearest whole number, halves to even, cut to 0-255",
            "noise_stream": ["candidate", "class number", "number within the class"],
            **({} if mpp is None else {"mpp": mpp}),
        },
    )


def save_pipeline(
    folder: Path, settings: CandidatesSettings, inputs: Inputs, classes: Sequence[str], noise: Any, size_px: int
) -> None:
    """Write autoencoder, denoiser and solver as a diffusers pipeline, with the code that runs it."""
    from stages.diffusion import pipeline
    from stages.diffusion.schedule import dpm_solver

    autoencoder = models.read_autoencoder(inputs["autoencoder"] / "vae")
    whole = pipeline.TilePipeline(
        autoencoder.model,
        denoiser_networks.read(inputs["denoiser"] / "network"),
        dpm_solver(noise),
        autoencoder.mean_c.tolist(),
        autoencoder.std_c.tolist(),
        list(classes),
        size_px,
        settings.guidance,
        settings.steps,
    )
    models.write_pretrained(folder, whole)
    store.write_bytes(folder / "pipeline.py", Path(pipeline.__file__).read_bytes())
    denoiser_networks.write_code(folder, "denoiser")


def _all_chunks(out: Path, engine: Engine, chunks: list[list[Candidate]], seed: int) -> images.Pixels:
    """Pixels of all chunks, in order; finished ones lie in the work folder and are not computed again."""
    import torch

    work = store.work_folder(out)
    paths = [work / f"chunk-{number:06d}.safetensors" for number in range(len(chunks))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    digest = store.digest_file(out / "pipeline" / "denoiser" / "diffusion_pytorch_model.safetensors")
    sample = functools.partial(sample_chunk, out / "pipeline", digest, seed)
    results = engine.map(sample, [chunks[number] for number in missing])
    done = len(paths) - len(missing)
    shown = progress.track(zip(missing, results, strict=True), "candidates", total=len(paths), done=done, unit="chunk")
    for number, pixels_bhwc in shown:
        store.write_tensors(paths[number], {"pixels": torch.from_numpy(pixels_bhwc)})
        if compute.stop_asked() and number != missing[-1]:
            raise Interrupted(f"candidates stopped after chunk {number + 1} of {len(paths)}; run again to continue")
    return np.concatenate([store.read_tensors(path)["pixels"].numpy() for path in paths])


def sample_chunk(folder: Path, digest: str, seed: int, chunk: list[Candidate]) -> images.Pixels:
    """Sample one chunk, (b, h, w, 3); candidate (y, i) starts from the stream called ("candidate", y, i)."""
    from stages.streams import torch_stream

    generators = [torch_stream(seed, "candidate", y, i) for y, i in chunk]
    with compute.one_thread():
        pixels_bhwc: images.Pixels = _pipeline(folder, digest)([y for y, _ in chunk], generators, output_type="np")
    return pixels_bhwc


@compute.loaded_once
def _pipeline(folder: Path, digest: str) -> Any:
    """The pipeline in `folder`, read once per process; the digest of its weights tells one from the next.

    Built from its parts, so that no code that lies beside weights is run.
    """
    from diffusers import DPMSolverMultistepScheduler

    from stages.diffusion.pipeline import TilePipeline

    with models.quiet("diffusers"):
        parts = {
            "vae": models.read_vae(folder / "vae"),
            "denoiser": denoiser_networks.read(folder / "denoiser"),
            "scheduler": DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
        }
    index = store.read_json(folder / "model_index.json")
    told = {key: value for key, value in index.items() if key not in parts and not key.startswith("_")}
    return TilePipeline(**parts, **told).to(compute.device())


def contact_sheet(pixels_nhwc: images.Pixels, settings: CandidatesSettings, classes: int) -> npt.NDArray[np.uint8]:
    """The first candidates of each class in a square block, the blocks side by side in the order of the classes."""
    from stages.diffusion.views import sheet

    shown = min(settings.sheet, settings.per_class)
    columns = int(np.ceil(np.sqrt(shown)))
    starts = [y * settings.per_class for y in range(classes)]
    blocks = [sheet(pixels_nhwc[start : start + shown], columns) for start in starts]
    gap = np.full((blocks[0].shape[0], 8, 3), 255, np.uint8)
    return np.concatenate([part for block in blocks for part in (block, gap)][:-1], axis=1)
