"""Both stores have the same deliveries after the same random sequences of events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.observations import Observation
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome, RetryAt
from spanpost.routing.delivery_states import OutboxEntry
from spanpost.routing.routes import Route, Routes, Verbosity
from spanpost.store.delivery_rows import COLUMNS, entry_of
from spanpost.store.memory import MemoryStore
from spanpost.store.postgres import PostgresStore
from spanpost.store.protocols import Store
from spanpost.tasks.folded import FoldRules
from spanpost.tasks.stall import NO_STALL
from spanpost.testing.exercise_again import failed
from spanpost.testing.exercise_store import SINK, moved, steps
from spanpost.testing.observed import an_event, ended
from tests.store.test_shared_behaviour import _OLDER
from tests.thorough import thorough

pytestmark = pytest.mark.acceptance

#: A test's view: what both stores have of one delivery, whatever their clocks.
Seen = dict[str, Any]
_ROUTE = Route(sink=SINK, verbosity=Verbosity.MILESTONES, interval=timedelta(0))
RULES = FoldRules(
    routes=Routes(sinks=(SINK,), editing=frozenset({SINK}), routes=(_ROUTE,), max_age=timedelta(days=36_500)),
    stall_rules=NO_STALL,
    announce_delay=timedelta(0),
)

_asked = {"agent.approval.id": "a", "agent.approval.question": "Deploy?"}
_decided = {"agent.approval.id": "a", "agent.approval.decision": "approve"}
_telemetry: list[Callable[[int], list[Observation]]] = [
    lambda trace: steps(2, trace=trace),
    lambda trace: [failed(1, trace=trace), failed(2, trace=trace)],
    lambda trace: [failed(3, trace=trace)],
    lambda trace: [failed(4, "disk full", trace=trace)],
    *(lambda trace, i=i: moved(10.0 * i, index=i, trace=trace) for i in range(10)),
    lambda trace: [an_event(trace=trace, span=1, name="agent.approval.requested", attributes=_asked, index=20)],
    lambda trace: [
        an_event(trace=trace, span=1, name="agent.approval.resolved", attributes=_decided, index=21, at=30.0)
    ],
    lambda trace: [ended(trace=trace, span=1, name="agent", attributes={"agent.task.name": f"steps {trace}"})],
]
_made = st.builds(lambda make, trace: make(trace), st.sampled_from(_telemetry), st.integers(1, 3))


class _Retry(msgspec.Struct):
    """A `RetryAt` whose time each store names by its own clock."""

    seconds: int
    reason: str
    reconcile: bool
    is_unsent: bool
    has_looked: bool


_outcomes: st.SearchStrategy[Outcome | _Retry] = st.one_of(
    st.just(Receipt(ref={"ts": "1"})),
    st.just(Receipt(skipped="unchanged")),
    st.just(Arrived(receipt=Receipt(ref={"ts": "2"}))),
    st.just(NotArrived()),
    st.builds(
        _Retry,
        st.sampled_from([-1, 3600]),
        st.sampled_from(["timeout", "x" * 5000]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        GiveUp, reason=st.sampled_from(["expired", "unverifiable"]), error=st.just("e" * 5000), reconcile=st.booleans()
    ),
)
_acts = st.lists(
    st.one_of(
        st.tuples(st.just("record"), _made),
        st.tuples(st.just("record"), _made),
        st.tuples(st.just("claim"), st.none()),
        st.tuples(st.just("settle"), st.tuples(st.integers(0, 20), _outcomes)),
        st.tuples(st.just("settle"), st.tuples(st.integers(0, 20), _outcomes)),
        st.tuples(st.just("settle all"), _outcomes),
        st.tuples(st.just("pass"), st.sampled_from([61, 4000])),
        st.tuples(st.just("retry"), st.none()),
        st.tuples(st.just("discard"), st.integers(0, 20)),
    ),
    min_size=4,
    max_size=25,
)


class _Store:
    """A store that runs the steps, and the deliveries that it handed out."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.claimed: list[Delivery] = []

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def entries(self) -> list[OutboxEntry]: ...

    async def pass_time(self, seconds: int) -> None: ...

    async def play(self, act: str, given: Any) -> Any:
        """Run one step, and return the part of its result on which both must agree."""
        match act:
            case "record":
                recorded = await self.store.record(given)
                return recorded.coalesced
            case "claim":
                found = sorted(await self.store.outbox.claim([SINK], 100), key=_name)
                self.claimed += found
                return [_as_lent(d) for d in found]
            case "settle":
                if self.claimed:
                    await self._finish(self.claimed.pop(given[0] % len(self.claimed)), given[1])
            case "settle all":
                claimed, self.claimed = self.claimed, []
                for delivery in claimed:
                    await self._finish(delivery, given)
            case "pass":
                await self.pass_time(given)
            case "retry":
                return await self.store.outbox.retry()
            case "discard":
                entries = sorted(await self.entries(), key=_name)
                return await self.store.outbox.discard([entries[given % len(entries)].id] if entries else [])
        return None

    async def _finish(self, delivery: Delivery, outcome: Outcome | _Retry) -> None:
        if isinstance(outcome, _Retry):
            flags = {name: getattr(outcome, name) for name in ("reason", "reconcile", "is_unsent", "has_looked")}
            outcome = RetryAt(at=self.now() + timedelta(seconds=outcome.seconds), **flags)
        await self.store.outbox.finish(delivery, outcome)


class _Memory(_Store):
    def __init__(self) -> None:
        self.ahead = timedelta()
        self.memory = MemoryStore(RULES, clock=self.now)
        super().__init__(self.memory)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def entries(self) -> list[OutboxEntry]:
        return list(self.memory.outbox._deliveries.values())

    async def pass_time(self, seconds: int) -> None:
        self.ahead += timedelta(seconds=seconds)


class _Postgres(_Store):
    def __init__(self, store: Store, connection: Any) -> None:
        super().__init__(store)
        self.connection = connection

    async def entries(self) -> list[OutboxEntry]:
        return [
            entry_of(row) for row in await self.connection.fetch(f"SELECT {COLUMNS} FROM deliveries d ORDER BY d.id")
        ]

    async def pass_time(self, seconds: int) -> None:
        for statement in _OLDER:
            await self.connection.execute(statement, timedelta(seconds=seconds))

    async def begin(self) -> None:
        """Delete everything that was recorded."""
        kept = "('alembic_version', 'redaction_key')"
        tables = await self.connection.fetch(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
            f" AND NOT c.relispartition AND c.relname NOT IN {kept}"
        )
        await self.connection.execute(";".join(f"DELETE FROM {row['relname']}" for row in tables))


def _name(of: Delivery | OutboxEntry) -> tuple[str, str, str]:
    return of.sink, of.ordering_key, of.key


def _seen(entry: OutboxEntry) -> Seen:
    """Return a row without its number, its owner and the exact times."""
    fields = msgspec.structs.asdict(entry)
    del fields["id"], fields["owner"]
    for name in ("born_at", "not_before", "claimed_at", "lease_until", "sent_at", "finalized_at"):
        fields[name] = fields[name] is not None
    return fields


def _as_lent(delivery: Delivery) -> Seen:
    names = (
        "address",
        "mode",
        "urgency",
        "attempt",
        "is_unknown",
        "count",
        "lookups",
        "receipt",
        "message_receipt",
        "has_moved",
    )
    checkpoint = delivery.checkpoint.id if delivery.checkpoint is not None else None
    return {"name": _name(delivery), "checkpoint": checkpoint, **{name: getattr(delivery, name) for name in names}}


async def _compare(memory: _Store, postgres: _Store, acts: Sequence[tuple[str, Any]]) -> None:
    done = []
    for act, what in acts:
        done.append(
            (act, [(o.part.name, o.name, o.trace_id[-1], o.attributes) for o in what] if act == "record" else what)
        )
        came = await memory.play(act, what), await postgres.play(act, what)
        assert came[0] == came[1], done
        rows = [{_name(e): _seen(e) for e in await store.entries()} for store in (memory, postgres)]
        different = [
            (name, *(found.get(name) for found in rows))
            for name in rows[0] | rows[1]
            if rows[0].get(name) != rows[1].get(name)
        ]
        assert different == [], done


def test_both_stores_have_the_same_rows(postgres_dsn: str) -> None:
    """After each of record, claim, acknowledge, retry and discard every column is equal in both stores."""
    import asyncpg

    with asyncio.Runner() as runner:
        store = PostgresStore(postgres_dsn, rules=RULES, pool_size=1)
        runner.run(store.open())
        connection = runner.run(asyncpg.connect(postgres_dsn))

        @settings(thorough(80), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
        @given(_acts)
        def play(acts: Sequence[tuple[str, Any]]) -> None:
            async def work() -> None:
                postgres = _Postgres(store, connection)
                await postgres.begin()
                await _compare(_Memory(), postgres, acts)

            runner.run(work())

        play()
        runner.run(connection.close())
        runner.run(store.close())
