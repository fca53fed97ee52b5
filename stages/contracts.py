"""What a stage is: a plain function of settings, inputs, an output folder, a seed and an engine."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Inputs = Mapping[str, Path]
"""Result folders by the name the story gives them: "tiles", "candidates", "selection", "benchmark/random_50" ..."""


class Engine(Protocol):
    """Where independent chunks of work run. Results come back in the order of the items, whoever computes them."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply a picklable module-level `function` (or a partial of one) to every item, yielding in order."""
        ...


class Interrupted(Exception):
    """Raised by a stage that was asked to stop, after it has written its checkpoint; running again continues."""


class UserError(Exception):
    """Something the user can mend: says what was given, what was wanted and what to do. Exit code 2."""


class NoGo(Exception):
    """The audit forbids the release; says which findings do. Exit code 3."""
