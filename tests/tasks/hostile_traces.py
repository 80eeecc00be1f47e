"""Traces that are expensive to fold: deep, wide, circular, torn, in any order, as lists of observations.

`SHAPES` names a function of a size for each. The function returns about so many observations, in the order in
which a sender would send them. `ORDERS` names the other orders of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanpost.model.observations import Observation, Origin, Part, Status

SECOND = 10**9
BASE = 1_790_000_000 * SECOND
ORIGIN = Origin(resource={"service.name": "hostile"}, scope="hostile")

Trace = list[Observation]


def agent(name: str = "", task: str = "", **more: Any) -> dict[str, Any]:
    """Return the attributes of an agent's span."""
    named = {"gen_ai.agent.name": name} if name else {}
    return {"gen_ai.operation.name": "invoke_agent", **named, **({"agent.task.id": task} if task else {}), **more}


def call(tokens: int = 10, **more: Any) -> dict[str, Any]:
    """Return the attributes of a model call's span."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.output_tokens": 1,
        **more,
    }


def tool(name: str = "search", **more: Any) -> dict[str, Any]:
    """Return the attributes of a tool call's span."""
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, **more}


def workflow() -> dict[str, Any]:
    """Return the attributes of a workflow's span."""
    return {"gen_ai.operation.name": "invoke_workflow"}


def id_of(number: int, trace: int = 1) -> bytes:
    """Return a span id that does not sort as its number does."""
    return (((trace << 32 | number) * 0x9E3779B97F4A7C15) % 2**64 or 1).to_bytes(8, "big")


def trace_of(number: int) -> bytes:
    return (number + 1).to_bytes(16, "big")


def span(
    number: int,
    parent: int | None,
    attributes: dict[str, Any],
    *,
    trace: int = 1,
    part: Part = Part.ENDED,
    size: int = 1_000_000,
    links: tuple[tuple[bytes, bytes], ...] = (),
    status: Status = Status.UNSET,
    name: str = "",
) -> Observation:
    """Return one span. One of a greater number begins later and ends earlier: it lies within the others."""
    start, end = BASE + number * 1000, BASE + (2 * size - number) * 1000
    at = end if part is Part.ENDED else start
    return Observation(
        part=part,
        trace_id=trace_of(trace),
        span_id=id_of(number, trace),
        parent_id=id_of(parent, trace) if parent is not None else b"",
        name=name or str(attributes.get("gen_ai.operation.name", "GET /")),
        at_ns=at,
        start_ns=start,
        end_ns=end if part is Part.ENDED else 0,
        attributes=attributes,
        origin=ORIGIN,
        links=links,
        status=status,
    )


def event(number: int, name: str, attributes: dict[str, Any], *, index: int = 0, trace: int = 1) -> Observation:
    """Return an event on a span."""
    return Observation(
        part=Part.EVENT,
        trace_id=trace_of(trace),
        span_id=id_of(number, trace),
        index=index,
        name=name,
        at_ns=BASE + number * 1000 + index,
        attributes=attributes,
        origin=ORIGIN,
    )


def chain(n: int, attributes: Callable[[int], dict[str, Any]], *, is_open: bool = False) -> Trace:
    """Return spans each below the one before."""
    part = Part.STARTED if is_open else Part.ENDED
    return [span(i, i - 1 if i else None, attributes(i), part=part) for i in range(n)]


def circle(n: int, attributes: Callable[[int], dict[str, Any]]) -> Trace:
    """Return spans each below the one before, the first below the last."""
    return [span(i, (i - 1) % n, attributes(i)) for i in range(n)]


def star(n: int, attributes: Callable[[int], dict[str, Any]], top: dict[str, Any] | None) -> Trace:
    """Return spans below one span, which never arrives without `top`."""
    below = [span(i, 0, attributes(i)) for i in range(1, n)]
    return [span(0, None, top), *below] if top is not None else below


def _same(_: int) -> dict[str, Any]:
    return agent("same")


def _other(i: int) -> dict[str, Any]:
    return agent(f"agent-{i}")


def _nameless(_: int) -> dict[str, Any]:
    return agent()


def _tasks(i: int) -> dict[str, Any]:
    return agent("a", f"task-{i}")


def _plain(_: int) -> dict[str, Any]:
    return {"http.request.method": "GET"}


def _step(_: int) -> dict[str, Any]:
    return {"agent.step.name": "step"}


def open_then_ended(n: int) -> Trace:
    """Return a chain of spans that start without a role, and then end as the layers of a model call."""
    started = [span(i, i - 1 if i else None, {}, part=Part.STARTED) for i in range(n // 2)]
    return [*started, *[span(i, i - 1 if i else None, call(), part=Part.ENDED) for i in range(n // 2)]]


def open_star_then_ended(n: int) -> Trace:
    """Return spans below one span that start without a role, and then end as tool calls."""
    started = [span(i, 0 if i else None, {}, part=Part.STARTED) for i in range(n // 2)]
    return [*started, *[span(i, 0 if i else None, tool(), part=Part.ENDED) for i in range(n // 2)]]


def looked_at(n: int) -> Trace:
    """Return many copies of one span, above a chain of agents."""
    below = [span(i, i - 1, agent(f"agent-{i}")) for i in range(1, n // 2)]
    lookups = [
        look(span(0, None, agent("root", **{"agent.progress": i % 100, "n": i}), part=Part.STARTED), i)
        for i in range(n // 2)
    ]
    return [*below, *lookups]


def look(o: Observation, i: int) -> Observation:
    """Return the observation of a span, observed so many nanoseconds later."""
    return msgspec.structs.replace(o, at_ns=o.at_ns + i)


def renamed(n: int) -> Trace:
    """Return a root span above many others, and many copies of it.

    Each copy has another name, and ranks above the copy before it.
    """
    below = [span(i, 0, agent(f"agent-{i % 2}")) for i in range(1, n // 2)]
    copies = [look(span(0, None, agent(f"name-{i}"), part=Part.STARTED), i) for i in range(n // 2)]
    return [*below, *copies]


def wavering(n: int) -> Trace:
    """Return a root span without a name; the spans below it are of one agent and of two, in turns.

    What lies below moves each time.
    """
    below = [span(i, 0, agent("one")) for i in range(2, n // 2)]
    copies = [look(span(1, 0, agent("one" if i % 2 else "two"), part=Part.STARTED), i) for i in range(n // 2)]
    return [span(0, None, agent()), *below, *copies]


def moving(n: int) -> Trace:
    """Return a chain of agents and, after it, another parent for one of them again and again."""
    below = [span(i, i - 1 if i else None, agent("same")) for i in range(n // 2)]
    copies = [look(span(1, n + i, agent("same"), part=Part.ENDED), i) for i in range(n // 2)]
    return [*below, *copies]


def repeated_response(n: int) -> Trace:
    """Return model calls that all have one response id."""
    return star(n, lambda i: call(**{"gen_ai.response.id": "resp-1"}), agent("a"))


def linked(n: int) -> Trace:
    """Return traces of one agent, each of which links to the one before by a message's span."""
    out: Trace = []
    for i in range(n // 2):
        links = ((trace_of(i), id_of(1, i)),) if i else ()
        out.append(span(1, None, {"messaging.operation": "receive"}, trace=i + 1, links=links, name="autogen receive"))
        out.append(span(2, 1, agent(f"agent-{i % 3}"), trace=i + 1))
    return out


def linked_root_spans(n: int) -> Trace:
    """Return agents that all link to the first one's trace, each by its own span."""
    return [
        span(1, None, agent(f"agent-{i % 3}"), trace=i + 1, links=((trace_of(1), id_of(1, 1)),) if i else ())
        for i in range(n)
    ]


def talks(n: int) -> Trace:
    """Return runs of one conversation, each of which leaves a tool call open that the next begins with."""
    out: Trace = []
    said = {"gen_ai.conversation.id": "talk"}
    for i in range(n // 2):
        out.append(span(2 * i + 1, 2 * i, tool("ask", **{"gen_ai.tool.call.id": "call-1"}, **said), trace=i + 1))
        out.append(span(2 * i, None, agent("a", **said), trace=i + 1))
    return out


def one_task(n: int) -> Trace:
    """Return traces of one explicit task."""
    return [span(i, None, agent("a", "job"), trace=i) for i in range(n)]


def deep_tasks_one_id(n: int) -> Trace:
    """Return agents each below the one before, of two tasks in turns."""
    return chain(n, lambda i: agent("a", f"task-{i % 2}"))


def hints(n: int) -> Trace:
    """Return model calls below spans that never come, each of which names a task; the names fall."""
    return [span(i, i + n, call(**{"agent.task.id": f"t-{n - i:06d}"})) for i in range(n)]


def hinted_deep(n: int) -> Trace:
    """Return open spans each below the one before, in each of which a task is named, the names falling."""
    out = [span(i, i - 1 if i else None, {}, part=Part.STARTED) for i in range(n // 2)]
    events = [
        event(i, "agent.checkpoint", {"agent.task.id": f"t-{n - i:06d}", "agent.checkpoint.message": "m"})
        for i in range(n // 2)
    ]
    return [*out, *reversed(events)]


def approvals(n: int) -> Trace:
    """Return questions to people, on one agent."""
    asks = [
        event(
            0, "agent.approval.requested", {"agent.approval.id": f"q{i}", "agent.approval.question": "sure?"}, index=i
        )
        for i in range(n)
    ]
    return [span(0, None, agent("a", "job")), *asks]


def artifacts(n: int) -> Trace:
    """Return artifacts, on one agent."""
    made = [
        event(0, "agent.artifact", {"agent.artifact.name": f"a{i}", "agent.artifact.uri": f"file:///{i}"}, index=i)
        for i in range(n)
    ]
    return [span(0, None, agent("a", "job")), *made]


def checkpoints(n: int) -> Trace:
    """Return checkpoints, on one agent."""
    events = [event(0, "agent.checkpoint", {"agent.checkpoint.message": f"m{i}"}, index=i) for i in range(n)]
    return [span(0, None, agent("a", "job")), *events]


def errors(n: int) -> Trace:
    """Return tool calls that failed, each otherwise."""
    return star(n, lambda i: tool(f"tool-{i}", **{"error.type": f"Error{i}"}), agent("a"))


def many_tools(n: int) -> Trace:
    """Return a chain of tool calls of as many names: sums by name pass up through all of them."""
    return chain(n, lambda i: tool(f"tool-{i}"))


def tools_below_chain(n: int) -> Trace:
    """Return tool calls of as many names below the lower end of a chain of steps."""
    steps = chain(n // 2, lambda i: agent("a") if not i else _step(i))
    return [*steps, *[span(i, n // 2 - 1, tool(f"tool-{i}")) for i in range(n // 2, n)]]


def models_below_chain(n: int) -> Trace:
    """Return calls of as many models below the lower end of a chain of steps."""
    steps = chain(n // 2, lambda i: agent("a") if not i else _step(i))
    named = [
        call(**{"gen_ai.response.model": f"model-{i}", "gen_ai.request.model": f"model-{i}"}) for i in range(n // 2, n)
    ]
    return [*steps, *[span(i, n // 2 - 1, named[i - n // 2]) for i in range(n // 2, n)]]


def comb(n: int) -> Trace:
    """Return a chain of agents, each with a model call of its own."""
    out: Trace = []
    for i in range(n // 2):
        out.append(span(2 * i, 2 * i - 2 if i else None, agent(f"agent-{i}")))
        out.append(span(2 * i + 1, 2 * i, call()))
    return out


def failing_chain(n: int) -> Trace:
    """Return a chain of agents all of which failed: each failure is reported to the agent above."""
    return [
        span(i, i - 1 if i else None, agent(f"agent-{i}", **{"error.type": "E"}), status=Status.ERROR) for i in range(n)
    ]


SHAPES: dict[str, Callable[[int], Trace]] = {
    "ordinary": lambda n: star(n, lambda i: call() if i % 2 else tool(), agent("a")),
    "chain, one agent": lambda n: chain(n, _same),
    "chain, as many agents": lambda n: chain(n, _other),
    "chain, agents without names": lambda n: chain(n, _nameless),
    "chain, as many tasks": lambda n: chain(n, _tasks),
    "chain, two tasks in turns": deep_tasks_one_id,
    "chain, agents and tools": lambda n: chain(n, lambda i: tool() if i % 2 else agent(f"agent-{i}")),
    "chain, open agents": lambda n: chain(n, _other, is_open=True),
    "chain, workflows": lambda n: chain(n, lambda _: workflow()),
    "chain, workflow and agents": lambda n: chain(n, lambda i: workflow() if i % 2 else agent(f"agent-{i}")),
    "chain, tools": lambda n: chain(n, lambda _: tool()),
    "chain, as many tools": many_tools,
    "chain, calls": lambda n: chain(n, lambda _: call()),
    "chain, steps": lambda n: chain(n, _step),
    "chain, not of an agent": lambda n: [*chain(n - 1, _plain), span(n - 1, n - 2, agent("a"))],
    "chain, open": lambda n: chain(n, lambda _: {}, is_open=True),
    "chain, open, then ended": open_then_ended,
    "chain, agents with calls": comb,
    "chain, failed agents": failing_chain,
    "chain, tools below": tools_below_chain,
    "chain, models below": models_below_chain,
    "circle, one agent": lambda n: circle(n, _same),
    "circle, as many agents": lambda n: circle(n, _other),
    "circle, as many tasks": lambda n: circle(n, _tasks),
    "circle, tools": lambda n: circle(n, lambda _: tool()),
    "circle, calls": lambda n: circle(n, lambda _: call()),
    "circles of two": lambda n: [span(i, i ^ 1, agent(f"agent-{i}")) for i in range(n)],
    "own parents": lambda n: [span(i, i, agent(f"agent-{i}")) for i in range(n)],
    "star, agents": lambda n: star(n, _other, agent("root")),
    "star, one agent": lambda n: star(n, _same, agent()),
    "star, as many below none": lambda n: star(n, _other, agent()),
    "star, tasks": lambda n: star(n, _tasks, agent("root")),
    "star, calls": lambda n: star(n, lambda _: call(), agent("root")),
    "star, as many tools": lambda n: star(n, lambda i: tool(f"tool-{i}"), agent("root")),
    "star, as many models": lambda n: star(
        n,
        lambda i: call(**{"gen_ai.request.model": f"model-{i}", "gen_ai.response.model": f"model-{i}"}),
        agent("root"),
    ),
    "star, open, then ended": open_star_then_ended,
    "orphans, calls of one parent": lambda n: star(n, lambda _: call(), None),
    "orphans, calls of as many parents": lambda n: [span(i, i + n, call()) for i in range(n)],
    "orphans, agents of as many parents": lambda n: [span(i, i + n, agent(f"agent-{i}")) for i in range(n)],
    "roots, agents": lambda n: [span(i, None, agent(f"agent-{i}")) for i in range(n)],
    "roots, calls": lambda n: [span(i, None, call()) for i in range(n)],
    "roots of one task": lambda n: [span(i, None, agent("a", "job")) for i in range(n)],
    "traces": lambda n: [span(0, None, agent(f"agent-{i}"), trace=i) for i in range(n)],
    "traces of one task": one_task,
    "traces, linked": linked,
    "traces, linked to the first": linked_root_spans,
    "traces of one conversation": talks,
    "calls of one response": repeated_response,
    "hints": hints,
    "hints, deep": hinted_deep,
    "looked at again": looked_at,
    "renamed again": renamed,
    "wavering": wavering,
    "moving": moving,
    "approvals": approvals,
    "artifacts": artifacts,
    "checkpoints": checkpoints,
    "errors": errors,
}


def _shuffled(trace: Trace) -> Trace:
    mixed = list(trace)
    Random(1).shuffle(mixed)
    return mixed


ORDERS: dict[str, Callable[[Trace], Trace]] = {
    "as sent": list,
    "last first": lambda trace: trace[::-1],
    "shuffled": _shuffled,
}


def body_of(sent: Sequence[Observation]) -> bytes:
    """Return the traces request that carries these observations."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for o in sent:
        if o.part is Part.EVENT:
            spans[-1].events.add(name=o.name, time_unix_nano=o.at_ns, attributes=_pairs(o.attributes))
            continue
        span = spans.add(trace_id=o.trace_id, span_id=o.span_id, parent_span_id=o.parent_id, name=o.name)
        span.start_time_unix_nano, span.end_time_unix_nano = o.start_ns, o.end_ns
        span.attributes.extend(_pairs(o.attributes))
        span.links.extend(Span.Link(trace_id=trace, span_id=id) for trace, id in o.links)
    return request.SerializeToString()


def _pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    pairs = []
    for name, value in attributes.items():
        pair = KeyValue(key=name)
        if isinstance(value, int):
            pair.value.int_value = value
        else:
            pair.value.string_value = str(value)
        pairs.append(pair)
    return pairs
