"""From the name of an encoder to the encoder."""

from stages import compute
from stages.encoders import own, timm_file, transformers_folder
from stages.encoders.contract import Encode, Source

READERS = {
    "judge": own.read_judge,
    "autoencoder": own.read_autoencoder,
    "squeezenet": own.read_squeezenet,
    "timm": timm_file.read,
    "transformers": transformers_folder.read,
}


@compute.loaded_once
def read(source: Source) -> Encode:
    """The encoder that `source` tells of, read once per process.

    Raises:
        UserError: files that are not what they should be.
    """
    return READERS[source.kind](source)
