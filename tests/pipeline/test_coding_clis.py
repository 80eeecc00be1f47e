"""Genuine sessions of Codex, Gemini CLI, Qwen Code, Copilot CLI, opencode and Claude Code, by each signal and all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import msgspec
import pytest

from spanpost.model.checkpoints import REPORTED_KINDS
from spanpost.model.observations import Observation, Part
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.readers import read
from spanpost.receivers.recordings import read_recording
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.json_form import report
from spanpost.tasks.stall import NO_STALL
from tests.tasks.recorded_runs import COMMITTED, totals

ALL = ("traces", "logs", "metrics")
#: Signals that tell a whole run, for each program: alone and together.
MIXES = {
    "codex-cli": [("logs",), ("traces", "logs"), ALL],
    "gemini-cli": [("logs",), ("traces", "logs"), ALL],
    "qwen-code": [("logs",), ("traces",), ("traces", "logs"), ALL],
    "claude-code": [("logs",), ("traces",), ("traces", "logs"), ALL],
}
#: Runs without a terminal: status, tool calls, failed ones.
HEADLESS = {
    "codex-cli/ok": ("complete", 2, 0),
    "codex-cli/logsonly": ("complete", 2, 0),
    # The exit status of a command is not reported: the tool did its work.
    "codex-cli/toolfail": ("complete", 2, 0),
    "codex-cli/resume": ("complete", 2, 0),
    "gemini-cli/ok": ("complete", 2, 0),
    "gemini-cli/toolfail": ("complete", 2, 1),
    "gemini-cli/llmfail": ("error", 1, 0),
    "gemini-cli/resume": ("complete", 2, 0),
    "qwen-code/ok": ("complete", 2, 0),
    "qwen-code/toolfail": ("complete", 2, 2),
    "qwen-code/llmfail": ("error", 1, 0),
    "qwen-code/resume": ("complete", 2, 0),
    "qwen-code/subagent": ("complete", 2, 0),
    "claude-code/denied": ("complete", 1, 0),
}


@cache
def recorded(run: str, mix: Sequence[str] = ALL) -> tuple[Observation, ...]:
    """Return what arrived by these signals."""
    files = sorted(f for signal in mix for f in (COMMITTED / run).glob(f"*-{signal}.pb*"))
    return tuple(o for file in files for decoded in read_recording(file) for o in decoded.observations)


def made(observations: Sequence[Observation], size: int = 1) -> tuple[list[Task], dict[str, Any]]:
    """Return the tasks made of observations, in order of start, and all that is reported of them."""
    store = MemoryStore(FoldRules(stall_rules=NO_STALL))
    for i in range(0, len(observations), size):
        assert not store.record_now(list(observations[i : i + size])).dropped
    store.elapse_now(datetime.now(UTC) + timedelta(days=1))
    tasks = store.tasks_now(TaskQuery(limit=1000))
    checkpoints = [c for c in store.checkpoints_now(limit=10**6) if c.kind in REPORTED_KINDS]
    whole = report(sorted(tasks, key=lambda t: t.task_id), checkpoints, {})
    whole["checkpoints"].sort(key=lambda c: c["id"])
    return sorted(tasks, key=lambda t: str(t.started_at)), whole


every_headless = pytest.mark.parametrize(
    ("run", "mix"), [(run, mix) for run in HEADLESS for mix in MIXES[run.partition("/")[0]] if recorded(run, mix)]
)


@pytest.mark.slow
@every_headless
def test_a_run_is_one_task_with_the_served_figures(run: str, mix: tuple[str, ...]) -> None:
    """Records, traces and data points, alone and together, make one task: tokens, calls, tools, its own end."""
    [task], _ = made(recorded(run, mix))
    served = totals(COMMITTED / run)
    used = (task.input_tokens, task.output_tokens, task.cache_read_tokens)
    assert used == (served["input"], served["output"], served["cached_read"])
    assert (task.llm_calls, task.status) == (served["llm_calls"], HEADLESS[run][0])
    assert (task.tool_calls, task.tool_errors) == HEADLESS[run][1:]
    if run.endswith("/llmfail") and "logs" in mix:  # Qwen's spans say only that it failed
        assert task.error is not None
        assert "The request is not valid." in task.error.message


def test_what_a_signal_does_not_have_is_unknown() -> None:
    """Codex's spans have sums of a turn and no calls; Gemini's have no output, no cache and no tools."""
    [codex], _ = made(recorded("codex-cli/ok", ("traces",)))
    assert (codex.input_tokens, codex.output_tokens, codex.llm_calls, codex.status) == (3060, 66, 0, "complete")
    [gemini], _ = made(recorded("gemini-cli/ok", ("traces",)))
    assert (gemini.input_tokens, gemini.output_tokens, gemini.cache_read_tokens, gemini.llm_calls) == (
        3060,
        None,
        None,
        3,
    )
    assert made(recorded("codex-cli/ok", ("metrics",)))[0] == []  # they name no session
    [gemini], _ = made(recorded("gemini-cli/ok", ("metrics",)))
    assert (gemini.input_tokens, gemini.output_tokens, gemini.cache_read_tokens) == (3060, 66, 1600)


RUNS = sorted(
    f"{path.parent.name}/{path.name}"
    for name in ("codex-cli", "gemini-cli", "qwen-code", "opencode")
    for path in (COMMITTED / name).iterdir()
)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_any_order_and_repetition_comes_to_the_same(run: str) -> None:
    """Shuffled, repeated, in batches: the same tasks and the same reported checkpoints."""
    observations = recorded(run)
    expected = made(observations, 50)[1]
    random = Random(run)
    mixed = [*observations, *random.sample(observations, len(observations) // 3)]
    random.shuffle(mixed)
    assert made(mixed, 7)[1] == expected


def test_spans_of_the_machinery_are_no_rows() -> None:
    """Of a turn's hundreds of spans those are recorded that are a session's: the prompt, tools, its end and its sum."""
    seen = [o for o in recorded("codex-cli/ok", ("traces",)) if o.part is not Part.LINK]
    kept = [o for o in seen if read(o).is_of_agent]
    assert len(seen) > 500
    assert sorted(o.attributes.get("event.name") or o.name for o in kept) == [
        "codex.tool_result",
        "codex.tool_result",
        "codex.turn_profile",
        "codex.user_prompt",
        "session_task.turn",
    ]
    seen = [o for o in recorded("opencode/ok", ("traces",)) if read(o).is_of_agent]
    assert {o.name for o in seen} == {"ai.streamText.doStream", "ai.toolCall"}


def test_a_session_at_a_terminal_waits_for_its_next_prompt() -> None:
    """Three prompts of Codex are three steps of one task, which waits; what it asks beside them is not announced."""
    tasks, _ = made(recorded("codex-cli/conv"))
    [session] = [task for task in tasks if task.is_announced]
    assert (session.status, session.rule, len(session.steps)) == ("waiting", "session between prompts", 3)
    assert (session.llm_calls, session.tool_calls, len(tasks)) == (5, 2, 4)
    [session], _ = made(recorded("qwen-code/conv"))
    assert (session.status, session.runs, session.llm_calls, session.tool_calls) == ("complete", 3, 9, 2)  # /quit
    for run in ("gemini-cli/conv", "qwen-code/conv"):
        [session], _ = made([o for o in recorded(run) if not o.name.endswith(".slash_command")])
        assert (session.status, session.rule, session.runs) == ("waiting", "session between prompts", 3)


def test_gemini_at_a_terminal_has_answered_when_a_round_needs_no_tool() -> None:
    """No record says that a prompt is answered: the span of a round without a tool does, one with a tool does not."""
    store, seen = MemoryStore(FoldRules(stall_rules=NO_STALL)), list[str]()
    for o in sorted(recorded("gemini-cli/conv"), key=lambda o: (o.at_ns, o.part)):
        store.record_now([o])
        seen += [task.status for task in store.tasks_now(TaskQuery(limit=1))]
    changes = [status for before, status in zip(["", *seen], seen, strict=False) if status != before]
    # The person leaves at the end.
    assert [status for status in changes if status != "starting"] == [*["working", "waiting"] * 3, "complete"]


def test_opencode_has_answered_with_a_call_that_asks_for_no_tool() -> None:
    """The call for the session's title ends no prompt; the last call of the conversation does."""
    store, seen = MemoryStore(FoldRules(stall_rules=NO_STALL)), list[tuple[str, str]]()
    for o in sorted(recorded("opencode/toolfail"), key=lambda o: o.at_ns):
        store.record_now([o])
        seen += [(task.status, task.rule) for task in store.tasks_now(TaskQuery(limit=1))]
    assert list(dict.fromkeys(seen)) == [
        ("starting", "no activity yet"),
        ("working", "activity"),
        ("complete", "answered"),
    ]


def test_a_call_counts_once_where_its_span_has_no_figures() -> None:
    """Without `telemetry.traces`, Gemini's default, spans say nothing by which a call's record would know them."""
    plain = [
        msgspec.structs.replace(
            o, attributes={key: value for key, value in o.attributes.items() if not key.startswith("gen_ai.usage.")}
        )
        for o in recorded("gemini-cli/ok")
    ]
    [task], _ = made(plain)
    assert (task.llm_calls, task.input_tokens, task.status) == (3, 3060, "complete")


@pytest.mark.parametrize("milliseconds", [0, 1, 9])
def test_a_call_that_fails_at_once_counts_once(milliseconds: int) -> None:
    """A refused call may be shorter than a record's rounding: its span and its record are one call all the same."""
    quick = [
        msgspec.structs.replace(o, attributes={**o.attributes, "duration_ms": milliseconds})
        if o.name == "gemini_cli.api_error"
        else o
        for o in recorded("gemini-cli/llmfail")
    ]
    [task], _ = made(quick)
    assert (task.llm_calls, task.status) == (2, "error")


@pytest.mark.parametrize("run", ["qwen-code/toolfail", "qwen-code/llmfail", "copilot-cli/toolfail"])
def test_a_failed_call_is_reported_once(run: str) -> None:
    """A failed call is one checkpoint, whose words are those of the record or span that says more, in any order."""
    seen = recorded(run)
    for observations in (seen, seen[::-1]):
        words = [c["text"] for c in made(observations)[1]["checkpoints"] if c["kind"] == "error"]
        assert len(words) == {"qwen-code/toolfail": 2}.get(run, 1)
        assert not any("Tool execution failed" in text or "API call failed" in text for text in words)


def test_calls_of_two_sessions_are_two_failures_whatever_their_ids() -> None:
    """Some models count the tool calls of each conversation from zero: no session takes another's checkpoint."""
    first = recorded("qwen-code/toolfail")
    session = next(o.attributes["session.id"] for o in first if "session.id" in o.attributes)
    other = [
        msgspec.structs.replace(
            o,
            trace_id=bytes(reversed(o.trace_id)),
            attributes={
                key: value.replace(session, "another") if type(value) is str else value
                for key, value in o.attributes.items()
            },
        )
        for o in first
    ]
    whole = made([*first, *other], 50)[1]
    assert len([c for c in whole["checkpoints"] if c["kind"] == "error"]) == 4


@pytest.mark.parametrize("size", [1, 9])
def test_codex_waits_for_permission_until_it_is_decided(size: int) -> None:
    """Of each prefix of a refused call: working while it asks, waiting for a prompt only after the turn's end."""
    observations = sorted(recorded("codex-cli/deny"), key=lambda o: o.at_ns)
    main = next(o.attributes["conversation.id"] for o in observations if "conversation.id" in o.attributes)
    own = [o for o in observations if o.attributes.get("conversation.id") == main]
    statuses = []
    for end in range(1, len(own) + 1, size):
        statuses += [task.status for task in made(own[:end])[0] if task.task_id == main]
    changes = [status for before, status in zip(["", *statuses], statuses, strict=False) if status != before]
    assert [status for status in changes if status != "starting"] in (["working", "waiting"], ["working"])
    assert made(own)[0][0].status == "waiting"


@pytest.mark.parametrize("run", ["gemini-cli/deny", "qwen-code/deny"])
def test_a_tool_that_a_person_refused_is_no_failure(run: str) -> None:
    """The refusal is reported with the person, is no error, and the session waits for its next prompt."""
    [task], _ = made([o for o in recorded(run) if not o.name.endswith(".slash_command")])
    assert (task.status, task.rule, task.tool_errors, task.error_count) == ("waiting", "session between prompts", 0, 0)
    assert made(recorded(run))[0][0].status == "complete"  # the person left
    assert [(a.decision, a.by) for a in task.approvals] == [("reject", "a person")]


def test_a_sub_agent_of_gemini_is_a_task_below_its_session() -> None:
    """A sub-agent with an id has its calls, tools and end; the session has only its own."""
    tasks, _ = made(recorded("gemini-cli/subagent"))
    session, helper = sorted(tasks, key=lambda t: t.name)
    assert (session.name, session.llm_calls, session.tool_calls) == ("Gemini CLI", 2, 1)
    assert (helper.name, helper.llm_calls, helper.tool_calls, helper.status) == ("generalist", 3, 1, "complete")
    served = totals(COMMITTED / "gemini-cli" / "subagent")
    assert (session.input_tokens or 0) + (helper.input_tokens or 0) == served["input"]
    assert (helper.parent_task_id, helper.parent_uid) == (session.task_id, session.uid)


def test_claude_without_a_terminal_is_complete_where_its_terminal_has_a_name() -> None:
    """``claude -p`` in a shell reports the shell's terminal: what requests its calls shows that nobody is there."""
    observations = recorded("claude-code/denied", ("logs",))
    assert {o.attributes.get("terminal.type") for o in observations} == {"xterm-256color"}
    [task], _ = made(observations)
    assert (task.status, task.rule) == ("complete", "answered")
    attended = [
        msgspec.structs.replace(o, attributes={**o.attributes, "query_source": "repl_main_thread"})
        for o in observations
    ]
    assert made(attended)[0][0].status == "waiting"


def test_copilot_is_read_by_the_conventions() -> None:
    """Copilot CLI's spans are those of the GenAI conventions: one task a prompt, a sub-agent below it."""
    [task], _ = made(recorded("copilot-cli/ok"))
    assert (task.name, task.status, task.tool_calls) == ("Copilot", "complete", 2)
    assert (task.input_tokens, task.output_tokens) == (3060, 66)
    tasks, _ = made(recorded("copilot-cli/subagent"))
    [helper] = [task for task in tasks if task.parent_uid is not None]
    assert (len(tasks), helper.name, helper.llm_calls) == (2, "explore", 2)
