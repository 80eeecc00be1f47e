"""The store in PostgreSQL (14 to 18).

One transaction holds audit rows, task state, tasks, checkpoints and deliveries (`folding`). Nothing depends
on the caller's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg

from spanpost.model.budgets import Limits, Spent, Used
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.deliveries import Delivery, RateLimit, SinkCall
from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.fleet import Fleet
from spanpost.model.outcomes import Outcome
from spanpost.model.tasks import Task
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.store import budgets as spend
from spanpost.store import (
    claims,
    fleet,
    heartbeats,
    outbox,
    rate_limit_rows,
    redaction_key,
    rows,
    takeovers,
    transactions,
    usage,
)
from spanpost.store.alert_recording import AlertRecording
from spanpost.store.attribute_sets import AttributeSets
from spanpost.store.browse import PostgresBrowse
from spanpost.store.context_curves import PostgresCurves
from spanpost.store.fold_threads import FoldThreads
from spanpost.store.installations import PostgresInstallations
from spanpost.store.interventions import PostgresInterventions
from spanpost.store.journal import Journaling
from spanpost.store.listener import Listener
from spanpost.store.protocols import DeliveryRow, RateLimitRow, RateLimits, TaskQuery, unlimited
from spanpost.store.sessions import PostgresSessions
from spanpost.store.sql import schema
from spanpost.store.timers import Elapsing
from spanpost.store.transactions import bound, end_frozen, keep, transact
from spanpost.tasks.folded import FoldRules

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that closing the connections may take.
_CLOSE = 1.0
#: Seconds that giving back the turn to publish fleet figures may take. Otherwise the turn runs out by itself.
_LEAVE = 0.3


class PostgresStore(Journaling, PostgresInterventions, AlertRecording, Elapsing):
    """A `Store` in PostgreSQL.

    `statement_cache` is how many prepared statements a connection keeps; 0 is for poolers in transaction
    mode. `own_reader` is for the embedded database, which has no administrator: the schema is upgraded when
    the store opens, and this role may read it. `batch_budget` and `trace_budget` are the seconds of
    processor time that one transaction may take: for a batch of several traces, and for one trace alone.
    """

    def __init__(
        self,
        dsn: str,
        *,
        rules: FoldRules | None = None,
        lease: timedelta = timedelta(seconds=60),
        pool_size: int = 4,
        statement_cache: int = 100,
        own_reader: str = "",
        batch_budget: float = 2.0,
        trace_budget: float = 10.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.rules = rules if rules is not None else FoldRules()
        self._dsn = dsn
        self.lease = lease
        self._pool_size = pool_size
        self._statement_cache = statement_cache
        self._is_pooled = statement_cache == 0
        self._own_reader = own_reader
        self._pool: Any = None
        self.batch_budget, self.trace_budget = batch_budget, trace_budget
        self._threads = FoldThreads()
        self._slow = {}
        #: Marks the deliveries that this process claimed.
        self._owner = uuid4()
        #: Rate limits as the sinks last named them, by key.
        self._rate_limits: dict[str, RateLimit] = {}
        self._jitter = jitter
        self._has_turn = False
        self._begun = set()
        self._sets = AttributeSets()
        self._key = b""
        self._listener = Listener(None if self._is_pooled else self._own_connection, self._run)
        self.browse = PostgresBrowse(lambda work: self._run(work))
        self.curves = PostgresCurves(lambda work: self._run(work))
        self.installations = PostgresInstallations(lambda work: self._run(work))
        self.sessions = PostgresSessions(lambda work: self._run(work))

    # --- open and close ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and check the schema."""
        if self._pool is not None:
            return
        try:
            pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,  # the pool would log a traceback for each attempt to restore more while the database is down
                max_size=self._pool_size,
                timeout=10,
                command_timeout=transactions.WAIT,
                statement_cache_size=self._statement_cache,
                server_settings={"application_name": "spanpost"},
                init=None if self._is_pooled else bound,
                reset=keep,
            )
            async with pool.acquire() as connection, connection.transaction():
                misfit = await schema.check(connection)
        except (*schema.UNREACHABLE, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConfigError(schema.unreachable(error)) from None
        if misfit is not None and self._own_reader:
            # Not at every start: importing the migration tool takes a second.
            await schema.upgrade(self._dsn, reader=self._own_reader)
            async with pool.acquire() as connection, connection.transaction():
                misfit = await schema.check(connection)
        if misfit is not None:
            await pool.close()
            raise ConfigError(misfit)
        self._pool = pool
        self._threads.begin()
        try:
            self._key = await self._run(redaction_key.read)
        except asyncpg.PostgresError as error:
            await self.close()
            raise ConfigError(
                f"the database refuses its table redaction_key: {error}; grant SELECT and INSERT on it"
            ) from None
        stall = self.rules.stall_rules
        if not stall.is_endless:  # endless rules belong to a replayed recording: live processes keep their own
            await self._run(
                lambda c: c.execute(heartbeats.SET_RULES, stall.stall_after, stall.open_call_after, self.rules.outage)
            )

    async def _own_connection(self) -> Any:
        settings = {"application_name": "spanpost"}
        return await asyncpg.connect(
            self._dsn, timeout=10, command_timeout=10, statement_cache_size=0, server_settings=settings
        )

    async def close(self) -> None:
        await self._listener.close()
        self._threads.close()
        if self._pool is not None:
            if self._has_turn:
                leaving = asyncio.ensure_future(self._run(lambda c: fleet.leave(c, self._owner)))
                # No timeout context here: a cancelled call still waits for a database that hangs.
                await asyncio.wait({leaving}, timeout=_LEAVE)
                leaving.cancel()
                await asyncio.wait({leaving}, timeout=0)
            pool, self._pool = self._pool, None
            with contextlib.suppress(TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                async with asyncio.timeout(_CLOSE):  # then the pool cuts its connections, whatever they wait for
                    await pool.close()

    async def _run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        if self._pool is None:
            raise StoreUnavailable("the store is not open")

        async def once(connection: Any) -> T:
            # Read committed whatever the database's default is: each statement must see what the locks
            # waited for.
            async with connection.transaction(isolation="read_committed"):
                if self._is_pooled:
                    await bound(connection, "LOCAL")
                return await work(connection)

        try:
            return await transact(self._pool, once)
        except StoreUnavailable as error:
            if self._pool is not None and isinstance(error.__cause__, TimeoutError):
                await end_frozen(self._pool)
            raise

    # --- deliveries --------------------------------------------------------------------------------------------------

    async def claim(self, sinks: Sequence[str], limit: int, rate_limits: RateLimits = unlimited) -> list[Delivery]:
        """Lease deliveries that are due. See `Store.claim`."""

        def remembered(sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
            found = rate_limits(sink, address, call)
            self._rate_limits.update((b.key, b) for b in found)
            return found

        async def work(connection: Any) -> tuple[list[Delivery], list[int]]:
            return await claims.claim(connection, sinks, limit, self._owner, self.lease, remembered, self.rules.routes)

        async def move(connection: Any) -> None:
            await outbox.put(connection, [], [], await takeovers.plan_moves(connection, strays, self.rules.routes))

        found, strays = await self._run(work)
        if strays:
            with contextlib.suppress(StoreUnavailable):  # the next claim meets them again; ours stand
                await self._run(move)
                if not found:
                    found, _ = await self._run(work)
        return found

    async def settle(self, delivery: Delivery, outcome: Outcome) -> list[OpenCircuit]:
        """Record the outcome of a claimed delivery. See `Store.settle`."""
        jitter = self._jitter()
        is_held, closed = await self._run(
            lambda c: claims.settle(c, delivery, outcome, self._owner, self._rate_limits, jitter)
        )
        if not is_held:
            log.info("delivery %d was claimed by another process before its outcome was recorded", delivery.id)
        return closed

    async def due_in(self, sinks: Sequence[str] | None = None, rate_limits: RateLimits = unlimited) -> float | None:
        """Return the seconds until a delivery or a timer is due; None when nothing waits."""

        async def work(connection: Any) -> float | None:
            await connection.execute(heartbeats.RECEIVER_RUNS)
            return await claims.due_in(connection, sinks, rate_limits)

        return await self._run(work)

    async def rate_limits(self, *, is_closed: bool = False) -> list[RateLimitRow]:
        """List rate limits."""
        return await self._run(lambda c: rate_limit_rows.listed(c, is_closed=is_closed))

    async def reopen_rate_limits(self, keys: Sequence[str]) -> int:
        """Open closed rate limits at once."""
        return await self._run(lambda c: rate_limit_rows.reopen(c, keys))

    async def deliveries(
        self, *, state: str | None = None, sink: str | None = None, limit: int = 100
    ) -> list[DeliveryRow]:
        """List deliveries, oldest first."""
        return await self._run(lambda c: outbox.listed(c, state, sink, limit))

    async def retry_deliveries(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries to waiting."""
        return await self._run(lambda c: outbox.revive(c, ids, sink))

    async def discard_deliveries(self, ids: Sequence[int]) -> int:
        """Give up waiting deliveries."""
        return await self._run(lambda c: outbox.give_up(c, ids))

    # --- reads ------------------------------------------------------------------------------------------------------

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first."""
        found = await self._run(
            lambda c: c.fetch(
                "SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE ($1::text IS NULL OR tenant = $1)"
                " AND ($2::text IS NULL OR task_id = $2 OR aliases @> to_jsonb($2::text))"
                " AND ($3::text IS NULL OR (ended_at IS NULL OR status = $3) AND spanpost_phase(t) = $3)"
                " AND ($4::text IS NULL OR agent_name = $4)"
                " AND ($5::boolean IS NULL OR announced = $5) ORDER BY started_at DESC NULLS LAST, task_id DESC LIMIT $6",
                query.tenant,
                query.task_id,
                query.status,
                query.agent_name,
                query.is_announced,
                query.limit,
            )
        )
        return [heartbeats.shown(*row) for row in found]

    async def checkpoints(self, *, task_uid: UUID | None = None, limit: int = 1000) -> list[Checkpoint]:
        """Return checkpoints in order of time."""
        found = await self._run(
            lambda c: c.fetch(
                f"SELECT {rows.CHECKPOINT_COLUMNS} FROM agent_checkpoints"
                " WHERE ($1::uuid IS NULL OR task_uid = $1) ORDER BY at, id LIMIT $2",
                task_uid,
                limit,
            )
        )
        return [rows.checkpoint_of(row) for row in found]

    async def counts(self) -> dict[str, Any]:
        """Return the number of rows by table and of deliveries by state."""

        async def work(connection: Any) -> dict[str, Any]:
            tables = ("agent_events", "agent_tasks", "agent_checkpoints", "quarantine")
            found: dict[str, Any] = {t: await connection.fetchval(f"SELECT count(*) FROM {t}") for t in tables}
            states = await connection.fetch("SELECT state, count(*) FROM deliveries GROUP BY state")
            return {**found, "deliveries": {row[0]: row[1] for row in states}}

        return await self._run(work)

    async def usage(self, task_uid: UUID) -> list[Used]:
        """Return the finalized usage of a task, by model."""
        return await self._run(lambda c: usage.of(c, task_uid))

    async def allowance(self, task: Task) -> list[Spent]:
        """Return each budget that a task spends from."""
        return (
            await self._run(lambda c: spend.allowance(c, self.rules.budgets, task, self._begun))
            if self.rules.budgets
            else []
        )

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List what is spent in the current periods."""
        return await self._run(lambda c: spend.listed(c, tenant, limit))

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers refused calls."""
        return await self._run(lambda c: spend.limits(c, tenant, limit))

    async def fleet(self) -> Fleet | None:
        """Return the figures of all open work when it is this process's turn, else None."""
        found = await self._run(lambda c: fleet.figures(c, self._owner))
        self._has_turn = found is not None
        return found
