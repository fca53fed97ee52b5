"""Trajectory matching beside its public code: the same numbers, how much faster, and in how much memory.

    python tests/speed/trajectory.py --mtt DIR [same] [time] [memory]

DIR is a checkout of GeorgeCazenavette/mtt-distillation; its ConvNet and ReparamModule do the iteration in our words: S
steps of gradient descent on synthetic images with their graph kept, then one backward pass to images and rate. 8
classes, 32 px, 128 channels; the start is random, the target where two epochs of real images lead.
`same`: loss, image and rate gradients in float32 and float64. `time`: one iteration of each in turn, on one thread;
medians of seconds of the processor, and of the ratios. `memory`: the peak of a process of its own for every way and
number of steps, less what it held before. Wanted: equal to 1e-5; compiled exact 1.3 times as fast; the adjoint in a
quarter of the memory of full back-propagation at 30 steps, and no more at 100 steps than at 10 but for the θ's and
the gradients that are the result.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.distill import compiled, experts, flat, student, trajectory_adjoint, trajectory_matching
from stages.distill.trajectory_matching import Batch, Matched

SHAPE = student.Shape(8)
RATE = 0.01
CASES = {"ipc 1, 8 images a step": (1, 8, 10), "ipc 10, mini-batches of 40": (10, 40, 10)}
"""Images per class, images of a step, steps."""
WANTED_FASTER, WANTED_SMALLER, WANTED_NEAR = 1.3, 4.0, 1e-5
MEMORY_STEPS = (10, 30, 100)
MEMORY_WAYS = ("theirs", "unrolled", "plain", "exact", "tesla")


class Task(NamedTuple):
    """What both ways are given."""

    start_p: Tensor
    target_p: Tensor
    img: Tensor
    classes: Tensor
    rows: list[Tensor]

    def batches(self) -> list[Batch]:
        """Ours: images and one-hot targets of every step."""
        return [Batch(self.img[r], F.one_hot(self.classes[r], SHAPE.classes).to(self.img)) for r in self.rows]


def task(ipc: int, batch: int, steps: int, seed: int = 0) -> Task:
    """Images of 8 noisy patterns; start and target: before and after two epochs on 320 of them."""
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.randn(SHAPE.classes, 3, 4, 4, generator=generator)
    pattern = F.interpolate(pattern, scale_factor=8, mode="bilinear")

    def drawn(per_class: int) -> tuple[Tensor, Tensor]:
        classes = torch.arange(SHAPE.classes).repeat_interleave(per_class)
        return pattern[classes] + torch.randn(len(classes), 3, 32, 32, generator=generator), classes

    real, real_classes = drawn(40)
    start_p = flat.flatten(student.draw(SHAPE, generator))
    descent = trajectory_matching.gradients(SHAPE, "plain").descent
    target, target_p = F.one_hot(real_classes, SHAPE.classes).float(), start_p
    for _ in range(2):
        shown = (len(real), RATE, 64, generator, None)
        target_p = experts.epoch(descent, target_p, lambda rows: Batch(real[rows], target[rows]), *shown)
    img, classes = drawn(ipc)
    rows = trajectory_matching.minibatches(len(img), batch, steps, generator)
    return Task(start_p, target_p, img, classes, rows)


def theirs(folder: str, given: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradients by the public code's network: every step's graph is kept."""
    sys.path.insert(0, folder)
    import networks
    import reparam_module

    module = networks.ConvNet(
        3, SHAPE.classes, SHAPE.width, SHAPE.depth, "relu", "instancenorm", "avgpooling", (32, 32)
    )
    network = reparam_module.ReparamModule(module.to(given.img.dtype))
    img = given.img.clone().requires_grad_()
    rate = torch.tensor(RATE, dtype=img.dtype, requires_grad=True)
    theta_p = given.start_p.clone().requires_grad_()
    for rows in given.rows:
        risk = F.cross_entropy(network(img[rows], flat_param=theta_p), given.classes[rows])
        theta_p = theta_p - rate * torch.autograd.grad(risk, theta_p, create_graph=True)[0]
    far = F.mse_loss(given.start_p, given.target_p, reduction="sum")
    loss = F.mse_loss(theta_p, given.target_p, reduction="sum") / far
    loss.backward()
    return loss.detach(), img.grad, rate.grad


Prepared = Callable[[Task], tuple[Tensor, Tensor, Tensor]]


def ours(way: Callable[..., Matched], mode: compiled.Mode) -> Prepared:
    """Loss and gradients by one of our ways, the compiler's work kept between calls."""
    gradients = trajectory_matching.gradients(SHAPE, mode)

    def run(given: Task) -> tuple[Tensor, Tensor, Tensor]:
        rate = torch.tensor(RATE, dtype=given.img.dtype)
        matched = way(gradients, given.start_p, given.target_p, given.batches(), rate)
        d_img = torch.zeros_like(given.img)
        for rows, part in zip(given.rows, matched.d_images, strict=True):
            d_img.index_add_(0, rows, part)
        return matched.loss, d_img, matched.d_rate

    return run


def ways(folder: str) -> dict[str, Prepared]:
    return {
        "theirs": lambda given: theirs(folder, given),
        "unrolled": ours(trajectory_matching.unrolled, "plain"),
        "plain": ours(trajectory_adjoint.adjoint, "plain"),
        "exact": ours(trajectory_adjoint.adjoint, "exact"),
        "fast": ours(trajectory_adjoint.adjoint, "fast"),
        "tesla": ours(trajectory_adjoint.tesla, "plain"),
        "tesla exact": ours(trajectory_adjoint.tesla, "exact"),
    }


def differences(found: tuple[Tensor, ...], reference: tuple[Tensor, ...]) -> str:
    near = [float((a - b).norm() / b.norm()) for a, b in zip(found, reference, strict=True)]
    cosine = float(F.cosine_similarity(found[1].flatten(), reference[1].flatten(), 0))
    return f"loss {near[0]:.1e}, images {near[1]:.1e} (cosine {cosine:.6f}), rate {near[2]:.1e}"


def same(folder: str, seeds: int = 3) -> bool:
    """Print how far every way is from the public code, relative norms; whether they are as near as wanted at 10 steps.

    In float64 both are the same function, compiled too. In float32 any two ways differ by rounding, until in some step
    the argument of some ReLU lies so near 0 that they take it to different sides: from there on the gradients
    themselves differ, by 1e-4 to 1e-3 of their norm, of the public code from itself in float64 too. The compiler sums
    in another order, so it meets that more often than what is as written, whose sums are those of the public code. So
    what is judged is compiled in float64, and as written in float32 (the median of several tasks).
    """
    found, apart, doubly = ways(folder), [], []
    for steps in (10, 30):
        for seed in range(seeds):
            given = task(1, 8, steps, seed)
            truth, single = found["theirs"](doubled(given)), found["theirs"](given)
            print(f"{steps} steps, seed {seed}, loss {float(truth[0]):.4f}")
            print(f"  theirs, float32 from its float64: {differences(single, truth)}", flush=True)
            if steps == 10:
                result = found["exact"](doubled(given))
                print(f"  exact, float64: {differences(result, truth)}", flush=True)
                doubly.append(worst(result, truth))
                apart.append(worst(found["plain"](given), single))
            for name in ("plain", "exact", "fast", "tesla"):
                print(f"  {name}, float32: {differences(found[name](given), single)}", flush=True)
    print(
        f"10 steps, worst of loss, images, rate: exact in float64 {max(doubly):.1e}, plain in float32 {sorted(apart)}"
    )
    return max(doubly) < WANTED_NEAR and statistics.median(apart) < WANTED_NEAR


def worst(found: tuple[Tensor, ...], reference: tuple[Tensor, ...]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, reference, strict=True))


def doubled(given: Task) -> Task:
    return Task(*(v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in given))


def seconds(folder: str, rounds: int = 7) -> bool:
    """Print the time of one iteration of every way; whether exact is as much faster as wanted in every case."""
    good = True
    for case, sizes in CASES.items():
        given, found = task(*sizes), ways(folder)
        took: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(rounds + 1):  # the first round compiles
            for name, way in found.items():
                began = time.process_time()
                way(given)
                took[name].append(time.process_time() - began)
        for name, values in took.items():
            ratio = statistics.median(a / b for a, b in zip(took["theirs"][1:], values[1:], strict=True))
            milliseconds = 1e3 * statistics.median(values[1:])
            print(
                f"{case}, {sizes[2]} steps, {name}: {milliseconds:.0f} ms, {ratio:.2f} times as fast as theirs",
                flush=True,
            )
            good = good and (name != "exact" or ratio >= WANTED_FASTER)
    return good


def once(folder: str, name: str, steps: int) -> None:
    """One iteration of one way at ipc 1; print the peak of memory above what was held before, in MiB, as JSON."""
    given, way = task(1, 8, steps), ways(folder)[name]
    way(given._replace(rows=given.rows[:1]))  # what is loaded or compiled once is no part of it
    ctypes.CDLL(None).malloc_trim(0)  # nor is memory that was freed and kept
    before = held_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    way(given)
    print(json.dumps({"mib": held_mib("VmHWM") - before}))


def held_mib(what: str) -> float:
    """Memory of this process now (VmRSS) or at its peak (VmHWM); Linux only."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(next(value for name, _, value in lines if name == what).split()[0]) / 1024


def memory(folder: str) -> bool:
    """Print the memory of every way and number of steps; whether the adjoint keeps to what is wanted."""
    mib: dict[tuple[str, int], float] = {}
    for name in MEMORY_WAYS:
        for steps in MEMORY_STEPS:
            words = [sys.executable, __file__, "--mtt", folder, "--once", name, str(steps)]
            told: dict[str, Any] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            mib[name, steps] = told["mib"]
            print(f"{name}, {steps} steps: {told['mib']:.0f} MiB above what was held", flush=True)
    one = task(1, 8, 1)
    kept_mib = 4 * (one.start_p.numel() + one.img.numel()) / 2**20
    grown = mib["exact", 100] - mib["exact", 10] - 90 * kept_mib
    smaller = mib["unrolled", 30] / mib["exact", 30]
    print(f"exact: 1/{smaller:.1f} of unrolled at 30 steps, 1/{mib['theirs', 30] / mib['exact', 30]:.1f} of theirs")
    print(
        f"exact: from 10 to 100 steps {grown:.0f} MiB more, besides θ and the images' gradient ({kept_mib:.2f} a step)"
    )
    return smaller >= WANTED_SMALLER and grown < 0.2 * mib["exact", 10]


if __name__ == "__main__":
    torch.set_num_threads(1)
    words = argparse.ArgumentParser()
    words.add_argument("--mtt", required=True)
    words.add_argument("--once", nargs=2)
    words.add_argument("parts", nargs="*")
    told = words.parse_args()
    if told.once:
        once(told.mtt, told.once[0], int(told.once[1]))
    else:
        parts = {"same": same, "time": seconds, "memory": memory}
        results = {part: parts[part](told.mtt) for part in told.parts or parts}
        print(results)
        sys.exit(not all(results.values()))
