"""Converts OTLP bodies, protobuf or JSON, to observations: pure functions, the same for every receiver."""

from __future__ import annotations

from collections.abc import Iterator

from spanpost.receivers import otlp_json, otlp_protobuf
from spanpost.receivers.decoded import Decoded, Undecodable
from spanpost.receivers.elements import Elements

__all__ = ["Decoded", "Undecodable", "decode_logs", "decode_metrics", "decode_traces", "read"]

_FROM_JSON = {"traces": otlp_json.read_traces, "logs": otlp_json.read_logs, "metrics": otlp_json.read_metrics}
_FROM_PROTOBUF = {
    "traces": otlp_protobuf.read_traces,
    "logs": otlp_protobuf.read_logs,
    "metrics": otlp_protobuf.read_metrics,
}


def read(signal: str, body: bytes, tenant: str, elements: Elements, *, is_json: bool) -> Iterator[Decoded]:
    """Yield the contents of a request, a few milliseconds of work at a time. A bad span does not affect the
    others.

    Raises `Undecodable`, before anything is yielded, if the whole body cannot be read; `BodyTooLarge` for
    more elements than `elements` has left; and `ConfigError` if the protobuf package is missing.
    """
    return _FROM_JSON[signal](body, tenant) if is_json else _FROM_PROTOBUF[signal](body, tenant, elements)


def decode_traces(body: bytes, *, tenant: str = "default", is_json: bool = False) -> Decoded:
    """Return the observations of a traces request.

    Raises `Undecodable` as `read` does, and for a span that cannot be read.
    """
    return _whole("traces", body, tenant, is_json)


def decode_logs(body: bytes, *, tenant: str = "default", is_json: bool = False) -> Decoded:
    """Return the observations of a logs request; raises as `decode_traces` does."""
    return _whole("logs", body, tenant, is_json)


def decode_metrics(body: bytes, *, tenant: str = "default", is_json: bool = False) -> Decoded:
    """Return the observations of the data points that are read, and count the others; raises as
    `decode_traces` does.
    """
    return _whole("metrics", body, tenant, is_json)


def _whole(signal: str, body: bytes, tenant: str, is_json: bool) -> Decoded:
    decoded = Decoded()
    for some in read(signal, body, tenant, Elements.unlimited(), is_json=is_json):
        decoded.add(some)
    if decoded.spoiled:
        raise decoded.spoiled[0].error
    return decoded
