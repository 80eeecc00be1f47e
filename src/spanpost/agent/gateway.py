"""The gateway as an agent reaches it to wait for people: OTLP/JSON to ask, a long poll to hear. Standard library alone.

Where it is: ``SPANPOST_CONTROL__ENDPOINT`` and ``SPANPOST_CONTROL__TOKEN``, else those of ``SPANPOST_FORWARD__``, else OpenTelemetry's
own ``OTEL_EXPORTER_OTLP_LOGS_ENDPOINT``, ``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``OTEL_EXPORTER_OTLP_HEADERS``. Proxies are not used.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode, urlsplit

#: What an answer may take beyond what it was asked to wait, and what connecting may; seconds.
_PATIENCE: Final = 15.0
_MOST: Final = 4 * 1024 * 1024
_WHAT_TO_SET: Final = (
    "set SPANPOST_CONTROL__ENDPOINT to the HTTP address of a spanpost gateway (http://host:4318) and SPANPOST_CONTROL__TOKEN to the "
    "tenant's token, or call spanpost.attach() in this process"
)


class ControlUnavailable(RuntimeError):
    """Nobody can be asked: spanpost is neither attached here nor reached, or refuses us. Says what to set."""


class Closed(ControlUnavailable):
    """Who brought the answers is gone for good: the spanpost of this process was shut down."""


class Unreachable(Exception):
    """It cannot be reached just now: try again."""


def find(environment: Mapping[str, str] | None = None) -> Gateway:
    """Return the gateway that the environment names. Raises `ControlUnavailable`."""
    said = {k: v for k, v in (os.environ if environment is None else environment).items() if v}
    headers: dict[str, str] = {}
    endpoint = said.get("SPANPOST_CONTROL__ENDPOINT") or said.get("SPANPOST_FORWARD__ENDPOINT")
    if endpoint is None:
        protocol = said.get("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL") or said.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
        endpoint = said.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") or said.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        if endpoint is None:
            raise ControlUnavailable(f"no person can be asked from here: {_WHAT_TO_SET}")
        if protocol == "grpc" or (not protocol and urlsplit(endpoint).port == 4317):
            raise ControlUnavailable(f"telemetry goes by gRPC, and answers come by HTTP: {_WHAT_TO_SET}")
        given = said.get("OTEL_EXPORTER_OTLP_LOGS_HEADERS") or said.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
        for pair in given.split(","):
            name, _, value = pair.partition("=")
            headers[name.strip().lower()] = unquote(value.strip())
        headers = {name: value for name, value in headers.items() if name == "authorization"}
        endpoint = endpoint.removesuffix("/v1/logs")
    token = said.get("SPANPOST_CONTROL__TOKEN") or said.get("SPANPOST_FORWARD__TOKEN")
    if token:
        headers["authorization"] = f"Bearer {token}"
    certificate = said.get("SPANPOST_CONTROL__CERTIFICATE") or said.get("SPANPOST_FORWARD__CERTIFICATE")
    return Gateway(endpoint, headers=headers, certificate=certificate or said.get("OTEL_EXPORTER_OTLP_CERTIFICATE"))


class Gateway:
    """A gateway by its HTTP address. Each question has a connection of its own."""

    #: How long a question waits for news at most before it is asked anew, seconds: shorter than proxies cut.
    wait = 25.0

    def __init__(self, endpoint: str, *, headers: Mapping[str, str] | None = None, certificate: str | None = None) -> None:
        try:
            parts = urlsplit(endpoint)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ControlUnavailable(
                f"answers come by HTTP, and {parts.scheme or 'the endpoint'} is no HTTP address: {_WHAT_TO_SET}"
            )
        self._host = parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._path = parts.path.rstrip("/")
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        if any(not (v.isascii() and v.isprintable()) for v in self._headers.values()):
            raise ControlUnavailable("a header for the gateway is not plain ASCII on one line: look at the token")
        self._is_tls = parts.scheme == "https"
        self._certificate = certificate
        self._tls: ssl.SSLContext | None = None

    async def ask(self, said: Mapping[str, Any], trace_id: int, span_id: int, at_ns: int, resource: Mapping[str, Any]) -> None:
        """Have a question recorded, as the log record of its event; it is kept when this returns."""
        record: dict[str, Any] = {
            "timeUnixNano": str(at_ns),
            "severityNumber": 9,
            "eventName": said["event.name"],
            "attributes": _attributes({k: v for k, v in said.items() if k != "event.name"}),
        }
        if trace_id and span_id:
            record |= {"traceId": f"{trace_id:032x}", "spanId": f"{span_id:016x}"}
        scopes = [{"scope": {"name": "spanpost.agent"}, "logRecords": [record]}]
        body = {"resourceLogs": [{"resource": {"attributes": _attributes(resource)}, "scopeLogs": scopes}]}
        answer = await self._request("POST", "/v1/logs", json.dumps(body).encode(), 0.0)
        rejected = (answer or {}).get("partialSuccess", {}).get("rejectedLogRecords")
        if rejected and int(rejected):
            raise ControlUnavailable(f"the gateway did not take the question: {answer}")

    async def approval(self, id: str, mark: str, wait: float) -> dict[str, Any] | None:
        """Return what became of a question, as soon as it is decided; None for one that is not known."""
        query = urlencode({"mark": mark, "wait": f"{wait:.3f}"})
        return await self._request("GET", f"/control/v1/approvals/{quote(id, safe='')}?{query}", b"", wait)

    async def task(self, ref: str, after: int, wait: float) -> dict[str, Any] | None:
        """Return what people asked of a task since a number; None for a task that is not known yet."""
        query = urlencode({"after": after, "wait": f"{wait:.3f}"})
        return await self._request("GET", f"/control/v1/tasks/{quote(ref, safe='')}?{query}", b"", wait)

    async def budget(self, ref: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a task may still spend, by what it is known by, or else by its attributes."""
        body = json.dumps({"ref": ref, "attributes": dict(attributes)}).encode()
        return await self._request("POST", "/control/v1/budget", body, 0.0) or {}

    async def _request(self, method: str, path: str, body: bytes, wait: float) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(wait + _PATIENCE):
                status, answer = await self._exchange(method, path, body)
        except ssl.SSLCertVerificationError as error:
            raise ControlUnavailable(
                f"the gateway's certificate is not trusted ({error.verify_message}): set SPANPOST_CONTROL__CERTIFICATE to its authority"
            ) from None
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from None
        try:
            told = json.loads(answer) if answer else {}
        except ValueError:
            told = None
        if status == 200 and isinstance(told, dict):
            return told
        if status == 404 and isinstance(told, dict) and told.get("state") == "unknown":
            return None
        said = str(told.get("message", ""))[:300] if isinstance(told, dict) else ""
        if status in (408, 425, 429) or status >= 500:
            raise Unreachable(f"{status} {said}".strip())
        why = {
            401: "the gateway knows no such token",
            403: "the token is no tenant's",
            404: "what answers there is no spanpost gateway (a Collector, perhaps)",
        }.get(status, f"the gateway refuses ({status})")
        raise ControlUnavailable(f"{why}{f': {said}' if said else ''}; {_WHAT_TO_SET}")

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._is_tls and self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._certificate)
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=64 * 1024)
        try:
            host = f"[{self._host}]" if ":" in self._host else self._host
            head = {"host": f"{host}:{self._port}", "connection": "close", "accept": "application/json", **self._headers}
            if body:
                head |= {"content-type": "application/json", "content-length": str(len(body))}
            lines = [f"{method} {self._path}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            await writer.drain()
            return await _answer(reader)
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read an answer: its status and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if 100 <= status < 200:
        return await _answer(reader)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if len(body) + size > _MOST:
                raise ValueError("the answer is too long")
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        return status, body
    if "content-length" in headers:
        length = int(headers["content-length"])
        if not 0 <= length <= _MOST:
            raise ValueError("the answer is too long")
        return status, await reader.readexactly(length)
    return status, await reader.read(_MOST)


def _attributes(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in said.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": str(value)}
