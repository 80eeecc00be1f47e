"""Live tasks, sent to a gateway as another process would: records as OTLP/HTTP in JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

#: A gateway that is busy asks to come back.
_TRIES = 8

Value = str | int | float | bool


class LiveTasks:
    """Sends to the gateway at `url`. Tasks are known by a number of one's own."""

    def __init__(self, url: str, *, service: str = "live") -> None:
        self._url = url.rstrip("/")
        self._resource = {"attributes": _pairs({"service.name": service})}
        self._began: dict[int, tuple[int, dict[str, Value]]] = {}

    def begin(self, numbers: Iterable[int], *, seconds_ago: int = 0, **attributes: Value) -> None:
        """Begin tasks; ``name`` and ``agent`` may hold ``{n}``, dots in names are written ``__``."""
        now = time.time_ns() - seconds_ago * 10**9
        records = []
        for number in numbers:
            known = self._attributes(number, attributes)
            self._began[number] = now, known
            records.append(
                self._record(number, "agent.span.started", known | {"span.name": "task", "span.start_unix_nano": now})
            )
        self._logs(records)

    def send(self, number: int, message: str = "", name: str = "agent.checkpoint", **attributes: Value) -> None:
        """Send an event of a task."""
        self.send_all([self.event(number, message, name, **attributes)])

    def event(
        self, number: int, message: str = "", name: str = "agent.checkpoint", **attributes: Value
    ) -> dict[str, Any]:
        """Return an event of a task, for `send_all`."""
        said = {key.replace("__", "."): value for key, value in attributes.items()}
        return self._record(number, name, said | ({"agent.checkpoint.message": message} if message else {}))

    def send_all(self, events: Iterable[dict[str, Any]]) -> None:
        """Send events together."""
        self._logs(list(events))

    def call(self, number: int, input_tokens: int, *, model: str = "gpt-4o", output_tokens: int = 100) -> None:
        """Send a model call that ended."""
        now = time.time_ns()
        call = number * 1_000_000 + now // 1000 % 1_000_000
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.response.id": f"r-{call}",
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
        }
        self._spans(
            [_span(number, attributes, now - 1_000_000, now, name="chat", span=2_000_000_000 + call, parent=number)]
        )

    def tool(self, number: int, tool: str) -> None:
        """Send a tool call that ended."""
        now = time.time_ns()
        call = 3_000_000_000 + number * 1_000_000 + now // 1000 % 1_000_000
        said: dict[str, Value] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
        name = f"execute_tool {tool}"
        self._spans([_span(number, said, now - 1_000_000, now, name=name, span=call, parent=number)])

    def calls(self, number: int, count: int) -> None:
        """Send very many calls that ended, a second apart until now: each fourth of a model."""
        now = time.time_ns()
        for first in range(0, count, 500):
            spans = []
            for n in range(first, min(first + 500, count)):
                said: dict[str, Value] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": f"tool-{n % 7}"}
                if n % 4 == 0:
                    said = {
                        "gen_ai.operation.name": "chat",
                        "gen_ai.request.model": "gpt-4o",
                        "gen_ai.response.id": f"r-{number}-{n}",
                        "gen_ai.usage.input_tokens": 1000 + n * 10 % 90_000,
                        "gen_ai.usage.output_tokens": 100,
                    }
                end = now - (count - n) * 10**9
                span = 4_000_000_000 + number * 1_000_000 + n
                spans.append(_span(number, said, end - 8 * 10**8, end, name="call", span=span, parent=number))
            self._spans(spans)

    def end(self, number: int, *, error: str = "", **attributes: Value) -> None:
        """End a task."""
        status = {"code": 2, "message": error} if error else {"code": 1}
        began, known = self._began[number]
        given = known | {key.replace("__", "."): value for key, value in attributes.items()}
        self._spans([_span(number, given, began, time.time_ns(), name="task", status=status)])

    def _attributes(self, number: int, attributes: Mapping[str, Value]) -> dict[str, Value]:
        said = {
            key.replace("__", "."): value.replace("{n}", str(number)) if isinstance(value, str) else value
            for key, value in attributes.items()
        }
        name = said.pop("name", f"Task {number}")
        return {"agent.task.name": name, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bench"} | said

    def _record(self, number: int, name: str, attributes: Mapping[str, Value]) -> dict[str, Any]:
        at = str(time.time_ns())
        return {"timeUnixNano": at, "eventName": name, "traceId": _trace(number), "spanId": _id(number)} | {
            "attributes": _pairs(attributes)
        }

    def _logs(self, records: list[dict[str, Any]]) -> None:
        self._send("logs", {"resourceLogs": [{"resource": self._resource, "scopeLogs": [{"logRecords": records}]}]})

    def _spans(self, spans: list[dict[str, Any]]) -> None:
        self._send("traces", {"resourceSpans": [{"resource": self._resource, "scopeSpans": [{"spans": spans}]}]})

    def _send(self, signal: str, body: dict[str, Any]) -> None:
        request = Request(f"{self._url}/v1/{signal}", json.dumps(body).encode(), {"content-type": "application/json"})
        for tries in range(_TRIES):
            try:
                with urlopen(request, timeout=60) as answer:
                    answer.read()
                return
            except HTTPError as error:
                if error.code != 503 or tries == _TRIES - 1:
                    raise
                time.sleep(float(error.headers.get("retry-after") or 1))


def _span(number: int, attributes: Mapping[str, Value], start: int, end: int, **more: Any) -> dict[str, Any]:
    parent = {"parentSpanId": _id(more.pop("parent"))} if "parent" in more else {}
    span = _id(more.pop("span", number))
    times = {"startTimeUnixNano": str(start), "endTimeUnixNano": str(end), "kind": 1}
    return {"traceId": _trace(number), "spanId": span, "attributes": _pairs(attributes)} | times | parent | more


def _trace(number: int) -> str:
    return f"{number + 1:032x}"


def _id(number: int) -> str:
    return f"{number + 1:016x}"


def _pairs(attributes: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
    return {"stringValue": value}
