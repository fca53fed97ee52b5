"""How whole slides are cut into tiles: settings of the section `tiles.slides`."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from stages.settings import InputPath, Settings
from stages.slides.quality import QualityLimits
from stages.slides.tissue import TissueLimits

LIMITS, TISSUE = QualityLimits(), TissueLimits()


class SlidesSettings(Settings):
    """Which tiles are cut from whole slides, and what their class and patient are."""

    mpp: float = Field(0.5, ge=0.05, le=20)
    """Micrometres per pixel of the finished tiles; 0.5 is about 20×."""
    tile_px: int = Field(256, ge=8, le=2048)
    """Side of a finished tile, in pixels."""
    overlap_px: int = Field(0, ge=0, le=2047)
    """What neighbouring tiles share, in pixels of the finished tile."""
    mpp_override: float | None = Field(None, ge=0.05, le=20)
    """Micrometres per pixel of level 0 of every slide, in place of what the slides say. For single slides use a column
    mpp in `tiles.table`. A slide that says nothing, and is given nothing, stops the run."""
    patient_pattern: str | None = Field(None, max_length=200)
    """Regular expression sought in a slide's file name; what its first pair of brackets holds is the patient, as in
    ^(TCGA-..-....). None: the table tells patients (`tiles.group_column`)."""
    annotations: InputPath | None = None
    """Folder of GeoJSON files of QuPath, named after the slides. None: they lie beside the slides, if there are any."""
    least_annotated: float = Field(0.5, gt=0, le=1)
    """Share of a tile that the largest annotated class must cover to be the tile's class."""
    unlabelled: Literal["autoencoder", "leave_out"] = "autoencoder"
    """Tiles without a class, of patients who are learned from: seen by an autoencoder that is trained, or left out."""
    least_tissue: float = Field(0.5, ge=0, le=1)
    """Share of a tile that must be tissue."""
    closing_um: float = Field(TISSUE.closing_um, ge=0, le=1000)
    """Gaps in the tissue up to this width are closed, in micrometres."""
    smallest_um2: float = Field(TISSUE.smallest_um2, ge=0)
    """Smaller pieces are no tissue, in square micrometres."""
    holes_um2: float | None = Field(None, ge=0)
    """Smaller holes belong to the tissue around them, in square micrometres. None: as large as a tile, so that no tile
    of bare glass is taken."""
    least_saturation: float = Field(TISSUE.least_saturation, ge=0, lt=1)
    """Saturation (of hue, saturation, value) below which nothing is tissue, whatever Otsu's threshold says."""
    most_pen: float | None = Field(LIMITS.most_pen, ge=0, le=1)
    """Share of a tile that may be pen ink. None: not judged."""
    most_dark: float | None = Field(LIMITS.most_dark, ge=0, le=1)
    """Share of a tile that may be folded or otherwise dark. None: not judged."""
    least_sharpness: float | None = Field(LIMITS.least_sharpness, ge=0)
    """Variance of the Laplacian of a finished tile's grey levels below which it is blurred. None: not judged."""
    max_per_slide: int | None = Field(None, ge=1)
    """At most this many tiles of each class of a slide, chosen by a digest of their place, as good as a draw."""
    pseudo_patients: tuple[int, int] | None = None
    """For demonstrations with too few slides: rows and columns into which each slide is cut; each piece then plays a
    patient. Neighbouring pieces are one tissue, so no figure from such a division means anything for patients."""
    preview_px: int = Field(1024, ge=128, le=4096)
    """Longer side of a slide's preview, in pixels."""

    @field_validator("patient_pattern")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        if groups < 1:
            raise ValueError(f"{value!r} has no pair of brackets to say which part is the patient, as in ^([0-9]+)_")
        return value

    @field_validator("pseudo_patients")
    @classmethod
    def _pieces(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not all(1 <= n <= 64 for n in value):
            raise ValueError(f"rows and columns are 1 to 64 each, not {value}")
        return value

    @model_validator(mode="after")
    def _step(self) -> "SlidesSettings":
        if self.overlap_px >= self.tile_px:
            raise ValueError(f"an overlap of {self.overlap_px} px leaves no step between tiles of {self.tile_px} px")
        if self.overlap_px and self.pseudo_patients is not None:
            raise ValueError("overlapping tiles would lie in two pseudo_patients: set overlap_px to 0")
        return self

    @property
    def tissue(self) -> TissueLimits:
        """What counts as tissue."""
        holes = (self.tile_px * self.mpp) ** 2 if self.holes_um2 is None else self.holes_um2
        return TissueLimits(self.closing_um, self.smallest_um2, holes, self.least_saturation)
