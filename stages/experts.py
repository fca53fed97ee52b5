"""Experts: networks trained on real train tiles whose parameters after every epoch trajectory matching follows.

They stay in the house: their weights hold what they learned from real tiles. One expert of ConvNet-3 (width 128) takes
1.3 MB an epoch. Experts are independent: they are trained side by side over the engine, and each can be stopped and
continued at every epoch. Among several learning rates val chooses, by the first expert of each.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.settings import Settings

if TYPE_CHECKING:
    pass


class ExpertsSettings(Settings):
    """How experts are trained (Cazenavette et al. 2022: 100 experts of 50 epochs)."""

    count: int = Field(100, ge=1, le=10_000)
    """Experts."""
    epochs: int = Field(50, ge=1, le=10_000)
    """Epochs of each."""
    learning_rates: tuple[float, ...] = Field((0.01,), min_length=1)
    """Learning rates; where there are several, the first expert is trained with each and val chooses."""
    batch: int = Field(256, ge=1, le=65_536)
    """Tiles per step."""
    augment: bool = True
    """Whether tiles are augmented (DSA)."""
    image_px: int | None = Field(32, ge=8, le=512)
    """Side of the tiles they see, in pixels; null: as they are."""
    width: int = Field(128, ge=8, le=1024)
    """Channels of each block of the ConvNet."""
    depth: Literal[3, 5] = 3
    """Its blocks."""
    mode: Literal["plain", "exact", "fast"] = "exact"
    """As of the distillation."""
