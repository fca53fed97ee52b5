"""An autoencoder from the Hugging Face hub: from this machine's cache, or fetched; the only module that may go online.

It goes there only for a name that the user gave, and only when the model is not in the cache yet.
"""

import logging
from pathlib import Path

from stages.contracts import UserError

log = logging.getLogger(__name__)

WEIGHTS = "diffusion_pytorch_model.safetensors"
WANTED = ("config.json", WEIGHTS, "latents.json")
"""Files that are fetched: never code, never pickles."""


def folder_of(name: str) -> tuple[Path, str]:
    """The folder that holds the model called `name` ("owner/model", or "owner/model@revision"), and its commit.

    Raises:
        UserError: it is not in the cache and cannot be fetched; says how to bring it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    model, _, revision = name.partition("@")
    at, files = revision or None, list(WANTED)
    try:
        folder = Path(snapshot_download(model, revision=at, allow_patterns=files, local_files_only=True))
        if (folder / "config.json").exists() and (folder / WEIGHTS).exists():
            return folder, folder.name
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise UserError(f"autoencoder.hub is {name!r}, which is no name of a model on the hub: {error}.") from error
    log.info("%s is not in this machine's Hugging Face cache; asking the hub for %s", name, ", ".join(WANTED))
    try:
        folder = Path(snapshot_download(model, revision=at, allow_patterns=files))
    except Exception as error:  # a network fails in many ways, and each library has its own names for them
        raise UserError(_how_to_bring(name, model, revision)) from error
    return folder, folder.name


def _how_to_bring(name: str, model: str, revision: str) -> str:
    """What to do where the hub cannot be reached, or has no such model."""
    at = f" --revision {revision}" if revision else ""
    folder = model.rpartition("/")[2]
    return (
        f"autoencoder.hub is {name!r}, but it is not in this machine's Hugging Face cache and cannot be fetched from "
        "the hub (no network, HF_HUB_OFFLINE is set, no such model, or one that asks for a login).\n"
        f"On a machine with network:  hf download {model}{at} {' '.join(WANTED[:2])} --local-dir {folder}\n"
        f"Copy the folder {folder} here and give it instead:  "
        f"--set autoencoder.hub=null --set autoencoder.folder={folder} --set autoencoder.scale=own"
    )
