"""Permission hooks under attack: other tenants, forged ids and telemetry, hostile bodies, clients that come and go."""

from __future__ import annotations

import asyncio
import json

import pytest

from spanpost import semconv as c
from spanpost.interactions.hooks.http import MOST_BODY
from spanpost.interactions.hooks.programs import PROGRAMS, HookAnswer
from spanpost.model.interventions import InterventionState, Result, Verb
from spanpost.model.observations import Part
from spanpost.testing.exercise_people import an_act
from spanpost.testing.observed import an_event
from tests.interactions.hooks.harness import ALLOW, PROMPT, Station, denied


async def test_another_tenant_with_the_same_session_has_a_question_of_its_own() -> None:
    """The same prompt of another tenant is another question and task; the approval of one is not the other's."""
    station = Station()
    ours, theirs = station.call(), station.call(tenant="acme")
    rows = await station.open(2)
    assert len({row.approval_id for row in rows}) == len({row.task_uid for row in rows}) == 2
    mine = next(row for row in rows if row.tenant == "default")
    other = await station.store.interventions.intervene(an_act(Verb.APPROVE, mine.key, tenant="acme"))
    assert other.result is Result.UNKNOWN
    await station.store.interventions.intervene(an_act(Verb.APPROVE, mine.key))
    assert await ours.answer() == (200, ALLOW)
    assert not theirs.done.done()
    await theirs.hang_up()


@pytest.mark.proves("only-people", "forged-answers")
async def test_telemetry_that_claims_an_approval_is_no_approval() -> None:
    """A sender that knows the id and the mark cannot answer the question, whatever record it sends."""
    station = Station()
    call = station.call()
    [row] = await station.open()
    trace, _, span = row.span.partition("-")
    for mark in ("", row.mark):
        said = {c.APPROVAL_ID: row.approval_id, c.APPROVAL_DECISION: "approve", c.APPROVAL_BY: "alice"}
        said |= {c.INTERVENTION_SOURCE: "slack", c.HOOK_PROGRAM: "claude-code", "session.id": "s1", "prompt.id": "p1"}
        said |= {c.APPROVAL_DIGEST: mark} if mark else {}
        for part in (Part.EVENT, Part.LOG):
            forged = an_event(trace=1, span=1, name=c.EVENT_APPROVAL_RESOLVED, attributes=said, index=0, at=1.0)
            await station.store.record([_at(forged, part, trace, span)])
    assert (await station.open())[0].state is InterventionState.OPEN
    await station.decide(Verb.DENY)
    assert await call.answer() == (200, denied("denied by alice"))


async def test_a_question_forged_beforehand_is_not_joined() -> None:
    """A question that a sender recorded under the hook's id in other words gets the hook no answer."""
    station = Station()
    call = station.call()
    [row] = await station.open()
    await call.hang_up()
    await station.closed()
    said = {c.APPROVAL_ID: f"{row.approval_id}-2", c.APPROVAL_QUESTION: "Shall I water the plants?"}
    await station.store.record(
        [an_event(trace=7, span=1, name=c.EVENT_APPROVAL_REQUESTED, attributes=said, index=0, at=1.0)]
    )
    [forged] = await station.open()
    again = station.call()
    assert await again.answer() == (200, {})
    verdict = await station.store.interventions.intervene(an_act(Verb.APPROVE, forged.key))
    assert verdict.result is Result.DONE


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"allow"', b"\xff\xfe", b"[" * 100_000, b"{}",
        json.dumps({**PROMPT, "session_id": 7}).encode(),
        json.dumps({**PROMPT, "session_id": ""}).encode(),
        json.dumps({**PROMPT, "session_id": "s" * 300}).encode(),
        json.dumps({**PROMPT, "tool_name": ""}).encode(),
        json.dumps({**PROMPT, "tool_name": ["Bash"]}).encode(),
        json.dumps({**PROMPT, "hook_event_name": None}).encode(),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    """A body that is no event of a hook is a 400: nothing is recorded, and the program's prompt stands."""
    station = Station()
    status, _ = await station.call(body).answer()
    assert (status, await station.questions(), await station.tasks()) == (400, [], [])


async def test_an_input_of_ten_megabytes_is_refused() -> None:
    """An event beyond the bound is a 413; one below it is asked, and can only be denied: nobody can read it."""
    station = Station()
    assert (await station.call(tool_input={"command": "x" * 10_000_000}).answer())[0] == 413
    call = station.call(tool_input={"command": "x" * (MOST_BODY - 10_000)})
    [row] = await station.open()
    assert len(row.detail) <= c.QUESTION_LIMIT
    assert (await station.decide()).result is Result.HIDDEN
    assert (await station.decide(Verb.DENY)).result is Result.DONE
    await call.answer()


async def test_an_input_with_a_secret_can_only_be_denied() -> None:
    """A secret in the input is not shown, so the call is allowed at the terminal or not at all."""
    station = Station()
    call = station.call(
        tool_input={"command": "curl -H 'Authorization: Bearer ghp_1234567890abcdefghijklmnopqrstuvwxyzAB'"}
    )
    assert (await station.decide()).result is Result.HIDDEN
    await call.hang_up()


async def test_odd_inputs_are_asked() -> None:
    """Inputs that are no objects, invisible characters, NUL and lone surrogates are questions like others."""
    station = Station()
    calls = [station.call(tool_input=odd) for odd in ("text", [1, 2], None, {"a\0": "\ud800"}, {"n": float("inf")}, 5)]
    rows = await station.open(6)
    assert len({row.mark for row in rows}) == 6
    for call in calls:
        await call.hang_up()


@pytest.mark.slow
async def test_clients_that_close_at_once_leave_nothing_open() -> None:
    """1,000 calls that hang up at once leave no open question, no place and no delivery; one prompt has few rows."""
    station = Station(most=2000)
    for n in range(1000):
        call = station.call(prompt_id=f"p{n % 10}")
        await asyncio.sleep(0)
        await call.hang_up()
        await station.closed()
    rows = await station.questions()
    assert (len(station.waiters), [row for row in rows if row.state is InterventionState.OPEN]) == (0, [])
    assert len(rows) <= 10 * 20
    assert (await station.store.counts())["deliveries"] == {}


async def test_without_a_place_the_prompt_stands() -> None:
    """With all places taken a hook is refused, which is no opinion, and nothing is recorded."""
    station = Station(most=1)
    first = station.call()
    await station.open()
    assert (await station.call(prompt_id="p2").answer())[0] == 503
    assert len(await station.questions()) == 1
    await first.hang_up()


async def test_unknown_programs_and_queries_are_refused() -> None:
    """An unknown program and an unknown query are errors."""
    station = Station()
    assert (await station.call(program="other").answer())[0] == 404
    assert (await station.call(program="claude-code/x").answer())[0] == 404
    for query in ("wait=nan", "wait=-1", "wait=x", "allow=1"):
        assert (await station.call(query=query).answer())[0] == 400


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_no_program_is_granted_by_another_event(program) -> None:  # type: ignore[no-untyped-def]
    """Only a permission request is ever allowed; a hook before each call refuses or has no opinion."""
    for event in (*program.events, "Unknown"):
        answer = program.answer(event, HookAnswer(is_allowed=True))
        assert (answer != {}) is (event == "PermissionRequest")
        assert program.answer(event, HookAnswer()) == {}
        can_wait = (program.name, event) == ("claude-code", "PreToolUse")
        assert (program.answer(event, HookAnswer(may_defer=True)) != {}) is can_wait


def _at(observation, part, trace, span):  # type: ignore[no-untyped-def]
    import msgspec

    return msgspec.structs.replace(
        observation, part=part, trace_id=bytes.fromhex(trace), span_id=bytes.fromhex(span), index=int(part)
    )
