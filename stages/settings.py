"""What every stage's settings have in common: frozen, strict, documented under each field."""

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints


class External:
    """Marks a path to something outside the store; the seal holds its content's digest, never its name."""


InputPath = Annotated[Path, External()]
"""A file or folder given by the user. Relative paths in a recipe are relative to the recipe's own folder."""

SCHEME = "://"
"""What an address has and a path has not."""


def _local(value: Any) -> Any:
    """An address on this machine is a path."""
    return value.removeprefix("file" + SCHEME) if isinstance(value, str) else value


Url = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*://.")]
InputSource = Annotated[InputPath | Url, BeforeValidator(_local)]
"""An InputPath, or an address that fsspec reads (s3://, hf://, memory:// …). The seal holds what tells its content."""


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
    """The outside files and folders a stage's settings name, by field."""
    return {name: value for name, value in _external(settings).items() if isinstance(value, Path)}


def external_urls(settings: BaseModel) -> dict[str, str]:
    """The addresses a stage's settings name, by field."""
    return {name: value for name, value in _external(settings).items() if isinstance(value, str)}


def _external(settings: BaseModel) -> dict[str, Any]:
    fields = type(settings).model_fields.items()
    return {name: getattr(settings, name) for name, field in fields if is_external(field.annotation, field.metadata)}
