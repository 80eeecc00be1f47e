"""Coding sessions from their records and data points: parallel, resumed, idle, refused, failed, compacted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.checkpoints import REPORTED_KINDS, Checkpoint, Kind
from spanpost.model.observations import Observation, Origin, Part, log_index
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL, StallRules

BEGAN = datetime(2026, 11, 20, 12, tzinfo=UTC)
RESOURCE = {"service.name": "claude-code"}
EVENTS = Origin(resource=RESOURCE, scope="com.anthropic.claude_code.events", scope_version="2.1.329")
METERS = Origin(resource=RESOURCE, scope="com.anthropic.claude_code", scope_version="2.1.329")


def _ns(seconds: float) -> int:
    return int(BEGAN.timestamp()) * 10**9 + round(seconds * 1000) * 10**6


class Session:
    """Makes the records of one session as the CLI writes them: outside of any span, known to the millisecond."""

    def __init__(self, id: str = "s1", terminal: str = "iTerm.app") -> None:
        self.id, self.terminal, self.sequence = id, terminal, 0
        self.records: list[Observation] = []

    def tell(self, event: str, at: float, of: str = "p1", /, **attributes: Any) -> Session:
        said = {
            "session.id": self.id,
            "terminal.type": self.terminal,
            "event.name": event,
            "event.sequence": self.sequence,
        }
        self.sequence += 1
        record = Observation(
            part=Part.LOG,
            trace_id=b"",
            span_id=b"",
            name=event,
            at_ns=_ns(at),
            attributes={**said, "prompt.id": of, **{k.replace("__", "."): v for k, v in attributes.items()}},
            origin=EVENTS,
            body=f"claude_code.{event}",
        )
        self.records.append(msgspec.structs.replace(record, index=log_index(record)))
        return self

    def prompt(self, at: float, prompt: str = "p1", **attributes: Any) -> Session:
        return self.tell("user_prompt", at, prompt, prompt_length="12", prompt="<REDACTED>", **attributes)

    def call(self, at: float, prompt: str = "p1", *, fresh: int = 100, cached: int = 900, **attributes: Any) -> Session:
        used = {"input_tokens": fresh, "output_tokens": 10, "cache_read_tokens": cached, "cache_creation_tokens": 0}
        attributes = {"model": "claude-sonnet-4-5", "cost_usd": 0.01, "duration_ms": 400, **used, **attributes}
        return self.tell("api_request", at, prompt, **attributes)

    def tool(
        self, at: float, name: str = "Bash", prompt: str = "p1", *, id: str = "t1", seconds: float = 1.0
    ) -> Session:
        self.tell("tool_decision", at, prompt, decision="accept", source="config", tool_name=name, tool_use_id=id)
        result = {"tool_name": name, "tool_use_id": id, "success": "true", "duration_ms": str(round(seconds * 1000))}
        return self.tell("tool_result", at + seconds, prompt, **result)

    def answer(self, at: float, prompt: str = "p1") -> Session:
        return self.tell("assistant_response", at, prompt, response="<REDACTED>", response_length=3)


def point(
    name: str, at: float, value: float, *, since: float = 0.0, kind: int = 1, session: str = "s1", **attributes: Any
) -> Observation:
    """Return a data point from `since` to `at`, delta (1) or cumulative (2)."""
    said = {"session.id": session, "terminal.type": "iTerm.app", "model": "claude-sonnet-4-5", **attributes}
    observation = Observation(
        part=Part.LOG,
        trace_id=b"",
        span_id=b"",
        name=f"claude_code.{name}",
        kind=kind,
        start_ns=_ns(since),
        at_ns=_ns(at),
        attributes=said,
        origin=METERS,
        body=value,
    )
    return msgspec.structs.replace(observation, index=log_index(observation))


def folded(
    *records: Observation, stall_rules: StallRules | None = None, now: float | None = None
) -> tuple[list[Task], list[Checkpoint]]:
    """Return the result of records, one batch each, as of `now` seconds after the beginning."""
    clock = [BEGAN]
    rules = FoldRules(stall_rules=stall_rules or StallRules(), windows={"claude-sonnet-4-5": 200_000})
    store = MemoryStore(rules, clock=lambda: clock[0])
    for record in records:
        clock[0] = max(clock[0], datetime.fromtimestamp(record.at_ns / 1e9, UTC))
        assert not store.record_now([record]).dropped
    if now is not None:
        while clock[0] < BEGAN + timedelta(seconds=now):  # timers run all the time
            clock[0] += timedelta(seconds=20)
            asyncio.run(store.outbox.due_in())
            store.elapse_now(clock[0])
    tasks = sorted(store.tasks_now(TaskQuery(limit=100)), key=lambda t: t.task_id)
    return tasks, store.checkpoints_now(limit=10_000)


def texts_of(checkpoints: list[Checkpoint]) -> list[tuple[str, str]]:
    return sorted((c.kind.value, c.text) for c in checkpoints)


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_a_session_at_work_and_between_prompts() -> None:
    """A prompt's records show the session working, its answer shows it waiting; a new prompt resumes it."""
    s = Session().prompt(0).call(1).tool(1).call(3).answer(3)
    statuses = [folded(*s.records[:n])[0][0].status for n in range(1, len(s.records) + 1)]
    assert statuses == ["working"] * 5 + ["waiting"]
    s.prompt(60, "p2")
    [task], checkpoints = folded(*s.records)
    assert (task.status, task.runs, task.ended_at) == ("working", 2, None)
    s.call(61, "p2").answer(61, "p2")
    [task], checkpoints = folded(*s.records)
    assert (task.status, task.rule, task.is_inferred) == ("waiting", "session between prompts", True)
    assert [c.kind for c in checkpoints if c.kind in REPORTED_KINDS] == [Kind.START, Kind.END, Kind.START, Kind.END]
    assert [step.name for step in task.steps] == ["1. Prompt of 12 characters", "2. Prompt of 12 characters"]
    assert task.step_name == "2. Prompt of 12 characters"
    assert (task.llm_calls, task.input_tokens, task.cost_usd) == (3, 3000, Decimal("0.03"))


def test_words_before_a_tool_are_no_end() -> None:
    """An answer while a tool is running, or before one is done, leaves the session working."""
    s = Session(terminal="non-interactive").prompt(0)
    s.tell("tool_decision", 1, decision="accept", source="config", tool_name="Bash", tool_use_id="t1").call(1).answer(1)
    assert folded(*s.records)[0][0].status == "working"
    s.tell("tool_result", 90, tool_name="Bash", tool_use_id="t1", success="true", duration_ms="89000")
    assert folded(*s.records)[0][0].status == "working"
    s.call(92).answer(92)
    [task], checkpoints = folded(*s.records)
    assert (task.status, task.tool_calls, task.rule) == ("complete", 1, "answered")
    assert [c.text for c in checkpoints if c.kind is Kind.END] == ["Complete in 1 min 32 s"]


def test_an_idle_session_is_not_stalled() -> None:
    """Half an hour after its answer a session still waits; one with an open, quiet prompt is stalled."""
    idle = Session().prompt(0).call(1).answer(1)
    [task], checkpoints = folded(*idle.records, now=1800)
    assert task.status == "waiting"
    assert Kind.STALLED not in {c.kind for c in checkpoints}
    open_ = Session().prompt(0).call(1)
    [task], checkpoints = folded(*open_.records, now=1800)
    assert task.status == "stalled"


def test_sessions_side_by_side() -> None:
    """Two sessions whose records are mixed are two tasks, each with its own prompts, tools and figures."""
    one, two = Session("s1").prompt(0).call(1).tool(1).answer(3), Session("s2").prompt(0).call(1, fresh=5).answer(2)
    mixed = [*one.records, *two.records]
    Random(1).shuffle(mixed)
    tasks, _ = folded(*mixed)
    assert [(t.task_id, t.input_tokens, t.tool_calls, t.status) for t in tasks] == [
        ("s1", 1000, 1, "waiting"),
        ("s2", 905, 0, "waiting"),
    ]


def test_a_resumed_session_goes_on_and_a_cleared_one_is_another() -> None:
    """`--resume` keeps the session's id and restarts its sequence; `/clear` gives a new id and goes on
    counting.
    """
    before = Session().prompt(0).call(1).answer(1)
    resumed = Session().prompt(7200, "p2").call(7201, "p2").answer(7201, "p2")
    cleared = Session("s2")
    cleared.sequence = 3
    cleared.prompt(7300, "p3").call(7301, "p3").answer(7301, "p3")
    tasks, checkpoints = folded(*before.records, *resumed.records, *cleared.records)
    assert [(t.task_id, t.runs, t.llm_calls) for t in tasks] == [("s1", 2, 2), ("s2", 1, 1)]
    assert [c.kind for c in checkpoints].count(Kind.START) == 3


def test_records_of_one_millisecond_are_in_their_sequence() -> None:
    """For a call and its answer of the same millisecond, the sequence gives the order, whatever the order of
    arrival.
    """
    s = Session().prompt(0).call(0).answer(0)
    for order in permutations(s.records):
        assert folded(*order)[0][0].status == "waiting"
    late = Session().prompt(0).answer(0)
    late.tell("tool_decision", 0, decision="accept", source="config", tool_name="Bash", tool_use_id="t1")
    for order in permutations(late.records):
        assert folded(*order)[0][0].status == "working"


def test_a_session_met_in_the_middle_is_shown_at_once() -> None:
    """Calls without their prompt's record belong to the session, and its answer ends the prompt."""
    s = Session().call(1).tool(1).call(3)
    [task], _ = folded(*s.records)
    assert (task.task_id, task.llm_calls, task.tool_calls, task.status, task.is_announced) == (
        "s1",
        2,
        1,
        "working",
        True,
    )
    s.answer(3).prompt(60, "p2")
    [task], _ = folded(*s.records)
    assert (task.llm_calls, task.status, task.runs) == (2, "working", 1)


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_person_says_no() -> None:
    """A refused tool call is reported with the person's name, is no failure, and leaves the session waiting."""
    s = Session().prompt(0).call(1)
    s.tell("tool_decision", 9, decision="reject", source="user_reject", tool_name="Bash", tool_use_id="t1")
    [task], checkpoints = folded(*s.records)
    assert (task.status, task.tool_errors, task.error_count) == ("waiting", 0, 0)
    assert [c.text for c in checkpoints if c.kind is Kind.APPROVAL_RESOLVED] == ["reject by a person: Bash"]
    assert [(a.decision, a.by) for a in task.approvals] == [("reject", "a person")]
    s.call(12)
    assert folded(*s.records)[0][0].status == "working"


@pytest.mark.parametrize(
    ("source", "is_reported"),
    [("config", False), ("hook", False), ("user_temporary", False), ("user_permanent", False)],
)
def test_an_allowed_tool_is_not_announced(source: str, is_reported: bool) -> None:
    """An allowed tool is not announced, by person or setting; a person's approval is kept with the task."""
    s = (
        Session()
        .prompt(0)
        .tell("tool_decision", 1, decision="accept", source=source, tool_name="Bash", tool_use_id="t1")
    )
    [task], checkpoints = folded(*s.records)
    assert (Kind.APPROVAL_RESOLVED in {c.kind for c in checkpoints}) is is_reported
    assert [a.decision for a in task.approvals] == (["accept"] if source.startswith("user") else [])
    assert task.action == "tool: Bash"


def test_a_permission_prompt_is_seen_where_hooks_tell_it() -> None:
    """A hook for permission requests shows the wait while it lasts; the decision ends it."""
    s = (
        Session()
        .prompt(0)
        .call(1)
        .tell("hook_execution_start", 2, hook_event="PermissionRequest", hook_name="PermissionRequest:Bash")
    )
    assert folded(*s.records)[0][0].status == "waiting"
    s.tell("tool_decision", 30, decision="accept", source="user_temporary", tool_name="Bash", tool_use_id="t1")
    assert folded(*s.records)[0][0].status == "working"


def test_a_session_ends_where_hooks_tell_it_and_may_be_resumed() -> None:
    """A hook for the session's end completes it; a prompt after that is another run of the same session."""
    s = (
        Session()
        .prompt(0)
        .call(1)
        .answer(1)
        .tell("hook_execution_start", 9, hook_event="SessionEnd", hook_name="SessionEnd")
    )
    assert folded(*s.records)[0][0].status == "complete"
    s.prompt(60, "p2")
    [task], _ = folded(*s.records)
    assert (task.status, task.runs) == ("working", 2)


def test_what_the_resource_says_is_there_for_routing() -> None:
    """Topic, repository and environment of the CLI's resource are the task's."""
    said = {
        "service.name": "claude-code",
        "agent.topic": "backend",
        "agent.repo": "acme/shop",
        "deployment.environment.name": "ci",
    }
    origin = msgspec.structs.replace(EVENTS, resource=said)
    [task], _ = folded(*(msgspec.structs.replace(o, origin=origin) for o in Session().prompt(0).call(1).records))
    assert (task.topic, task.repo, task.environment, task.service) == ("backend", "acme/shop", "ci", "claude-code")


@pytest.mark.slow
@given(st.randoms(use_true_random=False))
def test_any_order_of_a_session_comes_to_the_same(random: Random) -> None:
    """Prompts with tools, a refusal, an error, a compaction and data points give the same in any order."""
    s = Session().prompt(0).call(1).tool(1).call(3).answer(3).prompt(60, "p2").call(61, "p2", fresh=9000)
    s.tell("api_error", 62, "p2", model="claude-sonnet-4-5", error="Overloaded", status_code=529, request_id="req_1")
    s.tell("tool_decision", 63, "p2", decision="reject", source="user_reject", tool_name="Edit", tool_use_id="t2")
    s.tell("compaction", 64, "p2", trigger="auto", success="true", pre_tokens="9900", post_tokens="400")
    s.call(65, "p2", fresh=10).answer(65, "p2")
    records = [*s.records, point("token.usage", 60, 5, type="output"), point("active_time.total", 60, 5.0, type="cli")]

    def public(batch: list[Observation]) -> tuple[list[Task], list[tuple[str, str]]]:
        tasks, checkpoints = folded(*batch, stall_rules=NO_STALL)
        return tasks, texts_of([c for c in checkpoints if c.kind in REPORTED_KINDS])

    expected = public(records)
    mixed = [*records, *random.sample(records, 5)]
    random.shuffle(mixed)
    assert public(mixed) == expected


# --- failures and compaction ------------------------------------------------------------------------------------------


def test_an_error_that_is_tried_again_is_no_end() -> None:
    """An overload is reported and the session goes on; the same error without a later attempt fails the
    prompt.
    """
    s = Session().prompt(0)
    error = {"model": "claude-sonnet-4-5", "error": "Overloaded", "duration_ms": 100}
    s.tell("api_error", 1, **error, status_code=529, attempt=1, request_id="req_1")
    [task], checkpoints = folded(*s.records)
    assert (task.status, [c.text for c in checkpoints if c.kind is Kind.ERROR]) == (
        "working",
        ["claude-sonnet-4-5: Overloaded"],
    )
    s.call(5).answer(5)
    assert folded(*s.records)[0][0].status == "waiting"
    s.prompt(10, "p2").tell("api_error", 11, "p2", **error, status_code=529, attempt=10, request_id="req_2")
    s.tell("api_retries_exhausted", 11, "p2", **error, status_code=529, total_attempts=10)
    [task], checkpoints = folded(*s.records)
    assert (task.status, task.error_count) == ("error", 2)
    assert [c.text for c in checkpoints if c.kind is Kind.END][-1] == "Failed: Overloaded"


def test_a_reported_compaction_is_announced_once() -> None:
    """The CLI's report of a compaction is announced, and the drop in the next calls is not announced again."""
    s = Session().prompt(0).call(1, fresh=150_000).call(2, fresh=160_000)
    s.tell("compaction", 3, trigger="auto", success="true", pre_tokens="160900", post_tokens="20000", duration_ms="900")
    s.call(4, fresh=19_000).call(5, fresh=20_000).answer(5)
    _, checkpoints = folded(*s.records)
    assert [c.text for c in checkpoints if c.kind is Kind.COMPACTION] == ["Context compacted: 160,900 → 20,000 tokens"]


def test_a_sub_agents_end_is_a_checkpoint() -> None:
    """A sub-agent's result is reported when it is done; its calls belong to the session."""
    s = Session().prompt(0).call(1).call(2, agent__name="Explore", query_source="subagent")
    s.tell("subagent_completed", 3, agent_type="Explore", total_tool_uses=7, duration_ms=12500, total_tokens=9)
    [task], checkpoints = folded(*s.records)
    assert [c.text for c in checkpoints if c.kind is Kind.CHECKPOINT] == ["Explore is done: 7 tool calls, 12.5 s"]
    assert (task.llm_calls, task.input_tokens) == (2, 2000)


def test_a_prompt_given_up_rests_once_the_cli_says_that_it_idles() -> None:
    """Only the hook for an idle prompt reports Escape: the tool begun before no longer works then."""
    s = Session().prompt(0).call(1, stop_reason="tool_use")
    s.tell("tool_decision", 2, tool_name="Bash", tool_use_id="t1", decision="accept", source="config")
    assert folded(*s.records)[0][0].status == "working"
    s.tell("hook_execution_start", 63, hook_event="Notification", hook_name="Notification:idle_prompt")
    [task], _ = folded(*s.records)
    assert (task.status, task.is_inferred) == ("waiting", True)
    s.prompt(70, "p2")
    assert folded(*s.records)[0][0].status == "working"


def test_calls_beside_the_conversation_say_nothing_of_its_context() -> None:
    """A title's or a sub-agent's call is counted, and does not change the session's context use and model."""
    s = Session().prompt(0).call(1, fresh=150_000, query_source="repl_main_thread")
    s.call(2, fresh=50, cached=0, query_source="generate_session_title", model="claude-haiku-4-5")
    s.call(3, fresh=190_000, cached=0, query_source="agent:builtin:Explore", agent__name="Explore")
    [task], checkpoints = folded(*s.records)
    assert (task.context_used_tokens, task.model, task.llm_calls) == (150_900, "claude-sonnet-4-5", 3)
    assert [c.ref for c in checkpoints if c.kind is Kind.CONTEXT_WARNING] == ["70"]


@pytest.mark.parametrize(("model", "window"), [("claude-sonnet-4-5", 200_000), ("claude-sonnet-4-5[1m]", 1_000_000)])
def test_the_window_is_the_models(model: str, window: int) -> None:
    """A window of a million tokens is known by the model's name."""
    [task], _ = folded(*Session().prompt(0).call(1, model=model).records)
    assert task.context_window_tokens == window


def test_records_that_mean_nothing_are_no_sign_of_work() -> None:
    """A plugin loaded after the answer leaves the session waiting, and an unknown record is not counted as
    dropped.
    """
    s = Session().prompt(0).call(1).answer(1).tell("plugin_loaded", 2).tell("something_new", 3)
    assert folded(*s.records)[0][0].status == "waiting"


# --- data points ------------------------------------------------------------------------------------------------------

TOKENS = ("input", "output", "cacheRead", "cacheCreation")


def test_delta_points_add_up_and_a_repeat_adds_nothing() -> None:
    """Each interval's points count once; input includes tokens read from and written to the cache."""
    points = [point("token.usage", 60 * n, 100, since=60 * (n - 1), type=sort) for n in (1, 2, 3) for sort in TOKENS]
    points += [point("cost.usage", 60 * n, 0.25, since=60 * (n - 1)) for n in (1, 2, 3)]
    [task], _ = folded(*points, *points[:5])
    assert (task.input_tokens, task.output_tokens, task.cache_read_tokens, task.cache_write_tokens) == (
        900,
        300,
        300,
        300,
    )
    assert (task.cost_usd, task.llm_calls, task.name, task.status) == (Decimal("0.75"), 0, "Claude Code", "working")


def test_cumulative_points_replace_each_other_and_a_restart_adds() -> None:
    """The newest point of a cumulative series counts; a new start begins another series."""
    first = [point("token.usage", at, value, kind=2, type="output") for at, value in ((60, 10), (120, 30), (180, 70))]
    second = [point("token.usage", at, value, since=200, kind=2, type="output") for at, value in ((260, 5), (320, 9))]
    for order in ([*first, *second], [*reversed(first), *reversed(second)], [*second, *first, *first]):
        [task], _ = folded(*order)
        assert task.output_tokens == 79


def test_models_and_sessions_are_series_of_their_own() -> None:
    """Points of two models of a session add up; another session's belong to its task; without a session, to
    none.
    """
    points = [
        point("token.usage", 60, 10, type="output"),
        point("token.usage", 60, 5, type="output", model="claude-haiku-4-5"),
    ]
    points += [
        point("token.usage", 60, 3, type="output", session="s2"),
        point("token.usage", 60, 99, type="output", session=""),
    ]
    tasks, _ = folded(*points)
    assert [(t.task_id, t.output_tokens) for t in tasks] == [("s1", 15), ("s2", 3)]


@given(st.randoms(use_true_random=False))
def test_points_and_records_are_never_added_up(random: Random) -> None:
    """Records take precedence over data points, whatever the order."""
    s = Session().prompt(0).call(1).tool(1).call(3).answer(3)
    points = [point("session.count", 10, 1, start_type="fresh"), point("token.usage", 10, 5000, type="input")]
    points += [point("cost.usage", 10, 7.5), point("active_time.total", 10, 3.0, type="cli")]
    mixed = [*s.records, *points]
    random.shuffle(mixed)
    [task], checkpoints = folded(*mixed)
    assert (task.input_tokens, task.cost_usd, task.status, task.runs) == (2000, Decimal("0.02"), "waiting", 1)
    assert texts_of([c for c in checkpoints if c.is_reported]) == [
        ("end", "Waiting for its next prompt"),
        ("start", "Started: Claude Code"),
    ]


def test_points_alone_tell_when_work_is_done() -> None:
    """Active time is reported when a prompt is done: the session then waits, until tokens are used again."""
    points = [point("session.count", 1, 1, start_type="fresh"), point("token.usage", 60, 5, type="output")]
    assert folded(points[0])[0][0].status == "starting"
    assert folded(*points)[0][0].status == "working"
    points.append(point("active_time.total", 60, 40.0, type="cli"))
    assert folded(*points)[0][0].status == "waiting"
    points.append(point("token.usage", 120, 5, since=60, type="output"))
    assert folded(*points)[0][0].status == "working"


# --- other CLIs -------------------------------------------------------------------------------------------------------


def other(service: str, name: str, at: float, **attributes: Any) -> Observation:
    record = Observation(
        part=Part.LOG,
        trace_id=b"",
        span_id=b"",
        name=name,
        at_ns=_ns(at),
        attributes={k.replace("__", "."): v for k, v in attributes.items()},
        origin=Origin(resource={"service.name": service}, scope=service),
    )
    return msgspec.structs.replace(record, index=log_index(record))


def test_gemini_cli_is_read_by_its_declaration() -> None:
    """Records named ``gemini_cli.*``: tokens with thoughts in the output, tools, and their failures."""

    def tell(event: str, at: float, **attributes: Any) -> Observation:
        return other("gemini-cli", f"gemini_cli.{event}", at, session__id="g1", prompt_id="g1########0", **attributes)

    records = [
        tell("config", 0, model="gemini-2.5-pro"),
        tell("user_prompt", 0, prompt_length=20),
        tell("api_request", 0, model="gemini-2.5-pro"),
        tell(
            "api_response",
            2,
            model="gemini-2.5-pro",
            duration_ms=1800,
            input_token_count=1200,
            cached_content_token_count=800,
            output_token_count=35,
            thoughts_token_count=42,
            total_token_count=1277,
        ),
        tell(
            "tool_call",
            3,
            function_name="read_file",
            duration_ms=9,
            success=False,
            error="ENOENT",
            error_type="not_found",
        ),
    ]
    [task], checkpoints = folded(*records)
    assert (task.task_id, task.name, task.model, task.status) == ("g1", "Gemini CLI", "gemini-2.5-pro", "working")
    used = (task.input_tokens, task.output_tokens, task.cache_read_tokens, task.reasoning_tokens, task.cost_usd)
    assert used == (1200, 77, 800, 42, None)
    assert (task.llm_calls, task.tool_calls, task.tool_errors) == (1, 1, 1)
    assert [c.text for c in checkpoints if c.kind is Kind.ERROR] == ["read_file: not_found: ENOENT"]


def test_codex_cli_is_read_by_its_declaration() -> None:
    """Records named ``codex.*``: the stream's last event has the tokens; decisions join their tools."""

    def tell(event: str, at: float, **attributes: Any) -> Observation:
        return other("codex_cli_rs", f"codex.{event}", at, conversation__id="c1", model="gpt-5.1", **attributes)

    records = [
        tell("user_prompt", 0, prompt_length=9),
        tell("sse_event", 1, event__kind="response.output_item.done"),
        tell(
            "sse_event",
            2,
            event__kind="response.completed",
            input_token_count=100,
            cached_token_count=40,
            output_token_count=10,
            reasoning_token_count=5,
        ),
        tell("tool_decision", 3, tool_name="shell", call_id="x1", decision="approved", source="config"),
        tell("tool_result", 4, tool_name="shell", call_id="x1", success="true", duration_ms="900"),
    ]
    [task], _ = folded(*records)
    assert (task.task_id, task.name, task.model) == ("c1", "Codex", "gpt-5.1")
    assert (task.input_tokens, task.output_tokens, task.cache_read_tokens, task.reasoning_tokens) == (100, 10, 40, 5)
    assert (task.llm_calls, task.tool_calls) == (1, 1)


# --- with traces ------------------------------------------------------------------------------------------------------

TRACE = b"t" * 16
SPANS = Origin(resource=RESOURCE, scope="com.anthropic.claude_code.tracing", scope_version="2.1.329")


def span(id: int, kind: str, at: float, end: float, parent: int = 0, **attributes: Any) -> Observation:
    said = {"session.id": "s1", "terminal.type": "non-interactive", "span.type": kind}
    return Observation(
        part=Part.ENDED,
        trace_id=TRACE,
        span_id=id.to_bytes(8, "big"),
        parent_id=parent.to_bytes(8, "big") if parent else b"",
        name=f"claude_code.{kind}",
        at_ns=_ns(end),
        start_ns=_ns(at),
        end_ns=_ns(end),
        attributes={**said, **attributes},
        origin=SPANS,
    )


USED = {"model": "claude-sonnet-4-5", "input_tokens": 100, "output_tokens": 10, "cache_read_tokens": 900}


def traced(session: Session, parent: int) -> list[Observation]:
    """Return a session's records as they are written within a span."""
    return [msgspec.structs.replace(o, trace_id=TRACE, span_id=parent.to_bytes(8, "big")) for o in session.records]


@given(st.randoms(use_true_random=False))
def test_a_session_below_its_callers_span(random: Random) -> None:
    """With TRACEPARENT a session is a child task of its agent, in any order of spans and records."""
    caller = msgspec.structs.replace(
        span(1, "", 0, 20),
        attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "boss"},
        name="invoke_agent boss",
    )
    caller = msgspec.structs.replace(caller, origin=Origin(scope="boss"))
    spans = [
        caller,
        span(2, "interaction", 1, 9, parent=1),
        span(3, "llm_request", 2, 3, parent=2, request_id="req_1", **USED),
        span(4, "tool", 3, 8, parent=2, tool_name="Agent", tool_use_id="t1", subagent_type="Explore"),
        span(5, "tool.execution", 3, 8, parent=4, tool_use_id="t1"),
        span(
            6,
            "llm_request",
            4,
            5,
            parent=4,
            agent_id="a1",
            request_id="req_2",
            query_source_safe="agent.builtin.Explore",
            **USED,
        ),
        span(7, "llm_request", 8, 9, parent=2, request_id="req_3", **USED),
    ]
    s = Session(terminal="non-interactive").prompt(1)
    for at, request in ((3, "req_1"), (5, "req_2"), (9, "req_3")):
        s.call(
            at, cached=900, request_id=request, query_source="sdk" if request != "req_2" else "agent:builtin:Explore"
        )
    records = traced(s, 2)
    mixed = [*spans, *records, *random.sample([*spans, *records], 4)]
    random.shuffle(mixed)
    tasks, checkpoints = folded(*mixed, stall_rules=NO_STALL)
    by_name = {task.name: task for task in tasks}
    session = by_name["Claude Code"]
    assert (session.parent_uid, session.status, session.runs) == (by_name["boss"].uid, "complete", 1)
    assert (session.llm_calls, session.input_tokens, session.tool_calls, session.cost_usd) == (
        2,
        2000,
        0,
        Decimal("0.02"),
    )
    helper = by_name["Explore"]
    assert (helper.parent_uid, helper.status, helper.llm_calls, helper.input_tokens) == (
        session.uid,
        "complete",
        1,
        1000,
    )
    assert (helper.tool_calls, helper.cost_usd) == (0, Decimal("0.01"))
    assert sorted(c.kind for c in checkpoints if c.is_reported) == [Kind.END] * 3 + [Kind.START] * 3


def test_spans_alone_show_a_session_before_its_prompts_span_has_ended() -> None:
    """The first model call's span shows the session working; the prompt's span, which arrives last, takes it
    over.
    """
    call = span(3, "llm_request", 2, 3, parent=2, **USED, stop_reason="tool_use")
    [task], _ = folded(call)
    assert (task.task_id, task.status, task.is_announced, task.input_tokens) == ("s1", "working", True, 1000)
    [task], checkpoints = folded(call, span(2, "interaction", 1, 9))
    assert (task.task_id, task.input_tokens, task.runs) == ("s1", 1000, 1)
    assert [c.kind for c in checkpoints].count(Kind.START) == 1


def test_a_second_prompts_first_span_takes_the_session_up_again() -> None:
    """An ended session works again with the first call of its next prompt, before the prompt is named."""
    first = [span(2, "interaction", 1, 9), span(3, "llm_request", 2, 9, parent=2, **USED, stop_reason="end_turn")]
    assert folded(*first)[0][0].status == "complete"
    call = msgspec.structs.replace(span(8, "llm_request", 20, 21, parent=7, **USED), trace_id=b"u" * 16)
    [task], _ = folded(*first, call)
    assert (task.status, task.input_tokens, task.ended_at) == ("working", 2000, None)


def test_calls_of_equal_size_are_distinguished_by_their_time() -> None:
    """Without request ids a call is known by its usage; a later call of the same size is another call."""
    spans = [span(2, "interaction", 1, 9), *(span(n, "llm_request", n, n + 0.4, parent=2, **USED) for n in (3, 5))]
    s = Session(terminal="non-interactive").prompt(1).call(3.4, cached=900).call(5.4, cached=900)
    for o in s.records:
        o.attributes.pop("cache_creation_tokens", None)
    [task], _ = folded(*spans, *traced(s, 2))
    assert (task.llm_calls, task.input_tokens, task.cost_usd) == (2, 2000, Decimal("0.02"))
