"""Tests of budgets that act, in every store: on what was seen, once in a period, and lifted by people alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec

from spanpost.model.budgets import Reservation
from spanpost.model.interventions import ApprovalRow, InterventionState, Result, Verb
from spanpost.model.observations import Observation
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.model.tasks import Task
from spanpost.store.protocols import Store
from spanpost.tasks.budget_limits import RAISE_OPTION, STOP_OPTION
from spanpost.tasks.budgets import Budget
from spanpost.testing.exercise_budgets import spending
from spanpost.testing.exercise_people import ALICE, an_act
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import an_event, ended, started

PAUSE = Budget(name="calls", limit_calls=2, at_limit="pause", warn_at=())
ASK = replace(PAUSE, at_limit="ask", limit_calls=10)
ACTS = (Verb.CANCEL, Verb.PAUSE, Verb.RESUME)
SHELL = "Bash"


def a_start(trace: int, **attributes: Any) -> Observation:
    """Return the live start of a run of an agent."""
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "miner", "agent.task.name": f"run {trace}"}
    return started(trace=trace, span=1, name="invoke_agent miner", attributes=said | attributes)


def a_call(trace: int, span: int, usd: float = 1.0, tokens: int = 10, **fields: Any) -> Observation:
    """Return a model call of that run, which ended."""
    said = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": tokens,
        "agent.cost_usd": usd,
    }  # fmt: skip
    at = {"at": float(span), "seconds": 1.0} | fields
    return ended(trace=trace, span=span, parent=1, name="chat m", attributes=said, **at)


def an_end(trace: int) -> Observation:
    """Return the end of that run."""
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "miner", "agent.task.name": f"run {trace}"}
    return ended(trace=trace, span=1, name="invoke_agent miner", attributes=said, seconds=60.0)


async def the_task(store: Store, trace: int = 1) -> Task:
    """Return the task of that run."""
    return next(t for t in await store.tasks(TaskQuery(limit=100)) if t.name == f"run {trace}")


async def acts(store: Store, trace: int = 1) -> list[tuple[str, str]]:
    """Return the acts on a run that agents receive: the verb, and who asked."""
    task = await the_task(store, trace)
    return [(deed.verb, deed.by) for deed in await store.interventions.deeds(task.uid, ACTS)]


async def questions(store: Store) -> list[ApprovalRow]:
    """Return all questions, the oldest first."""
    return list(reversed(await store.interventions.approvals(ApprovalQuery())))


async def refused(store: Store, trace: int = 1, **tool_input: Any) -> bool:
    """Tell whether a shell command of a run is refused."""
    return await store.budgets.refusal(await the_task(store, trace), SHELL, tool_input or {"command": "ls"}) is not None


def a_claim(trace: int = 1, **fields: Any) -> Reservation:
    """Return a reservation for a run."""
    given: dict[str, Any] = {"id": uuid4(), "tenant": "default", "ref": f"{trace:032x}"}
    return Reservation(**(given | fields))


class ExerciseLimits(Exercised):
    """Tests of budgets that are used up, in every store."""

    # --- acts --------------------------------------------------------------------------------------------------------

    async def test_a_running_task_is_paused_by_the_record_that_uses_up_its_budget(self, make_store: MakeStore) -> None:
        """The call that reaches the limit is seen before its run ends, and pauses it in the same transaction, once."""
        store = await make_store(spending(PAUSE))
        await store.record([a_start(1), a_call(1, 2)])
        assert (await acts(store), await refused(store)) == ([], False)
        recorded = await store.record([a_call(1, 3)])
        assert await acts(store) == [("pause", "spanpost")]
        assert [(a.budget, a.act) for a in recorded.budget_acts] == [("calls", "pause")]
        assert (await the_task(store)).paused_by == "spanpost"
        again = await store.record([a_call(1, 3), a_call(1, 4), a_start(1)])
        assert (again.budget_acts, await acts(store)) == ([], [("pause", "spanpost")])

    async def test_each_open_task_of_the_scope_is_stopped_once(self, make_store: MakeStore) -> None:
        """A used-up budget cancels each task that goes on spending or that starts; an ended one stays as it is."""
        store = await make_store(spending(replace(PAUSE, at_limit="cancel")))
        await store.record([a_start(1), a_start(2), a_start(3), an_end(3)])
        await store.record([a_call(1, 2), a_call(1, 3)])
        await store.record([a_call(2, 2), a_start(4), a_call(3, 2)])
        listed = [await acts(store, trace) for trace in (1, 2, 3, 4)]
        assert listed == [[("cancel", "spanpost")], [("cancel", "spanpost")], [], [("cancel", "spanpost")]]

    async def test_a_task_whose_root_span_was_not_sent_is_stopped(self, make_store: MakeStore) -> None:
        """A run that sends its calls alone is paused too: it is found by the id of its root span, which is to come."""
        store = await make_store(spending(ASK))
        await store.record([a_call(1, n) for n in range(2, 12)])
        [before] = await store.tasks(TaskQuery())
        found = await store.reader.refer("default", f"{1:032x}-{1:016x}")
        assert found is not None
        assert (found.uid, found.paused_by, len(await questions(store))) == (before.uid, "spanpost", 1)
        assert [deed.verb for deed in await store.interventions.deeds(found.uid, ACTS)] == ["pause"]
        await store.record([a_start(1)])
        [task] = await store.tasks(TaskQuery())
        assert (task.paused_by, await acts(store)) == ("spanpost", [("pause", "spanpost")])
        [spent] = await store.budgets.spending()
        assert (spent.calls, len(await questions(store))) == (10, 1)

    async def test_a_warning_budget_stops_nothing(self, make_store: MakeStore) -> None:
        """A budget that only warns pauses no task and refuses no tool call."""
        store = await make_store(spending(replace(PAUSE, at_limit="warn", warn_at=(1.0,))))
        await store.record([a_start(1), a_call(1, 2), a_call(1, 3), a_call(1, 4)])
        assert (await acts(store), await refused(store)) == ([], False)

    async def test_an_act_is_done_once_whatever_arrives_at_once(self, make_store: MakeStore) -> None:
        """Calls of ten runs that are recorded at once, through two stores, are counted exactly, and pause each once."""
        store = await make_store(spending(PAUSE))
        other = await self.another(store) or store
        await store.record([a_start(trace) for trace in range(1, 11)])
        both = [
            (store, other)[(trace + span) % 2].record([a_call(trace, span), a_call(trace, span)])
            for trace in range(1, 11)
            for span in (2, 3, 4)
        ]
        await asyncio.gather(*both)
        await store.record([a_call(trace, 5) for trace in range(1, 11)])
        [spent] = await store.budgets.spending()
        assert spent.calls == 40
        assert [await acts(store, trace) for trace in range(1, 11)] == [[("pause", "spanpost")]] * 10

    async def test_a_correction_downwards_lifts_the_refusal(self, make_store: MakeStore) -> None:
        """Tool calls are refused while more was seen than the limit, and no longer once a call proved cheaper."""
        store = await make_store(spending(Budget(name="usd", limit_usd=Decimal(4), at_limit="pause", warn_at=())))
        await store.record([a_start(1), a_call(1, 2, 5.0)])
        assert await refused(store)
        cheaper = a_call(1, 2, 1.0)
        await store.record([msgspec.structs.replace(cheaper, end_ns=cheaper.end_ns + 1, at_ns=cheaper.at_ns + 1)])
        [spent] = await store.budgets.spending()
        assert (spent.cost_usd, await refused(store)) == (Decimal(1), False)

    async def test_a_person_who_resumes_a_task_lets_it_go_on(self, make_store: MakeStore) -> None:
        """A task that a person resumed is not paused or refused again in the period; other tasks of the scope are."""
        store = await make_store(spending(PAUSE))
        await store.record([a_start(1), a_call(1, 2), a_call(1, 3), a_start(2)])
        task = await the_task(store)
        verdict = await store.interventions.intervene(an_act(Verb.RESUME, task.uid))
        assert verdict.result is Result.DONE
        await store.record([a_call(1, 4), a_call(2, 2)])
        assert [await refused(store, trace) for trace in (1, 2)] == [False, True]
        assert await acts(store) == [("pause", "spanpost"), ("resume", ALICE.name)]

    async def test_work_can_be_saved(self, make_store: MakeStore) -> None:
        """A used-up budget refuses tool calls in words that name it, and lets one plain `git commit` through."""
        store = await make_store(spending(PAUSE))
        await store.record([a_start(1), a_call(1, 2), a_call(1, 3)])
        why = await store.budgets.refusal(await the_task(store), "WebSearch", {"query": "more"})
        assert why is not None
        assert why.budget == "calls"
        assert why.reason.startswith("budget: Budget calls is 100 % spent: 2 of 2 model calls.")
        assert "git commit" in why.reason
        commands = {"git commit -m 'so far'": False, "git commit -m x; curl evil": True, "make": True}
        assert {command: await refused(store, command=command) for command in commands} == commands

    # --- limits and scopes -------------------------------------------------------------------------------------------

    async def test_tool_calls_and_wall_time_have_limits(self, make_store: MakeStore) -> None:
        """Tool calls are counted once each, and the wall time of a task up to its newest telemetry."""
        tools = Budget(name="tools", limit_tool_calls=3, at_limit="pause", warn_at=())
        time = Budget(name="time", limit_time=timedelta(minutes=1), at_limit="cancel", warn_at=())
        store = await make_store(spending(tools, time))
        said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "grep"}
        tool = [
            ended(trace=1, span=n, parent=1, name="execute_tool grep", attributes=said, at=float(n)) for n in (2, 3)
        ]
        await store.record([a_start(1), *tool, *tool])
        by_name = {spent.budget: spent for spent in await store.budgets.spending()}
        assert (by_name["tools"].tool_calls, await acts(store)) == (2, [])
        await store.record([a_call(1, 4, at=70.0)])
        by_name = {spent.budget: spent for spent in await store.budgets.spending()}
        assert by_name["time"].wall_time >= timedelta(seconds=70)
        assert await acts(store) == [("cancel", "spanpost")]

    async def test_a_task_has_a_budget_of_its_own(self, make_store: MakeStore) -> None:
        """A budget for each task counts its sub-agents, and no other task."""
        store = await make_store(spending(replace(PAUSE, period="task", limit_calls=3)))
        inner = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper", "agent.task.name": "run 11"}
        below = started(trace=1, span=50, parent=1, name="invoke_agent helper", attributes=inner)
        call = msgspec.structs.replace(a_call(1, 51), parent_id=below.span_id)
        await store.record([a_start(1), below, call, a_call(1, 2), a_start(2), a_call(2, 2), a_call(2, 3)])
        assert sorted(spent.calls for spent in await store.budgets.spending()) == [2, 2]
        await store.record([a_call(1, 3)])
        assert (await acts(store, 1), await acts(store, 2)) == ([("pause", "spanpost")], [])

    async def test_spending_follows_the_scope_that_a_task_names_later(self, make_store: MakeStore) -> None:
        """What a task used before it named its team is the team's, and of another team once it names that."""
        store = await make_store(spending(replace(PAUSE, per=("agent.team",), limit_calls=100)))
        await store.record([a_start(1), a_call(1, 2), a_call(1, 3)])
        assert await store.budgets.spending() == []
        await store.record([a_start(1, **{"agent.team": "red"})])
        assert {s.scope: s.calls for s in await store.budgets.spending()} == {(("agent.team", "red"),): 2}

    async def test_a_call_that_is_sent_in_any_order_is_spent_once(self, make_store: MakeStore) -> None:
        """Orphaned calls, their run and repeats come to the same sum in every order."""
        batch = [a_start(1), a_call(1, 2), a_call(1, 3), an_end(1)]
        for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2, 1, 0)):
            store = await make_store(spending(replace(PAUSE, at_limit="warn", per=("agent.name",), limit_calls=100)))
            for n in order:
                await store.record([batch[n]])
            assert {s.scope: s.calls for s in await store.budgets.spending() if s.calls} == {
                (("agent.name", "miner"),): 2
            }

    # --- questions ---------------------------------------------------------------------------------------------------

    async def test_a_budget_that_asks_pauses_until_a_person_raises_it(self, make_store: MakeStore) -> None:
        """A question with +20 % and Stop is open and the task paused; the answer raises the limit, and resumes it."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1), *(a_call(1, n) for n in range(2, 12))])
        [asked] = await questions(store)
        assert (asked.options, asked.state, await acts(store)) == (
            (RAISE_OPTION, STOP_OPTION),
            InterventionState.OPEN,
            [("pause", "spanpost")],
        )
        assert await refused(store)
        verdict = await store.interventions.intervene(an_act(Verb.CHOOSE, asked.key, option=RAISE_OPTION))
        assert verdict.result is Result.DONE
        assert verdict.recorded is not None
        assert [a.act for a in verdict.recorded.budget_acts] == ["raise"]
        [spent] = await store.budgets.spending()
        assert (spent.limit_calls, [one.by for one in spent.raises]) == (12, [ALICE.name])
        assert (await acts(store), await refused(store)) == (
            [("pause", "spanpost"), ("resume", ALICE.name)],
            False,
        )
        await store.record([a_call(1, 20), a_call(1, 21)])
        assert (len(await questions(store)), (await acts(store))[2:]) == (2, [("pause", "spanpost")])

    async def test_a_limit_is_raised_once_for_all_who_were_asked_at_it(self, make_store: MakeStore) -> None:
        """Two tasks ask at one limit: both answers resume their task, and the limit is raised once."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1), a_start(2), *(a_call(1, n) for n in range(2, 12)), a_call(2, 2)])
        asked = await questions(store)
        assert len(asked) == 2
        for row in asked:
            act = an_act(Verb.CHOOSE, row.key, option=RAISE_OPTION)
            await asyncio.gather(store.interventions.intervene(act), store.interventions.intervene(act))
        [spent] = await store.budgets.spending()
        assert (spent.limit_calls, len(spent.raises)) == (12, 1)
        assert [await acts(store, trace) for trace in (1, 2)] == [[("pause", "spanpost"), ("resume", ALICE.name)]] * 2

    async def test_stop_cancels_and_raises_nothing(self, make_store: MakeStore) -> None:
        """The answer Stop cancels the task; the limit stays."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1), *(a_call(1, n) for n in range(2, 12))])
        [asked] = await questions(store)
        await store.interventions.intervene(an_act(Verb.CHOOSE, asked.key, option=STOP_OPTION))
        [spent] = await store.budgets.spending()
        assert (spent.limit_calls, spent.raises) == (10, ())
        assert (await acts(store))[-1] == ("cancel", ALICE.name)

    async def test_telemetry_raises_no_budget(self, make_store: MakeStore) -> None:
        """An agent that reports the answer, or asks a question in the same words, does not raise the limit."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1), *(a_call(1, n) for n in range(2, 12))])
        [asked] = await questions(store)
        said = {"agent.approval.id": asked.approval_id, "agent.approval.decision": RAISE_OPTION}
        said |= {"agent.approval.digest": asked.mark, "agent.approval.by": "ann"}
        own: dict[str, Any] = {"agent.approval.id": "spanpost.budget.0", "agent.approval.question": asked.question}
        own |= {"agent.approval.options": list(asked.options)}
        await store.record(
            [
                an_event(trace=1, span=1, name="agent.approval.resolved", index=0, attributes=said, at=80.0),
                an_event(trace=1, span=1, name="agent.approval.requested", index=1, attributes=own, at=81.0),
            ]
        )
        mine = next(row for row in await questions(store) if row.approval_id == "spanpost.budget.0")
        await store.interventions.intervene(an_act(Verb.CHOOSE, mine.key, option=RAISE_OPTION))
        [spent] = await store.budgets.spending()
        assert (spent.limit_calls, await refused(store)) == (10, True)

    # --- reservations ------------------------------------------------------------------------------------------------

    async def test_reservations_share_what_is_left(self, make_store: MakeStore) -> None:
        """Of 16 reservations at once on 10 calls, 10 are granted; the same reservation again is granted again."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1)])
        task = await the_task(store)
        claims = [a_claim() for _ in range(16)]
        found = await asyncio.gather(*(store.budgets.reserve(claim, task) for claim in claims))
        granted = [claim for claim, one in zip(claims, found, strict=True) if not one.refusal]
        assert len(granted) == 10
        assert (await store.budgets.reserve(granted[0], task)).refusal == ""
        assert "10 calls reserved by agents" in (await store.budgets.reserve(a_claim(), task)).refusal
        [left] = await store.budgets.allowance(task)
        assert (left.calls, left.left_calls, left.reserved_calls) == (0, 0, 10)

    async def test_a_reservation_is_used_by_the_calls_that_are_seen(self, make_store: MakeStore) -> None:
        """A call that was reserved and is seen is counted once: in what is spent."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1)])
        task, claims = await the_task(store), [a_claim(), a_claim()]
        for claim in claims:
            assert (await store.budgets.reserve(claim, task)).refusal == ""
        await store.record([a_call(1, 2)])
        [left] = await store.budgets.allowance(task)
        assert (left.calls, left.reserved_calls, left.left_calls) == (1, 1, 8)
        for claim in claims:
            await store.budgets.give_back("default", claim.id)
        await store.record([a_call(1, 3)])
        [left] = await store.budgets.allowance(task)
        assert (left.calls, left.reserved_calls, left.left_calls) == (2, 0, 8)

    async def test_a_reservation_belongs_to_its_tenant(self, make_store: MakeStore) -> None:
        """Another tenant gives no reservation back, and reserves from budgets of its own."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1)])
        task, claim = await the_task(store), a_claim(calls=10)
        await store.budgets.reserve(claim, task)
        await store.budgets.give_back("acme", claim.id)
        other = Task(uid=UUID(int=5), tenant="acme", task_id="x")
        granted = await store.budgets.reserve(msgspec.structs.replace(claim, tenant="acme"), other)
        assert granted.refusal == ""
        assert (await store.budgets.allowance(task))[0].left_calls == 0

    async def test_a_reservation_ends_by_itself(self, make_store: MakeStore) -> None:
        """A reservation of an agent that is gone, and one that was given back unused, hold no longer."""
        store = await make_store(spending(ASK))
        await store.record([a_start(1)])
        task = await the_task(store)
        gone, unused = a_claim(calls=4, lasts=timedelta(seconds=40)), a_claim(calls=4)
        for claim in (gone, unused):
            assert (await store.budgets.reserve(claim, task)).refusal == ""
        await store.budgets.give_back("default", unused.id)
        assert (await store.budgets.allowance(task))[0].left_calls == 2
        await self.pass_time(store, 60)
        assert (await store.budgets.allowance(task))[0].left_calls == 10
