"""One pure function, computed plainly, compiled, or compiled in bfloat16.

Half of a small ConvNet's time is memory traffic of norm, ReLU and pooling; `torch.compile` fuses them. It takes
derivatives too when they are inside the function (`torch.func.grad`, also nested), but what it has compiled cannot be
differentiated twice: so whole gradients are compiled, never losses alone.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch.utils import _pytree as pytree

Mode = Literal["plain", "exact", "fast"]
"""plain: as written. exact: compiled, float32, equal to plain but for the order of sums. fast: compiled, with
convolutions and linear layers in bfloat16."""
MOST_SHAPES = 256
"""To compile for, in one process."""
Given = ParamSpec("Given")
Result = TypeVar("Result")


def prepare(function: Callable[Given, Result], mode: Mode, device: str = "cpu") -> Callable[Given, Result]:
    """`function` to be computed in `mode`; it is compiled anew for every shape it meets.

    Args:
        function: pure, of tensors (lists of them are fine), with no branch on their values.
        mode: how.
        device: type of the device it will run on.
    """
    if mode == "plain":
        return function
    if mode == "exact":
        return _compiled(function, device)

    def in_bfloat16(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with torch.autocast(device, torch.bfloat16):
            return function(*args, **kwargs)

    return _compiled(in_bfloat16, device)


def _compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    # PyTorch stops at 8 shapes, counted over all functions that share code, as all in bfloat16 do
    torch._dynamo.config.recompile_limit = max(MOST_SHAPES, torch._dynamo.config.recompile_limit)
    ready = functools.partial(torch.compile, function, dynamic=False, fullgraph=True)
    if device != "cuda" or threading.current_thread() is not threading.main_thread():
        return ready()
    # On a GPU the calls themselves take most of the time, so a call becomes one CUDA graph. PyTorch keeps these by
    # thread and only in the main one; a graph's next run overwrites what it gave, so that is copied.
    replayed = ready(mode="reduce-overhead")

    def called(*args: Any) -> Any:
        return pytree.tree_map_only(torch.Tensor, torch.clone, replayed(*args))

    return called
