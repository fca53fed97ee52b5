"""What an encoder is."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stages.features.licences import Terms
from stages.images import Pixels

if TYPE_CHECKING:
    from torch import Tensor

Encode = Callable[[Pixels], "dict[str, Tensor]"]
"""From tiles (n × h × w × 3) to `features` (n × d), and from the judge `probabilities` (n × k), on any device."""


class Source(NamedTuple):
    """Where an encoder comes from: enough to read it in any process."""

    kind: str
    """As in `embedding.encoder`."""
    path: Path
    """Its weights, or the folder they lie in."""
    digest: str
    """SHA-256 of its weights; tells an encoder from its successor in the same place."""
    options: str = "{}"
    """Its settings as JSON."""


class About(NamedTuple):
    """An encoder, as a card tells of it."""

    source: Source
    name: str
    terms: Terms
