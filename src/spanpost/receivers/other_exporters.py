"""The application's own OTLP exporters: where they send spans, and whether that is one place with ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

#: Depth and number of objects searched for exporters: wrappers nest.
_DEPTH, _MOST = 6, 400
_OTLP_PORTS = frozenset({4317, 4318})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost", "0.0.0.0", "::"})


def endpoints_of(provider: Any) -> list[str]:
    """Return the endpoints of a tracer provider's OTLP span exporters, also wrapped ones."""
    found: list[str] = []
    seen: set[int] = set()
    level: list[Any] = [getattr(provider, "provider", None), provider]
    level = [getattr(p, "_active_span_processor", None) for p in level]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for thing in level:
            if id(thing) in seen or len(seen) >= _MOST:
                continue
            seen.add(id(thing))
            if isinstance(thing, (tuple, list)):
                below.extend(thing)
                continue
            fields = getattr(thing, "__dict__", None)
            if not isinstance(fields, dict) or isinstance(thing, type):
                continue
            endpoint = fields.get("_endpoint")
            if "SpanExporter" in type(thing).__name__ and isinstance(endpoint, str):
                found.append(endpoint)
                continue
            below.extend(
                value
                for value in list(fields.values())
                if hasattr(value, "__dict__") or isinstance(value, (tuple, list))
            )
        level = below
    return found


def is_same_place(one: str, other: str) -> bool:
    """Whether two OTLP addresses lead to the same receiver: one host, and one port or the two standard ones."""
    host, port = _place(one)
    other_host, other_port = _place(other)
    return host == other_host and (port == other_port or {port, other_port} <= _OTLP_PORTS)


def _place(address: str) -> tuple[str, int | None]:
    if address.startswith("unix:"):
        return "unix:/" + address.removeprefix("unix:").lstrip("/"), None
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    host = (parts.hostname or "").lower()
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return "localhost" if host in _LOOPBACK else host, port if port is not None else default
