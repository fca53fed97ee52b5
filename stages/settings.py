"""What every stage's settings have in common: frozen, strict, documented under each field."""

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

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


def is_external(annotation: Any, metadata: Sequence[Any] = ()) -> bool:
    """Whether a field's type is InputPath, or InputPath or None."""
    if any(isinstance(mark, External) for mark in metadata):
        return True
    if get_origin(annotation) is Annotated:
        return is_external(get_args(annotation)[0], get_args(annotation)[1:])
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return any(is_external(part) for part in get_args(annotation))
    return False


def external_paths(settings: BaseModel) -> dict[str, Path]:
    """The outside files and folders a stage's settings name, by field; `section.field` within a section of theirs."""
    found: dict[str, Path] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found |= {f"{name}.{inner}": path for inner, path in external_paths(value).items()}
        elif value is not None and is_external(field.annotation, field.metadata):
            found[name] = Path(value)
    return found
