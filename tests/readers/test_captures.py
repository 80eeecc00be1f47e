"""The reader against recorded runs of real frameworks."""

from __future__ import annotations

import pytest

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Finish, Reading, Role
from spanpost.readers import read
from tests.tasks import recorded_runs as rec


@pytest.mark.slow
@pytest.mark.parametrize("run", list(rec.runs(rec.shared())))
def test_tokens_are_what_the_model_served(run: str) -> None:
    """The sum over de-duplicated model calls equals the served tokens, wherever they are in the spans."""
    found = rec.tokens(rec.observations(rec.shared() / run))
    if run == "anthropic-traceloop/stream":
        # Two copies of each call differ by message_start's token; the fold decides which one counts.
        found = (found[0], found[1] - 3 if found[1] == 56 else found[1])
    assert found == rec.reported_tokens(rec.shared(), run)


def _readings(run: str) -> list[tuple[Observation, Reading]]:
    return [(o, read(o)) for o in rec.observations(rec.COMMITTED / run)]


def _of(run: str, role: Role) -> list[Reading]:
    return [r for o, r in _readings(run) if r.role is role and o.part is Part.ENDED]


def test_openai_agents_root_is_the_workflow_and_its_tool_requests_are_seen() -> None:
    """An AGENT without `agent.name` is the run; `llm.finish_reason` is always "stop", so the answer is read."""
    run = "openai-agents-openinference/ok"
    assert [r.task_name for r in _of(run, Role.WORKFLOW)] == [None]  # "Agent workflow" is the default name
    assert [r.agent_name for r in _of(run, Role.AGENT)] == ["weather_agent"]
    assert [r.finish for r in _of(run, Role.LLM)] == [Finish.TOOLS, Finish.TOOLS, Finish.STOP]
    assert all(r.response_id and r.response_id.startswith("resp_") for r in _of(run, Role.LLM))


@pytest.mark.parametrize(
    ("run", "tool"),
    [
        ("openai-agents-openinference/approval", "delete_file"),
        ("langgraph-openinference/approval", "delete_file"),
        ("strands/approval", "delete_file"),
    ],
)
def test_a_tool_that_waits_for_a_person_has_no_result(run: str, tool: str) -> None:
    """The first call of the guarded tool has no result; the calls that ran have one."""
    tools = _of(run, Role.TOOL)
    assert [r.tool_name for r in tools if r.has_no_result] == [tool]
    assert any(not r.has_no_result for r in tools)


@pytest.mark.parametrize("run", ["langgraph-openinference/approval", "strands/approval"])
def test_an_interrupt_is_no_error(run: str) -> None:
    """GraphInterrupt and `finish_reason = interrupt` are read as a wait; no span of the run is an error."""
    readings = [r for _, r in _readings(run)]
    assert any(r.is_interrupt for r in readings)
    assert not any(r.reports or r.failure for r in readings)


def test_langgraph_agents_are_found_by_metadata() -> None:
    """`weather_expert` is a CHAIN in the spans; its nodes carry its name and are no agents."""
    seen = rec.observations(rec.shared() / "langgraph-openinference" / "handoff")
    root_spans = {o.name: read(o) for o in seen if read(o).role.is_root_span}
    assert {name: (r.role, r.agent_name) for name, r in root_spans.items()} == {
        "weather_desk": (Role.WORKFLOW, None),
        "triage_agent": (Role.AGENT, "triage_agent"),
        "weather_expert": (Role.AGENT, "weather_expert"),
    }
    assert {read(o).agent_label for o in seen if o.name == "ChatOpenAI"} == {"triage_agent", "weather_expert"}


def test_pydantic_ai_names_its_runs() -> None:
    """A nested agent has a call id of its own, and totals of agent spans are aggregates, never usage."""
    agents = _of("pydantic-ai/handoff", Role.AGENT)
    assert {r.agent_name for r in agents} == {"triage_agent", "weather_expert"}
    assert len({r.task_alias for r in agents}) == 2
    assert all(r.usage is None and r.aggregate is not None for r in agents)


def test_strands_lifetime_totals_stay_aggregates() -> None:
    """The agent span's usage under two spellings is read once, as an aggregate."""
    (agent,) = _of("strands/ok", Role.AGENT)
    served = rec.totals(rec.COMMITTED / "strands/ok")
    assert agent.usage is None
    assert agent.aggregate is not None
    assert (agent.aggregate.input, agent.aggregate.cache_read) == (served["input"], served["cached_read"])


def test_claude_code_prompts_are_of_one_session() -> None:
    """`session.id` is the task, input includes the cache, and a tool fails on its execution."""
    run = "claude-code/toolfail"
    (root_span,) = _of(run, Role.AGENT)
    assert (root_span.agent_name, root_span.is_session) == ("Claude Code", False)
    assert root_span.task_id == root_span.conversation_id
    failed = [r for r in _of(run, Role.TOOL) if r.failure is not None]
    assert [r.tool_name for r in failed] == [None, None]
    assert {r.tool_call_id for r in failed} <= {r.tool_call_id for r in _of(run, Role.TOOL) if r.tool_name}


def test_claude_code_records_and_spans_of_a_call_are_one() -> None:
    """Each call and tool has the same key in its span and in its record, which is below the prompt's own
    span.
    """
    readings = _readings("claude-code/ok")
    spans = {r.call_key for o, r in readings if o.part is Part.ENDED and r.call_key}
    records = [r for o, r in readings if o.part is Part.LOG and r.stands_for and r.call_key]
    assert {r.call_key for r in records} == spans
    assert len(spans) == 5
    (prompt,) = {o.span_id for o, r in readings if o.part is Part.ENDED and r.role is Role.AGENT}
    assert {r.stands_for[2] for r in records if r.stands_for and not r.is_open} == {prompt}
    assert [r.stands_for[:2] for _, r in readings if r.is_open and r.role is Role.AGENT and r.stands_for] == [
        (next(o.trace_id for o, _ in readings if o.span_id), prompt)
    ]


def test_claude_code_records_alone_make_a_prompt_with_its_calls() -> None:
    """Without trace ids the prompt, calls and tools get span ids made of session and prompt."""
    alone = [r for o, r in _readings("claude-code/logsonly") if r.stands_for is not None and not r.is_metered]
    opens = [r for r in alone if r.is_open and r.role is Role.AGENT]
    root_spans = {r.stands_for[1] for r in opens if r.stands_for}
    assert len(root_spans) == 1
    assert {r.stands_for[2] for r in alone if r.stands_for and r.role in (Role.LLM, Role.TOOL)} == root_spans
    # each tool was allowed, and ran
    assert sorted(r.role.name for r in alone) == ["AGENT", "LLM", "LLM", "LLM", "OTHER", "TOOL", "TOOL", "TOOL", "TOOL"]
    assert len({r.stands_for[1] for r in alone if r.stands_for and r.role is not Role.OTHER}) == 6
    assert sum(r.usage.cost_usd for r in alone if r.usage and r.usage.cost_usd) > 0
