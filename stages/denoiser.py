"""The stage that trains the class-conditional latent denoiser, and looks now and then at what it has learnt.

Shapes: `latents_vnchw` v views of n train tiles; `pixels_nhwc` n tiles; `x_nd` SqueezeNet features.
"""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stages import compute, denoiser_networks, images, models, scale_bar, store
from stages.contracts import Engine, Inputs, UserError
from stages.denoiser_networks import DiTSettings, UNetSettings, UViTSettings
from stages.settings import Settings

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from stages.diffusion.learner import Learner, Recipe

log = logging.getLogger(__name__)

FEATURE_SIDE = 64  # px; smaller tiles are enlarged before SqueezeNet sees them
FEATURE_BATCH = 50


class DenoiserSettings(Settings):
    """The network, its training, and its check-ups."""

    network: Literal["unet", "dit", "uvit"] = "unet"
    """Which network predicts; its own settings stand below under its name."""
    unet: UNetSettings = UNetSettings()
    """Sizes of the UNet."""
    dit: DiTSettings = DiTSettings()
    """Sizes of the DiT."""
    uvit: UViTSettings = UViTSettings()
    """Sizes of the U-ViT."""
    noise: Literal["cosine", "scaled_linear"] = "cosine"
    """Noise schedule; both end in pure noise."""
    steps: int = Field(2600, ge=1, le=10_000_000)
    """Training steps."""
    batch: int = Field(16, ge=1, le=65_536)
    """Latents per step, over all processes."""
    learning_rate: float = Field(8e-4, gt=0, le=1)
    """Highest learning rate of AdamW."""
    warmup: int = Field(100, ge=0, le=1_000_000)
    """Steps over which the learning rate rises; then a cosine takes it down to a hundredth."""
    weight_decay: float = Field(0.01, ge=0, le=10)
    """AdamW's weight decay."""
    clip: float = Field(1.0, gt=0, le=1e6)
    """Longest gradient allowed (Euclidean norm over all weights)."""
    min_snr: float = Field(5.0, gt=0, le=1e6)
    """Cap of the signal-to-noise ratio in the weight of the loss."""
    label_drop: float = Field(0.1, ge=0, le=1)
    """Chance that a label is hidden in training, for classifier-free guidance."""
    ema: float = Field(0.9995, ge=0, lt=1)
    """Longest decay of the average of weights."""
    precision: Literal["no", "bf16"] = "bf16"
    """bf16: in bfloat16 where autocast allows and the processor has it, otherwise as "no", in float32."""
    processes: int = Field(1, ge=1, le=64)
    """Processes that share each batch, one for each GPU; on a CPU one process uses all cores already."""
    checkups: int = Field(4, ge=1, le=100)
    """How often samples are drawn and measured: at the end, at half the steps, at a quarter and so on."""
    checkup_images: int = Field(60, ge=2, le=100_000)
    """Samples per check-up, classes in turn."""
    checkup_guidance: float = Field(1.5, ge=1, le=20)
    """Guidance of those samples; 1 is none."""
    checkup_steps: int = Field(12, ge=1, le=1000)
    """Sampling steps of those samples."""
    shown: int = Field(4, ge=1, le=100)
    """Samples of each class in a row of samples.png."""
    tensorboard: bool = True
    """Whether curves and samples are also logged for TensorBoard, beside the result."""


def run(settings: DenoiserSettings, inputs: Inputs, out: Path, seed: int, engine: Engine) -> None:
    """Train, in one process or several, check up, and write the averaged weights."""
    if settings.processes == 1:
        train(settings, inputs, out, seed)
    else:
        compute.launch(train, settings.processes, settings, dict(inputs), out, seed)


def train(settings: DenoiserSettings, inputs: Inputs, out: Path, seed: int) -> None:
    """The work of one process; the main one checks up and writes."""
    from stages import training

    accelerator = compute.accelerator(settings.precision if compute.fast_bf16() else "no")
    learner, classes = _learner(settings, inputs, accelerator, seed)
    checkup = Checkup(settings, inputs, out, seed, learner, classes)
    log_folder = store.logs_folder(out) if settings.tensorboard and accelerator.is_main_process else None
    board = Board(log_folder)

    def step(k: int) -> dict[str, float]:
        values = learner.step(k)
        if k + 1 in checkup.steps and accelerator.is_main_process:
            values |= {"kid": checkup.look(k + 1)}
        board.write(k, values, checkup.newest)
        compute.agree_to_stop(accelerator)
        return values

    curves = training.train(
        out, "denoiser", settings.steps, step, learner.modules, learner.optimizers, accelerator.is_main_process
    )
    board.close()
    if not accelerator.is_main_process:
        return
    models.write_pretrained(out / "network", learner.ema.network)
    curves.to_parquet(out / "curves.parquet", index=False)
    store.write_bytes(out / "samples.png", images.png(checkup.page(), level=6))
    seen = curves.dropna(subset="kid") if "kid" in curves else curves[:0]
    kids = dict(zip((seen["step"] + 1).tolist(), seen.get("kid", []), strict=True))
    floor = checkup.floor()
    warnings = worries(kids, floor)
    for warning in warnings:
        log.warning(warning)
    store.write_json(
        out / "facts.json",
        {
            "classes": list(classes),
            "network": denoiser_networks.NAMES[settings.network],
            "null_class": len(classes),
            "latent_shape": list(learner.latents_vnchw.shape[2:]),
            "noise": settings.noise,
            "bf16": accelerator.mixed_precision == "bf16",
            "parameters": sum(weight.numel() for weight in learner.network.parameters()),
            "kid": {str(k): value for k, value in kids.items()},
            "kid_floor": floor,
            "kid_images": [settings.checkup_images, len(checkup.real_nd)],
            "final_loss": float(curves["loss"].tail(100).mean()),
            "warnings": warnings,
        },
    )


def worries(kids: dict[int, float], floor: float | None = None) -> list[str]:
    """What a person should be told about the course of KID by step: nothing, or that it does not fall.

    Where it lies within a tenth of `floor`, what the decoder alone costs, it cannot fall and nobody need worry.
    """
    steps = sorted(kids)
    if len(steps) < 2 or any(math.isnan(value) for value in kids.values()):
        return []
    first, last = kids[steps[0]], kids[steps[-1]]
    if last < first or (floor is not None and last <= 1.1 * floor):
        return []
    return [
        f"KID against the val tiles did not fall: {first:.4f} after {steps[0]} steps, {last:.4f} after {steps[-1]}. "
        "The denoiser may not have learnt: look at samples.png, train longer, or change the learning rate."
    ]


def _learner(
    settings: DenoiserSettings, inputs: Inputs, accelerator: "Accelerator", seed: int
) -> "tuple[Learner, tuple[str, ...]]":
    """The untrained denoiser with its data."""
    import torch

    from stages.diffusion.learner import Learner
    from stages.streams import torch_stream

    table, classes = images.read_table(inputs["tiles"] / "images")
    y_n = torch.tensor(table.loc[table["role"] == "train", "label"].to_numpy(np.int64))
    missing = [name for y, name in enumerate(classes) if not bool((y_n == y).any())]
    if missing:
        raise UserError(f"No train tile of class {', '.join(missing)}; a denoiser needs every class among its tiles.")
    if settings.batch % accelerator.num_processes:
        raise UserError(f"batch {settings.batch} cannot be shared by {accelerator.num_processes} processes evenly")
    latents_vnchw = store.read_tensors(inputs["autoencoder"] / "latents.safetensors")["latents_vnchw"]
    shape = (latents_vnchw.shape[2], latents_vnchw.shape[3], latents_vnchw.shape[4])
    sizes: UNetSettings | DiTSettings | UViTSettings = getattr(settings, settings.network)
    network = denoiser_networks.build(sizes, shape, len(classes), torch_stream(seed, "weights"))
    return Learner(network, _recipe(settings), accelerator, latents_vnchw, y_n, seed), classes


def _recipe(settings: DenoiserSettings) -> "Recipe":
    """The settings as the science names them."""
    from stages.diffusion.learner import Recipe

    return Recipe(
        steps=settings.steps,
        batch=settings.batch,
        lr=settings.learning_rate,
        warmup=min(settings.warmup, settings.steps // 2),
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        gamma=settings.min_snr,
        drop=settings.label_drop,
        ema=settings.ema,
        noise=settings.noise,
    )


class Checkup:
    """Samples of the averaged weights, from the same noise every time: a row of pictures, and KID against val tiles.

    The pictures lie in the work folder until the end, so that a run that was killed still shows all rows.
    """

    def __init__(
        self,
        settings: DenoiserSettings,
        inputs: Inputs,
        out: Path,
        seed: int,
        learner: "Learner",
        classes: tuple[str, ...],
    ) -> None:
        """Read the decoder, the feature network and the val tiles."""
        from stages.diffusion.schedule import dpm_solver

        self.settings, self.learner, self.seed, self.classes = settings, learner, seed, classes
        self.folder = store.work_folder(out)
        self.steps = sorted({max(1, settings.steps >> i) for i in range(settings.checkups)})
        self.autoencoder = models.read_autoencoder(inputs["autoencoder"] / "vae")
        self.autoencoder.model.to(learner.accelerator.device)
        self.side = int(store.read_json(inputs["autoencoder"] / "facts.json")["size_px"])
        self.mpp = scale_bar.known_mpp(inputs["autoencoder"])
        self.squeezenet = models.read_squeezenet()
        self.solver = dpm_solver(settings.noise)
        val = images.read(inputs["tiles"] / "images", role="val")
        self.real_nd = self._features(val.pixels_nhwc) if len(val.table) else np.zeros((0, 512), np.float32)
        self.newest: npt.NDArray[np.uint8] | None = None

    def look(self, step: int) -> float:
        """Draw the samples after `step` steps, keep their pictures, return KID (NaN with fewer than 2 val tiles)."""
        pixels_nhwc = self._samples()
        self.newest = self._row(pixels_nhwc)
        store.write_bytes(self.folder / f"row-{step:08d}.png", images.png(self.newest, level=6))
        return self._kid(pixels_nhwc)

    def floor(self) -> float | None:
        """KID of decoded latents of train tiles: what the decoder alone costs, so no denoiser gets below it."""
        import torch

        rows = np.linspace(0, self.learner.latents_vnchw.shape[1] - 1, self.settings.checkup_images).astype(np.int64)
        z_nchw = self.learner.latents_vnchw[0][torch.from_numpy(rows)].float()
        value = self._kid(self._decode(z_nchw))
        return None if math.isnan(value) else value

    def _kid(self, pixels_nhwc: images.Pixels) -> float:
        """KID against the val tiles, in units of the root mean square of a real feature, or the cube explodes."""
        from stages.features.kid import kid

        if len(self.real_nd) < 2:
            return math.nan
        scale = float(np.sqrt(np.square(self.real_nd).mean()))
        return kid(self._features(pixels_nhwc) / scale, self.real_nd / scale)

    def _decode(self, z_nchw: "Tensor") -> images.Pixels:
        """Pixels of latents, a batch at a time."""
        import torch

        from stages.diffusion.pipeline import decode_pixels
        from stages.diffusion.views import at_once

        mean, std = self.autoencoder.mean_c.tolist(), self.autoencoder.std_c.tolist()
        batch = at_once(self.side, FEATURE_BATCH)
        parts = [decode_pixels(self.autoencoder.model, z, mean, std, self.side) for z in torch.split(z_nchw, batch)]
        return np.concatenate(parts)

    def page(self) -> npt.NDArray[np.uint8]:
        """All rows, the earliest first."""
        from PIL import Image

        rows = [np.asarray(Image.open(self.folder / f"row-{step:08d}.png").convert("RGB")) for step in self.steps]
        return scale_bar.under(np.concatenate(rows), self.mpp, self.side)

    def _samples(self) -> images.Pixels:
        """Samples with classes in turn, as pixels."""
        import torch

        from stages.diffusion import pipeline
        from stages.streams import torch_stream

        shape, device = self.learner.latents_vnchw.shape[2:], self.learner.accelerator.device
        count, network = self.settings.checkup_images, self.learner.ema.network
        noise_nchw = torch.randn((count, *shape), generator=torch_stream(self.seed, "checkup"))
        parts = []
        for start in range(0, count, FEATURE_BATCH):
            noise_bchw = noise_nchw[start : start + FEATURE_BATCH].to(device)
            y_b = (torch.arange(start, start + len(noise_bchw)) % len(self.classes)).to(device)
            predict = pipeline.guided(network, y_b, len(self.classes), self.settings.checkup_guidance)
            with self.learner.accelerator.autocast():
                parts.append(pipeline.sample_latents(predict, self.solver, noise_bchw, self.settings.checkup_steps))
        return self._decode(torch.cat(parts))

    def _row(self, pixels_nhwc: images.Pixels) -> npt.NDArray[np.uint8]:
        """A few samples of each class side by side, class after class."""
        from stages.diffusion.views import sheet

        classes = len(self.classes)
        chosen = [i for y in range(classes) for i in range(y, len(pixels_nhwc), classes)[: self.settings.shown]]
        return sheet(pixels_nhwc[chosen], columns=len(chosen))

    def _features(self, pixels_nhwc: images.Pixels) -> npt.NDArray[np.float32]:
        """SqueezeNet features, pooled."""
        import torch

        from stages.features.squeezenet import pooled_features

        size = FEATURE_SIDE if pixels_nhwc.shape[1] < FEATURE_SIDE else None
        parts = []
        for start in range(0, len(pixels_nhwc), FEATURE_BATCH):
            img_bchw = torch.from_numpy(pixels_nhwc[start : start + FEATURE_BATCH]).permute(0, 3, 1, 2) / 127.5 - 1.0
            parts.append(pooled_features(self.squeezenet, img_bchw, size).numpy())
        return np.concatenate(parts)


class Board:
    """TensorBoard's log, or nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.writer: Any = None
        self.last: npt.NDArray[np.uint8] | None = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder))

    def write(self, k: int, values: dict[str, float], row: npt.NDArray[np.uint8] | None) -> None:
        """Log the values of step `k`, and the row of samples if it is a new one."""
        if self.writer is None:
            return
        for name, value in values.items():
            self.writer.add_scalar(name, value, k)
        if row is not None and row is not self.last:
            self.writer.add_image("samples", row, k, dataformats="HWC")
            self.last = row

    def close(self) -> None:
        """Flush the log."""
        if self.writer is not None:
            self.writer.close()
