"""A run waits for a person only on evidence that one is asked; what only looks like it is shown as what it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from spanpost import semconv as c
from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore
from spanpost.testing.builders import SECOND, a_span

OUTPUT_TOOLS = '{"function_tools":[],"output_mode":"tool","output_tools":[{"name":"weather_report","description":"x"}]}'
DEFERRED = '{"function_tools":[{"name":"delete_file","strict":null,"kind":"unapproved"}],"output_tools":[]}'

#: The message of LangGraph.js' GraphInterrupt.
INTERRUPTS = '[\n  {\n    "id": "8a1",\n    "value": {\n      "question": "delete?"\n    }\n  }\n]'


def answer(*tools: str, **more: Any) -> dict[str, Any]:
    """Return the attributes of a model call that asks for tools, as the GenAI conventions write them."""
    parts = ",".join(f'{{"type":"tool_call","id":"c1","name":"{name}","arguments":{{"a":1}}}}' for name in tools)
    said = {"gen_ai.output.messages": f'[{{"role":"assistant","parts":[{parts}]}}]'} if tools else {}
    return {"gen_ai.response.finish_reasons": ["tool_calls"], **said, **more}


def agent(end: int = 10, status: Status = Status.UNSET, **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ann", **said}
    return a_span(start=0, end=end * SECOND, attributes=attributes, status=status)


def call(span: int, start: int, parent: int = 1, **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, **said}
    return a_span(
        span=span, parent=parent, start=start * SECOND, end=start * SECOND + SECOND // 2, attributes=attributes
    )


def tool(span: int, start: int, scope: str = "", status: Status = Status.UNSET, **said: Any) -> Observation:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "send_email", **said}
    o = a_span(span=span, parent=1, start=start * SECOND, end=start * SECOND + 9, attributes=attributes, status=status)
    return msgspec.structs.replace(o, origin=Origin(scope=scope)) if scope else o


def outcome(*observations: Observation, then: timedelta = timedelta(days=1)) -> list[Task]:
    """Return the tasks, in order of start, after a time without telemetry."""
    store = MemoryStore()
    store.record_now(list(observations))
    if then:
        for times in (1, 2, 3):
            store.elapse_now(datetime.now(UTC) + times * then)
    return sorted(store.tasks_now(TaskQuery(limit=9)), key=lambda t: t.started_at or datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "run",
    [
        pytest.param([call(2, 1), tool(3, 3), agent()], id="by hand: chat, tool, end"),
        pytest.param([call(2, 1, **answer()), tool(3, 3), agent()], id="a tool that ran ends it (return_direct)"),
        pytest.param([call(2, 1, **answer("final_result")), agent()], id="structured output"),
        pytest.param(
            [call(2, 1, **answer("weather_report", model_request_parameters=OUTPUT_TOOLS)), agent()],
            id="structured output by a tool with a name of its own",
        ),
        pytest.param([call(2, 1, **answer("handoff_to_writer")), agent()], id="a handoff"),
        pytest.param([call(2, 1, **answer("set_model_response")), agent()], id="an output schema"),
        pytest.param([call(2, 1, **answer("lookup")), agent(status=Status.OK)], id="its root ended well"),
        pytest.param(
            [call(2, 1, **answer("lookup")), agent(**{"gen_ai.response.finish_reasons": ["stop"]})],
            id="its root says that it stopped",
        ),
        pytest.param(
            [call(2, 1, **answer("lookup")), agent(**{"gen_ai.response.finish_reasons": ["max_steps"]})],
            id="its root says that it reached its maximum of steps",
        ),
    ],
)
@pytest.mark.parametrize("then", [timedelta(0), timedelta(days=1)], ids=["at once", "later"])
def test_a_run_that_asks_nobody_is_complete(run: list[Observation], then: timedelta) -> None:
    """A run that ended by a tool, an output tool or a handoff, or well, waits for nobody, at no time."""
    (task,) = outcome(*run, then=then)
    assert (task.status, task.ended_at is not None) == ("complete", True)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(
            [call(2, 1, **answer("delete_file", model_request_parameters=DEFERRED)), agent()], id="a deferred tool"
        ),
        pytest.param(
            [tool(3, 3, **{"gen_ai.tool.call.result": '{"error":"This tool call requires confirmation, please '
             'approve or reject."}'}), agent()],
            id="a result that asks for a confirmation",
        ),
        pytest.param([call(2, 1), tool(3, 3, scope="strands.telemetry"), agent()], id="a tool without a result"),
        pytest.param(
            [
                call(2, 1),
                msgspec.structs.replace(
                    tool(3, 3, status=Status.ERROR),
                    status_message=INTERRUPTS,
                ),
                agent(),
            ],
            id="an interrupt as LangGraph.js writes it",
        ),
        pytest.param(
            [
                call(2, 1),
                msgspec.structs.replace(
                    tool(3, 3), exceptions=1, thrown=("Exception", "GraphInterrupt((Interrupt(value='delete?'),))", "")
                ),
                agent(),
            ],
            id="an interrupt over a span that says OK, as LangSmith exports it",
        ),
    ],
)  # fmt: skip
def test_a_run_that_asks_a_person_waits_at_once(run: list[Observation]) -> None:
    """A deferred tool, a confirmation, a tool without a result and an interrupt are evidence, and no error."""
    (task,) = outcome(*run, then=timedelta(0))
    assert (task.status, task.tool_errors, task.error_count) == ("waiting", 0, 0)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param([call(2, 1, **answer("delete_file")), agent()], id="a tool that was never called"),
        pytest.param([call(2, 1, **answer()), agent()], id="a tool that is not named"),
        pytest.param([call(2, 1), tool(3, 3, scope="gcp.vertex.agent"), agent()], id="ADK without results"),
    ],
)
def test_an_unanswered_call_waits_after_a_time(run: list[Observation]) -> None:
    """A run that asked for a tool which was never called works until nothing came for a while; then it waits."""
    (task,) = outcome(*run, then=timedelta(0))
    assert (task.status, task.ended_at) == ("working", None)
    (task,) = outcome(*run)
    assert (task.status, task.is_inferred, task.rule) == ("waiting", True, "unanswered tool call")


def test_the_time_is_a_setting_and_the_figures_do_not_wait_for_more() -> None:
    """The wait is concluded once nothing came for `stall.unanswered_after`, ten seconds by default."""
    store = MemoryStore()
    store.record_now([call(2, 1, **answer("delete_file")), agent()])
    now = datetime.now(UTC)
    store.elapse_now(now + timedelta(seconds=8))
    assert [t.status for t in store.tasks_now(TaskQuery(limit=9))] == ["working"]
    store.elapse_now(now + timedelta(seconds=12))
    assert [t.status for t in store.tasks_now(TaskQuery(limit=9))] == ["waiting"]


def test_an_agent_that_hands_over_waits_for_nobody() -> None:
    """An agent of a team that asked for a tool without a name, and after which another works, is complete."""
    team = a_span(start=0, end=20 * SECOND, attributes={"gen_ai.operation.name": "invoke_workflow"})
    first = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "triage"}
    second = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "expert"}
    tasks = outcome(
        a_span(span=2, parent=1, start=SECOND, end=3 * SECOND, attributes=first),
        call(3, 2, parent=2, **answer()),
        a_span(span=4, parent=1, start=4 * SECOND, end=8 * SECOND, attributes=second),
        call(5, 5, parent=4, **{"gen_ai.response.finish_reasons": ["stop"]}),
        team,
    )
    assert [t.status for t in tasks] == ["complete"] * 3


def test_genkit_reads_the_answer_and_not_the_request_in_it() -> None:
    """A model's answer that repeats the messages before it, with their requests for tools, asks for no tool."""
    output = (
        '{"finishReason":"stop","message":{"role":"model","content":[{"text":"Sunny."}]},"request":{"messages":'
        '[{"role":"model","content":[{"toolRequest":{"name":"weather","input":{}}}]}]},"usage":{"inputTokens":9}}'
    )
    attributes = {"genkit:type": "action", "genkit:metadata:subtype": "model", "genkit:output": output}
    flow = {"genkit:type": "action", "genkit:metadata:subtype": "flow", "genkit:name": "desk"}
    (task,) = outcome(
        a_span(span=2, parent=1, start=SECOND, end=2 * SECOND, attributes=attributes),
        a_span(start=0, end=3 * SECOND, attributes=flow),
    )
    assert task.status == "complete"


def question(id: str, **said: Any) -> Observation:
    """Return a tool's question; with a decision its answer."""
    name = c.EVENT_APPROVAL_RESOLVED if said else c.EVENT_APPROVAL_REQUESTED
    attributes = {c.APPROVAL_ID: id, c.APPROVAL_QUESTION: "Delete it?", **said}
    at = (6 if said else 5) * SECOND
    return msgspec.structs.replace(agent(), part=Part.EVENT, name=name, at_ns=at, attributes=attributes)


@pytest.mark.parametrize("first", ["q1", "q2"])
def test_a_run_that_asked_two_questions_waits_until_both_are_answered(first: str) -> None:
    """Of two tools that wait beside one another the answer of one ends no wait, in any order of arrival."""
    second = "q2" if first == "q1" else "q1"
    start = msgspec.structs.replace(agent(), part=Part.STARTED, at_ns=0, end_ns=0)
    asked_both = [start, question("q1"), question("q2")]
    one, both = (
        [question(first, **{c.APPROVAL_DECISION: "approve"})],
        [question(second, **{c.APPROVAL_DECISION: "deny"})],
    )
    for order in ((*asked_both, *one), (*one, *asked_both[::-1])):
        assert [t.status for t in outcome(*order, then=timedelta())] == ["waiting"]
        assert [t.status for t in outcome(*order, *both, then=timedelta())] == ["working"]
