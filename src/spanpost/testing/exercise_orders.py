"""Tests of launch orders in every store: they are rows first, delivered like others, once for each request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.interventions import Result, Verb
from spanpost.model.launch_orders import Order, OrderQuery, Taken
from spanpost.model.observations import Observation
from spanpost.model.outcomes import GiveUp
from spanpost.model.queries import TaskQuery
from spanpost.routing.launch_orders import Launches, OnEnd, Retry
from spanpost.routing.schedules import Schedule
from spanpost.runtime.schedules import Schedules
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_people import ALICE, BOB, an_act, asking, at_work, the_question
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import ended

#: Carriers of the launchers in these tests.
CARRIERS = ("launch:fix", "launch:review")


def an_order(**fields: Any) -> Order:
    """Return an order that was not placed yet."""
    given: dict[str, Any] = {"id": uuid4(), "tenant": "acme", "carrier": "launch:fix", "at": datetime.now(UTC)}
    return Order(**(given | fields))


def done(
    name: str, said: dict[str, str] | None = None, *, trace: int = 1, status: str = "complete", ago: float = 0.0
) -> Observation:
    """Return the end of an agent's task, so many seconds ago."""
    attributes = {"agent.task.name": name, "agent.name": name, "agent.status": status, **(said or {})}
    root = ended(trace=trace, span=1, name="agent", attributes=attributes)
    now = int((datetime.now(UTC) - timedelta(seconds=ago)).timestamp() * 1e9)
    return msgspec.structs.replace(root, start_ns=now - 10**9, end_ns=now, at_ns=now)


def on_end(name: str = "next", **fields: Any) -> FoldRules:
    """Return rules by which the end of an analysis starts two orders."""
    given: dict[str, Any] = {"name": name, "start": ("fix", "review"), "agent": "analysis"}
    given |= {"text": "After {name}: {result.found}", "parameters": {"repo": "{repo}"}}
    launchers = frozenset({"fix", "review"})
    return FoldRules(launches=Launches(named={name: {} for name in launchers}, rules=(OnEnd(**(given | fields)),)))


async def carried(store: Store) -> list[Delivery]:
    """Claim the orders that are due."""
    return await store.outbox.claim(CARRIERS, 50)


class ExerciseOrders(Exercised):
    """Tests of launch orders in every store."""

    async def test_an_order_is_delivered_once(self, make_store: MakeStore) -> None:
        """An order is placed once however often it is submitted, is delivered whole, and its receipt is stored."""
        store = await make_store()
        order = an_order(text="Fix it", parameters={"repo": "acme/shop"}, by="alice", source="slack", body=b"\x00\xff")
        assert [await store.launch_orders.place(order) for _ in range(3)] == [Taken.NEW, Taken.KNOWN, Taken.KNOWN]
        [delivery] = await carried(store)
        assert delivery.order == order
        assert (delivery.tenant, delivery.sink, delivery.checkpoint) == ("acme", "launch:fix", None)
        await store.outbox.finish(delivery, Receipt(ref={"pid": 7}))
        assert await carried(store) == []
        [row] = await store.launch_orders.listed(OrderQuery(tenant="acme"))
        assert (row.order, row.state, row.ref) == (order, "delivered", {"pid": 7})
        assert await store.launch_orders.listed(OrderQuery(tenant="other")) == []
        [listed] = await store.outbox.deliveries(sink="launch:fix")
        assert (listed.kind, listed.state) == ("order", "delivered")

    async def test_a_decision_resumes_a_run_once(self, make_store: MakeStore) -> None:
        """A decision on a question that ended a run places one order; unusable words and a withdrawal place none."""
        rules = FoldRules(launches=Launches(named={"fix": {}}), resume="fix")
        for verb, resumed, expected in (
            (Verb.APPROVE, ["s-1", "/repo"], {"session": "s-1", "cwd": "/repo"}),
            (Verb.DENY, ["s-1", ""], {"session": "s-1"}),
            (Verb.APPROVE, ["--help", "/repo"], None),
            (Verb.APPROVE, ["s-1", "relative"], None),
        ):
            store = await make_store(rules=rules)
            asked = [asking(trace=trace, is_marked=True, resume=resumed) for trace in (1, 2)]
            await store.record([at_work(), at_work(trace=2), *asked])
            row = await the_question(store)
            act = an_act(verb, row.key)
            verdicts = [await store.interventions.intervene(act) for _ in range(2)]
            await store.interventions.intervene(an_act(Verb.APPROVE, row.key, actor=BOB))
            orders = [row.order for row in await store.launch_orders.listed(OrderQuery())]
            assert [(one.carrier, one.parameters) for one in orders] == (
                [("launch:fix", expected)] if expected is not None else []
            )
            order_id = orders[0].id if expected is not None else None
            assert [verdict.order_id for verdict in verdicts] == [order_id] * 2
            assert len(await carried(store)) == len(orders)
        store = await make_store(rules=rules)
        await store.record([at_work(), asking(is_marked=True, resume=["s-1", "/repo"])])
        row = await the_question(store)
        await store.interventions.withdraw(row.key, "given up")
        await store.interventions.intervene(an_act(Verb.APPROVE, row.key))
        assert await store.launch_orders.listed(OrderQuery()) == []

    async def test_a_request_is_not_accepted_twice(self, make_store: MakeStore) -> None:
        """The same signature is a replay; the same order with another signature is known; neither is
        delivered again.
        """
        store = await make_store()
        order = an_order(carrier="launch:fix")
        other = an_order(carrier="launch:fix")
        assert await store.launch_orders.place(order, signature="s1") is Taken.NEW
        assert await store.launch_orders.place(order, signature="s1") is Taken.REPLAYED
        assert await store.launch_orders.place(other, signature="s1") is Taken.REPLAYED
        assert await store.launch_orders.place(order, signature="s2") is Taken.KNOWN
        assert [delivery.order for delivery in await carried(store)] == [order]

    async def test_hostile_texts_of_an_order(self, make_store: MakeStore) -> None:
        """Text that PostgreSQL does not accept is mended, and the order is delivered."""
        store = await make_store()
        assert (
            await store.launch_orders.place(an_order(text="a\0b\ud800", parameters={"k\0": "\ud800"}, by="\0"))
            is Taken.NEW
        )
        assert len(await carried(store)) == 1

    async def test_a_failed_task_is_retried_once(self, make_store: MakeStore) -> None:
        """Of many simultaneous retries of a failed run one is granted; the others learn by whom."""
        store = await make_store()
        await store.record([done("analysis", {"agent.repo": "acme/shop"}, status="error")])
        [task] = await store.tasks(TaskQuery())
        other = await self.another(store) or store
        acts = [an_act(Verb.RETRY, task.uid, actor=BOB if i else ALICE, launcher="fix") for i in range(8)]
        verdicts = await asyncio.gather(
            *((store, other)[i % 2].interventions.intervene(act) for i, act in enumerate(acts))
        )
        assert sorted(v.result for v in verdicts) == sorted([Result.DONE, *[Result.DECIDED] * 7])
        [granted] = [v for v in verdicts if v.result is Result.DONE]
        assert {v.order_id for v in verdicts} == {granted.order_id}
        assert {v.by for v in verdicts if v.result is Result.DECIDED} <= {"alice", "bob"}
        again = await store.interventions.intervene(acts[verdicts.index(granted)])
        assert (again.result, again.is_repeat, again.order_id) == (Result.DONE, True, granted.order_id)
        [delivery] = await carried(store)
        order = delivery.order
        assert order is not None
        assert (order.retry_of, order.task_uid, order.text) == (task.task_id, task.uid, "analysis")
        assert (order.parameters["repo"], order.source, order.id) == ("acme/shop", "slack", granted.order_id)
        assert delivery.task.uid == task.uid

    async def test_a_retry_that_failed_may_be_asked_for_again(self, make_store: MakeStore) -> None:
        """An order that was given up, or was delivered a while ago, no longer blocks another.

        Another run is independent.
        """
        store = await make_store()
        await store.record([done("analysis", status="error")])
        [task] = await store.tasks(TaskQuery())

        async def ask() -> Result:
            return (await store.interventions.intervene(an_act(Verb.RETRY, task.uid, launcher="fix"))).result

        assert await ask() is Result.DONE
        assert await ask() is Result.DECIDED
        [delivery] = await carried(store)
        await store.outbox.finish(delivery, GiveUp(reason="exit", error="no"))
        assert await ask() is Result.DONE
        [delivery] = await carried(store)
        await store.outbox.finish(delivery, Receipt())
        assert await ask() is Result.DECIDED

    async def test_a_retry_starts_the_order_again(self, make_store: MakeStore) -> None:
        """The retry of a task that an order started repeats that order, not the words of the person who clicked."""
        store = await make_store()
        first = an_order(tenant="default", text="Fix the till", parameters={"branch": "main"})
        await store.launch_orders.place(first)
        await store.record([done("fix", {"agent.order.id": str(first.id)}, status="error")])
        [task] = await store.tasks(TaskQuery())
        assert task.order_id == str(first.id)
        await store.interventions.intervene(an_act(Verb.RETRY, task.uid, launcher="fix", text="please"))
        orders = [row.order for row in await store.launch_orders.listed(OrderQuery(task_uid=task.uid))]
        assert [(order.text, order.parameters) for order in orders] == [("Fix the till", {"branch": "main"})]

    async def test_a_person_starts_work(self, make_store: MakeStore) -> None:
        """New work that a person starts is an intervention and an order, once.

        A refused one is an intervention alone.
        """
        store = await make_store()
        act = an_act(
            Verb.START, uuid4(), launcher="fix", text="Fix it", parameters={"a": "b"}, idempotency_key="idempotency_key"
        )
        verdict = await store.interventions.intervene(act)
        assert (verdict.result, verdict.is_repeat) == (Result.DONE, False)
        assert (await store.interventions.intervene(act)).is_repeat
        refused = an_act(Verb.START, uuid4(), launcher="fix", refusal="no rule says so")
        assert (await store.interventions.intervene(refused)).result is Result.REFUSED
        [delivery] = await carried(store)
        assert delivery.order is not None
        assert (delivery.order.id, delivery.order.text, delivery.order.by_id) == (
            verdict.order_id,
            "Fix it",
            "slack:T1:U1",
        )
        assert delivery.order.parameters == {"a": "b"}

    async def test_the_end_of_a_task_starts_others(self, make_store: MakeStore) -> None:
        """A successful end starts the orders of its rule, with the rule's text, once whatever is repeated;
        other ends do not.
        """
        store = await make_store(on_end())
        record = done(
            "analysis", {"agent.repo": "acme/shop", "agent.result.found": "two bugs", "agent.requested_by": "alice"}
        )
        await store.record([done("other", trace=2), done("analysis", trace=3, status="error")])
        assert await carried(store) == []
        await store.record([record])
        await store.record([record])
        deliveries = await carried(store)
        orders = [delivery.order for delivery in deliveries if delivery.order is not None]
        assert sorted(o.carrier for o in orders) == ["launch:fix", "launch:review"]
        [task] = await store.tasks(TaskQuery(agent_name="analysis", status="complete"))
        for order in orders:
            assert (order.text, order.parameters) == ("After analysis: two bugs", {"repo": "acme/shop"})
            assert (order.caused_by, order.rule, order.depth, order.source) == (task.task_id, "next", 1, "rule")

    async def test_a_rule_matches_on_an_attribute(self, make_store: MakeStore) -> None:
        """A rule that names an attribute starts its orders for a task that has this value, and for no other."""
        store = await make_store(on_end(attributes={"team": "shop"}))
        await store.record([done("analysis", {"team": "bank"}), done("analysis", {"team": "shop"}, trace=2)])
        orders = [delivery.order for delivery in await carried(store) if delivery.order is not None]
        assert sorted(o.carrier for o in orders) == ["launch:fix", "launch:review"]

    async def test_a_rule_waits_for_all_its_agents(self, make_store: MakeStore) -> None:
        """A rule that waits for two agents starts once, when both have ended in any order, however often their ends
        are repeated; tasks with another value, of another tenant's, and failed ones do not count.
        """
        for first, second in (("lint", "test"), ("test", "lint")):
            rules = on_end(agent=None, after_all=("lint", "te*"), per="session_id", start=("fix",), text="{session_id}")
            store = await make_store(rules)
            said = {"gen_ai.conversation.id": f"pr-{first}"}
            other = {"gen_ai.conversation.id": "pr-0"}
            await store.record([done(first, said, trace=1), done("other", said, trace=2), done(second, other, trace=3)])
            await store.record([done(second, said, trace=4, status="error"), done(second, trace=5)])
            assert await carried(store) == []
            await store.record([done(second, said, trace=6)])
            await store.record([done(second, said, trace=6), done(first, said, trace=7)])
            [delivery] = await carried(store)
            assert delivery.order is not None
            assert (delivery.order.text, delivery.order.rule) == (f"pr-{first}", "next")

    async def test_ends_that_are_recorded_at_once_start_what_waits_for_them(self, make_store: MakeStore) -> None:
        """Agents whose ends are recorded in one batch, or at the same time, start what waits for them once."""
        rules = on_end(agent=None, after_all=("lint", "test"), per="topic", start=("fix",))
        store = await make_store(rules)
        for n in range(1, 9):
            said = {"agent.topic": f"t-{n}"}
            ends = [done("lint", said, trace=2 * n), done("test", said, trace=2 * n + 1)]
            if n == 1:
                await store.record(ends)
            else:
                await asyncio.gather(*(store.record([end]) for end in ends))
            [delivery] = await carried(store)
            await store.outbox.finish(delivery, Receipt())

    async def test_a_retry_takes_part_in_what_waits(self, make_store: MakeStore) -> None:
        """The retry of a failed task is caused by what caused the first, so what waits for it starts."""
        rules = on_end(agent=None, after_all=("lint", "test"), start=("review",))
        store = await make_store(rules)
        said = {"agent.caused_by": "t-0"}
        await store.record([done("lint", said, trace=1, status="error"), done("test", said, trace=2)])
        [task] = await store.tasks(TaskQuery(agent_name="lint"))
        verdict = await store.interventions.intervene(an_act(Verb.RETRY, task.uid, launcher="fix"))
        [retry] = await store.launch_orders.listed(OrderQuery(id=verdict.order_id))
        assert retry.order.caused_by == "t-0"
        await store.record([done("lint", {"agent.caused_by": retry.order.caused_by}, trace=3)])
        assert [row.order.rule for row in await store.launch_orders.listed(OrderQuery(carrier="launch:review"))] == [
            "next"
        ]

    async def test_a_schedule_starts_once_at_each_time(self, make_store: MakeStore) -> None:
        """However many gateways look however often, a time of a schedule has one order; a missed time has one while
        it is young, and times before it have none.
        """
        store = await make_store()
        schedule = Schedule(name="nightly", start=("fix", "off"), text="Look", every=timedelta(minutes=10))
        launches = Launches(named={"fix": {}, "off": {"enabled": False}}, schedules=(schedule,))
        noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
        gateways = [Schedules(store.launch_orders, lambda: launches, "acme", lambda: None) for _ in range(3)]
        for minute, expected in ((0, 1), (1, 0), (9.9, 0), (10, 1), (45, 1)):
            now = noon + timedelta(minutes=minute)
            assert sum(await asyncio.gather(*(one.scan(now) for one in gateways))) == expected, minute
        again = Schedules(store.launch_orders, lambda: launches, "acme", lambda: None)
        assert await again.scan(noon + timedelta(minutes=46)) == 0
        late = replace(schedule, every=timedelta(hours=6))
        launches = replace(launches, schedules=(late,))
        assert await again.scan(noon + timedelta(hours=6, minutes=16)) == 0
        orders = [delivery.order for delivery in await carried(store) if delivery.order is not None]
        assert sorted((one.at - noon) / timedelta(minutes=1) for one in orders) == [0, 10, 40]
        assert {(one.carrier, one.tenant, one.text, one.source, one.rule) for one in orders} == {
            ("launch:fix", "acme", "Look", "schedule", "nightly")
        }

    async def test_an_old_end_starts_nothing(self, make_store: MakeStore) -> None:
        """The ends in a backlog that is recorded late start nothing."""
        store = await make_store(on_end())
        await store.record([done("analysis", ago=3600)])
        assert await carried(store) == []

    async def test_a_loop_ends(self, make_store: MakeStore) -> None:
        """Agents that start each other by a rule stop at its depth.

        Agents that do not name their order stop at the hourly limit.
        """
        rules = on_end(start=("fix",))
        launches = replace(rules.launches, max_depth=3, max_hourly=7)
        store = await make_store(msgspec.structs.replace(rules, launches=launches))

        async def run(trace: int, by: UUID | None) -> UUID | None:
            said = {"agent.order.id": str(by)} if by is not None else {}
            await store.record([done("analysis", said, trace=trace)])
            deliveries = await carried(store)
            for delivery in deliveries:
                await store.outbox.finish(delivery, Receipt())
            return deliveries[0].order.id if deliveries and deliveries[0].order is not None else None

        by: UUID | None = None
        depths = 0
        for trace in range(1, 9):
            by = await run(trace, by)
            if by is None:
                break
            depths += 1
        assert depths == 3
        stalled = [await run(trace, None) for trace in range(10, 20)]
        assert sum(one is not None for one in stalled) == 7 - 3

    async def test_another_tenants_order_counts_for_nothing(self, make_store: MakeStore) -> None:
        """A task that names another tenant's order gets nothing from it."""
        store = await make_store()
        first = an_order(tenant="acme", text="secret")
        await store.launch_orders.place(first)
        await store.record([done("fix", {"agent.order.id": str(first.id)}, status="error")])
        [task] = await store.tasks(TaskQuery())
        await store.interventions.intervene(an_act(Verb.RETRY, task.uid, launcher="fix"))
        assert [row.order.text for row in await store.launch_orders.listed(OrderQuery(task_uid=task.uid))] == ["fix"]

    async def test_a_retry_rule_is_the_first_that_fits(self, make_store: MakeStore) -> None:
        """The launcher of a retry follows from agent, topic and type, by the first rule that fits.

        Without one, no retry is possible.
        """
        retries = (
            Retry(launcher="special", agent="analysis", type="nightly"),
            Retry(launcher="fix", agent="anal*"),
        )
        launches = Launches(named={"fix": {}, "special": {}}, retries=retries)
        store = await make_store()
        await store.record(
            [
                done("analysis", {"agent.task.type": "nightly"}, trace=1),
                done("analysis", trace=2),
                done("other", trace=3),
            ]
        )
        found = {(t.agent_name, t.type): launches.retrier(t) for t in await store.tasks(TaskQuery())}
        assert found == {("analysis", "nightly"): "special", ("analysis", None): "fix", ("other", None): ""}
