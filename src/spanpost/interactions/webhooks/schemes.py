"""Signature schemes of webhooks: one form, in which most providers' schemes can be declared. Pure.

A signature is an HMAC over a text made of the request's id, its timestamp and its raw body. A header holds
one signature or several, each with a prefix; one valid signature proves the request.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import msgspec

#: Seconds by which a request's time may differ from ours, unless its provider's settings say otherwise.
WINDOW: Final = 300
#: Bytes of a key. Providers make most of them, so this is less than we require of our own secrets.
_LEAST: Final = 16
#: Signatures of one header that are checked.
_MOST: Final = 10
#: Characters of a header that is read.
_LONGEST: Final = 2_000
_PARTS: Final = re.compile(r"(\{(?:id|timestamp|body)\})")
_DIGITS: Final = re.compile(r"[0-9]{1,15}")

Algorithm = Literal["sha256", "sha384", "sha512", "sha1"]


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """A signature scheme. Header names are in lower case."""

    signature_header: str
    #: The text before a signature; entries without it are ignored.
    prefix: str = ""
    #: The separator of several signatures in one header; empty: there is one.
    separator: str = ""
    #: Unit of the time: seconds or milliseconds since 1970.
    timestamp_unit: Literal["s", "ms"] = "s"
    #: Where the time is: in its own header, or in the signature's header after this prefix.
    timestamp_header: str = ""
    timestamp_prefix: str = ""
    #: The header of the request's id, only if the id is signed too.
    id_header: str = ""
    #: The signed text, made of ``{id}``, ``{timestamp}`` and ``{body}``.
    signed: str = "{timestamp}.{body}"
    encoding: Literal["hex", "base64"] = "hex"
    #: The form of the secret: text, or the key in base64 (after ``whsec_`` if present).
    key: Literal["text", "base64"] = "text"
    algorithm: Algorithm = "sha256"
    #: Template of an event's id from its body (in braces), for events that are sent as several requests.
    idempotency_key: str = ""

    @property
    def has_time(self) -> bool:
        """True if requests carry a signed time."""
        return bool(self.timestamp_header or self.timestamp_prefix)


#: By name, as their makers document them (looked up 2026-11): standardwebhooks.com;
#: docs.stripe.com/webhooks/signature;
#: docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries;
#: docs.slack.dev/authentication/verifying-requests-from-slack.
SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "standard": Scheme(
            signature_header="webhook-signature",
            prefix="v1,",
            separator=" ",
            timestamp_header="webhook-timestamp",
            id_header="webhook-id",
            signed="{id}.{timestamp}.{body}",
            encoding="base64",
            key="base64",
        ),
        "stripe": Scheme(
            signature_header="stripe-signature",
            prefix="v1=",
            separator=",",
            timestamp_prefix="t=",
            idempotency_key="{id}",
        ),
        "github": Scheme(signature_header="x-hub-signature-256", prefix="sha256=", signed="{body}"),
        "slack": Scheme(
            signature_header="x-slack-signature",
            prefix="v0=",
            timestamp_header="x-slack-request-timestamp",
            signed="v0:{timestamp}:{body}",
        ),
    }
)


class WebhookRefused(Exception):
    """A request that is not proven to come from its provider. `why` is one word."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """A request proven to come from its provider."""

    #: The valid signature, as sent.
    signature: str
    #: Signed id of the request; empty if the scheme has none.
    id: str = ""


def key_of(secret: str, scheme: Scheme) -> bytes:
    """Return the key of a secret. Raises `ValueError`, whose text reveals nothing of the secret."""
    if scheme.key == "text":
        if len(secret.encode()) < _LEAST:
            raise ValueError(f"must have {_LEAST} bytes at least: shorter ones can be guessed")
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64, after whsec_ if that is there") from None
    if len(key) < _LEAST:
        raise ValueError(f"must hold {_LEAST} bytes at least, in base64")
    return key


def prove(
    scheme: Scheme, headers: Mapping[str, str], body: bytes, keys: Iterable[bytes], now: float, window: float = WINDOW
) -> Proven:
    """Verify a request. Raises `WebhookRefused`.

    `headers` have lower-case names, and no header that was sent twice. `window` is the largest difference between its
    time and `now`, seconds.
    """
    said = headers.get(scheme.signature_header, "")
    if not said or len(said) > _LONGEST:
        raise WebhookRefused("unsigned")
    parts = [part.strip() for part in said.split(scheme.separator)] if scheme.separator else [said.strip()]
    timestamp = headers.get(scheme.timestamp_header, "").strip() if scheme.timestamp_header else ""
    if scheme.timestamp_prefix:
        times = [
            part.removeprefix(scheme.timestamp_prefix) for part in parts if part.startswith(scheme.timestamp_prefix)
        ]
        timestamp = times[0] if len(times) == 1 else ""
    if scheme.has_time:
        if not _DIGITS.fullmatch(timestamp):
            raise WebhookRefused("timestamp")
        if abs(now - int(timestamp) / (1_000 if scheme.timestamp_unit == "ms" else 1)) > window:
            raise WebhookRefused("too_old")
    id = headers.get(scheme.id_header, "").strip() if scheme.id_header else ""
    if scheme.id_header and not id:
        raise WebhookRefused("unsigned")
    signed = _signed(scheme, id, timestamp, body)
    given = [part.removeprefix(scheme.prefix) for part in parts if part.startswith(scheme.prefix)][:_MOST]
    right = _right(scheme, given, signed, keys)
    if right is None:
        raise WebhookRefused("signature")
    return Proven(signature=right, id=id)


def _signed(scheme: Scheme, id: str, timestamp: str, body: bytes) -> bytes:
    said = {"{id}": id.encode("latin-1", "replace"), "{timestamp}": timestamp.encode(), "{body}": body}
    return b"".join(said.get(part, part.encode()) for part in _PARTS.split(scheme.signed))


def _right(scheme: Scheme, given: Sequence[str], signed: bytes, keys: Iterable[bytes]) -> str | None:
    found = None
    for key in keys:
        digest = hmac.new(key, signed, getattr(hashlib, scheme.algorithm)).digest()
        expected = digest.hex() if scheme.encoding == "hex" else base64.b64encode(digest).decode()
        for signature in given:
            compared = signature.lower() if scheme.encoding == "hex" else signature
            if hmac.compare_digest(compared.encode("utf-8", "replace"), expected.encode()):
                found = expected
    return found
