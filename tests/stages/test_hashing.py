"""Keyed ids: what they are, and what changes them."""

import hashlib
import re
from pathlib import Path

from stages import hashing


def hmac_by_hand(key: bytes, text: bytes) -> bytes:
    """RFC 2104, section 2: H(K xor opad, H(K xor ipad, text)), for keys of at most 64 bytes."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + text).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


def test_an_id_is_the_beginning_of_an_hmac_over_kind_and_name() -> None:
    case_1 = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"  # RFC 4231, 4.2
    assert hmac_by_hand(b"\x0b" * 20, b"Hi There").hex() == case_1
    assert (
        hashing.keyed(b"\x0b" * 20, "group", "Hi There") == hmac_by_hand(b"\x0b" * 20, b"group\x1fHi There").hex()[:16]
    )


def test_another_key_kind_or_name_gives_another_id() -> None:
    ids = {hashing.keyed(key, kind, name) for key in (b"a", b"b") for kind in ("group", "slide") for name in ("x", "y")}
    assert len(ids) == 8 and all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


def test_composed_and_decomposed_letters_are_one_name() -> None:
    assert hashing.keyed(b"k", "group", "Mu\u0308ller") == hashing.keyed(b"k", "group", "M\u00fcller")


def test_a_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / ".key").write_text(bytes(range(32)).hex() + "\n")
    assert hashing.read_key(tmp_path / ".key") == bytes(range(32))
