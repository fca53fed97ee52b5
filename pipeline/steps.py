"""A step of a story, and how steps are found among their neighbours."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.contracts import Engine, Inputs, UserError

StageFunction = Callable[[Any, Inputs, Path, int, Engine], None]


@dataclass(frozen=True)
class Step:
    """One node of the story: a stage, and where there are several of it, a name."""

    node: str
    """"denoiser", or "selection/infomap_50"."""
    run: StageFunction
    settings: BaseModel
    needs: Mapping[str, str] = field(default_factory=dict)
    """Role -> node: what the stage calls an input, and which node gives it."""
    secrets: tuple[str, ...] = ()
    """Inputs under whose names the stage gets the file of the root's key; a seal holds the key's digest alone."""

    @property
    def stage(self) -> str:
        """The node without its name."""
        return self.node.partition("/")[0]


def find(steps: Iterable[Step], node: str) -> Step:
    """The step called `node`.

    Raises:
        UserError: none is; the nearest name is suggested.
    """
    by_node = {step.node: step for step in steps}
    if node in by_node:
        return by_node[node]
    near = difflib.get_close_matches(node, by_node, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UserError(f"This recipe has no node {node!r}. {hint}It has: {', '.join(by_node)}.")


def upstream(steps: list[Step], node: str) -> list[Step]:
    """`node` and everything it stands on, in the order of the story."""
    wanted = {find(steps, node).node}
    for step in reversed(steps):
        if step.node in wanted:
            wanted |= set(step.needs.values())
    return [step for step in steps if step.node in wanted]


def downstream(steps: list[Step], node: str) -> list[Step]:
    """`node` and everything that stands on it, in the order of the story."""
    reached = {find(steps, node).node}
    for step in steps:
        if reached & set(step.needs.values()):
            reached.add(step.node)
    return [step for step in steps if step.node in reached]
