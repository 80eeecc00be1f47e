"""Two loads as OTLP protobuf bodies: whole traces of one agent, and traces that are split, stacked and share
response ids.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

SECOND = 10**9
#: Bodies, one after the other, over which each trace of a split load is spread.
PARTS = 4
_RESOURCE = {
    "telemetry.sdk.language": "python",
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.version": "1.45.2",
    "service.name": "bench",
    "deployment.environment.name": "bench",
    "agent.repo": "bench/repo",
}


def _pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    pairs = []
    for name, value in attributes.items():
        pair = KeyValue(key=name)
        if isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, list):
            for one in value:
                pair.value.array_value.values.add().string_value = one
        else:
            pair.value.string_value = value
        pairs.append(pair)
    return pairs


def span(
    dice: random.Random, trace: bytes, id: bytes, parent: bytes, name: str, start: int, attributes: dict[str, Any]
) -> Span:
    end = start + dice.randrange(10**6, 10**7)
    return Span(
        trace_id=trace,
        span_id=id,
        parent_span_id=parent,
        name=name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=start,
        end_time_unix_nano=end,
        attributes=_pairs(attributes),
    )


def _chat(i: int, used: int, trace: bytes, response: str = "") -> dict[str, Any]:
    said: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.response.model": "gpt-x-2026",
        "gen_ai.usage.input_tokens": used,
        "gen_ai.usage.output_tokens": 20 + i,
        "gen_ai.conversation.id": f"c-{trace.hex()}",
        "gen_ai.response.finish_reasons": ["stop"],
        "agent.id": "agent-7",
    }
    return {**said, "gen_ai.response.id": response} if response else said


def _tool(i: int, trace: bytes) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "shell",
        "gen_ai.tool.call.id": f"call_{i}",
        "gen_ai.conversation.id": f"c-{trace.hex()}",
        "agent.id": "agent-7",
    }


def _attributes_of(name: str, **more: str) -> dict[str, Any]:
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, "agent.id": "agent-7", **more}


def agents(count: int, seed: int, now: int, per_trace: int = 20) -> list[Span]:
    """Return traces as a stock exporter sends them: calls below one agent, children first, an event on every
    fourth.

    Every span says its task's id, as with ``agent.task.id`` in the baggage: the shape of the load by which
    peers are measured.
    """
    dice = random.Random(seed)
    spans: list[Span] = []
    while len(spans) < count:
        trace, root = dice.randbytes(16), dice.randbytes(8)
        start = now - dice.randrange(SECOND, 60 * SECOND)
        used = 0
        for i in range(per_trace - 1):
            used += dice.randrange(500, 9000)
            said = _tool(i, trace) if i % 2 else _chat(i, used, trace)
            said["agent.task.id"] = f"t-{trace.hex()}"
            at = start + i * 10**7
            one = span(dice, trace, dice.randbytes(8), root, "execute_tool shell" if i % 2 else "chat gpt-x", at, said)
            if i % 4 == 0:
                progress = {
                    "agent.checkpoint.message": f"step {i}",
                    "agent.progress": 5 * i,
                    "agent.context.used": used,
                    "agent.context.limit": 200_000,
                }
                one.events.add(name="agent.checkpoint", time_unix_nano=at + 10**6, attributes=_pairs(progress))
            if dice.random() < 0.02:
                one.status.code, one.status.message = Status.STATUS_CODE_ERROR, "exit 1"
            spans.append(one)
        agent_attributes = _attributes_of(
            "bench",
            **{"agent.task.id": f"t-{trace.hex()}", "agent.task.name": "bench task", "agent.status": "complete"},
        )
        top = span(dice, trace, root, b"", "agent.task", start, agent_attributes)
        top.end_time_unix_nano = start + SECOND
        top.status.code = Status.STATUS_CODE_OK
        spans.append(top)
    return spans[:count]


def stacked(count: int, seed: int, now: int) -> list[Span]:
    """Return traces of 20 spans in five layers: agents below tools below agents, steps and other spans
    between.

    Two layers report each model call with one response id.
    """
    dice = random.Random(seed)
    spans: list[Span] = []
    while len(spans) < count:
        trace = dice.randbytes(16)
        start = now - dice.randrange(SECOND, 60 * SECOND)
        ids = [dice.randbytes(8) for _ in range(20)]
        parents = [None, 0, 1, 2, 3, 1, 5, 6, 1, 8, 9, 10, 11, 12, 11, 8, 15, 16, 0, 18]
        kinds = "AHSLLTXTSTAHSLLLLXSL"  # agent, http, step, llm, tool
        held = ""
        for i, kind in enumerate(kinds):
            up = parents[i]
            if kind == "A":
                said, name = _attributes_of("planner" if i == 0 else "coder"), "invoke_agent"
            elif kind == "L":
                if i == 0 or kinds[i - 1] != "L":
                    held = f"r-{trace.hex()}-{i}"
                said, name = _chat(i, 1000 + 100 * i, trace, held), "chat gpt-x"
            elif kind == "T":
                said, name = _tool(i, trace), "execute_tool shell"
                said["gen_ai.tool.call.id"] = f"call_{trace[:6].hex()}{i:02}"  # as providers make them: unique
            elif kind == "S":
                said, name = {"gen_ai.operation.name": "chain", "openinference.span.kind": "CHAIN"}, "step"
            else:
                said, name = (
                    {
                        "http.request.method": "POST",
                        "server.address": "api.openai.com",
                        "http.response.status_code": 200,
                    },
                    "POST",
                )
            one = span(dice, trace, ids[i], ids[up] if up is not None else b"", name, start + i * 10**7, said)
            if not i:
                one.end_time_unix_nano = start + SECOND
            spans.append(one)
    return spans[:count]


def strangers(count: int, seed: int, now: int) -> list[Span]:
    """Return spans of a web service: none is an agent's."""
    dice = random.Random(seed)
    spans = []
    for i in range(count):
        if i % 10 == 0:
            trace, root = dice.randbytes(16), dice.randbytes(8)
        said = {
            "http.request.method": "POST",
            "server.address": "api.example.com",
            "url.full": "https://api.example.com/v1/things/1234567",
            "network.protocol.version": "1.1",
            "http.response.status_code": 200,
            "user_agent.original": "python-httpx/0.27",
            "server.port": 443,
            "network.peer.address": "10.0.0.7",
            "thread.id": 140_000 + i,
            "thread.name": "MainThread",
        }
        spans.append(span(dice, trace, dice.randbytes(8), root if i % 10 else b"", "POST /v1/things", now + i, said))
    return spans


def whole(spans: list[Span], size: int) -> list[list[Span]]:
    """Return batches in which traces lie (almost) whole."""
    return [spans[i : i + size] for i in range(0, len(spans), size)]


def split(spans: list[Span], size: int, in_trace: int = 20, parts: int = PARTS) -> list[list[Span]]:
    """Return batches over which each trace is spread: some spans of many traces, then the next of the same,
    shuffled.
    """
    dice = random.Random(1)
    found = [spans[i : i + in_trace] for i in range(0, len(spans), in_trace)]
    for trace in found:
        dice.shuffle(trace)
    per = max(1, size * parts // in_trace)
    return [
        [span for trace in found[i : i + per] for span in trace[part::parts]]
        for i in range(0, len(found), per)
        for part in range(parts)
    ]


def body(spans: Iterable[Span], scope: str = "bench") -> bytes:
    """Return an OTLP request with these spans of one resource and scope."""
    request = ExportTraceServiceRequest()
    of_resource: ResourceSpans = request.resource_spans.add()
    of_resource.resource.attributes.extend(_pairs(_RESOURCE))
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name, of_scope.scope.version = scope, "1.0"
    of_scope.spans.extend(spans)
    return bytes(request.SerializeToString())
