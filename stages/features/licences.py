"""What the licence of an encoder may mean for a data set that was chosen with it; words to warn with, no legal advice.

Whether a data set is derived from the model that chose its tiles is a question for those who answer for it; some model
cards answer it themselves. Each line of `MODELS` says no more than the model's own card or licence did in 2025.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Terms(NamedTuple):
    """What is known of an encoder's licence."""

    licence: str
    """As given, or "not stated"."""
    restricts: bool
    """Whether it may restrict who may use or share a data set that was made with the encoder."""
    known: bool
    """Whether the licence is one that is known to restrict, or known not to."""
    reason: str
    """Why it is held to restrict; empty where it does not, or is not known."""


LICENCES: tuple[tuple[str, str], ...] = (
    (r"\bnc\b|non[\s-]?commerc", "its licence allows no commercial use"),
    (r"\bnd\b|no[\s-]?deriv", "its licence allows no derived work to be shared"),
    (r"\bsa\b|share[\s-]?alike|sharing", "its licence wants derived works under the same licence"),
    (r"research[\s-]+(?:use|purposes?)?\s*only|only\s+for\s+research|solely\s+for\s+research|academic",
     "its licence allows research alone"),
)  # fmt: skip
"""Patterns in the name or text of a licence, and what they mean."""

_DATA_SETS = "its card allows no commercial use and counts data sets created from it among its derivatives"
MODELS: tuple[tuple[str, str], ...] = (
    (r"\buni(?:2(?:-h)?)?\b", f"UNI and UNI2 (CC-BY-NC-ND 4.0): {_DATA_SETS}"),
    (r"\bconch", f"CONCH (CC-BY-NC-ND 4.0): {_DATA_SETS}"),
    (r"\bvirchow-?2", f"Virchow2 (CC-BY-NC-ND 4.0): {_DATA_SETS}"),
    (r"\bphikon", "Phikon (Owkin's own licence): results of its use may be shared for non-commercial purposes alone"),
    (r"\bh-?optimus-?1\b", "H-optimus-1: its makers open it for academic research"),
    (r"gigapath", "Prov-GigaPath: its makers mean it for research alone and call every other use out of scope"),
)
"""Patterns in the name of a model, and what its card or licence says."""

FREE = (
    r"^(?:apache(?:[\s-]?(?:licen[sc]e)?[\s-]*2(?:\.0)?)?|mit(?:[\s-]licen[sc]e)?|bsd(?:-[\w-]+)?|isc|unlicense|0bsd"
    r"|cc0(?:-1\.0)?|cc-by-[234]\.[05]|pddl(?:-1\.0)?|cdla-permissive-[12]\.0|odc-by(?:-1\.0)?)$"
)
"""Licences that ask for attribution at most."""


def terms(licence: str | None, names: Sequence[str] = (), conditions: str = "") -> Terms:
    """What is known of a licence.

    Args:
        licence: its SPDX identifier or its words; None or empty: not stated.
        names: what the model is called; models whose cards restrict are known by them, whatever `licence` says.
        conditions: further words of the model's card, such as those to agree to before a download.
    """
    told = " ".join((licence or "").split()) or "not stated"
    plain = told.lower().replace("_", "-")
    reasons = [reason for pattern, reason in MODELS if any(re.search(pattern, _plain(name)) for name in names)]
    free = re.match(FREE, plain) is not None
    words = f"{'' if free else plain} {' '.join(conditions.lower().split())}"
    reasons += [reason for pattern, reason in LICENCES if re.search(pattern, words)]
    return Terms(told, bool(reasons), free or bool(reasons), "; ".join(reasons))


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def warning(encoder: str, found: Terms) -> str | None:
    """What to tell people about an encoder's licence; None where it asks for attribution at most."""
    if found.restricts:
        return (
            f"The tiles are chosen by the encoder {encoder} (licence: {found.licence}), and {found.reason}. This may "
            "bind the data set too: ask those who answer for it before you share, or choose by the judge or squeezenet."
        )
    if not found.known:
        return (
            f"The tiles are chosen by the encoder {encoder}, whose licence is not known here ({found.licence}). Look "
            "whether it restricts data sets made with it; a licence named in the recipe goes onto the card."
        )
    return None
