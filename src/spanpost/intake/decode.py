"""OTLP bodies, protobuf or JSON, into observations: pure functions, the same for every door."""

from __future__ import annotations

from spanpost.intake import otlp_json, otlp_protobuf
from spanpost.intake.decoded import Decoded, Undecodable

__all__ = ["Decoded", "Undecodable", "decode_logs", "decode_metrics", "decode_traces"]


def decode_traces(body: bytes, *, tenant: str = "default", is_json: bool = False) -> Decoded:
    """Return the observations of a traces request. One bad span never spoils its batch.

    Raises `Undecodable` when the body as a whole cannot be read, and `ConfigError` when protobuf's package is missing.
    """
    return otlp_json.decode_traces(body, tenant) if is_json else otlp_protobuf.decode_traces(body, tenant)


def decode_logs(body: bytes, *, tenant: str = "default", is_json: bool = False) -> Decoded:
    """Return the observations of a logs request; raises as `decode_traces` does."""
    return otlp_json.decode_logs(body, tenant) if is_json else otlp_protobuf.decode_logs(body, tenant)


def decode_metrics(body: bytes, *, tenant: str = "default", is_json: bool = False) -> Decoded:
    """Return the observations of the data points that are read, and count the others; raises as `decode_traces` does."""
    return otlp_json.decode_metrics(body, tenant) if is_json else otlp_protobuf.decode_metrics(body, tenant)
