"""One loop for every stage that trains: progress, curves, checkpoints, and a stop that loses nothing.

The work of step k must depend on the modules, the optimisers and k alone (draw from a stream named k);
then a run that was killed and continued equals an unbroken one bit for bit on a CPU.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stages import compute, progress, store
from stages.contracts import Interrupted

if TYPE_CHECKING:
    import torch

SECONDS_BETWEEN_CHECKPOINTS = 60.0


def train(
    out: Path,
    what: str,
    steps: int,
    step: Callable[[int], Mapping[str, float]],
    modules: "Mapping[str, torch.nn.Module]",
    optimizers: "Mapping[str, torch.optim.Optimizer]",
    main: bool = True,
) -> pd.DataFrame:
    """Call `step(k)` for k = 0 … `steps` − 1, continuing from the checkpoint beside `out` if there is one.

    Args:
        out: the stage's scratch folder; the checkpoint lies in its work folder as `<what>.safetensors`.
        what: name of the training, shown in the progress.
        steps: how many in all.
        step: does one step and returns what to plot of it; NaN is left out of the curves.
        modules: everything with weights or buffers that must survive (model, EMA, best so far).
        optimizers: their state survives; their settings come from the code.
        main: whether this process writes the checkpoint (one of several does).

    Returns:
        The curves: one row per step, columns `step` and whatever `step` returned.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the checkpoint is written.
    """
    path = store.work_folder(out) / f"{what}.safetensors"
    rows: list[dict[str, float]] = []
    if path.exists():
        rows = restore(path, modules, optimizers)
    saved = time.monotonic()
    for k in progress.track(range(len(rows), steps), what, total=steps, done=len(rows), unit="step"):
        values = {name: float(value) for name, value in step(k).items()}
        rows.append({"step": k, **{name: value for name, value in values.items() if value == value}})
        stop = compute.stop_asked() and k + 1 < steps
        if main and (stop or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS or k + 1 == steps):
            save(path, rows, modules, optimizers)
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"{what} stopped after step {k + 1} of {steps}; run the same command again to continue")
    return pd.DataFrame(rows)


def save(
    path: Path,
    rows: list[dict[str, float]],
    modules: "Mapping[str, torch.nn.Module]",
    optimizers: "Mapping[str, torch.optim.Optimizer]",
) -> None:
    """Write weights, optimiser states and curves as one safetensors file, whole."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"module/{name}/{key}": value.clone() for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer/{name}/{index}/{key}": torch.as_tensor(v).clone()
                for key, v in state.items()
                if v is not None
            }
    store.write_tensors(path, tensors, json.dumps(rows))


def restore(
    path: Path, modules: "Mapping[str, torch.nn.Module]", optimizers: "Mapping[str, torch.optim.Optimizer]"
) -> list[dict[str, float]]:
    """Read a checkpoint back into `modules` and `optimizers`; returns the curves so far."""
    tensors = store.read_tensors(path)
    for name, module in modules.items():
        head = f"module/{name}/"
        module.load_state_dict({k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)})
    for name, optimizer in optimizers.items():
        head = f"optimizer/{name}/"
        states: dict[int, dict[str, Any]] = {}
        for key, value in tensors.items():
            if key.startswith(head):
                index, field = key.removeprefix(head).split("/")
                states.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    rows: list[dict[str, float]] = json.loads(store.read_note(path))
    return rows
