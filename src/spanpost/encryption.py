"""Encryption of secrets in a database (Fernet: AES-128-CBC and HMAC-SHA256), each bound to its row.

The first key encrypts, all keys decrypt. To replace a key, put the new one first and encrypt again.
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
    """The encrypted content: the owner, and the values."""

    of: str
    value: dict[str, str]


class Broken(Exception):
    """A value that was not encrypted with our keys or for this owner, or too long ago."""


class Encryption:
    """Encrypts and decrypts. `keys`: 32 bytes each, in URL-safe base64. Raises `ConfigError` if
    `cryptography` is missing.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError as error:
            raise ConfigError(
                f"slack_oauth: {error.name} is missing; install it with: pip install 'spanpost[interactions]'"
            ) from error
        self._first = Fernet(keys[0])
        self._all = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, of: str, value: Mapping[str, str]) -> bytes:
        """Encrypt named values. `of` names their owner, which `open` requires."""
        return self._first.encrypt(msgspec.json.encode(Encrypted(of, dict(value))))

    def open(self, of: str, encrypted: bytes, *, within: int | None = None) -> dict[str, str]:
        """Return the decrypted values; with `within`, only those encrypted at most this many seconds ago.
        Raises `Broken`.
        """
        from cryptography.fernet import InvalidToken

        try:
            found = msgspec.json.decode(self._all.decrypt(encrypted, ttl=within), type=Encrypted)
        except (InvalidToken, msgspec.DecodeError, TypeError, ValueError):
            raise Broken("it was encrypted with another key, or is damaged") from None
        if found.of != of:
            raise Broken("it was encrypted for another owner")
        return found.value

    def is_old(self, encrypted: bytes) -> bool:
        """Return whether a key other than the first encrypted it."""
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
    """Return whether a text has the form of a key."""
    try:
        return len(urlsafe_b64decode(text.encode("ascii"))) == _BYTES
    except ValueError:
        return False
