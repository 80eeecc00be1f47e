"""OTLP recordings: captured files, identified by content, never by name."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spanpost.model.errors import ConfigError
from spanpost.receivers import otlp_json
from spanpost.receivers.decode import decode_logs, decode_metrics, decode_traces
from spanpost.receivers.decoded import Decoded, Undecodable
from spanpost.receivers.otlp_classes import request_of_bytes

#: Largest recording, which is read whole.
MAX_BYTES = 1024 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_JSON_SPACE = b" \t\r\n\xef\xbb\xbf"


class UnreadableRecording(ConfigError, ValueError):
    """A file is not an OTLP recording. The message names the file and the reason."""


def read_recording(path: str | Path, *, tenant: str = "default", max_bytes: int = MAX_BYTES) -> Iterator[Decoded]:
    """Yield the contents of each body in a recording: one protobuf body, one JSON object, or JSON lines;
    gzip or not.

    Raises `UnreadableRecording` before anything of an unreadable body is yielded. A bad line among good ones
    is counted as dropped (`bad_line`), because a file exporter that was killed leaves half a line.
    """
    try:
        with open(path, "rb") as file:
            body = file.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableRecording(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(body) > max_bytes:
        raise UnreadableRecording(f"{path}: larger than {max_bytes} bytes")
    try:
        if body.startswith(_GZIP):
            body = inflate(body, max_bytes)
        elif body.startswith(_ZSTD):
            raise Undecodable("compressed with zstd, which is not supported here; decompress it first")
        if not body.strip(_JSON_SPACE):
            return  # an empty request; a file exporter's file starts empty
        if body.lstrip(_JSON_SPACE)[:1] in b"{[":
            yield from _read_json(body, tenant)
        else:
            yield _read_protobuf(body, tenant)
    except Undecodable as error:
        raise UnreadableRecording(f"{path}: {error}") from error


def inflate(body: bytes, max_bytes: int) -> bytes:
    """Return all members of a gzip body, at most `max_bytes`; raises `Undecodable` if it is damaged or
    larger.
    """
    parts: list[bytes] = []
    left = max_bytes
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(body, left + 1)
        except zlib.error as error:
            if parts and not body.strip(b"\0"):
                break  # padding after the last member
            raise Undecodable(f"damaged gzip: {error}") from None
        if len(part) > left:
            raise Undecodable(f"gzip that grows beyond {max_bytes} bytes")
        if not member.eof:
            raise Undecodable("truncated gzip")
        parts.append(part)
        left -= len(part)
        body = member.unused_data
    return b"".join(parts)


def _read_json(body: bytes, tenant: str) -> Iterator[Decoded]:
    try:
        document, repairs = otlp_json.parse(body, MAX_BYTES)
    except Undecodable as whole:
        lines = [line for line in body.splitlines() if line.strip(_JSON_SPACE)]
        bad, good = 0, 0
        for line in lines if len(lines) > 1 else ():
            try:
                document, repairs = otlp_json.parse(line, MAX_BYTES)
                found = list(_read_document(document, repairs, tenant))
            except Undecodable:
                bad += 1
                continue
            good += 1
            yield from found
        if not good:
            raise whole
        if bad:
            yield Decoded(dropped={"bad_line": bad})
        return
    yield from _read_document(document, repairs, tenant)


def _read_document(document: dict[str, Any], repairs: int, tenant: str) -> Iterator[Decoded]:
    known = False
    if "resourceSpans" in document:
        known = True
        yield from otlp_json.spans_of(document, repairs, tenant)
    if "resourceLogs" in document:
        known = True
        yield from otlp_json.records_of(document, repairs, tenant)
    if "resourceMetrics" in document:
        known = True
        yield from otlp_json.points_of(document, tenant)
    if not known:
        raise Undecodable("JSON, but not OTLP: none of resourceSpans, resourceLogs, resourceMetrics is in it")


def _read_protobuf(body: bytes, tenant: str) -> Decoded:
    signal = tell_signal(body)
    if signal == "traces":
        return decode_traces(body, tenant=tenant)
    if signal == "logs":
        return decode_logs(body, tenant=tenant)
    return decode_metrics(body, tenant=tenant)


def tell_signal(body: bytes) -> str:
    """Return the signal of a protobuf body.

    All three start alike, so each is parsed and its contents are scored.
    """
    scores: dict[str, int] = {}
    refusal = ""
    for signal in ("traces", "logs", "metrics"):
        try:
            request = request_of_bytes(signal).FromString(body)
        except Exception as error:  # protobuf's DecodeError
            refusal = refusal or str(error)
            continue
        scores[signal] = _score(signal, request)
    best = max(scores, key=lambda signal: scores[signal], default="")
    if not best or scores[best] <= 0:
        reason = refusal if not best else "no span, log record or metric is in it"
        raise Undecodable(f"neither OTLP protobuf nor OTLP JSON ({reason})")
    return best


def _score(signal: str, request: Any) -> int:
    score = 0
    if signal == "traces":
        for holder in request.resource_spans[:8]:
            for scope in holder.scope_spans[:8]:
                for span in scope.spans[:8]:
                    score += (
                        4 * (len(span.trace_id) == 16 and len(span.span_id) == 8)
                        + (1 if span.name else -1)
                        + _at(span.start_time_unix_nano)
                    )
    elif signal == "logs":
        for holder in request.resource_logs[:8]:
            for scope in holder.scope_logs[:8]:
                for record in scope.log_records[:8]:
                    score += 2 * (_at(record.time_unix_nano) + _at(record.observed_time_unix_nano)) + (
                        0 <= record.severity_number <= 24
                    )
    else:
        for holder in request.resource_metrics[:8]:
            for scope in holder.scope_metrics[:8]:
                for metric in scope.metrics[:8]:
                    kind = metric.WhichOneof("data")
                    points = getattr(metric, kind).data_points if kind else ()
                    name = metric.name.decode("utf-8", "replace")
                    score += (1 if name.isprintable() and name else -4) + sum(
                        3 * _at(p.time_unix_nano) for p in points[:4]
                    )
    return score


def _at(ns: int) -> int:
    # A time is between 2000 and 2100; small numbers come from tests; any other value means the wrong message
    # type.
    return 1 if 946_684_800_000_000_000 < ns < 4_102_444_800_000_000_000 else 0 if ns < 10**15 else -1
