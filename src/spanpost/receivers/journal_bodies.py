"""The bodies of journal rows: request bodies as they came, compressed and encrypted (AES-256-GCM).

A request body may hold secrets, and it is written before anything of it is read: so it is encrypted with a
key that is not in the database. The row names its key. A row is bound to its tenant. Protobuf bodies of one
signal are joined in one row: concatenated requests are one request.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Any, Final

from spanpost.model.journal import JournalRow, Opened
from spanpost.receivers import decode
from spanpost.receivers.decoded import Decoded, Spoiled, Undecodable
from spanpost.receivers.elements import KEPT, KEPT_BYTES, Elements
from spanpost.receivers.pieces import WHOLE
from spanpost.receivers.request_parts import Body, RequestPart

_SIGNALS: Final = ("traces", "logs", "metrics")
#: Level of zstd: 0.2 to 0.4 µs a span, a tenth of the bytes.
_LEVEL: Final = 1
#: Bytes of a nonce, and of a key's id.
_NONCE, _ID = 12, 8
#: Parameters of scrypt: 50 ms for each secret, at the start.
_SCRYPT: Final = {"salt": b"spanpost journal", "n": 2**14, "r": 8, "p": 1, "dklen": 32}
#: Begins what a message of Kafka is bound to: it cannot stand for a row of the journal, nor a row for it.
_KAFKA: Final = b"kafka\0"
#: Entries of a row beyond which no more bodies are joined.
_MOST: Final = 1024


class JournalCipher:
    """Makes and opens the bodies of rows. Raises ImportError if `cryptography` or `zstandard` is missing.

    `secrets` are texts from which the keys are derived. The first encrypts, all decrypt.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        import zstandard
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._zstd = zstandard
        self._keys: dict[bytes, Any] = {}
        for secret in secrets:
            key = hashlib.scrypt(secret.encode(), **_SCRYPT)  # type: ignore[arg-type]
            self._keys[hashlib.blake2b(key, digest_size=_ID).digest()] = AESGCM(key)
        self._first = next(iter(self._keys))

    @property
    def keys(self) -> Sequence[bytes]:
        """Ids of the keys that decrypt."""
        return list(self._keys)

    def encrypt(self, tenant: str, content: bytes) -> tuple[bytes, bytes]:
        """Return the id of a key, and a message for Kafka that it encrypts: of this tenant, in no journal."""
        return self._first, self._encrypt(
            self._zstd.ZstdCompressor(level=_LEVEL).compress(content), _bound(tenant, _KAFKA)
        )

    def decrypt(self, tenant: str, key: bytes, body: bytes) -> bytes:
        """Return the content of a message; raises ValueError if it is damaged or of another tenant."""
        return bytes(self._zstd.ZstdDecompressor().decompress(self._decrypt(key, body, _bound(tenant, _KAFKA))))

    def _encrypt(self, plain: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return bytes(nonce + self._keys[self._first].encrypt(nonce, plain, bound))

    def _decrypt(self, key: bytes, body: bytes, bound: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return bytes(self._keys[key].decrypt(body[:_NONCE], body[_NONCE:], bound))
        except (InvalidTag, KeyError, ValueError):
            raise ValueError("it was not encrypted with this key for this tenant, or is damaged") from None

    def rows(self, parts: Iterable[RequestPart[Body]]) -> list[JournalRow]:
        """Return the rows of parts of requests. Slow: call it in a thread."""
        compress = self._zstd.ZstdCompressor(level=_LEVEL).compress
        rows: list[JournalRow] = []
        joined: dict[tuple[str, str], list[RequestPart[Body]]] = {}
        for part in parts:
            body = part.content
            if body.is_json:
                rows.append(self._row([part], compress))
                continue
            run = joined.setdefault((part.tenant, body.signal), [])
            if run and (sum(p.size for p in run) + part.size > WHOLE or sum(p.count for p in run) >= _MOST):
                rows.append(self._row(run, compress))
                run = joined[part.tenant, body.signal] = []
            run.append(part)
        return [*rows, *(self._row(run, compress) for run in joined.values())]

    def _row(self, run: Sequence[RequestPart[Body]], compress: Any) -> JournalRow:
        body, tenant = run[0].content, run[0].tenant
        form = bytes((_SIGNALS.index(body.signal) << 1 | body.is_json,))
        encrypted = self._encrypt(form + compress(b"".join(part.content.body for part in run)), _bound(tenant))
        return JournalRow(tenant=tenant, key=self._first, observations=sum(p.count for p in run), body=encrypted)

    def open(self, tenant: str, key: bytes, body: bytes) -> Opened:
        """Return the contents of a row; raises ValueError if it is damaged."""
        plain = self._decrypt(key, body, _bound(tenant))
        signal, is_json = _SIGNALS[plain[0] >> 1], bool(plain[0] & 1)
        decoded, sent = Decoded(), self._zstd.ZstdDecompressor().decompress(plain[1:])
        try:
            for some in decode.read(signal, sent, tenant, Elements.unlimited(), is_json=is_json):
                decoded.add(some)
        except Undecodable as error:
            decoded.spoiled.append(Spoiled(sent, error))
        spoiled = [(f"otlp {signal}", str(each.error), each.body[:KEPT_BYTES]) for each in decoded.spoiled[:KEPT]]
        if decoded.spoiled:
            decoded.lose("undecodable", sum(each.entries for each in decoded.spoiled))
        return Opened(
            observations=decoded.observations,
            unreadable=spoiled,
            dropped=decoded.dropped,
            metric_points=decoded.metric_points,
            size=len(sent),
        )


def _bound(tenant: str, context: bytes = b"") -> bytes:
    return context + tenant.encode("utf-8", "surrogateescape")
