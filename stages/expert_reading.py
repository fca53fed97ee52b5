"""Experts as trajectory matching reads them from the result of `stages.experts`.

Shapes: p parameters.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stages import store

if TYPE_CHECKING:
    import torch


class Experts(NamedTuple):
    """Experts as trajectory matching reads them."""

    files: list[Path]
    epochs: int
    network: dict[str, Any]
    """mean, std, classes, size_px, width and depth."""

    def moments(self, number: int, first: int, second: int) -> "tuple[torch.Tensor, torch.Tensor]":
        """Parameters of an expert after `first` and after `second` epochs, p each."""
        first_p, second_p = store.read_rows(self.files[number], "epochs_ep", (first, second))
        return first_p, second_p


def read(folder: Path) -> Experts:
    """The experts in a result of `stages.experts`."""
    facts = store.read_json(folder / "facts.json")
    files = [folder / f"expert_{number:03d}.safetensors" for number in range(facts["experts"])]
    return Experts(files, facts["epochs"], store.read_json(folder / "network.json"))
