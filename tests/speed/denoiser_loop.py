"""How much our training loop adds to the bare forward, backward and optimiser step of the same network.

    python tests/speed/denoiser_loop.py [steps] [unet | dit | uvit]

Both sides do one step in turn, in one process, on the same network, batch and precision; medians are compared. Ours
does everything a real step does: it draws the batch, gathers latents, weighs the loss, clips, averages the weights,
logs to TensorBoard, and keeps the checkpoint (at its usual pace).
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from stages import compute, denoiser_networks, training
from stages.denoiser import Board, DenoiserSettings, _recipe
from stages.diffusion.learner import Learner
from stages.streams import torch_stream

SHAPE, CLASSES, TILES = (4, 16, 16), 3, 300


def main(steps: int, name: str) -> float:
    """Print both medians and return their ratio."""
    settings = DenoiserSettings.model_validate({"network": name})
    accelerator = compute.accelerator(settings.precision if compute.fast_bf16() else "no")
    sizes = getattr(settings, settings.network)
    networks = [denoiser_networks.build(sizes, SHAPE, CLASSES, torch_stream(0, "weights")) for _ in range(2)]
    latents_vnchw = torch.randn((8, TILES, *SHAPE), generator=torch_stream(0, "data")).half()
    ours = Learner(networks[0], _recipe(settings), accelerator, latents_vnchw, torch.arange(TILES) % CLASSES, seed=0)
    bare = networks[1].train().to(accelerator.device)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=8e-4, fused=True)
    x = torch.randn((settings.batch, *SHAPE), generator=torch_stream(0, "x")).to(accelerator.device)
    t = torch.randint(1000, (settings.batch,), generator=torch_stream(0, "t")).to(accelerator.device)
    y = (torch.arange(settings.batch) % CLASSES).to(accelerator.device)
    bare_s: list[float] = []
    loop_s: list[float] = []

    def bare_step() -> None:
        with accelerator.autocast():
            v = bare(x, t, class_labels=y, return_dict=False)[0]
        optimizer.zero_grad(set_to_none=True)
        (v.float() - x).square().mean().backward()
        optimizer.step()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()

    ended: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result"
        board = Board(Path(folder) / "logs")

        def interleaved(k: int) -> dict[str, float]:
            now = time.perf_counter()
            if ended:
                loop_s[-1] += now - ended[-1]  # the loop's own work after our step: curves, progress, checkpoint
            bare_step()
            middle = time.perf_counter()
            values = ours.step(k)
            board.write(k, values, None)
            bare_s.append(middle - now)
            ended.append(time.perf_counter())
            loop_s.append(ended[-1] - middle)
            return values

        training.train(out, "speed", steps, interleaved, ours.modules, ours.optimizers)
        board.close()
    warm = steps // 5
    ours_ms, bare_ms = 1e3 * statistics.median(loop_s[warm:]), 1e3 * statistics.median(bare_s[warm:])
    print(f"{name}: our loop {ours_ms:.1f} ms, bare step {bare_ms:.1f} ms, ratio {ours_ms / bare_ms:.3f}")
    return ours_ms / bare_ms


if __name__ == "__main__":
    steps, name, *_ = (*sys.argv[1:], *("60", "unet")[len(sys.argv) - 1 :])
    sys.exit(main(int(steps), name) > 1.15)
