"""The selections a run has beside those of its recipe: `runs/<run>/selections.yaml`, written by `histodistill select`.

Readable, and checked as strictly as a recipe; a person may edit it. Only what differs from the defaults is kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline import config as configs
from stages import store
from stages.contracts import UserError
from stages.selection import SelectionSettings
from stages.settings import Name, Settings

FILE = "selections.yaml"
HEAD = "# Selections of this run beside those of its recipe. Kept by `histodistill select`; forget one with --drop.\n"
Kept = dict[str, SelectionSettings]


class _Kept(Settings):
    """The file as a whole, under the name that a recipe has for it."""

    selections: dict[Name, SelectionSettings]


def read(folder: Path) -> Kept:
    """The selections kept in a run's folder, by name; none where there is no file.

    Raises:
        UserError: not YAML, an unknown key, or a value out of its bounds; all faults in one message.
    """
    path = folder / FILE
    return checked(configs.read_yaml(path), str(path), folder) if path.exists() else {}


def checked(raw: Mapping[str, Any], what: str, folder: Path) -> Kept:
    """Selections by name from plain values, relative paths from `folder`; `what` names them in an error."""
    try:
        anchored = configs.anchored({"selections": dict(raw)}, configs.Config, folder.resolve())
        return dict(_Kept.model_validate(anchored).selections)
    except ValidationError as error:
        raise UserError(f"{what} cannot be used:\n" + "\n".join(configs.faults(error))) from error


def write(folder: Path, kept: Kept) -> None:
    """Write the file whole, or take it away where nothing is kept."""
    path = folder / FILE
    if not kept:
        path.unlink(missing_ok=True)
        return
    text = yaml.safe_dump(
        {name: configs.plain(settings) for name, settings in kept.items()}, sort_keys=False, width=120
    )
    store.write_text(path, HEAD + text)
