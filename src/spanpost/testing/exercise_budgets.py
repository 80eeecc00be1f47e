"""Tests of budgets in every store: finalized usage is spent once, and each passed share warns once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec

from spanpost.model.budgets import Spent
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.observations import Observation, Origin, Part, Status, log_index
from spanpost.model.queries import TaskQuery
from spanpost.store.protocols import Store
from spanpost.tasks.budgets import Budget
from spanpost.testing import observed
from spanpost.testing.exercise_store import ROUTED_RULES, MakeStore, drain
from spanpost.testing.exercised import Exercised
from spanpost.testing.observed import ended, started

A_DAY = Budget(name="a day", limit_usd=Decimal(10), per=("agent.name",))
TOKENS = Budget(
    name="tokens",
    limit_tokens=1000,
    period="month",
    warn_at=(0.5,),
    attributes={"agent.team": "red"},
)

RED = {"agent.team": "red"}


def spending(*budgets: Budget) -> Any:
    """Return rules with these budgets."""
    return msgspec.structs.replace(ROUTED_RULES, budgets=budgets)


def a_costly_run(
    number: int,
    usd: str | None = "1",
    *,
    agent: str = "miner",
    tenant: str = "default",
    tokens: int = 100,
    attributes: Mapping[str, str] | None = None,
) -> list[Observation]:
    """Return an ended run with one model call at that cost, with these attributes on its root span."""
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent, "agent.task.name": f"run {number}"}
    said |= attributes or {}
    call: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "own-model",
        "gen_ai.usage.input_tokens": tokens,
    }
    if usd is not None:
        call["agent.cost_usd"] = float(usd)
    return [
        ended(
            trace=number, span=2, name="chat own-model", parent=1, attributes=call, tenant=tenant, at=1.0, seconds=1.0
        ),
        ended(trace=number, span=1, name=f"invoke_agent {agent}", attributes=said, tenant=tenant),
    ]


def _of_session(name: str, n: int, scope: str, **more: Any) -> Observation:
    said = {"session.id": "s1", "terminal.type": "iTerm.app", "model": "claude-sonnet-4-5", **more.pop("attributes")}
    at_ns = observed.BEGAN + n * 10**9
    record = Observation(
        part=Part.LOG, trace_id=b"", span_id=b"", name=name, at_ns=at_ns, attributes=said,
        origin=Origin(resource={"service.name": "claude-code"}, scope=scope, scope_version="2.1.329"), **more,
    )  # fmt: skip
    return msgspec.structs.replace(record, index=log_index(record))


def a_point(name: str, n: int, value: float, **attributes: Any) -> Observation:
    """Return the nth data point of a coding session."""
    start_ns = observed.BEGAN + (n - 1) * 10**9
    said = {"kind": 1, "start_ns": start_ns, "body": value, "attributes": attributes}
    return _of_session(f"claude_code.{name}", n, "com.anthropic.claude_code", **said)


def a_request(n: int, usd: float, tokens: int) -> Observation:
    """Return the nth model call of the same session, as a record of it."""
    said = {"event.name": "api_request", "event.sequence": n, "prompt.id": "p1", "cost_usd": usd, "duration_ms": 400}
    said |= {"input_tokens": tokens, "output_tokens": 10, "cache_read_tokens": 0, "cache_creation_tokens": 0}
    return _of_session(
        "api_request", n, "com.anthropic.claude_code.events", body="claude_code.api_request", attributes=said
    )


async def warned(store: Store) -> list[Checkpoint]:
    """Return the budget warnings, in order."""
    return [c for c in await store.reader.checkpoints() if c.kind is Kind.BUDGET_WARNING]


def sums(spent: Sequence[Spent]) -> dict[tuple[str, str], Decimal]:
    """Return the dollars by tenant and scope."""
    return {(s.tenant, ",".join(value for _, value in s.scope)): s.cost_usd for s in spent}


class ExerciseSpend(Exercised):
    """**Protocol:** subclass it with a fixture ``make_store``; `another` opens the same store again, where it can."""

    async def test_a_share_warns_once_in_the_thread_of_the_task_that_passed_it(self, make_store: MakeStore) -> None:
        """At 80 and at 100 per cent the task that passed the share warns, once. Nothing before or after does."""
        store = await make_store(spending(A_DAY))
        listed: dict[int, list[str]] = {}
        for number in range(1, 15):
            known = {c.id for c in await warned(store)}
            await store.record(a_costly_run(number))
            listed[number] = [c.text for c in await warned(store) if c.id not in known]
        assert {number: len(texts) for number, texts in listed.items() if texts} == {8: 1, 10: 1}
        assert listed[8] == ["Budget a day of miner is 80 % spent: $8.00 of $10.00"]
        tasks = {t.uid: t.name for t in await store.tasks(TaskQuery(limit=50))}
        assert [tasks[c.task_uid] for c in await warned(store)] == ["run 8", "run 10"]
        deliveries = [
            d.checkpoint.text for d in await drain(store) if d.checkpoint and d.checkpoint.kind is Kind.BUDGET_WARNING
        ]
        assert sorted(deliveries) == sorted(listed[8] + listed[10])

    async def test_scopes_have_budgets_of_their_own(self, make_store: MakeStore) -> None:
        """Agents and tenants spend from budgets of their own.

        A task without the scope's attribute spends nothing of it.
        """
        people = replace(A_DAY, name="people", per=("agent.requested_by",))
        store = await make_store(spending(A_DAY, people))
        await store.record(
            a_costly_run(1, "2") + a_costly_run(2, "3", agent="smith") + a_costly_run(3, "4", tenant="other")
        )
        await store.record(a_costly_run(4, "5", agent="smith", attributes={"agent.requested_by": "ann"}))
        spent = await store.budgets.spending()
        assert sums([s for s in spent if s.budget == "a day"]) == {
            ("default", "miner"): 2,
            ("default", "smith"): 8,
            ("other", "miner"): 4,
        }
        assert [s.tenant for s in await store.budgets.spending("other")] == ["other"]

    async def test_a_duplicate_is_spent_once(self, make_store: MakeStore) -> None:
        """A batch that is sent again, and a run that is sent in two halves, are spent once."""
        store = await make_store(spending(A_DAY))
        call, root_span = a_costly_run(1, "9.5")
        for batch in ([call], [root_span], [root_span, call], [call]):
            await store.record(batch)
        [spent] = await store.budgets.spending()
        assert (spent.cost_usd, spent.calls, spent.tokens, spent.unpriced) == (Decimal("9.5"), 1, 100, 0)
        assert len(await warned(store)) == 1

    async def test_tokens_and_calls_without_a_price(self, make_store: MakeStore) -> None:
        """Tokens have a limit of their own, for the tasks that the budget selects.

        Calls of unknown cost are counted beside it.
        """
        store = await make_store(spending(TOKENS))
        await store.record(a_costly_run(1, None, tokens=600, attributes=RED) + a_costly_run(2, "1", tokens=900))
        [spent] = await store.budgets.spending()
        assert (spent.tokens, spent.cost_usd, spent.unpriced, spent.share) == (600, Decimal(0), 1, 0.6)
        assert [c.text for c in await warned(store)] == ["Budget tokens is 60 % spent: 600 of 1,000 tokens"]

    async def test_the_rest_of_each_budget_is_read(self, make_store: MakeStore) -> None:
        """A task's remaining budgets are read, also unused ones, and no other task's."""
        store = await make_store(spending(A_DAY, TOKENS))
        await store.record(a_costly_run(1, "12") + a_costly_run(2, None, agent="smith", attributes=RED))
        by_name = {t.name: t for t in await store.tasks(TaskQuery())}
        [first] = await store.budgets.allowance(by_name["run 1"])
        assert (first.left_usd, first.share, first.left_tokens) == (Decimal(0), 1.2, None)
        assert [(s.budget, s.left_usd, s.left_tokens) for s in await store.budgets.allowance(by_name["run 2"])] == [
            ("a day", Decimal(10), None),
            ("tokens", None, 900),
        ]

    async def test_each_model_has_its_own_calls(self, make_store: MakeStore) -> None:
        """A run with calls to several models finalizes each call under the model that it names, once, and
        stores it so.
        """
        store = await make_store()
        models = ("large", "small", "large")
        calls = [
            ended(
                trace=1, span=n, parent=1, name="chat", at=float(n),
                attributes={
                    "gen_ai.operation.name": "chat", "gen_ai.request.model": model, "gen_ai.usage.input_tokens": 10**n,
                    "agent.cost_usd": n / 10,
                },
            )
            for n, model in enumerate(models, 2)
        ]  # fmt: skip
        root_span = a_costly_run(1)[1]
        first = await store.record([calls[0], root_span])
        second = await store.record([*calls, root_span])
        again = await store.record([*calls, root_span])
        listed = [
            (s.model, s.calls, s.usage.input, s.usage.cost_usd) for r in (first, second, again) for s in r.finalized
        ]
        assert sorted(listed) == [
            ("large", 1, 100, Decimal("0.2")),
            ("large", 1, 10_000, Decimal("0.4")),
            ("small", 1, 1000, Decimal("0.3")),
        ]
        [task] = await store.tasks(TaskQuery())
        used = {
            u.model: (u.calls, u.usage.input, u.usage.cost_usd, u.unpriced) for u in await store.budgets.usage(task.uid)
        }
        assert used == {"large": (2, 10_100, Decimal("0.6"), 0), "small": (1, 1000, Decimal("0.3"), 0)}

    async def test_a_correction_downwards_is_counted_once(self, make_store: MakeStore) -> None:
        """Of a call that is sent with less, and then with its first value, counters see one correction.

        Budgets and rows follow both.
        """
        store = await make_store(spending(A_DAY))
        call, root_span = a_costly_run(1, "4", tokens=100)
        less, whole = (a_costly_run(1, usd, tokens=tokens)[0] for usd, tokens in (("1", 60), ("4", 100)))
        copies = [
            msgspec.structs.replace(c, end_ns=c.end_ns + n, at_ns=c.at_ns + n) for n, c in ((1, less), (2, whole))
        ]
        finalized, spent = 0, []
        for batch in ([call, root_span], [copies[0]], [copies[1]]):
            finalized += sum(s.usage.input or 0 for s in (await store.record(batch)).finalized)
            spent += [(s.cost_usd, s.tokens, s.calls) for s in await store.budgets.spending()]
        assert spent == [(Decimal(4), 100, 1), (Decimal(1), 60, 1), (Decimal(4), 100, 1)]
        assert finalized == 100
        [task] = await store.tasks(TaskQuery())
        assert [(u.calls, u.usage.input) for u in await store.budgets.usage(task.uid)] == [(1, 100)]

    async def test_data_points_are_spent_without_calls(self, make_store: MakeStore) -> None:
        """A session that sends only data points spends their sum.

        Once its calls arrive, those count and nothing more.
        """
        store = await make_store(spending(replace(A_DAY, per=())))
        for n in (1, 2):
            await store.record([a_point("cost.usage", n, 1.5), a_point("token.usage", n, 500, type="input")])
        await self.pass_time(store, 60)
        first = await store.elapse()
        assert [(s.cost_usd, s.tokens, s.calls, s.unpriced) for s in await store.budgets.spending()] == [
            (Decimal(3), 1000, 0, 0)
        ]
        assert [(s.model, s.usage.input, s.usage.cost_usd) for s in first.finalized] == [
            ("claude-sonnet-4-5", 1000, Decimal(3))
        ]
        await store.record([a_request(1, 0.25, 100), a_request(2, 0.5, 200)])
        await self.pass_time(store, 60)
        second = await store.elapse()
        assert [(s.cost_usd, s.tokens, s.calls, s.unpriced) for s in await store.budgets.spending()] == [
            (Decimal("0.75"), 320, 2, 0)
        ]
        assert sum(s.usage.input or 0 for s in second.finalized) == 0
        assert second.corrections == 1

    async def test_a_new_budget_begins_with_past_usage(self, make_store: MakeStore) -> None:
        """It counts the usage that was finalized in its period before it was set, for each scope, once, and
        warns from there on.
        """
        store = await make_store()
        await store.record(
            a_costly_run(1, "5") + a_costly_run(2, "2", agent="smith") + a_costly_run(3, "7", tenant="other")
        )
        store.rules = spending(A_DAY)
        by_name = {t.name: t for t in await store.tasks(TaskQuery())}
        [asked] = await store.budgets.allowance(by_name["run 2"])
        assert (asked.cost_usd, asked.calls) == (Decimal(2), 1)
        await store.record(a_costly_run(4, "3.5"))
        await store.record(a_costly_run(5, "0.5", agent="smith"))
        expected = {
            ("default", "miner"): Decimal("8.5"),
            ("default", "smith"): Decimal("2.5"),
            ("other", "miner"): Decimal(7),
        }
        assert sums(await store.budgets.spending()) == expected
        assert [c.text for c in await warned(store)] == ["Budget a day of miner is 85 % spent: $8.50 of $10.00"]

    async def test_many_at_once(self, make_store: MakeStore) -> None:
        """Runs that end at once, through two stores on one database, give the exact sum, and one warning for
        each share.
        """
        store = await make_store(spending(A_DAY))
        other = await self.another(store) or store
        runs = [a_costly_run(number, "0.5") for number in range(1, 31)]

        async def record_part(part: int) -> None:
            for number in range(part, 2 * len(runs), 4):  # each run twice, by different parts
                await (store, other)[part % 2].record(runs[number * 7 % len(runs)])

        await asyncio.gather(*map(record_part, range(4)))
        assert sums(await store.budgets.spending()) == {("default", "miner"): 15}
        assert sorted(c.ref for c in await warned(store)) == ["a day 0.8", "a day 1.0"]

    async def test_limited_calls_are_counted_by_account(self, make_store: MakeStore) -> None:
        """A call that met a rate limit or a spent quota is counted once, under the account that the agent names."""
        store = await make_store()
        said = [
            ("RateLimitError", "429: slow down"),
            ("openai.RateLimitError", "You exceeded your current quota"),
            ("ValueError", "no"),
        ]
        calls = [
            ended(
                trace=n,
                span=2,
                name="chat m",
                parent=1,
                attributes={
                    "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.provider.name": "openai",
                    "agent.account": "team-key", "error.type": kind,
                },
                status=Status.ERROR,
                status_message=message,
            )
            for n, (kind, message) in enumerate([*said, said[0]], 1)
        ]  # fmt: skip
        first = await store.record(calls + [span for n in range(1, 5) for span in a_costly_run(n)[1:]])
        again = await store.record(calls)
        assert (sorted(one.kind for one in first.limited), again.limited) == (["quota", "rate_limit", "rate_limit"], [])
        found = sorted(
            (one.account, one.provider, one.model, one.kind, one.count) for one in await store.budgets.limits()
        )
        assert found == [("team-key", "openai", "m", "quota", 1), ("team-key", "openai", "m", "rate_limit", 2)]

    async def test_health_is_explained(self, make_store: MakeStore) -> None:
        """Failures, interruptions and spent budgets each reduce the 100 points by their share, equally in
        every store.
        """
        store = await make_store(spending(replace(A_DAY, limit_usd=Decimal(4), warn_at=())))
        root_span = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "smith"}
        failed = [
            ended(trace=n, span=1, name="invoke_agent smith", attributes=root_span, status=Status.ERROR)
            for n in (11, 12, 13)
        ]
        well = [ended(trace=n, span=1, name="invoke_agent smith", attributes=root_span) for n in (14, 15, 16, 17, 18)]
        await store.record(
            [*failed, *well, *a_costly_run(1, "3.6"), *a_costly_run(2, None, agent="idle", tenant="other")]
        )
        await store.record([started(trace=19, span=1, name="invoke_agent smith", attributes=root_span)])
        fleet = await store.fleet()
        assert fleet is not None
        listed = {h.agent_name: (h.score, h.errors, h.stalls, h.waiting, h.budget) for h in fleet.health}
        # 3 of 8 ended tasks failed: 18.75 of 50; 0.9 of a budget is half of what is beyond 0.8.
        assert listed == {"smith": (81, 19, 0, 0, 0), "miner": (92, 0, 0, 0, 8), "idle": (100, 0, 0, 0, 0)}
        assert [(s.budget, s.share) for s in fleet.spending if s.cost_usd] == [("a day", 0.9)]
