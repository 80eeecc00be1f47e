"""Headers between a client and a cell. Pure.

Requests of tenants carry a short list of headers, and the router's credential in place of the tenant's. Other
requests (API, board, webhooks, Slack) carry everything that a proxy may pass on (RFC 9110, 7.6.1): signatures
can cover any header. Headers that say where a request comes from are always the router's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from spanpost.http.guard import AllowedRequest
from spanpost.http.tenancy import FORWARDED_TENANT
from spanpost.http.tokens import forwarded_tenant

#: As ASGI and aiohttp give them.
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]
TextHeaders: TypeAlias = list[tuple[str, str]]

#: Headers of one connection, which a proxy never passes on; and the framing, which each side writes itself.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings", b"content-length", b"expect",
    }
)  # fmt: skip
#: Headers that a router writes itself, so that no client can.
_OURS: Final = frozenset({b"host", b"forwarded", b"x-forwarded", b"via", FORWARDED_TENANT.encode()})
_OURS_PREFIX: Final = b"x-forwarded-"
#: All that a cell reads of a tenant's request.
_OF_TENANTS: Final = frozenset({b"content-type", b"content-encoding", b"accept", b"traceparent", b"tracestate"})
#: Headers of a response that the router's own server writes.
_SERVERS: Final = frozenset({b"date", b"server"})


def of_tenant(headers: RawHeaders, allowed: AllowedRequest, tenant: str, token: str) -> TextHeaders:
    """Return the headers of a tenant's request to its cell."""
    kept = [(name, value) for name, value in headers if name.lower() in _OF_TENANTS]
    return [
        *_text(kept),
        ("authorization", f"Bearer {token}"),
        (FORWARDED_TENANT, forwarded_tenant(tenant)),
        *_origin(allowed),
    ]


def of_other(headers: RawHeaders, allowed: AllowedRequest) -> TextHeaders:
    """Return the headers of a request that its cell authenticates."""
    given = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _OURS | _named_by_connection(given)
    kept = [(name, value) for name, value in given if name not in dropped and not name.startswith(_OURS_PREFIX)]
    return [*_text(kept), *_origin(allowed)]


def of_response(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return the headers of a cell's response for the client, without the framing."""
    given = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _SERVERS | _named_by_connection(given)
    return [(name, value) for name, value in given if name not in dropped]


def _origin(allowed: AllowedRequest) -> TextHeaders:
    """Return the three headers by which a cell knows the client, if it trusts this proxy."""
    found = [("x-forwarded-for", allowed.client), ("x-forwarded-proto", allowed.scheme)]
    return [(name, value) for name, value in (*found, ("x-forwarded-host", allowed.host)) if value]


def _named_by_connection(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return the headers that Connection declares as those of this connection."""
    return frozenset(
        part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")
    )


def _text(headers: Iterable[tuple[bytes, bytes]]) -> TextHeaders:
    """Return headers as text whose UTF-8 is what was received, where that is UTF-8."""
    return [(name.decode("latin-1"), _value(value)) for name, value in headers]


def _value(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
