"""How a batch closes: tables of facts, and of the verdict, the announcement and the checkpoints that follow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from spanpost import semconv as c
from spanpost.model.checkpoints import Kind
from spanpost.model.observations import Status
from spanpost.model.readings import Act, Approval, EventReport, Failure, Finish, Reading, Role
from spanpost.model.usage import Usage
from spanpost.tasks.amounts import ONE_CALL, plus
from spanpost.tasks.closing import Closing
from spanpost.tasks.facts import Ending
from spanpost.tasks.fold import go_on
from spanpost.tasks.folded import Folded, FoldRules
from spanpost.tasks.ownership import TaskStates
from spanpost.tasks.records import Run, Seen, Subtree, TaskState, state_key, subtree_key
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


def a_task(*said: Say, inner: tuple[Say, ...] = (), **more: Any) -> TaskState:
    """Return a task of one run that is known by what was said of it; `inner`: of boxes that are shown within it."""
    facts = learned(*said, *inner)
    ending, run_inner = learned(*said).ending, learned(*inner).ending if inner else Ending()
    run = Run(start_ns=facts.first_ns, ending=ending, inner=run_inner, trace_id=TRACE, span_id=SPAN)
    given = {"has_root_span": True, "facts": facts, "runs": {ROOT: run}, **more}
    return TaskState(uid=b"u" * 16, message_uid=b"u" * 16, tenant="default", trace_id=TRACE, span_id=SPAN, **given)


def closed(state: TaskState, subtree: Subtree | None = None) -> tuple[Folded, Closing]:
    """Close a batch in which one task was touched."""
    work, out = Packed(), Folded()
    states = TaskStates(work, go_on)
    if subtree is not None:
        states.tree(DOMAIN).subtrees.put(SPAN, subtree)
    states.touch(KEY, state)
    closing = Closing(states, FoldRules(), NOW, out, RecordSet(work, Seen))
    closing.judge([])
    return out, closing


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
            "a box within failed last, though its root says OK",
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
            c.WAITING,
            "unresolved tool call",
            "the tool that its model asked for was never called",
            id="tool not made",
        ),
        pytest.param(
            a_task(ended(Reading(role=Role.LLM, finish=Finish.TOOLS), 2, 3), ended(TOOL, 4, 5), WELL),
            c.WAITING,
            "unresolved tool call",
            "no model answered its tool",
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
            "its process is not heard of any more",
            id="silent",
        ),
        pytest.param(
            a_task(event(Reading(is_stalled=True), 5), started(CALL, 6)),
            c.WORKING,
            "activity",
            "it was heard since",
            id="silent no more",
        ),
    ],
)
def test_the_greatest_authority_decides(state: TaskState, status: str, rule: str, sentence: str) -> None:
    """What is known of a task says its status, and which rule decided."""
    [task] = closed(state)[0].tasks
    assert (task.status, task.rule) == (status, rule), sentence


def a_trace(*said: Say, **more: Any) -> TaskState:
    """Return what lies below no known box of a trace."""
    facts = learned(*said)
    return a_task(*said, has_root_span=False, runs={LOOSE: Run(start_ns=facts.first_ns, ending=facts.ending)}, **more)


TWO_CALLS = plus(ONE_CALL, ONE_CALL)


@pytest.mark.parametrize(
    ("state", "subtree", "at_once", "in_time", "sentence"),
    [
        pytest.param(a_task(), Subtree(is_top=True), True, True, "the top of a trace is a task for sure", id="top"),
        pytest.param(a_task(), Subtree(is_live=True), True, True, "so is a box that was seen to start", id="live"),
        pytest.param(a_task(), Subtree(), False, True, "a box above may still come", id="end alone"),
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
            a_trace(ended(TOOL, 1, 2), tools=(1, 0)),
            None,
            False,
            False,
            "nor are tools that no model asked for",
            id="lone tools",
        ),
        pytest.param(
            a_trace(ended(CALL, 1, 2), ended(TOOL, 3, 4), amounts=ONE_CALL, tools=(1, 0)),
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
    """What is surely a task is announced when it is first heard of; the rest has time to settle."""
    out, closing = closed(state, subtree)
    assert (state.is_announced, state.is_settling) == (at_once, not at_once), sentence
    assert at_once or KEY in {timer.key for timer in out.timers}
    closing.finalize(KEY)
    assert state.is_announced is in_time, sentence


def test_attributes_that_routes_ask_for_announce_nothing() -> None:
    """Attributes that a route asks for neither announce a lone model call nor show an empty task."""
    for said, more, rows in (((ended(CALL, 1, 2),), {"amounts": ONE_CALL}, 1), ((), {}, 0)):
        state = a_trace(*said, **more)
        state.facts.enter("attributes", "team", 0, 1, b"", "a")
        out, closing = closed(state)
        closing.finalize(KEY)
        assert (len(out.tasks), state.is_announced) == (rows, False)


def a_run(begins: int, ends: int = 0, *, outcome: str = "ok", trace: bytes = TRACE, **more: Any) -> Run:
    """Return a run that ended so."""
    ending = Ending(closed=(ends * SECOND, b"", outcome, "", "")) if ends else Ending()
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
            "what lies below no box is no run beside one",
            id="loose",
        ),
    ],
)
def test_each_run_has_a_start_and_its_own_end(runs: dict[bytes, Run], turns: list[str], sentence: str) -> None:
    """The start and the end of each run are told once, in words of that run."""
    state = a_task(started(AGENT, 1), runs=runs)
    out, closing = closed(state)
    assert sorted(f"{news.kind} {news.text}" for news in out.checkpoints) == turns, sentence
    out.checkpoints.clear()
    closing.judge([])
    assert out.checkpoints == []


def test_a_turn_names_the_trace_of_its_run() -> None:
    """The start and the end of a run that goes on in another trace lead to that trace, not to the first one."""
    state = a_task(started(AGENT, 1), runs={FORMER: a_run(1, 4), NEWER: a_run(6, 9, trace=b"2" * 16)})
    assert {(news.at.second, news.trace_id) for news in closed(state)[0].checkpoints} == {
        (1, TRACE),
        (4, TRACE),
        (6, b"2" * 16),
        (9, b"2" * 16),
    }


def test_an_end_is_taken_back_when_the_run_goes_on() -> None:
    """The checkpoint of an end is retracted when the run goes on; counters count one end."""
    state = a_task(started(AGENT, 1), runs={FORMER: a_run(1, 4)})
    out, closing = closed(state)
    [end] = [news for news in out.checkpoints if news.kind is Kind.END]
    state.runs[FORMER].ending = Ending()
    closing.judge([])
    assert out.retracted == [end.id]
    state.runs[FORMER].ending = Ending(closed=(5 * SECOND, b"", "ok", "", ""))
    closing.judge([])
    assert [(news.id, news.at.second) for news in out.checkpoints if news.kind is Kind.END] == [
        (end.id, 4),
        (end.id, 5),
    ]
    assert len(out.ended) == 1
