"""Settings of condensations: real tiles that are chosen, or images that are learned."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.distillation_settings import LEARNED, DistillationSettings
from stages.settings import Settings


class CondensationSettings(Settings):
    """How train tiles are condensed."""

    method: Literal["random", "herding", "dc", "dsa", "dm", "mtt", "tesla"] = "random"
    """random: a draw. herding: tiles whose mean follows the class mean in the judge's features (Welling 2009). Images
    that are learned: dc matches gradients (Zhao et al. 2021), dsa likewise under augmentation (Zhao & Bilen 2021), dm
    the means of features (Zhao & Bilen 2023), mtt the way experts' parameters went (Cazenavette et al. 2022), tesla
    likewise, approximately (Cui et al. 2023)."""
    per_class: int = Field(50, ge=1)
    """Images of each class."""
    one_per_group: bool = True
    """Take at most one tile of a group (copies of one original are near-duplicates) until the groups run out, then a
    second of each, and so on. Otherwise every tile counts alike."""
    distillation: DistillationSettings = DistillationSettings()
    """How images are learned."""

    @model_validator(mode="after")
    def _only_what_is_learned(self) -> Self:
        if self.method not in LEARNED and self.distillation != DistillationSettings():
            raise ValueError(f"method {self.method} takes real tiles as they are; leave distillation out")
        if self.method == "dm" and self.distillation.soft_labels:
            raise ValueError("dm compares features alone, in which labels have no part; leave soft_labels out")
        return self
