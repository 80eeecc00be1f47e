"""How a batch closes: tables of facts, and of the verdict, the announcement and the checkpoints that follow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.observations import Status
from spanpost.model.readings import Act, Approval, EventReport, Failure, Finish, Reading, Role
from spanpost.model.usage import Usage
from spanpost.routing.routes import Route, Routes
from spanpost.tasks.amounts import ONE_CALL, ToolCount, plus
from spanpost.tasks.announcing import after_delay
from spanpost.tasks.checkpoints import TaskCheckpoint
from spanpost.tasks.closing import Batch, Closed, close
from spanpost.tasks.fact_values import SpanEnd
from spanpost.tasks.facts import Ending
from spanpost.tasks.fold import go_on
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.record_keys import state_key, subtree_key
from spanpost.tasks.records import Run, Seen, Subtree, TaskState
from spanpost.tasks.reported import Reported
from spanpost.tasks.stall import NO_STALL
from spanpost.tasks.work import RecordSet
from tests.tasks.histories import Packed
from tests.tasks.learning import SECOND, SPAN, TRACE, Part, Say, ended, event, learned, root, started

DOMAIN = b"d" * 16
KEY, ROOT = state_key(DOMAIN, SPAN), subtree_key(DOMAIN, SPAN)
LOOSE = state_key(DOMAIN)
NOW = datetime(2026, 1, 1, tzinfo=UTC)

AGENT = Reading(role=Role.AGENT, agent_name="ann")
CALL = Reading(role=Role.LLM, usage=Usage(input=1), finish=Finish.STOP)
TOOL = Reading(role=Role.TOOL, tool_name="search")
BAD = Failure(type="ValueError", message="bad")
QUESTION = Reading(reports=EventReport.APPROVAL_REQUESTED, approval=Approval(id="q", question="sure?"))
ANSWER = Reading(reports=EventReport.APPROVAL_RESOLVED, approval=Approval(id="q", decision="approve"))
WELL = root(AGENT, 9, status=Status.OK)


def a_task(*said: Say, inner: tuple[Say, ...] = (), before: Reported | None = None, **more: Any) -> TaskState:
    """Return a task of one run that is known by what was said of it; `inner`: of spans that are shown within it."""
    facts = learned(*said, *inner)
    ending, run_inner = learned(*said).ending, learned(*inner).ending if inner else Ending()
    run = Run(start_ns=facts.first_ns, ending=ending, inner=run_inner, trace_id=TRACE, span_id=SPAN)
    given = {"has_root_span": True, "facts": facts, "runs": {ROOT: run}, **more}
    before = before or Reported(message_uid=b"u" * 16)
    return TaskState(uid=b"u" * 16, tenant="default", trace_id=TRACE, span_id=SPAN, reported=before, **given)


def closed(state: TaskState, subtree: Subtree | None = None, rules: FoldRules | None = None, **more: Any) -> Closed:
    """Close a batch in which one task was touched."""
    work = Packed()
    states = TaskStates(work, go_on)
    if subtree is not None:
        states.tree(DOMAIN).subtrees.put(SPAN, subtree)
    states.touch(KEY, state)
    given = {"seen": RecordSet(work, Seen), "reported": [], "due": (), "now": NOW, **more}
    return close(Batch(states=states, rules=rules or FoldRules(), **given))


def reported_again(state: TaskState, **more: Any) -> Closed:
    """Close a batch, store what is reported, and close another."""
    state.reported = closed(state).after[KEY]
    return closed(state, **more)


@pytest.mark.parametrize(
    ("state", "status", "rule", "sentence"),
    [
        pytest.param(a_task(), c.STARTING, "no activity yet", "nothing is known but that it is there", id="starting"),
        pytest.param(a_task(started(CALL, 1)), c.WORKING, "activity", "a call has started", id="working"),
        pytest.param(
            a_task(event(Reading(status="paused"), 1), started(CALL, 2)),
            c.PAUSED,
            "agent.status",
            "it said that it is paused",
            id="paused",
        ),
        pytest.param(
            a_task(event(Reading(status="starting"), 1), started(CALL, 2)),
            c.WORKING,
            "activity",
            "work ends the start that was said",
            id="started",
        ),
        pytest.param(
            a_task(Say(Reading(act=Act(verb="pause")), 0, 3, False, {"part": Part.INTERVENTION})),
            c.PAUSED,
            "a person paused it",
            "a person asked it to pause",
            id="paused by a person",
        ),
        pytest.param(a_task(event(QUESTION, 1)), c.WAITING, "open approval", "a question is open", id="question"),
        pytest.param(
            a_task(event(QUESTION, 1), event(ANSWER, 2)),
            c.WORKING,
            "activity",
            "the question was answered",
            id="answered question",
        ),
        pytest.param(
            a_task(event(Reading(is_interrupt=True), 1)),
            c.WAITING,
            "interrupt",
            "it was interrupted for a person",
            id="interrupt",
        ),
        pytest.param(
            a_task(event(Reading(context_used=800, context_window=1000), 1)),
            c.CONTEXT_WARNING,
            "context window",
            "its context is fuller than is warned of",
            id="context",
        ),
        pytest.param(a_task(WELL), c.COMPLETE, "root OK", "its root ended well", id="ok"),
        pytest.param(
            a_task(root(AGENT, 9)),
            c.COMPLETE,
            "root ended UNSET",
            "its root ended and says nothing against it",
            id="unset",
        ),
        pytest.param(
            a_task(root(Reading(role=Role.AGENT, failure=BAD), 9)), c.ERROR, "root error", "its root failed", id="error"
        ),
        pytest.param(
            a_task(root(Reading(role=Role.AGENT, is_cancelled=True), 9)),
            c.CANCELLED,
            "cancelled",
            "its root was stopped",
            id="cancelled",
        ),
        pytest.param(
            a_task(event(Reading(status="complete"), 5), root(Reading(role=Role.AGENT, failure=BAD), 9)),
            c.COMPLETE,
            "agent.status",
            "what it said stands above how its root ended",
            id="said",
        ),
        pytest.param(
            a_task(event(QUESTION, 5), WELL),
            c.WAITING,
            "open approval",
            "it ended with its question open",
            id="ended in a question",
        ),
        pytest.param(
            a_task(event(QUESTION, 5), root(Reading(role=Role.AGENT, failure=BAD), 9)),
            c.ERROR,
            "root error",
            "a failure does not wait for an answer",
            id="failed in a question",
        ),
        pytest.param(
            a_task(event(Reading(is_interrupt=True), 5), WELL),
            c.WAITING,
            "interrupt",
            "nothing was done since it was interrupted",
            id="ended in an interrupt",
        ),
        pytest.param(
            a_task(event(Reading(is_interrupt=True), 5), ended(CALL, 6, 7), WELL),
            c.COMPLETE,
            "root OK",
            "a model has gone on since",
            id="went on",
        ),
        pytest.param(
            a_task(WELL, inner=(root(Reading(role=Role.AGENT, failure=BAD), 8),)),
            c.ERROR,
            "nested span",
            "a root span within failed last, though its root says OK",
            id="inner",
        ),
        pytest.param(
            a_task(ended(Reading(role=Role.LLM, failure=BAD), 2, 3), WELL),
            c.ERROR,
            "last call failed",
            "its last call failed, though its root says OK",
            id="last call",
        ),
        pytest.param(
            a_task(ended(Reading(role=Role.LLM, failure=BAD), 2, 3), ended(CALL, 4, 5), WELL),
            c.COMPLETE,
            "root OK",
            "a retry went well",
            id="retry",
        ),
        pytest.param(
            a_task(ended(CALL, 2, 3), ended(Reading(role=Role.STEP, failure=BAD), 3, 4), WELL),
            c.ERROR,
            "turn failed",
            "a guardrail stopped its last turn",
            id="turn",
        ),
        pytest.param(
            a_task(ended(Reading(role=Role.LLM, finish=Finish.TOOLS), 2, 3), WELL),
            c.COMPLETE,
            "root OK",
            "the tool that its model asked for was never called, but its root says OK",
            id="tool not made",
        ),
        pytest.param(
            a_task(ended(Reading(role=Role.LLM, finish=Finish.ASKS), 2, 3), WELL),
            c.WAITING,
            "unresolved tool call",
            "its model asked for a tool that a person must approve",
            id="approval",
        ),
        pytest.param(
            a_task(ended(Reading(role=Role.LLM, finish=Finish.TOOLS), 2, 3), ended(TOOL, 4, 5), WELL),
            c.COMPLETE,
            "root OK",
            "its tool ran",
            id="tool ran",
        ),
        pytest.param(
            a_task(ended(CALL, 2, 3), ended(Reading(role=Role.TOOL, tool_name="book", has_no_result=True), 4, 5), WELL),
            c.WAITING,
            "unresolved tool call",
            "its tool is known to have no result",
            id="tool unanswered",
        ),
        pytest.param(
            a_task(
                ended(Reading(role=Role.LLM, finish=Finish.TOOLS), 2, 3),
                ended(Reading(role=Role.TOOL, tool_name="final_answer"), 4, 5),
                WELL,
            ),
            c.COMPLETE,
            "root OK",
            "closing on its final answer is an end",
            id="final answer",
        ),
        pytest.param(
            a_task(
                ended(CALL, 2, 3), WELL, ended(Reading(role=Role.TOOL, tool_name="clean", has_no_result=True), 10, 11)
            ),
            c.COMPLETE,
            "root OK",
            "what began after its end says nothing of how it ended",
            id="afterwards",
        ),
        pytest.param(
            a_task(root(Reading(role=Role.TASK, is_session=True), 9)),
            c.WAITING,
            "session between prompts",
            "a session waits for its next prompt",
            id="session",
        ),
        pytest.param(
            a_task(event(Reading(rests=True), 5)),
            c.COMPLETE,
            "answered",
            "it has answered and does nothing more",
            id="rested",
        ),
        pytest.param(
            a_task(event(Reading(rests=True), 5), started(CALL, 6)),
            c.WORKING,
            "activity",
            "it has gone on after its answer",
            id="rested no more",
        ),
        pytest.param(
            a_task(started(CALL, 1), event(Reading(is_gone=True), 5)),
            c.ERROR,
            "process gone",
            "its process ended with it open",
            id="gone",
        ),
        pytest.param(
            a_task(event(Reading(is_gone=True), 5), WELL),
            c.COMPLETE,
            "root OK",
            "its end came after all",
            id="gone and ended",
        ),
        pytest.param(
            a_task(started(CALL, 1), event(Reading(is_stalled=True), 5)),
            c.ERROR,
            "process stalled",
            "its process sends no heartbeats any more",
            id="silent",
        ),
        pytest.param(
            a_task(event(Reading(is_stalled=True), 5), started(CALL, 6)),
            c.WORKING,
            "activity",
            "it reported something since",
            id="silent no more",
        ),
    ],
)
def test_the_greatest_authority_decides(state: TaskState, status: str, rule: str, sentence: str) -> None:
    """The facts of a task give its status and the rule that decided."""
    [task] = closed(state).difference.tasks
    assert (task.status, task.rule) == (status, rule), sentence


def a_trace(*said: Say, **more: Any) -> TaskState:
    """Return the task state of spans of a trace that lie below no known root span."""
    facts = learned(*said)
    return a_task(*said, has_root_span=False, runs={LOOSE: Run(start_ns=facts.first_ns, ending=facts.ending)}, **more)


TWO_CALLS = plus(ONE_CALL, ONE_CALL)


@pytest.mark.parametrize(
    ("state", "subtree", "at_once", "in_time", "sentence"),
    [
        pytest.param(a_task(), Subtree(is_top=True), True, True, "the top of a trace is a task for sure", id="top"),
        pytest.param(
            a_task(), Subtree(is_live=True), True, True, "so is a root span that was seen to start", id="live"
        ),
        pytest.param(a_task(), Subtree(), False, True, "a root span above may still come", id="end alone"),
        pytest.param(
            a_task(), Subtree(is_top=True, is_held=True), False, True, "it may go on with another run", id="held"
        ),
        pytest.param(a_task(task_id="job-1"), Subtree(), True, True, "it says its own id", id="explicit"),
        pytest.param(
            a_trace(event(QUESTION, 1), task_id="job-1"),
            None,
            False,
            True,
            "a question came before the run that asks it",
            id="event of an explicit task",
        ),
        pytest.param(
            a_trace(ended(CALL, 1, 2), task_id="job-1", amounts=ONE_CALL),
            None,
            True,
            True,
            "a session is met in its middle",
            id="call of an explicit task",
        ),
        pytest.param(
            a_trace(ended(CALL, 1, 2), amounts=ONE_CALL),
            None,
            False,
            False,
            "a lone model call is never announced",
            id="lone call",
        ),
        pytest.param(
            a_trace(ended(TOOL, 1, 2), tools=ToolCount(1)),
            None,
            False,
            False,
            "nor are tools that no model asked for",
            id="lone tools",
        ),
        pytest.param(
            a_trace(ended(CALL, 1, 2), ended(TOOL, 3, 4), amounts=ONE_CALL, tools=ToolCount(1)),
            None,
            False,
            True,
            "a call and its tool are an agent's",
            id="loop",
        ),
        pytest.param(
            a_trace(ended(CALL, 1, 2), amounts=TWO_CALLS), None, False, True, "so are two calls", id="two calls"
        ),
        pytest.param(
            a_trace(ended(CALL, 1, 2), ended(Reading(role=Role.STEP, failure=BAD), 3, 4), amounts=ONE_CALL),
            None,
            False,
            True,
            "a turn that failed is of a run whose root is lost",
            id="lost root",
        ),
        pytest.param(
            a_trace(event(Reading(links={"pr": "x"}), 1)), None, False, True, "something is said of it", id="words"
        ),
    ],
)
def test_what_is_announced_at_once_and_what_in_its_time(
    state: TaskState, subtree: Subtree | None, at_once: bool, in_time: bool, sentence: str
) -> None:
    """A certain task is announced when it is first observed; any other task after a delay."""
    found = closed(state, subtree)
    after = state.reported = found.after[KEY]
    assert (after.is_announced, after.is_settling) == (at_once, not at_once), sentence
    assert at_once or KEY in {timer.key for timer in found.difference.timers}
    assert after_delay(KEY, state, FoldRules(), NOW).after.is_announced is in_time, sentence


def test_attributes_that_routes_ask_for_announce_nothing() -> None:
    """Attributes that a route asks for neither announce a lone model call nor show an empty task."""
    for said, more, rows in (((ended(CALL, 1, 2),), {"amounts": ONE_CALL}, 1), ((), {}, 0)):
        state = a_trace(*said, **more)
        state.facts.enter("attributes", "team", 0, 1, b"", "a")
        found = closed(state)
        state.reported = found.after[KEY]
        is_announced = after_delay(KEY, state, FoldRules(), NOW).after.is_announced
        assert (len(found.difference.tasks), is_announced) == (rows, False)


def a_run(begins: int, ends: int = 0, *, outcome: str = "ok", trace: bytes = TRACE, **more: Any) -> Run:
    """Return a run that ended so."""
    ending = Ending(closed=SpanEnd(ends * SECOND, b"", outcome)) if ends else Ending()
    return Run(start_ns=begins * SECOND, ending=ending, trace_id=trace, span_id=SPAN, **more)


FORMER, NEWER = subtree_key(b"a" * 16, SPAN), subtree_key(b"b" * 16, SPAN)


@pytest.mark.parametrize(
    ("runs", "turns", "sentence"),
    [
        pytest.param({FORMER: a_run(1)}, ["start Started: ann"], "a run that goes on has only begun", id="open"),
        pytest.param(
            {FORMER: a_run(1, 4)},
            ["end Complete in 3.0 s", "start Started: ann"],
            "a run that ended has an end",
            id="ended",
        ),
        pytest.param(
            {FORMER: a_run(1, 4, waited=True), NEWER: a_run(6, goes_on=True)},
            ["end Waiting for a person", "start Resumed: ann", "start Started: ann"],
            "a wait that was gone on with ended waiting",
            id="resumed",
        ),
        pytest.param(
            {FORMER: a_run(1, 4, outcome="error"), NEWER: a_run(6, 9)},
            ["end Complete in 3.0 s", "end Failed", "start Started: ann", "start Started: ann"],
            "each run ends as it did itself",
            id="retried",
        ),
        pytest.param(
            {FORMER: a_run(1, 4), LOOSE: a_run(0)},
            ["end Complete in 3.0 s", "start Started: ann"],
            "spans below no root span are no run beside one",
            id="loose",
        ),
    ],
)
def test_each_run_has_a_start_and_its_own_end(runs: dict[bytes, Run], turns: list[str], sentence: str) -> None:
    """The start and the end of each run are reported once, in words of that run."""
    state = a_task(started(AGENT, 1), runs=runs)
    found = closed(state)
    assert sorted(f"{one.kind} {one.text}" for one in found.difference.checkpoints) == turns, sentence
    assert reported_again(state).difference.checkpoints == []


def test_a_turn_names_the_trace_of_its_run() -> None:
    """The start and the end of a run that goes on in another trace lead to that trace, not to the first one."""
    state = a_task(started(AGENT, 1), runs={FORMER: a_run(1, 4), NEWER: a_run(6, 9, trace=b"2" * 16)})
    assert {(one.at.second, one.trace_id) for one in closed(state).difference.checkpoints} == {
        (1, TRACE),
        (4, TRACE),
        (6, b"2" * 16),
        (9, b"2" * 16),
    }


def test_an_end_is_taken_back_when_the_run_goes_on() -> None:
    """The checkpoint of an end is retracted when the run goes on; counters count one end."""
    state = a_task(started(AGENT, 1), runs={FORMER: a_run(1, 4)})
    first = closed(state)
    [end] = [one for one in first.difference.checkpoints if one.kind is Kind.END]
    state.reported, state.runs[FORMER].ending = first.after[KEY], Ending()
    second = closed(state)
    assert second.difference.retracted == [end.id]
    state.reported = second.after[KEY]
    state.runs[FORMER].ending = Ending(closed=SpanEnd(5 * SECOND, b"", "ok"))
    third = closed(state)
    assert [(one.id, one.at.second) for one in third.difference.checkpoints] == [(end.id, 5)]
    assert [len(found.difference.ended) for found in (first, second, third)] == [1, 0, 0]


ROUTED = FoldRules(
    routes=Routes(
        sinks=("x",), routes=(Route(sink="x", interval=timedelta(minutes=1)),), max_age=timedelta(days=36_500)
    ),
    stall_rules=NO_STALL,
)
U = b"u" * 16
FIRST = Reported(message_uid=U)
SHOWN = Reported(message_uid=U, is_announced=True, has_message=True, shown_below=U, has_started=True, places=("x|",))
SAID = TaskCheckpoint(
    Checkpoint(
        id=UUID(int=7), tenant="default", task_uid=UUID(bytes=U), kind=Kind.ERROR, status=c.WORKING, text="bad", at=NOW
    ),
    KEY,
)


def _figures(found: Closed) -> dict[str, object]:
    """Return the parts of a difference that are not empty, in short."""
    d = found.difference
    short = {
        "checkpoints": [str(one.kind) for one in d.checkpoints],
        "retracted": len(d.retracted),
        "deliveries": [(str(one.mode), one.checkpoint_id is not None) for one in d.deliveries],
        "timers": [(one.at - NOW).total_seconds() for one in d.timers],
        "gone": len(d.gone),
        "woken": len(d.woken),
        "started": len(d.started),
        "ended": len(d.ended),
        "calls": sum(one.calls for one in d.used),
        "held": len(found.after[KEY].held),
    }
    return {name: value for name, value in short.items() if value}


@pytest.mark.parametrize(
    ("state", "reported", "difference", "sentence"),
    [
        pytest.param(
            a_task(task_id="job", before=FIRST),
            [],
            {
                "checkpoints": ["start"],
                "deliveries": [("state", False), ("checkpoint", True), ("state", False)],
                "started": 1,
            },
            "a task that is sure is announced: its start goes out, and its state",
            id="announced",
        ),
        pytest.param(
            a_task(before=FIRST),
            [SAID],
            {"checkpoints": ["start", "error"], "timers": [10.0], "started": 1, "held": 2},
            "a task that may turn out to be part of another settles, and holds its checkpoints",
            id="settles",
        ),
        pytest.param(
            a_task(task_id="job", before=replace(FIRST, held=(SAID.checkpoint,))),
            [],
            {
                "checkpoints": ["start"],
                "deliveries": [("state", False), ("checkpoint", True)] * 2 + [("state", False)],
                "started": 1,
            },
            "what was held goes out once the task is announced",
            id="held before",
        ),
        pytest.param(
            a_task(ended(CALL, 1, 2), amounts=ONE_CALL, before=SHOWN),
            [],
            {
                "checkpoints": ["start"],
                "deliveries": [("state", False), ("checkpoint", True), ("state", False)],
                "timers": [30.0],
            },
            "the use of a call that may change is counted when its timer ends",
            id="use",
        ),
        pytest.param(
            a_task(ended(CALL, 1, 2), WELL, amounts=ONE_CALL, before=SHOWN),
            [],
            {
                "checkpoints": ["start", "end"],
                "deliveries": [("state", False), ("checkpoint", True)] * 2 + [("state", False)],
                "ended": 1,
                "calls": 1,
            },
            "the end of a run counts its use at once",
            id="ended",
        ),
        pytest.param(
            a_task(ended(Reading(role=Role.LLM, failure=BAD), 2, 3), before=replace(SHOWN, is_counting=True)),
            [],
            {"checkpoints": ["start"], "deliveries": [("state", False), ("checkpoint", True), ("state", False)]},
            "one timer is enough: that of the use comes before that of a call that failed last",
            id="counting",
        ),
        pytest.param(
            a_task(has_root_span=False, runs={}, before=replace(SHOWN, status=c.WORKING)),
            [SAID],
            {"checkpoints": ["error"], "gone": 1, "held": 1},
            "a task of which nothing is left to show is gone, and holds what was still reported of it",
            id="gone",
        ),
        pytest.param(
            a_task(before=replace(SHOWN, is_announced=False)),
            [],
            {"checkpoints": ["start"], "timers": [10.0], "woken": 1, "held": 1},
            "the message of a task that left an announced root is checked",
            id="left its root",
        ),
        pytest.param(
            a_task(runs={}, before=replace(SHOWN, places=("elsewhere",))),
            [],
            {"deliveries": [("state", False)], "woken": 1},
            "a message in a place that routes no longer use is checked",
            id="moved",
        ),
    ],
)
def test_what_was_reported_and_what_is_known_give_the_difference(
    state: TaskState, reported: list[TaskCheckpoint], difference: dict[str, object], sentence: str
) -> None:
    """The close gives the difference between what was reported before and what is known now, and changes no record."""
    before = msgspec.msgpack.encode(state)
    found = closed(state, rules=ROUTED, reported=reported)
    assert _figures(found) == difference, sentence
    assert msgspec.msgpack.encode(state) == before
    again = closed(state, rules=ROUTED, reported=reported)
    assert (again.after, again.difference) == (found.after, found.difference)


def test_what_was_reported_is_not_reported_again() -> None:
    """A second close of the same facts gives its root's state and nothing else."""
    state = a_task(ended(CALL, 1, 2), WELL, task_id="job", amounts=ONE_CALL)
    state.reported = closed(state, rules=ROUTED).after[KEY]
    assert _figures(closed(state, rules=ROUTED)) == {"deliveries": [("state", False)]}
