"""Signed checkpoints of a sealed log: the formats signed-note and tlog-checkpoint of C2SP, with Ed25519."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from hashlib import sha256
from typing import Final
from urllib.parse import quote

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from spanpost.store.sealing.tree import HASH_SIZE

#: Begins a signature line: an em dash, as the format demands.
_DASH: Final = "\N{EM DASH} "
_ED25519: Final = b"\x01"
_SIGNATURE: Final = 64
#: Longest note that is read, characters.
_LONGEST: Final = 100_000


class BadNote(ValueError):
    """A checkpoint, key or proof that cannot be read, or whose signature is wrong."""


class SignedRoot(msgspec.Struct, frozen=True):
    """How many leaves a log had, and the root hash of their tree."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(name: str, tenant: str) -> str:
    """Return the name of a tenant's log: without spaces or `+`, as the format demands."""
    return f"{name}/{quote(tenant, safe='')}" if tenant else name


def key_id(name: str, public: bytes) -> bytes:
    """Return the four bytes that name a key in signatures."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def verifier_key(name: str, public: bytes) -> str:
    """Return a public key in the form that verifiers take: `name+id+key`."""
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(_ED25519 + public).decode()}"


def public_of(verifier: str) -> tuple[str, bytes]:
    """Return name and public key of a verifier's key. Raises `BadNote`."""
    parts = verifier.strip().split("+", 2)
    if len(parts) != 3:
        raise BadNote("a verifier's key has the form name+id+key")
    name, given, encoded = parts
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise BadNote("the verifier's key is not base64") from None
    if len(raw) != HASH_SIZE + 1 or raw[:1] != _ED25519:
        raise BadNote("the verifier's key is no Ed25519 key")
    if not name.isprintable() or key_id(name, raw[1:]).hex() != given:
        raise BadNote("the verifier's key does not fit its id")
    return name, raw[1:]


def signed(checkpoint: SignedRoot, key: Ed25519PrivateKey) -> str:
    """Return a checkpoint as a signed note."""
    text = checkpoint.text()
    public = key.public_key().public_bytes_raw()
    signature = key_id(checkpoint.origin, public) + key.sign(text.encode())
    return f"{text}\n{_DASH}{checkpoint.origin} {base64.b64encode(signature).decode()}\n"


def opened(note: str, keys: Iterable[bytes]) -> SignedRoot:
    """Return the checkpoint of a note that one of these public keys signed. Raises `BadNote`."""
    checkpoint = read(note)
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
        if not line.startswith(_DASH) or name != checkpoint.origin:
            continue
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise BadNote("a signature of the checkpoint is not base64") from None
        for public in keys:
            if raw[:4] == key_id(name, public) and len(raw) == 4 + _SIGNATURE:
                try:
                    Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], f"{text}\n".encode())
                except InvalidSignature:
                    raise BadNote("the signature of the checkpoint is wrong") from None
                return checkpoint
    raise BadNote("no key of the log has signed the checkpoint")


def read(note: str) -> SignedRoot:
    """Return the checkpoint of a note without checking its signature. Raises `BadNote`."""
    lines = note.split("\n")
    if len(note) > _LONGEST or len(lines) < 5 or "\n\n" not in note:
        raise BadNote("this is no checkpoint: a name, a number, a hash and a signature are expected")
    origin, size, encoded = lines[:3]
    try:
        root = base64.b64decode(encoded, validate=True)
    except ValueError:
        root = b""
    if not origin or not (size.isascii() and size.isdigit()) or str(int(size[:20])) != size or len(root) != HASH_SIZE:
        raise BadNote("this is no checkpoint: a name, a number, a hash and a signature are expected")
    return SignedRoot(origin, int(size), root)
