"""The sealed results that a page or a file is made from."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from stages.contracts import UserError

if TYPE_CHECKING:
    from pipeline.runner import Run
    from pipeline.seals import Seal
    from pipeline.steps import Step


def sealed(run: "Run", steps: "Sequence[Step]", nodes: Iterable[str]) -> "dict[str, Seal]":
    """The seals of the results called `nodes`.

    Raises:
        UserError: one of them is no node of the story, or is not sealed; says which and what to run.
    """
    from pipeline import runner
    from pipeline.steps import find

    wanted = [find(steps, node).node for node in nodes]
    states = {state.step.node: state for state in runner.states(run, steps)}
    for node in wanted:
        if states[node].seal is None:
            why = "; ".join(states[node].why[:3])
            raise UserError(
                f"{node} is {states[node].word} ({why}), and this is made from its result. "
                f"Make it first: histodistill run RECIPE --until {node}"
            )
    return {node: seal for node in wanted if (seal := states[node].seal) is not None}
