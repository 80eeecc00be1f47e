"""Emits a task without an OpenTelemetry SDK, from a shell script: one OTLP/JSON request per command.

Between two commands `EmittedTask.token` holds the task, everything its finished span must repeat. A script
keeps it in a variable.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.error
import urllib.request
import zlib
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.http.redirects import NoRedirect
from spanpost.model.errors import ConfigError, SpanpostError
from spanpost.receivers.forward_target import Target
from spanpost.receivers.forward_transports import cure_of, is_page, is_worth_another_try
from spanpost.text.repair import mend, mend_text

#: The variable in which a script keeps its task.
TASK_VARIABLE = "SPANPOST_TASK"
#: The scope of everything that is sent.
SCOPE = "spanpost.agent.shell"
#: Attempts per request, and the pause before the second in seconds: the script waits for them.
_TRIES, _PAUSE = 3, 0.5
_MAX_TOKEN = 64 * 1024
_INFO, _ERROR = 9, 17


class NotAccepted(SpanpostError):
    """The receiver did not accept a request; the message says why and what to do."""


class EmittedTask(msgspec.Struct, frozen=True, kw_only=True):
    """An open task that a script passes from command to command."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str
    start_ns: int
    attributes: dict[str, Any] = {}
    producer: str = ""

    @property
    def token(self) -> str:
        """The task as one word of text."""
        packed = zlib.compress(msgspec.json.encode(self), 9)
        return urlsafe_b64encode(packed).decode().rstrip("=")

    @property
    def traceparent(self) -> str:
        """The W3C traceparent of its span, for child programs that join the trace."""
        return f"00-{self.trace_id}-{self.span_id}-01"


def begin(name: str, attributes: Mapping[str, Any], above: EmittedTask | None = None) -> EmittedTask:
    """Return a new task; `above`: its parent.

    Names in `semconv.ENVELOPE` belong to its records, not to `attributes`.
    """
    return EmittedTask(
        trace_id=above.trace_id if above is not None else os.urandom(16).hex(),
        span_id=os.urandom(8).hex(),
        parent_id=above.span_id if above is not None else "",
        name=mend_text(name, 1024)[0],
        start_ns=time.time_ns(),
        attributes=mend({c.TASK_NAME: name, **attributes})[0],
        producer=os.urandom(16).hex(),
    )


def task_of(token: str) -> EmittedTask:
    """Return the task of a token. Raises `ConfigError` for an invalid one."""
    try:
        packed = urlsafe_b64decode(token.strip() + "=" * (-len(token.strip()) % 4))
        raw = zlib.decompressobj().decompress(packed, _MAX_TOKEN)
        task = msgspec.json.decode(raw, type=EmittedTask)
        is_good = len(bytes.fromhex(task.trace_id)) == 16 and len(bytes.fromhex(task.span_id)) == 8
    except (ValueError, zlib.error, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{TASK_VARIABLE} holds no task ({error}); begin one: eval \"$(spanpost emit start 'its name')\""
        ) from None
    if not is_good:
        raise ConfigError(f"{TASK_VARIABLE} holds no task; begin one: eval \"$(spanpost emit start 'its name')\"")
    return task


def started(task: EmittedTask) -> dict[str, Any]:
    """Return the record of a task's start."""
    envelope: dict[str, Any] = {c.SPAN_NAME: task.name, c.SPAN_KIND: 1, c.SPAN_START: task.start_ns}
    if task.parent_id:
        envelope[c.SPAN_PARENT_ID] = task.parent_id
    return _record(task, c.EVENT_SPAN_STARTED, {**task.attributes, **envelope}, at_ns=task.start_ns)


def happened(task: EmittedTask, name: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an event of a task."""
    return _record(task, name, mend(dict(attributes))[0])


def ended(
    task: EmittedTask, attributes: Mapping[str, Any], *, is_failed: bool = False, message: str = ""
) -> dict[str, Any]:
    """Return the finished span of a task."""
    span: dict[str, Any] = {
        "traceId": task.trace_id,
        "spanId": task.span_id,
        "name": task.name,
        "kind": 1,
        "startTimeUnixNano": str(task.start_ns),
        "endTimeUnixNano": str(max(time.time_ns(), task.start_ns)),
        "attributes": _pairs(mend({**task.attributes, **attributes})[0]),
        "status": {"code": 2, "message": mend_text(message)[0]} if is_failed else {},
    }
    if task.parent_id:
        span["parentSpanId"] = task.parent_id
    return span


def _record(task: EmittedTask, name: str, attributes: Mapping[str, Any], at_ns: int = 0) -> dict[str, Any]:
    now = time.time_ns()
    live = {c.PRODUCER: task.producer, c.SEQ: now}  # commands run one after the other, so the clock orders them
    return {
        "timeUnixNano": str(at_ns or now),
        "observedTimeUnixNano": str(now),
        "severityNumber": _ERROR if name == c.EVENT_ERROR else _INFO,
        "eventName": name,
        "traceId": task.trace_id,
        "spanId": task.span_id,
        "attributes": _pairs({**attributes, **live}),
    }


def request(
    resource: Mapping[str, Any], *, records: list[dict[str, Any]] | None = None, spans: Any = None
) -> tuple[str, dict[str, Any]]:
    """Return the signal and the body of a request with records or spans."""
    about = {"attributes": _pairs(mend(dict(resource))[0])}
    scope = {"name": SCOPE}
    if records is not None:
        return "logs", {"resourceLogs": [{"resource": about, "scopeLogs": [{"scope": scope, "logRecords": records}]}]}
    return "traces", {"resourceSpans": [{"resource": about, "scopeSpans": [{"scope": scope, "spans": spans}]}]}


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case bytes():
            return {"bytesValue": b64encode(value).decode()}
        case list() | tuple():
            return {"arrayValue": {"values": [_value(one) for one in value]}}
        case dict():
            return {"kvlistValue": {"values": _pairs(value)}}
    return {}


def post(target: Target, signal: str, body: Mapping[str, Any]) -> None:
    """Send a request over OTLP/HTTP as JSON.

    Raises `NotAccepted` after `_TRIES` attempts, and `ConfigError` for gRPC.
    """
    if target.protocol != "http":
        raise ConfigError(f"emit speaks OTLP over HTTP, and {target.endpoint} is gRPC's; name the HTTP port (4318)")
    url = f"{target.endpoint}/v1/{signal}"
    headers = {"user-agent": "spanpost-emit", **target.headers, "content-type": "application/json"}
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    why = ""
    for number in range(_TRIES):
        if number:
            time.sleep(_PAUSE * number)
        try:
            with _opener(target).open(asked, timeout=target.timeout) as answer:
                answer.read(64 * 1024)
                if not is_page(answer.headers.get("content-type", "")):
                    return
                why = f"HTTP {answer.status} with a page; is it an OTLP receiver?"
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(300).decode("utf-8", "replace").strip()
            why = " ".join(part for part in (f"HTTP {error.code}", said) if part) + cure_of(error.code)
            if not is_worth_another_try(error.code):
                break
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", error))
    raise NotAccepted(f"{url} did not take it: {why}")


def _opener(target: Target) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [NoRedirect()]
    if target.endpoint.startswith("https://"):
        try:
            context = ssl.create_default_context(cafile=target.certificate)
            if target.client_certificate is not None:
                context.load_cert_chain(target.client_certificate, target.client_key)
        except OSError as error:
            raise ConfigError(f"forward: the certificates cannot be used: {error}") from None
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)
