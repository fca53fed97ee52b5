"""What every stage's settings have in common: frozen, strict, documented under each field."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict


class External:
    """Marks a path to something outside the store; the seal holds its content's digest, never its name."""


InputPath = Annotated[Path, External()]
"""A file or folder given by the user. Relative paths in a recipe are relative to the recipe's own folder."""


class Settings(BaseModel):
    """Base of every stage's settings."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )
