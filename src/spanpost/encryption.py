"""Secrets that are kept in a database: encrypted and authenticated (Fernet: AES-128-CBC and HMAC-SHA256), each bound to its row.

The first key seals, all of them open: a key is replaced by putting the new one before the old one, and sealing anew.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from spanpost.model.errors import ConfigError

_BYTES: Final = 32


class Encrypted(msgspec.Struct, frozen=True):
    """What is in a seal: whose it is, and what was sealed."""

    of: str
    value: dict[str, str]


class Broken(Exception):
    """Nothing that our keys sealed, or sealed for something else, or too long ago."""


class Encryption:
    """Seals and opens. `keys`: 32 bytes each, in URL-safe base64. Raises `ConfigError` where `cryptography` is missing."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError as error:
            raise ConfigError(f"slack_oauth: {error.name} is missing; install it with: pip install 'spanpost[interactions]'") from error
        self._first = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def encryption(self, of: str, value: Mapping[str, str]) -> bytes:
        """Seal words by name. `of` says whose they are, and is asked for when they are opened."""
        return self._first.encrypt(msgspec.json.encode(Encrypted(of, dict(value))))

    def open(self, of: str, encrypted: bytes, *, within: int | None = None) -> dict[str, str]:
        """Return what was sealed; of no more than so many seconds ago where `within` is given. Raises `Broken`."""
        from cryptography.fernet import InvalidToken

        try:
            found = msgspec.json.decode(self._all.decrypt(encrypted, ttl=within), type=Encrypted)
        except (InvalidToken, msgspec.DecodeError, TypeError, ValueError):
            raise Broken("it was sealed with another key, or is damaged") from None
        if found.of != of:
            raise Broken("it was sealed for something else")
        return found.value

    def is_old(self, encrypted: bytes) -> bool:
        """Tell whether another key than the first sealed it."""
        from cryptography.fernet import InvalidToken

        try:
            self._first.decrypt(encrypted)
        except (InvalidToken, TypeError):
            return True
        return False


def new_key() -> str:
    """Return a new key."""
    return urlsafe_b64encode(secrets.token_bytes(_BYTES)).decode()


def is_key(text: str) -> bool:
    """Tell whether a text can be a key."""
    try:
        return len(urlsafe_b64decode(text.encode("ascii"))) == _BYTES
    except ValueError:
        return False
