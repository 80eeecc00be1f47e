"""An agent's client of the gateway.

It asks by OTLP/JSON and waits by a long poll. It uses the standard library alone.

The address is ``SPANPOST_CONTROL__ENDPOINT`` with ``SPANPOST_CONTROL__TOKEN``, else that of
``SPANPOST_FORWARD__``, else OpenTelemetry's own ``OTEL_EXPORTER_OTLP_LOGS_ENDPOINT``,
``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``OTEL_EXPORTER_OTLP_HEADERS``. Requests go through the proxy of
``HTTP_PROXY`` or ``HTTPS_PROXY``, except for hosts in ``NO_PROXY``.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

from spanpost import control_protocol
from spanpost.agent.wire import NoProxy, WireOrigin, exchange
from spanpost.control_protocol import (
    ApprovalAnswer,
    BudgetAnswer,
    ReservationAnswer,
    ReservationQuestion,
    TaskAnswer,
)

#: Time limit of connecting, and of an answer beyond the requested wait, seconds.
_MARGIN: Final = 15.0
_WHAT_TO_SET: Final = (
    "set SPANPOST_CONTROL__ENDPOINT to the HTTP address of a spanpost gateway (http://host:4318) and "
    "SPANPOST_CONTROL__TOKEN to the tenant's token, or call spanpost.attach() in this process"
)


class ControlUnavailable(RuntimeError):
    """No person can be asked: spanpost is not attached here, and no gateway accepts the agent.

    Says what to set.
    """


class GatewayClosed(ControlUnavailable):
    """The spanpost of this process was shut down: no answer can come any more."""


class Unreachable(Exception):
    """The gateway cannot be reached at the moment: try again."""


def find(environment: Mapping[str, str] | None = None) -> GatewayClient:
    """Return a client of the environment's gateway. Raises `ControlUnavailable`."""
    try:
        address = control_protocol.address_of(os.environ if environment is None else environment)
    except control_protocol.NoAddress as error:
        raise ControlUnavailable(f"{error}: {_WHAT_TO_SET}") from None
    if address is None:
        raise ControlUnavailable(f"no person can be asked from here: {_WHAT_TO_SET}")
    return GatewayClient(address.endpoint, headers=address.headers, certificate=address.certificate)


class GatewayClient:
    """A client of one gateway. Each question has a connection of its own."""

    #: Longest wait of one long poll, seconds: shorter than the idle timeouts of proxies.
    wait = 25.0

    def __init__(
        self, endpoint: str, *, headers: Mapping[str, str] | None = None, certificate: str | None = None
    ) -> None:
        try:
            parts = urlsplit(endpoint)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ControlUnavailable(
                f"answers come by HTTP, and {parts.scheme or 'the endpoint'} is no HTTP address: {_WHAT_TO_SET}"
            )
        is_tls = parts.scheme == "https"
        self._origin = WireOrigin(parts.hostname, port or (443 if is_tls else 80), is_tls)
        self._path = parts.path.rstrip("/")
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        if any(not (v.isascii() and v.isprintable()) for v in self._headers.values()):
            raise ControlUnavailable("a header for the gateway is not plain ASCII on one line: look at the token")
        self._certificate = certificate
        self._tls: ssl.SSLContext | None = None

    async def ask(
        self, said: Mapping[str, Any], trace_id: int, span_id: int, at_ns: int, resource: Mapping[str, Any]
    ) -> None:
        """Record a question, as the log record of its event. It is stored when this returns."""
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
        partly = (answer or {}).get("partialSuccess")
        if isinstance(partly, dict) and partly.get("rejectedLogRecords") not in (None, 0, "0", ""):
            said_why = str(partly.get("errorMessage", ""))[:300]
            raise ControlUnavailable(f"the gateway did not take the question{f': {said_why}' if said_why else ''}")

    async def approval(self, id: str, mark: str, trace_id: int, wait: float) -> ApprovalAnswer | None:
        """Return the state of a question of a trace, as soon as it is decided; None for an unknown one."""
        target = control_protocol.approval_target(id, mark, f"{trace_id:032x}", wait)
        return cast("ApprovalAnswer | None", await self._request("GET", target, b"", wait))

    async def task(self, ref: str, after: int, wait: float) -> TaskAnswer | None:
        """Return people's requests to a task after a number; None for an unknown task."""
        return cast(
            "TaskAnswer | None", await self._request("GET", control_protocol.task_target(ref, after, wait), b"", wait)
        )

    async def budget(self, ref: str, attributes: Mapping[str, Any]) -> BudgetAnswer:
        """Return a task's remaining budgets. It is found by `ref`, else by its attributes."""
        asked = control_protocol.BudgetQuestion(ref=ref, attributes=dict(attributes))
        answer = await self._request("POST", control_protocol.BUDGET, json.dumps(asked).encode(), 0.0)
        return cast("BudgetAnswer", answer or {"budgets": []})

    async def reserve(self, asked: ReservationQuestion) -> ReservationAnswer:
        """Reserve from a task's budgets."""
        answer = await self._request("POST", control_protocol.RESERVATIONS, json.dumps(asked).encode(), 0.0)
        return cast(
            "ReservationAnswer", answer or {"is_granted": False, "reason": "", "expires_at": None, "budgets": []}
        )

    async def give_back(self, id: str) -> None:
        """Give a reservation back."""
        await self._request("POST", control_protocol.RETURNS, json.dumps({"id": id}).encode(), 0.0)

    async def _request(self, method: str, path: str, body: bytes, wait: float) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(wait + _MARGIN):
                status, answer = await self._exchange(method, path, body)
        except ssl.SSLCertVerificationError as error:
            raise ControlUnavailable(
                f"the gateway's certificate is not trusted ({error.verify_message}): set SPANPOST_CONTROL__CERTIFICATE "
                "to its authority"
            ) from None
        except NoProxy as error:
            raise ControlUnavailable(str(error)) from None
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from None
        try:
            parsed = json.loads(answer) if answer else {}
        except (ValueError, RecursionError):
            parsed = None
        if status == 200 and isinstance(parsed, dict):
            return parsed
        if control_protocol.is_unknown(status, parsed):
            return None
        said = str(parsed.get("message", ""))[:300] if isinstance(parsed, dict) else ""
        if status in (408, 425, 429) or status >= 500:
            raise Unreachable(f"{status} {said}".strip())
        why = {
            401: "the gateway knows no such token",
            403: "the gateway does not allow this token",
            404: "what answers there is no spanpost gateway (a Collector, perhaps)",
        }.get(status, f"the gateway refuses ({status})")
        raise ControlUnavailable(f"{why}{f': {said}' if said else ''}; {_WHAT_TO_SET}")

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._origin.is_tls and self._tls is None:
            try:
                self._tls = ssl.create_default_context(cafile=self._certificate)
            except OSError as error:
                why = error.strerror or "it holds no certificate"
                raise ControlUnavailable(
                    f"SPANPOST_CONTROL__CERTIFICATE: {self._certificate}: {why}; name a PEM file"
                ) from None
        headers = {"accept": "application/json", **self._headers}
        if body:
            headers |= {"content-type": "application/json", "content-length": str(len(body))}
        return await exchange(self._origin, self._tls, method, f"{self._path}{path}", headers, body)


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
