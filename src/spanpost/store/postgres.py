"""The store in PostgreSQL (14 to 18).

One transaction holds audit rows, task state, tasks, checkpoints and deliveries (`folding`). Nothing depends
on the caller's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import asyncpg

from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.fleet import Fleet
from spanpost.model.queries import TaskQuery
from spanpost.model.tasks import Task
from spanpost.store import (
    fleet,
    heartbeats,
    redaction_key,
    transactions,
    write_probe,
)
from spanpost.store.access_tokens import PostgresAccessTokens
from spanpost.store.act_rows import PostgresActs
from spanpost.store.attribute_sets import AttributeSets
from spanpost.store.budgets import PostgresBudgets
from spanpost.store.connections import DRIVER_ERRORS, UNREACHABLE, Connector, Pooling, pooling, unreachable
from spanpost.store.consuming import Consuming
from spanpost.store.fold_threads import FoldThreads
from spanpost.store.installations import PostgresInstallations
from spanpost.store.interventions import PostgresInterventions
from spanpost.store.journal import Journaling
from spanpost.store.launch_orders import PostgresLaunchOrders
from spanpost.store.listener import Listener
from spanpost.store.postgres_alerts import PostgresAlerts
from spanpost.store.postgres_outbox import PostgresOutbox
from spanpost.store.quarantined import Quarantined
from spanpost.store.reader import PostgresReader
from spanpost.store.sessions import PostgresSessions
from spanpost.store.sql import schema
from spanpost.store.tenant_totals import PostgresTenantTotals
from spanpost.store.timers import Elapsing
from spanpost.store.transactions import bound, end_frozen, keep, transact
from spanpost.tasks.folded import FoldRules

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that closing the connections may take.
_CLOSE = 1.0
#: Seconds that giving back the turn to publish fleet figures may take. Otherwise the turn runs out by itself.
_LEAVE = 0.3
#: Seconds for which a probe is retried.
_PROBE = 0.3


#: What is different behind a pooler that pools transactions.
POOLED = "no statements stay prepared, and answers of people are asked for twice a second"


class Server(NamedTuple):
    """The server that a store found."""

    version: int
    pooling: Pooling

    def __str__(self) -> str:
        through = f", behind {self.pooling.value}" if self.pooling is not Pooling.NONE else ""
        return f"server {self.version}{through}{f': {POOLED}' if self.pooling is Pooling.TRANSACTION else ''}"


class PostgresStore(Consuming, Journaling, Elapsing):
    """A `Store` in PostgreSQL.

    `statement_cache` is how many prepared statements a connection keeps; 0 is for a pooler that pools
    transactions and is not recognised as one. `own_reader` is for the embedded database, which has no
    administrator: the schema is upgraded when the store opens, and this role may read it. `batch_budget` and
    `trace_budget` are the seconds of processor time that one transaction may take: for a batch of several
    traces, and for one trace alone.
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
        self._pool_size = pool_size
        self._statement_cache = statement_cache
        self._is_pooled = False
        #: The server, known once the store is open.
        self.server: Server | None = None
        self._own_reader = own_reader
        self._pool: Any = None
        #: Closes the pool of the login before.
        self._closing: asyncio.Task[None] | None = None
        self.batch_budget, self.trace_budget = batch_budget, trace_budget
        self._threads = FoldThreads()
        self._slow, self._starved = {}, {}
        #: Identifies this process in its turns to publish.
        self._owner = uuid4()
        self._has_turn = False
        self._begun = set()
        self._sets = AttributeSets()
        self._key = b""
        self._listener = Listener(self._own_connection, self.run)
        self.outbox = PostgresOutbox(self, lease, jitter)
        self.interventions = PostgresInterventions(self, self._listener)
        self.acts = PostgresActs(self.run, lambda: self.hash_key)
        self.launch_orders = PostgresLaunchOrders(self.run, lambda: self.redaction)
        self.alerts = PostgresAlerts(self)
        self.budgets = PostgresBudgets(self.run, lambda: self.rules.budgets, self._begun)
        self.reader = PostgresReader(self.run, lambda: self.rules.prices)
        self.installations = PostgresInstallations(self.run)
        self.sessions = PostgresSessions(self.run)
        self.access_tokens = PostgresAccessTokens(self.run)
        self.tenant_totals = PostgresTenantTotals(self.run)
        self.quarantined = Quarantined(self.run, self.record_apart)

    @property
    def dsn(self) -> str:
        """The database's URL, with its password."""
        return self._dsn

    # --- open and close ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and check the schema."""
        if self._pool is not None:
            return
        self._connector = Connector(self._dsn)
        try:
            connection = await self._own_connection()
            try:
                misfit = await self._look(connection)
                if misfit is not None and self._own_reader:
                    # Not at every start: importing the migration tool takes a second.
                    await schema.upgrade(self._dsn, reader=self._own_reader)
                    misfit = await self._look(connection)
            finally:
                connection.terminate()
        except UNREACHABLE as error:
            raise ConfigError(unreachable(self._dsn, error)) from None
        if misfit is not None:
            raise ConfigError(misfit)
        self._pool = await self._new_pool()
        self._threads.begin()
        try:
            self._key = await self.run(redaction_key.read)
        except (asyncpg.PostgresError, StoreUnavailable) as error:
            await self.close()
            raise ConfigError(unreachable(self._dsn, error.__cause__ or error)) from None
        stall = self.rules.stall_rules
        if not stall.is_endless:  # a replay has endless rules: live processes keep theirs
            await self.run(
                lambda c: c.execute(heartbeats.SET_RULES, stall.stall_after, stall.open_call_after, self.rules.outage)
            )

    async def _new_pool(self) -> Any:
        return await asyncpg.create_pool(
            self._dsn,
            connect=self._connector.connect,
            # With a minimum, the pool logs a traceback for each failed connection while the database is down.
            min_size=0,
            max_size=self._pool_size,
            command_timeout=transactions.WAIT,
            statement_cache_size=0 if self._is_pooled else self._statement_cache,
            init=None if self._is_pooled else bound,
            reset=keep,
        )

    async def relogin(self, dsn: str) -> None:
        """Use another user or password of the same database: open connections are replaced after their transactions.

        Raises `ConfigError` if the database refuses it; then the old one stays. A database that is down may accept
        it later.
        """
        try:
            (await Connector(dsn).connect(statement_cache_size=0)).terminate()
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.ClientConfigurationError) as error:
            raise ConfigError(unreachable(dsn, error)) from None
        except UNREACHABLE as error:
            log.warning("the new login of the database cannot be tried: %s", unreachable(dsn, error))
        self._dsn = dsn
        self._connector.login(dsn)
        if self._pool is not None:
            self._pool, old = await self._new_pool(), self._pool
            self._closing = asyncio.create_task(_close(old, transactions.WAIT))
        self._listener.reconnect()

    async def _look(self, connection: Any) -> str | None:
        """Learn which server this is and what stands before it; return why its schema does not fit."""
        self.server = Server(connection.get_server_version().major, await pooling(connection, self._connector))
        self._is_pooled = self._statement_cache == 0 or self.server.pooling is Pooling.TRANSACTION
        self._listener.polls = self._is_pooled
        if self.server.pooling is Pooling.TRANSACTION:
            log.info("the database is %s", self.server)
        async with connection.transaction():
            return await schema.check(connection)

    async def _own_connection(self) -> Any:
        return await self._connector.connect(command_timeout=10, statement_cache_size=0)

    async def close(self) -> None:
        await self._listener.close()
        self._threads.close()
        if self._pool is not None:
            if self._has_turn:
                leaving = asyncio.ensure_future(self.run(lambda c: fleet.leave(c, self._owner)))
                # No timeout context here: a cancelled call still waits for a database that hangs.
                await asyncio.wait({leaving}, timeout=_LEAVE)
                leaving.cancel()
                await asyncio.wait({leaving}, timeout=0)
            pool, self._pool = self._pool, None
            await _close(pool, _CLOSE)
            if self._closing is not None:
                self._closing.cancel()
                await asyncio.wait({self._closing})

    async def run(self, work: Callable[[Any], Awaitable[T]], *, retry_for: float = transactions.RETRY_FOR) -> T:
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
            return await transact(lambda: self._pool, once, retry_for=retry_for)
        except StoreUnavailable as error:
            if self._pool is not None and isinstance(error.__cause__, TimeoutError):
                await end_frozen(self._pool)
            raise

    async def why_not_writable(self, *, tries: bool) -> str:
        """Return why nothing can be recorded now; empty if it can. See `Store.why_not_writable`."""
        return await write_probe.why_not_writable(partial(self.run, retry_for=_PROBE), tries=tries)

    # --- reads ------------------------------------------------------------------------------------------------------

    async def tasks(self, query: TaskQuery) -> list[Task]:
        """Return tasks, newest first."""
        found = await self.run(
            lambda c: c.fetch(
                "SELECT t.doc, spanpost_phase(t) FROM agent_tasks t WHERE ($1::text IS NULL OR tenant = $1) AND "
                "($2::text IS NULL OR task_id = $2 OR aliases @> to_jsonb($2::text)) AND ($3::text IS NULL OR "
                "(ended_at IS NULL OR status = $3) AND spanpost_phase(t) = $3) AND ($4::text IS NULL OR agent_name = "
                "$4) AND ($5::boolean IS NULL OR announced = $5) ORDER BY started_at DESC NULLS LAST, task_id DESC "
                "LIMIT $6",
                query.tenant,
                query.task_id,
                query.status,
                query.agent_name,
                query.is_announced,
                query.limit,
            )
        )
        return [heartbeats.shown(*row) for row in found]

    async def counts(self) -> dict[str, Any]:
        """Return the number of rows by table and of deliveries by state."""

        async def work(connection: Any) -> dict[str, Any]:
            tables = ("agent_events", "agent_tasks", "agent_checkpoints", "quarantine")
            found: dict[str, Any] = {t: await connection.fetchval(f"SELECT count(*) FROM {t}") for t in tables}
            states = await connection.fetch("SELECT state, count(*) FROM deliveries GROUP BY state")
            return {**found, "deliveries": {row[0]: row[1] for row in states}}

        return await self.run(work)

    async def fleet(self, *, is_asked: bool = False) -> Fleet | None:
        """Return the figures of all open work when it is this process's turn or a person asked, else None."""
        if is_asked:
            return await self.run(lambda c: fleet.figures(c, None))
        found = await self.run(lambda c: fleet.figures(c, self._owner))
        self._has_turn = found is not None
        return found


async def _close(pool: Any, seconds: float) -> None:
    """Close a pool after its transactions; after that time it cuts its connections, whatever they wait for."""
    with contextlib.suppress(OSError, *DRIVER_ERRORS):
        async with asyncio.timeout(seconds):
            await pool.close()
