"""Facts that one observation gives its task: a table of readings and their facts."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from spanpost.model.observations import Observation, Origin, Part, Status
from spanpost.model.readings import Act, Artifact, EventReport, Failure, Finish, Reading, Role
from spanpost.model.usage import Usage
from spanpost.tasks.absorb import keep
from spanpost.tasks.fact_values import ActFact, CallEnd, FirstCall, KeptArtifact, StepBegin, StepNow
from spanpost.tasks.facts import Facts, value_of
from tests.tasks.learning import SECOND, SPAN, TRACE, Say, ended, event, learned, root, started

CALL = Reading(role=Role.LLM, model="gpt-x", usage=Usage(input=10, output=1), finish=Finish.STOP)
TOOL = Reading(role=Role.TOOL, tool_name="search", tool_call_id="call-1")
OTHER = Reading(role=Role.OTHER)
AGENT = Reading(role=Role.AGENT, agent_name="ann")
FAILURE = Failure(type="ValueError", message="bad")


def case(id: str, says: list[Say], fact: str, value: Any, sentence: str) -> Any:
    """Return one line of a table; the sentence says what it proves."""
    return pytest.param(says, fact, value, sentence, id=id)


@pytest.mark.parametrize(
    ("says", "fact", "value", "sentence"),
    [
        case(
            "task name",
            [root(AGENT, 9), ended(Reading(role=Role.TASK, task_name="the job"), 2, 8)],
            "name",
            "the job",
            "a task's own name stands above its agent's, whichever began first",
        ),
        case(
            "earliest name",
            [root(AGENT, 9), ended(Reading(role=Role.AGENT, agent_name="bob"), 2, 8)],
            "name",
            "ann",
            "of two agents the one that began first gives the name",
        ),
        case(
            "name of span",
            [root(Reading(role=Role.WORKFLOW), 9, name="nightly report")],
            "name",
            "nightly report",
            "a root span without a name is called as its span is",
        ),
        case(
            "name of a model",
            [root(Reading(role=Role.AGENT, model="gpt-x"), 9, name="gpt-x")],
            "name",
            None,
            "a span that is called by its model gives no name",
        ),
        case(
            "label",
            [ended(Reading(role=Role.LLM, agent_label="ann"), 1, 2)],
            "agent_label",
            "ann",
            "a span that is no root span may name its agent",
        ),
        case(
            "no identity below",
            [ended(Reading(role=Role.LLM, repo="r"), 1, 2)],
            "repo",
            None,
            "a span that is no root span does not name the task",
        ),
        case(
            "conversation of the root span",
            [
                ended(Reading(role=Role.LLM, conversation_id="b"), 0, 2),
                root(Reading(role=Role.AGENT, conversation_id="a"), 9),
            ],
            "conversation",
            "a",
            "a root span knows its conversation better than a call that began before it",
        ),
        case(
            "model",
            [ended(CALL, 1, 2), ended(Reading(role=Role.LLM, model="gpt-y"), 3, 4)],
            "model",
            "gpt-y",
            "the newest call names the model",
        ),
        case(
            "aside",
            [ended(CALL, 1, 2), ended(Reading(role=Role.LLM, model="gpt-y", is_aside=True), 3, 4)],
            "model",
            "gpt-x",
            "a call beside the conversation does not name the model",
        ),
        case(
            "metered",
            [ended(CALL, 1, 2), ended(Reading(role=Role.LLM, model="gpt-y", is_metered=True), 3, 4)],
            "model",
            "gpt-x",
            "a data point does not name the model where a call does",
        ),
        case(
            "tool",
            [ended(TOOL, 1, 2)],
            "tool",
            CallEnd(False, 0, "search", "call-1"),
            "a tool call is remembered with its id",
        ),
        case(
            "no result",
            [ended(Reading(role=Role.TOOL, tool_name="ask", has_no_result=True), 1, 2)],
            "tool",
            CallEnd(False, 1, "ask"),
            "a tool call without a result is known as such",
        ),
        case(
            "part of a call",
            [ended(Reading(role=Role.TOOL, tool_name="search", is_same_call=True), 1, 2)],
            "tool",
            None,
            "a part of a tool call is no call of its own",
        ),
        case(
            "handoff",
            [ended(Reading(role=Role.HANDOFF), 1, 2)],
            "tool",
            CallEnd(False, 0, "handoff"),
            "a handoff is done like a tool",
        ),
        case(
            "failed call",
            [ended(Reading(role=Role.LLM, failure=FAILURE), 1, 2)],
            "failure",
            ("ValueError", "bad", ""),
            "a failed call says what went wrong",
        ),
        case(
            "error without words",
            [ended(CALL, 1, 2, status=Status.ERROR, status_message="boom")],
            "failure",
            ("", "boom", ""),
            "an ERROR status is a failure in the words of the status",
        ),
        case(
            "interrupt is no failure",
            [ended(Reading(role=Role.TOOL, tool_name="ask", failure=FAILURE, is_interrupt=True), 1, 2)],
            "failure",
            None,
            "what looks like a failure and is a wait for a person is none",
        ),
        case(
            "root's failure",
            [
                root(Reading(role=Role.AGENT, failure=FAILURE), 3),
                ended(Reading(role=Role.LLM, failure=Failure(type="Late")), 4, 5),
            ],
            "failure",
            ("ValueError", "bad", ""),
            "the failure of a root span stands above that of a later call",
        ),
        case(
            "OK over an exception",
            [ended(Reading(role=Role.TOOL, tool_name="t"), 1, 2, status=Status.OK, exceptions=1)],
            "tool",
            CallEnd(True, 0, "t"),
            "a tool call that says OK over an exception has failed",
        ),
        case(
            "answered all the same",
            [ended(CALL, 1, 2, status=Status.OK, exceptions=1)],
            "call",
            CallEnd(False, 1),
            "a model call that was answered after an exception has not failed",
        ),
        case(
            "exception on a root",
            [root(AGENT, 9, status=Status.OK, exceptions=1)],
            "exception",
            True,
            "a root span that says OK over an exception is remembered",
        ),
        case(
            "failed turn",
            [ended(Reading(role=Role.STEP, failure=FAILURE), 1, 2)],
            "failed_turn",
            True,
            "a turn that failed is remembered",
        ),
        case(
            "action said",
            [event(Reading(action="thinks"), 1), ended(TOOL, 2, 3)],
            "action",
            "thinks",
            "what the agent says that it does stands above its newest tool",
        ),
        case(
            "done",
            [started(TOOL, 2), ended(TOOL, 2, 3, parent_id=b"p" * 8)],
            "doing",
            None,
            "a call that has ended is nothing that is being done",
        ),
        case(
            "doing",
            [started(CALL, 1), started(OTHER, 2), ended(OTHER, 2, 3, parent_id=b"p" * 8)],
            "doing",
            ["task.model", {"name": "gpt-x"}],
            "a request in a call ends, and the call goes on",
        ),
        case(
            "doing",
            [started(CALL, 1), started(TOOL, 2)],
            "doing",
            ["task.tool", {"name": "search"}],
            "the newest start is what is being done",
        ),
        case(
            "step beside a plan",
            [
                event(Reading(reports=EventReport.CHECKPOINT, step_name="build", step_index=2), 1),
                event(Reading(is_plan=True, step_index=3), 2),
            ],
            "step",
            StepNow("build", 2),
            "the agent's own words stand above a plan that it wrote down",
        ),
        case(
            "began with a tool",
            [ended(CALL, 3, 4), started(TOOL, 2)],
            "first",
            FirstCall(True, "search", "call-1"),
            "the earliest call says how a run began, seen to end or not",
        ),
        case(
            "begun",
            [started(TOOL, 2), started(Reading(role=Role.TOOL, is_same_call=True), 3)],
            "begun",
            True,
            "a tool call that was seen to start",
        ),
        case(
            "a person's act",
            [Say(Reading(act=Act(verb="cancel", by="eve", seen_ns=7)), 0, 3, False, {"part": Part.INTERVENTION})],
            "cancel_asked",
            ActFact("cancel", "eve", 7),
            "what a person asked is kept with who asked",
        ),
    ],
)
def test_a_fact_is_what_ranks_highest_in_any_order(says: list[Say], fact: str, value: Any, sentence: str) -> None:
    """Each reading leaves the fact of its line, whichever observation came first."""
    for order in permutations(says):
        assert value_of(getattr(learned(*order), fact)) == value, sentence


@pytest.mark.parametrize(
    ("says", "ending", "sentence"),
    [
        pytest.param([root(AGENT, 9, status=Status.OK)], ("ok", "", ""), "a root span says how it ended", id="ok"),
        pytest.param(
            [root(Reading(role=Role.AGENT, is_cancelled=True, failure=FAILURE), 9)],
            ("cancelled", "ValueError", "bad"),
            "a cancellation is no error, and keeps its words",
            id="cancelled",
        ),
        pytest.param(
            [root(Reading(role=Role.AGENT, failure=FAILURE), 9)],
            ("error", "ValueError", "bad"),
            "a failed root span",
            id="error",
        ),
        pytest.param(
            [ended(Reading(role=Role.STEP, failure=FAILURE), 1, 9)],
            None,
            "a span that is neither a root span nor a top ends nothing",
            id="step",
        ),
        pytest.param(
            [root(AGENT, 5, status=Status.OK), root(Reading(role=Role.AGENT, failure=FAILURE), 9)],
            ("error", "ValueError", "bad"),
            "of two reports of an end the later stands",
            id="later",
        ),
        pytest.param(
            [root(Reading(role=Role.LLM, is_metered=True), 9)], None, "a data point ends nothing", id="data point"
        ),
    ],
)
def test_only_a_root_span_or_the_top_of_a_trace_ends_a_run(
    says: list[Say], ending: tuple[str, str, str] | None, sentence: str
) -> None:
    """The span that ends a run gives the outcome and its text."""
    for order in permutations(says):
        closed = learned(*order).ending.closed
        assert (closed[2:5] if closed is not None else None) == ending, sentence


def test_the_final_status_that_was_said_first_stands() -> None:
    """A later status of the same run does not replace a final status."""
    says = [
        event(Reading(status="complete"), 3),
        event(Reading(status="error"), 5),
        event(Reading(status="working"), 1),
    ]
    for order in permutations(says):
        said = learned(*order).ending.said
        assert said is not None
        assert (said.rank, said.status) == (-3 * SECOND, "complete")


@pytest.mark.parametrize(
    ("says", "active", "sentence"),
    [
        pytest.param([root(AGENT, 9)], 0, "a root span that began and ended shows no work", id="root span"),
        pytest.param([ended(CALL, 1, 4)], 4, "a call's end is work", id="call"),
        pytest.param([started(CALL, 3)], 3, "a call's start is work", id="start"),
        pytest.param([event(Reading(progress=1.0), 6)], 6, "an event is work", id="event"),
        pytest.param([event(Reading(progress=1.0, is_quiet=True), 6)], 0, "a quiet event is none", id="quiet"),
        pytest.param(
            [ended(Reading(role=Role.LLM, is_metered=True), 1, 4)],
            0,
            "a data point comes late, and is none",
            id="data point",
        ),
        pytest.param(
            [event(Reading(is_stalled=True), 6)], 0, "that a process was silent is no sign of it", id="silent"
        ),
        pytest.param(
            [Say(Reading(act=Act(verb="pause")), 0, 6, False, {"part": Part.INTERVENTION})],
            0,
            "a person's act is no work",
            id="act",
        ),
    ],
)
def test_signs_of_work_are_calls_and_events(says: list[Say], active: int, sentence: str) -> None:
    """The newest sign of work decides whether a task is starting, and whether it rests."""
    assert learned(*says).active_ns == active * SECOND, sentence


def test_artifacts_links_results_and_steps_are_kept_by_name() -> None:
    """The newest value of each name is kept; a step began when it was first reported."""
    first = Reading(
        reports=EventReport.ARTIFACT,
        artifact=Artifact(name="a", uri="u"),
        links={"pr": "old"},
        results={"n": 1},
        step_name="build",
    )
    then = Reading(
        reports=EventReport.ARTIFACT,
        artifact=Artifact(name="b", uri="u"),
        links={"pr": "new"},
        results={"n": 2},
        step_name="build",
    )
    for order in permutations([event(first, 1), event(then, 2)]):
        facts = learned(*order)
        assert facts.artifacts["u"].value == KeptArtifact("b", "u", "")
        assert (facts.links["pr"].value, facts.results["n"].value) == ("new", 2)
        assert facts.steps["~build"].value == StepBegin("build", None, 1 * SECOND)


def test_routed_attributes_of_a_root_span_stand_above_those_of_its_process() -> None:
    """A root span's own attribute stands above its process's, and that above one from a span below."""
    o = Observation(
        part=Part.ENDED,
        trace_id=TRACE,
        span_id=SPAN,
        at_ns=2,
        attributes={"team": True, "other": 1},
        origin=Origin(resource={"team": "p"}),
    )
    for is_root_span, shown in ((True, "true"), (False, "p")):
        facts = Facts()
        keep(facts, o, ["team"], b"k", is_root_span=is_root_span)
        assert {name: fact.value for name, fact in facts.attributes.items()} == {"team": shown}
