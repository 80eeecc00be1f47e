"""The reader on `agent.*`, and the precedence of its names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from spanpost import semconv as c
from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.model.readings import EventReport, Failure, Finish, Role
from spanpost.readers import read
from spanpost.readers.redaction import Redaction, RedactionRules
from spanpost.text.rules import RedactionAction, RedactionRule

TRACE, SPAN, PARENT = b"t" * 16, b"s" * 8, b"p" * 8


def span(
    name: str = "work", parent: bytes = PARENT, scope: str = "", resource: dict[str, Any] | None = None, **more: Any
) -> Observation:
    attributes = more.pop("attributes", {})
    origin = Origin(scope=scope, resource=resource or {})
    return Observation(
        part=Part.ENDED,
        trace_id=TRACE,
        span_id=SPAN,
        parent_id=parent,
        name=name,
        attributes=attributes,
        origin=origin,
        **more,
    )


def event(name: str, attributes: dict[str, Any] | None = None, part: Part = Part.EVENT, **more: Any) -> Observation:
    return Observation(part=part, trace_id=TRACE, span_id=SPAN, name=name, attributes=attributes or {}, **more)


@pytest.mark.parametrize(
    ("attributes", "parent", "role"),
    [
        ({c.TASK_ID: "t1"}, b"", Role.TASK),
        ({c.TASK_NAME: "Fix the build"}, PARENT, Role.TASK),
        ({c.TASK_ID: "t1", "openinference.span.kind": "CHAIN"}, b"", Role.TASK),
        ({c.TASK_ID: "t1", "gen_ai.operation.name": "chat"}, PARENT, Role.LLM),
        ({c.TASK_ID: "t1", "gen_ai.operation.name": "execute_tool"}, PARENT, Role.TOOL),
        ({c.TASK_ID: "t1", "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, b"", Role.AGENT),
        ({c.NAME: "coder", "openinference.span.kind": "AGENT"}, PARENT, Role.AGENT),
        ({c.NAME: "coder"}, b"", Role.AGENT),
        ({c.PROGRESS: 40}, PARENT, Role.STEP),
        ({c.PROGRESS: 40}, b"", Role.WORKFLOW),
        ({"openinference.span.kind": "CHAIN"}, b"", Role.WORKFLOW),
        ({"openinference.span.kind": "EMBEDDING"}, b"", Role.STEP),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "OpenAI Agent"}, b"", Role.WORKFLOW),
        ({"gen_ai.operation.name": "invoke_agent", "traceloop.span.kind": "task"}, PARENT, Role.STEP),
        ({"gen_ai.usage.input_tokens": 5}, PARENT, Role.LLM),
        ({"gen_ai.tool.name": "ls"}, PARENT, Role.TOOL),
        ({"mcp.method.name": "tools/list"}, PARENT, Role.PLUMBING),
        ({"http.request.method": "GET", "user_agent.original": "curl"}, b"", Role.OTHER),
    ],
)
def test_what_a_span_is(attributes: dict[str, Any], parent: bytes, role: Role) -> None:
    """Each rule of R1 decides as the reference says, and `agent.task.*` makes a task of an otherwise unknown
    span.
    """
    assert read(span(attributes=attributes, parent=parent)).role is role


def test_other_peoples_spans_say_nothing() -> None:
    """A span that is not an agent's is not recorded, whatever the names of its own attributes."""
    reading = read(
        span(
            "GET",
            attributes={"user_agent.original": "agent.x", "url.full": "https://agent.example"},
            status=Status.ERROR,
        )
    )
    assert not reading.is_of_agent


def test_agent_attributes_win() -> None:
    """`agent.*` takes precedence over another dialect."""
    reading = read(
        span(
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": "internal",
                "gen_ai.agent.version": "1",
                c.NAME: "Release agent",
                c.VERSION: "2",
                c.COST_USD: 0.5,
                "operation.cost": 9.0,
            }
        )
    )
    assert (reading.agent_name, reading.agent_version) == ("Release agent", "2")
    assert reading.aggregate is not None
    assert reading.aggregate.cost_usd == Decimal("0.5")


def test_synonyms_are_alternatives() -> None:
    """Old and new spellings of one figure count once; an absent one is None, and two zeros count as absent."""
    reading = read(
        span(
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.usage.prompt_tokens": 7,
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": 3,
                "gen_ai.response.finish_reasons": ["tool_calls"],
                "gen_ai.conversation.id": "resp_123",
                "gen_ai.response.model": "m-2",
                "gen_ai.request.model": "m",
            }
        )
    )
    assert reading.usage is not None
    assert (reading.usage.input, reading.usage.output, reading.usage.cache_read) == (7, 3, None)
    assert (reading.finish, reading.conversation_id, reading.model) == (Finish.TOOLS, None, "m-2")
    silent = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}
    assert read(span(attributes=silent)).usage is None


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("WORKING", "working"),
        ("completed", "complete"),
        ("in-progress", "working"),
        ("canceled", "cancelled"),
        ("odd", None),
        (3, None),
    ],
)
def test_status_is_one_of_nine(sent: Any, status: str | None) -> None:
    """Synonyms are understood, unknown words are ignored."""
    assert read(span(attributes={c.TASK_ID: "t", c.STATUS: sent})).status == status


@pytest.mark.parametrize(
    ("sent", "percent"), [(40, 40.0), ("45%", 45.0), (180, 100.0), (-3, 0.0), ("NaN", None), (True, None)]
)
def test_progress_is_held_between_0_and_100(sent: Any, percent: float | None) -> None:
    """A figure out of range is clamped, one that is no figure is ignored."""
    assert read(span(attributes={c.TASK_ID: "t", c.PROGRESS: sent})).progress == percent


def test_resource_speaks_for_the_process() -> None:
    """Name, repository and routing come from the resource; its task id counts at the entry span only."""
    resource = {
        "service.name": "ci",
        "deployment.environment.name": "prod",
        c.NAME: "builder",
        c.REPO: "o/r",
        c.TASK_ID: "job-1",
    }
    top = read(span(attributes={"gen_ai.operation.name": "invoke_agent", c.NAME: "x"}, parent=b"", resource=resource))
    inner = read(span(attributes={"gen_ai.operation.name": "chat"}, resource=resource))
    assert (top.task_id, top.agent_name, top.repo, top.service, top.environment) == ("job-1", "x", "o/r", "ci", "prod")
    assert (inner.task_id, inner.service) == (None, "ci")


def test_links_and_results_are_taken_by_name() -> None:
    """Only http(s) links are links; results are scalars."""
    said = {
        c.TASK_ID: "t",
        "agent.link.pr": "https://x/1",
        "agent.link.bad": "javascript:alert(1)",
        "agent.result.tests": 12,
    }
    reading = read(span(attributes=said))
    assert (reading.links, reading.results) == ({"pr": "https://x/1"}, {"tests": 12})


@pytest.mark.parametrize("part", [Part.EVENT, Part.LOG])
def test_events_and_records_mean_the_same(part: Part) -> None:
    """A checkpoint has its message, an artifact its key, an approval its id, in both forms."""
    checkpoint = read(event(c.EVENT_CHECKPOINT, {c.CHECKPOINT_MESSAGE: "half way", c.PROGRESS: 50}, part))
    assert (checkpoint.reports, checkpoint.message, checkpoint.progress, checkpoint.occurrence) == (
        EventReport.CHECKPOINT,
        "half way",
        50.0,
        "",
    )
    artifact = read(event(c.EVENT_ARTIFACT, {c.ARTIFACT_URI: "https://x/pr/7", c.ARTIFACT_KIND: "pr"}, part))
    assert artifact.artifact is not None
    assert (artifact.reports, artifact.artifact.name, artifact.occurrence) == (
        EventReport.ARTIFACT,
        "7",
        "artifact:https://x/pr/7",
    )
    asked = read(event(c.EVENT_APPROVAL_REQUESTED, {c.APPROVAL_ID: "a1", c.APPROVAL_OPTIONS: ["yes", "no"]}, part))
    answered = read(event(c.EVENT_APPROVAL_RESOLVED, {c.APPROVAL_ID: "a1", c.APPROVAL_DECISION: "yes"}, part))
    assert asked.approval is not None
    assert answered.approval is not None
    assert (asked.reports, asked.approval.options) == (EventReport.APPROVAL_REQUESTED, ("yes", "no"))
    assert (answered.reports, answered.approval.decision) == (EventReport.APPROVAL_RESOLVED, "yes")
    assert asked.occurrence != answered.occurrence


def test_errors_of_one_message_are_one_occurrence() -> None:
    """The live, the logged and the final form of one exception share their occurrence; another message does
    not.
    """
    first = read(event("exception", {c.EXCEPTION_TYPE: "ValueError", c.EXCEPTION_MESSAGE: "no"}))
    again = read(event("exception", {c.EXCEPTION_TYPE: "ValueError", c.EXCEPTION_MESSAGE: "no", "x": 1}, Part.LOG))
    other = read(event("exception", {c.EXCEPTION_TYPE: "ValueError", c.EXCEPTION_MESSAGE: "yes"}))
    assert first.reports is EventReport.ERROR
    assert first.occurrence == again.occurrence != other.occurrence


@pytest.mark.parametrize(
    ("kind", "message", "is_interrupt", "is_cancelled"),
    [
        ("langgraph.errors.GraphInterrupt", "(Interrupt(value=1))", True, False),
        ("workflows.runtime.types.results.WaitingForEvent", "Waiting for event", True, False),
        ("", "(Interrupt(value='approve?'),)", True, False),
        ("asyncio.exceptions.CancelledError", "", False, True),
        ("ValueError", "Interrupted by nothing", False, False),
    ],
)
def test_waits_and_stops_are_no_errors(kind: str, message: str, is_interrupt: bool, is_cancelled: bool) -> None:
    """A wait or a stop that looks like a failure is no error, on the event and on the span."""
    recorded = read(event("exception", {c.EXCEPTION_TYPE: kind, c.EXCEPTION_MESSAGE: message}))
    attributes = {"gen_ai.operation.name": "execute_tool", "error.type": kind or "x"}
    failed = read(span(attributes=attributes, status=Status.ERROR, status_message=message))
    for reading in (recorded, failed):
        assert (reading.is_interrupt, reading.is_cancelled) == (is_interrupt, is_cancelled)
        assert (reading.failure is None) == (is_interrupt or is_cancelled)
    assert recorded.is_of_agent


def test_a_failed_span_says_why() -> None:
    """Type and message come from the dialect's attributes, without the traceback."""
    message = 'OpenAIInvalidRequestError("Error code: 400")Traceback (most recent call last):\n  File "x"'
    reading = read(span(attributes={"openinference.span.kind": "LLM"}, status=Status.ERROR, status_message=message))
    assert reading.failure is not None
    assert (reading.failure.type, reading.failure.message) == ("OpenAIInvalidRequestError", "Error code: 400")


def test_heartbeat_and_end_of_process() -> None:
    """A heartbeat names open roots; an interrupted span has ended."""
    roots = [f"{TRACE.hex()}-{SPAN.hex()}", "nonsense", 7]
    assert read(event(c.EVENT_HEARTBEAT, {c.OPEN_ROOTS: roots}, Part.LOG)).open_roots == ((TRACE, SPAN),)
    assert read(event(c.EVENT_SPAN_INTERRUPTED, {}, Part.LOG)).is_gone


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("planner", "planner"),
        ("Flow_45174f95-f33c-417f-b8a9-9d8bd07ad761", "Flow"),
        ("OpenAI Agent", None),
        ("Agent run: {name!r}", None),
        ("x" * 200, "x" * 79 + "…"),
    ],
)
def test_names_are_for_people(sent: str, name: str | None) -> None:
    """Names have no ids, placeholders or templates, and long ones are shortened."""
    reading = read(
        span(attributes={"openinference.span.kind": "AGENT", c.NAME: sent, "graph.node.id": "{x}"}, name="{y}")
    )
    assert reading.agent_name == name


@pytest.mark.parametrize(
    ("attributes", "message", "said"),
    [
        ({"error.type": "RuntimeError"}, "RuntimeError: pytest exited 1", ("RuntimeError", "pytest exited 1", "")),
        ({}, "RuntimeError: pytest exited 1", ("RuntimeError", "pytest exited 1", "")),
        ({"error.type": "app.Refused"}, "Refused: no", ("app.Refused", "no", "")),
        ({"error.type": "E"}, "E: E: twice", ("E", "twice", "")),
        ({"error.type": "E"}, "Rollout failed\n  pod 1\n  pod 2", ("E", "Rollout failed", "  pod 1\n  pod 2")),
        ({"error.type": "E", c.ERROR_LOG_TAIL: "log"}, "no", ("E", "no", "log")),
    ],
)
def test_an_error_has_one_type_and_one_headline(
    attributes: dict[str, Any], message: str, said: tuple[str, str, str]
) -> None:
    """The type is not said again in the message, whose first line is the headline; the rest is its log."""
    kind = {"gen_ai.operation.name": "execute_tool"}
    failure = read(span(attributes=kind | attributes, status=Status.ERROR, status_message=message)).failure
    assert failure is not None
    assert (failure.type, failure.message, failure.log_tail) == said


def test_a_failed_span_has_the_words_and_the_stack_trace_of_its_exception() -> None:
    """A span that does not say why it failed says what its exception event said, whose stack trace is its log."""
    stack = "Traceback (most recent call last):\n  File x\nValueError: no seats"
    kind = {"gen_ai.operation.name": "execute_tool"}
    failed = read(span(attributes=kind, status=Status.ERROR, thrown=("ValueError", "no seats", stack)))
    assert failed.failure == Failure(type="ValueError", message="no seats", log_tail=stack)
    said = {c.EXCEPTION_TYPE: "ValueError", c.EXCEPTION_MESSAGE: "no seats", c.EXCEPTION_STACKTRACE: stack}
    assert read(event("exception", said)).failure == failed.failure


def test_the_exception_of_a_span_is_redacted() -> None:
    """A secret in the message or in the stack trace is taken out before anything is made of it."""
    secret = "sk-proj-" + "a1B2" * 12
    o = span(attributes={}, status=Status.ERROR, thrown=("E", f"key {secret}", f"File x\nE: key {secret}"))
    assert secret not in repr(Redaction(key=b"k" * 32).clean(o).thrown)


def test_a_rule_for_an_attribute_of_exceptions_holds_for_what_a_span_has_of_them() -> None:
    """A stack trace that a rule leaves out of the exception event is not kept with its span either."""
    o = span(attributes={}, status=Status.ERROR, thrown=("ValueError", "no seats", "File x\nValueError: no seats"))
    rule = RedactionRule(action=RedactionAction.DROP, attributes=(c.EXCEPTION_STACKTRACE,))
    cleaned = Redaction(RedactionRules(rules=(rule,)), key=b"k" * 32).clean(o)
    assert cleaned.thrown == ("ValueError", "no seats", "")
