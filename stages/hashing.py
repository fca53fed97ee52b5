"""Names of patients and slides as ids that only the holder of a root's key can trace back.

A plain digest of a name hides nothing: whoever has a list of patients hashes them all. Under a key they would need the
key first (HMAC-SHA256; Krawczyk, Bellare, Canetti, RFC 2104).
"""

import hashlib
import hmac
import unicodedata
from pathlib import Path

DIGITS = 16
"""Hexadecimal digits of an id: 64 bits, so among a million names two meet with a probability of 3e-8."""


def keyed(key: bytes, kind: str, name: str) -> str:
    """The id of `name` under `key`: the first 16 hexadecimal digits of an HMAC-SHA256.

    Args:
        key: the root's; see `read_key`.
        kind: what is named, such as "group" or "slide"; one name of two kinds has two ids.
        name: in any Unicode form: composed and decomposed letters are one name.
    """
    text = f"{kind}\x1f{unicodedata.normalize('NFC', name)}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:DIGITS]


def read_key(path: Path) -> bytes:
    """The key that the runner gives a stage: a file of hexadecimal digits."""
    return bytes.fromhex(path.read_text(encoding="ascii"))
