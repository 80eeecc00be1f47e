"""A stream of runs with a known result: a given number of tasks of fifty events, the same in every process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from spanpost.model.observations import Observation, Origin, Part, Status

#: Events of one task: a root span's start and end, reported checkpoints, tool calls, a model call, an
#: artifact.
EVENTS = 50
#: Checkpoints posted in the thread beside the artifact and the end.
REPORTED = 3
_TOOLS = EVENTS - REPORTED - 4
_ORIGIN = Origin(resource={"service.name": "faults"}, scope="tests", scope_version="1")
_SECOND = 1_000_000_000


def task(number: int, began: int) -> list[Observation]:
    """Return the events of task `number` by time; `began` is the start of the stream in nanoseconds since 1970."""
    trace, at = (began + number).to_bytes(16, "big"), began + number * 1000

    def span(
        n: int,
        name: str,
        attributes: dict[str, Any],
        start: int,
        end: int | None,
        parent: int = 1,
        status: Status = Status.UNSET,
    ) -> Observation:
        return Observation(
            part=Part.STARTED if end is None else Part.ENDED,
            trace_id=trace,
            span_id=n.to_bytes(8, "big"),
            parent_id=parent.to_bytes(8, "big") if n != 1 else b"",
            name=name,
            at_ns=at + (start if end is None else end),
            start_ns=at + start,
            end_ns=0 if end is None else at + end,
            status=status,
            attributes=attributes,
            origin=_ORIGIN,
            producer="faults" if end is None else "",
        )

    def event(index: int, name: str, attributes: dict[str, Any]) -> Observation:
        return Observation(
            part=Part.EVENT,
            trace_id=trace,
            span_id=(1).to_bytes(8, "big"),
            index=index,
            name=name,
            at_ns=at + (index + 1) * _SECOND // 4,
            attributes=attributes,
            origin=_ORIGIN,
        )

    root_span = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "mechanic",
        "agent.task.id": f"t-{number}",
    }
    root_span["agent.task.name"] = f"Job {number}"
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100 + number,
    }
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
    end = 60 * _SECOND
    checkpoints = [
        event(i, "agent.checkpoint", {"agent.checkpoint.message": f"part {i} of job {number}"}) for i in range(REPORTED)
    ]
    made = event(
        REPORTED,
        "agent.artifact",
        {"agent.artifact.name": f"patch {number}", "agent.artifact.uri": f"https://git.example/{number}"},
    )
    tools = [span(3 + i, "execute_tool grep", tool, i * _SECOND, i * _SECOND + _SECOND // 2) for i in range(_TOOLS)]
    return [
        span(1, "invoke_agent mechanic", root_span, 0, None),
        *checkpoints,
        span(2, "chat gpt-4o", call | {"gen_ai.usage.output_tokens": 7}, _SECOND, 3 * _SECOND),
        *tools,
        made,
        span(1, "invoke_agent mechanic", root_span, 0, end, status=Status.OK),
    ]


def share(tasks: int, of: int, mine: int, began: int, size: int) -> Iterator[list[Observation]]:
    """Yield one process's batches: the events of all tasks, mixed, each event in the share of one process or of two."""
    mixed = random.Random(began)
    ordering_keys = [task(number, began) for number in range(tasks)]
    stream = []
    for position in range(EVENTS):
        row = [ordering_key[position] for ordering_key in ordering_keys]
        mixed.shuffle(row)
        stream += row
    ours = [
        o for o in stream if (pick := mixed.randrange(of * 4)) % of == mine or (pick < of and (pick + 1) % of == mine)
    ]
    for start in range(0, len(ours), size):
        yield ours[start : start + size]


def tangled(runs: int, began: int) -> list[Observation]:
    """Return runs that share everything for which transactions can compete.

    Calls are nested in calls, two traces share response ids, agents nest, and several traces name one task.
    """
    chance = random.Random(began)
    out: list[Observation] = []
    for number in range(runs):
        trace, at = (began + number).to_bytes(16, "big"), began + number * 1000
        n = 0

        def span(
            name: str, parent: int, attributes: dict[str, Any], start: int, end: int, trace: bytes = trace, at: int = at
        ) -> int:
            nonlocal n
            n += 1
            out.append(
                Observation(
                    part=Part.ENDED,
                    trace_id=trace,
                    span_id=n.to_bytes(8, "big"),
                    parent_id=parent.to_bytes(8, "big") if parent else b"",
                    name=name,
                    at_ns=at + end * _SECOND,
                    start_ns=at + start * _SECOND,
                    end_ns=at + end * _SECOND,
                    status=Status.OK,
                    attributes=attributes,
                    origin=_ORIGIN,
                )
            )
            return n

        agent = {"gen_ai.operation.name": "invoke_agent"}
        root = span(
            "invoke_agent lead", 0, agent | {"gen_ai.agent.name": "lead", "agent.task.id": f"t-{number // 3}"}, 0, 90
        )
        for helper in range(chance.randrange(3)):
            root_span = span("invoke_agent helper", root, agent | {"gen_ai.agent.name": f"helper-{helper}"}, 1, 80)
            for call in range(chance.randrange(1, 4)):
                # The neighbour's trace reports the same call: one of the two counts.
                said = {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "gpt-4o",
                    "gen_ai.response.id": f"r-{began}-{number // 2}-{helper}-{call}",
                    "gen_ai.usage.input_tokens": chance.randrange(1, 1000),
                    "gen_ai.usage.output_tokens": chance.randrange(1, 100),
                }
                outer = span(
                    "chat gpt-4o", root_span, {**said, "gen_ai.response.id": said["gen_ai.response.id"] + "-o"}, 2, 9
                )
                span("chat gpt-4o", outer, said, 3, 8)
    return out


def torn(whole: list[Observation], of: int, mine: int, size: int, began: int) -> Iterator[list[Observation]]:
    """Yield one replica's batches: two thirds of everything, in an order of its own, and some of it again."""
    chance = random.Random(began * of + mine)
    ours = [o for o in whole if chance.random() < 0.67] + [o for i, o in enumerate(whole) if i % of == mine]
    chance.shuffle(ours)
    start = 0
    while start < len(ours):
        end = start + chance.randrange(1, size)
        yield ours[start:end]
        start = end
