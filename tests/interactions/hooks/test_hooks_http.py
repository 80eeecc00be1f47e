"""The endpoint of permission hooks: who decides, what no answer means, and what a prompt is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spanpost.model.checkpoints import Kind
from spanpost.model.interventions import InterventionState, Result, Verb
from spanpost.testing.exercise_people import an_act
from tests.interactions.hooks.harness import ALLOW, Station, denied


async def test_a_person_allows_a_call() -> None:
    """A prompt is a question with tool, input, risk and directory; the approval reaches its hook."""
    station = Station()
    call = station.call()
    [row] = await station.open()
    assert (row.question, row.risk, row.is_asked) == ("Claude Code asks to use Bash in shop", "medium", True)
    assert row.detail.splitlines()[:2] == ["command: touch made.txt", "description: Makes a file"]
    await station.decide()
    assert await call.answer() == (200, ALLOW)
    await station.closed()
    [row] = await station.questions()
    assert (row.state, row.decision, row.by) == (InterventionState.DECIDED, "approve", "alice")


async def test_a_person_denies_a_call() -> None:
    """A refusal reaches the hook with the person's comment."""
    station = Station()
    call = station.call()
    await station.decide(Verb.DENY, "not on a Friday")
    assert await call.answer() == (200, denied("denied by alice: not on a Friday"))


@pytest.mark.proves("silence-is-no-yes")
async def test_without_an_answer_the_prompt_stands() -> None:
    """When the wait is over, the answer is no opinion, the question is withdrawn, and a late click grants nothing."""
    station = Station(wait=timedelta(seconds=0.01))
    assert await station.call().answer() == (200, {})
    await station.closed()
    [row] = await station.questions()
    assert (row.state, row.decision, row.source) == (InterventionState.WITHDRAWN, "withdrawn", "withdrawal")
    late = await station.store.interventions.intervene(an_act(Verb.APPROVE, row.key))
    assert late.result is Result.WITHDRAWN
    assert (await station.questions())[0].state is InterventionState.WITHDRAWN


async def test_a_hook_that_hangs_up_withdraws_its_question() -> None:
    """When the connection closes, the question closes by itself, and nothing is granted."""
    station = Station()
    call = station.call()
    await station.open()
    await call.hang_up()
    await station.closed()
    [row] = await station.questions()
    assert (row.state, row.comment) == (
        InterventionState.WITHDRAWN,
        "the hook hung up: it was settled where the agent runs",
    )


async def test_a_prompt_asked_twice_is_one_question() -> None:
    """Two hooks of one prompt wait for one question; it stands until both are gone, and both get its answer."""
    station = Station()
    calls = [station.call(), station.call(), station.call()]
    await station.open()
    await station.waiting(3)
    await calls.pop().hang_up()
    await station.closed()
    await station.decide()
    assert [await call.answer() for call in calls] == [(200, ALLOW)] * 2
    assert len(await station.questions()) == 1


async def test_a_decision_stands_for_its_question_alone() -> None:
    """The same call in the same prompt, in the next prompt, or with another input is a new question."""
    station = Station()
    call = station.call()
    await station.decide()
    await call.answer()
    for more in ({}, {"prompt_id": "p2"}, {"tool_input": {"command": "touch made.txt "}}, {"session_id": "s2"}):
        call = station.call(**more)
        await station.decide(Verb.DENY)
        assert (await call.answer())[1] == denied("denied by alice")
    rows = await station.questions()
    assert len({row.approval_id for row in rows}) == 5
    assert len({row.mark for row in rows}) == 2  # the words have a hash of the input


async def test_a_task_is_made_and_joined() -> None:
    """A prompt in a session without telemetry makes a task, which waits and then rests."""
    station = Station()
    call = station.call()
    await station.open()
    [task] = await station.tasks()
    assert (task.task_id, task.agent_name, task.status) == ("s1", "Claude Code", "waiting")
    assert [a.is_open for a in task.approvals] == [True]
    await station.decide()
    await call.answer()
    [task] = await station.tasks()
    assert (task.status, task.rule) == ("waiting", "session between prompts")


async def test_an_unknown_event_and_a_tool_that_needs_no_asking_are_left_alone() -> None:
    """An event of another name, a PreToolUse and a BeforeTool get no opinion, and nothing is recorded."""
    station = Station()
    for program, name in (
        ("claude-code", "SessionStart"),
        ("claude-code", "PreToolUse"),
        ("codex", "PreToolUse"),
        ("gemini-cli", "BeforeTool"),
        ("gemini-cli", "PermissionRequest"),
    ):
        assert await station.call(program=program, hook_event_name=name).answer() == (200, {})
    assert (await station.questions(), await station.tasks()) == ([], [])


async def test_gemini_cli_gets_a_notice() -> None:
    """A prompt of Gemini CLI is a checkpoint in its session's task: it can be read, and not answered."""
    station = Station()
    event = {"session_id": "g1", "hook_event_name": "Notification", "message": "Tool Confirm Shell Command"}
    assert await station.call(event, "gemini-cli").answer() == (200, {})
    [task] = await station.tasks()
    texts = [c.text for c in await station.store.reader.checkpoints() if c.kind is Kind.CHECKPOINT]
    assert (task.agent_name, texts) == (
        "Gemini CLI",
        ["Gemini CLI waits at its terminal: Tool Confirm Shell Command"],
    )


async def test_the_input_stays_out_where_it_is_switched_off() -> None:
    """With `hooks.input` off the question has the tool, the risk and a hash, which still marks this input alone."""
    station = Station(input=False)
    calls = [station.call(), station.call(tool_input={"command": "rm -rf /"})]
    rows = await station.open(2)
    assert not any("touch" in str(row) or "rm -rf" in str(row) for row in rows)
    assert sorted(row.risk for row in rows) == ["high", "medium"]
    assert len({row.mark for row in rows}) == 2
    for call in calls:
        await call.hang_up()


async def test_the_gateway_that_stops_lets_the_prompt_stand() -> None:
    """When the gateway stops, hooks get no opinion at once, and their questions are withdrawn."""
    station = Station()
    call = station.call()
    await station.open()
    station.answers.end()
    assert await call.answer() == (200, {})
    await station.closed()
    assert [row.state for row in await station.questions()] == [InterventionState.WITHDRAWN]


async def test_a_question_left_by_a_killed_gateway_expires() -> None:
    """A question whose gateway was killed has a deadline, and expires without a decision."""
    station = Station(wait=timedelta(seconds=60))
    call = station.call()
    [row] = await station.open()
    call.done.cancel()  # the process is gone: nothing withdraws
    await station.pass_time(80)
    [row] = await station.questions()
    assert (row.state, row.decision) == (InterventionState.EXPIRED, "expired")


async def test_a_prompt_that_was_given_up_is_asked_again() -> None:
    """After a withdrawal the same prompt is a new question, and so often; then it is left to the terminal."""
    station = Station(wait=timedelta(0))
    for _ in range(22):
        assert await station.call().answer() == (200, {})
        await station.closed()
    rows = await station.questions()
    assert (len(rows), {row.state for row in rows}) == (20, {InterventionState.WITHDRAWN})


async def test_a_call_that_ran_is_withdrawn() -> None:
    """When the program says that the call has run, its question closes and no other; at the end of a turn all do."""
    station = Station()
    calls = [station.call(), station.call(tool_input={"command": "make"})]
    await station.open(2)
    assert await station.call(hook_event_name="PostToolUse", tenant="acme").answer() == (200, {})
    assert len(await station.open()) == 2  # another tenant's event settles nothing
    assert await station.call(hook_event_name="PostToolUse").answer() == (200, {})
    assert await calls[0].answer() == (200, {})
    assert ["make" in row.detail for row in await station.open()] == [True]
    assert await station.call({"session_id": "s1", "hook_event_name": "Stop"}).answer() == (200, {})
    assert await calls[1].answer() == (200, {})
    assert {row.state for row in await station.questions()} == {InterventionState.WITHDRAWN}
