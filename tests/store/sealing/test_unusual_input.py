"""Damaged input to the commands of the sealed log is refused in words."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from spanpost.store.sealing import checkpoints
from spanpost.store.sealing.checkpoints import BadNote, SignedRoot

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
NOTE = checkpoints.signed(SignedRoot("here/t", 3, bytes(32)), KEY)


def test_characters_beyond_ascii_are_no_base64() -> None:
    """A key, a root and a signature with such characters are bad notes, and no error of the program."""
    with pytest.raises(BadNote):
        checkpoints.public_of("a+b+é")
    with pytest.raises(BadNote):
        checkpoints.opened(NOTE.rstrip("\n") + "é\n", [PUBLIC])
    with pytest.raises(BadNote):
        checkpoints.read(NOTE.replace("AAAA", "éééé"))
