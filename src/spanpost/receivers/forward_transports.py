"""Sends encoded OTLP requests over HTTP or gRPC, once each, and says what to do with the answer.

The stock exporters are not used: they try again by themselves without reading `Retry-After`, take a message
that is too large for an endpoint that is busy, and do not report a partial success.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

from spanpost.http.retry_after import retry_after_seconds
from spanpost.receivers.otlp_classes import request

#: gRPC statuses worth a retry (OTLP specification 1.11, "Failures").
_RETRYABLE: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
#: RESOURCE_EXHAUSTED has two meanings: a message is too large, or the endpoint is busy and does not say for how
#: long. Up to this many bytes it is the second.
_NEVER_TOO_LARGE: Final = 64 * 1024
_CURES: Final = {
    401: "check forward.token or forward.headers",
    403: "check forward.token or forward.headers",
    404: "is it an OTLP receiver with a pipeline for logs and one for traces?",
}
_METHODS: Final = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
_REJECTED: Final = {"logs": "rejected_log_records", "traces": "rejected_spans"}
#: Bytes that are read of an answer, and at once.
_MOST_ANSWER, _PART = 256 * 1024, 16 * 1024
#: Compression pays from this many bytes on.
_COMPRESSED: Final = 512


class OtlpOutcome(Enum):
    """What becomes of a request."""

    ACCEPTED = "accepted"
    #: Try again later.
    LATER = "later"
    #: Send it in smaller requests.
    TOO_LARGE = "too large"
    #: Never send it again.
    REFUSED = "refused"


class OtlpAnswer(NamedTuple):
    """The answer to one request. `wait`: seconds that the endpoint asks for. `rejected`: entries that it left out."""

    outcome: OtlpOutcome
    why: str = ""
    wait: float | None = None
    rejected: int = 0


class OtlpTransport(Protocol):
    """**Protocol:** sends the requests of one signal; `forward_target` makes it."""

    def send(self, body: bytes) -> OtlpAnswer:
        """Send an encoded request once. Does not raise for what an endpoint or a network may do."""
        ...

    def close(self) -> None: ...


def is_worth_another_try(status: int) -> bool:
    """Whether a request with this HTTP status may succeed later."""
    return status in (408, 429) or status >= 500


def is_page(content_type: str) -> bool:
    """Whether an answer is a web page: of a login or a proxy, and of no receiver, whatever its status."""
    return content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def cure_of(status: int) -> str:
    """Return advice for an HTTP status, to append to a sentence; empty: none."""
    cure = _CURES.get(status)
    return f"; {cure}" if cure else ""


class HttpTransport:
    """OTLP/HTTP with protobuf, gzipped, to one address."""

    def __init__(
        self,
        signal: str,
        url: str,
        headers: Mapping[str, str],
        timeout: float,
        verify: str | None,
        certificate: tuple[str, str] | None,
    ) -> None:
        import requests

        self._signal = signal
        self._url = url
        self._headers = {"content-type": "application/x-protobuf", "user-agent": "spanpost-forward", **headers}
        self._timeout = timeout
        self._session = requests.Session()
        self._session.auth = lambda prepared: prepared  # keeps requests from reading ~/.netrc
        if verify is not None:
            self._session.verify = verify
        self._session.cert = certificate
        self._failure: type[Exception] = requests.RequestException

    def send(self, body: bytes) -> OtlpAnswer:
        headers = self._headers
        if len(body) >= _COMPRESSED:
            body, headers = gzip.compress(body, 6), {**headers, "content-encoding": "gzip"}
        try:
            # A redirect is not followed: it would send credentials to another host.
            with self._session.post(
                self._url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False, stream=True
            ) as answer:
                content = b""
                for part in answer.iter_content(_PART):
                    content += part
                    if len(content) > _MOST_ANSWER:
                        return OtlpAnswer(OtlpOutcome.LATER, "the answer has no end; is it an OTLP receiver?")
        except self._failure as error:
            return OtlpAnswer(OtlpOutcome.LATER, f"{type(error).__name__}: {error}")
        status = answer.status_code
        if 200 <= status < 300:
            if is_page(answer.headers.get("content-type", "")):
                return OtlpAnswer(OtlpOutcome.LATER, f"HTTP {status} with a page; is it an OTLP receiver?")
            return _accepted(self._signal, content)
        why = f"HTTP {status} {answer.reason or ''}".rstrip() + cure_of(status)
        if status == 413:
            return OtlpAnswer(OtlpOutcome.TOO_LARGE, why)
        if is_worth_another_try(status):
            return OtlpAnswer(
                OtlpOutcome.LATER, why, retry_after_seconds(answer.headers.get("retry-after", ""), time.time())
            )
        return OtlpAnswer(OtlpOutcome.REFUSED, why)

    def close(self) -> None:
        self._session.close()


class GrpcTransport:
    """OTLP/gRPC, gzipped, to one address. `credentials`: those of `grpc`; None: without TLS."""

    def __init__(
        self, signal: str, address: str, headers: Mapping[str, str], timeout: float, credentials: Any | None
    ) -> None:
        import grpc

        self._signal = signal
        self._metadata = tuple(headers.items())
        self._timeout = timeout
        self._gzip = grpc.Compression.Gzip
        self._failure: type[Exception] = grpc.RpcError
        # The library would wait up to two minutes before it connects again.
        options = (("grpc.initial_reconnect_backoff_ms", 500), ("grpc.max_reconnect_backoff_ms", 5000))
        self._channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self._export = self._channel.unary_unary(_METHODS[signal])

    def send(self, body: bytes) -> OtlpAnswer:
        try:
            content = self._export(body, timeout=self._timeout, metadata=self._metadata, compression=self._gzip)
        except ValueError as error:  # the channel was closed
            return OtlpAnswer(OtlpOutcome.LATER, str(error))
        except self._failure as error:
            return self._answer(error, len(body))
        return _accepted(self._signal, content)

    def _answer(self, error: Any, size: int) -> OtlpAnswer:
        code = error.code().name
        why = f"{code}: {error.details() or ''}".rstrip(": ")
        wait = _retry_delay(error.trailing_metadata() or ())
        if code == "RESOURCE_EXHAUSTED" and wait is None and size > _NEVER_TOO_LARGE:
            return OtlpAnswer(OtlpOutcome.TOO_LARGE, why)
        return OtlpAnswer(OtlpOutcome.LATER if code in _RETRYABLE else OtlpOutcome.REFUSED, why, wait)

    def close(self) -> None:
        self._channel.close()


def _accepted(signal: str, content: bytes) -> OtlpAnswer:
    """Return the answer of a success, which may be partial."""
    if not content:
        return OtlpAnswer(OtlpOutcome.ACCEPTED)
    try:
        partial = _response(signal).FromString(content).partial_success
    except Exception:  # a success in another form
        return OtlpAnswer(OtlpOutcome.ACCEPTED)
    return OtlpAnswer(OtlpOutcome.ACCEPTED, partial.error_message, rejected=getattr(partial, _REJECTED[signal]))


def _response(signal: str) -> Any:
    file = request(signal).DESCRIPTOR.file
    name = request(signal).DESCRIPTOR.name.removesuffix("Request") + "Response"
    return file.message_types_by_name[name]._concrete_class


def _retry_delay(metadata: Any) -> float | None:
    """Return the delay of a `google.rpc.RetryInfo` in a call's trailing metadata, in seconds."""
    details = dict(metadata).get("grpc-status-details-bin")
    if details is None:
        return None
    try:
        from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                return max(0.0, float(info.retry_delay.ToNanoseconds()) / 1e9)
    except Exception:  # an endpoint may send anything there
        return None
    return None
