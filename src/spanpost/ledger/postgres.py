"""The ledger in PostgreSQL (14 to 18): one transaction for events, kin, tasks, checkpoints and letters.

Locks, in one order for everybody: the domains of a batch (`locks`), rows of events, kin, tasks and checkpoints (sorted by
key), lanes (sorted), letters. All advisory locks end with the transaction, so
that a pooler in transaction mode does no harm. Nothing depends on the caller's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg

from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.deliveries import Budget, Call, Delivery
from spanpost.domain.errors import ConfigError, LedgerUnavailable
from spanpost.domain.fleet import Fleet
from spanpost.domain.observations import Observation, Part
from spanpost.domain.outcomes import Outcome
from spanpost.domain.records import UNFOLDABLE, Recorded
from spanpost.domain.spend import Limits, Spent, Used
from spanpost.domain.tasks import Task
from spanpost.fold import durations, quota, walk
from spanpost.fold.batch import Folded, Placed, Rules
from spanpost.fold.interventions import TIMER, speaks_of_approvals
from spanpost.fold.paces import Closed
from spanpost.fold.silence import without_beats
from spanpost.fold.work import Missing
from spanpost.ledger import (
    audit,
    buckets,
    claims,
    faults,
    fleet,
    handovers,
    hearing,
    interventions,
    orders,
    outbox,
    rows,
    spend,
    transactions,
    usage,
)
from spanpost.ledger.alerting import Alerts
from spanpost.ledger.base import BudgetRow, Budgets, DeliveryRow, TaskQuery, unlimited
from spanpost.ledger.browse import Browse
from spanpost.ledger.curves import Curves
from spanpost.ledger.ear import Ear
from spanpost.ledger.installations import Installations
from spanpost.ledger.kin import Records
from spanpost.ledger.locks import FINE, lock, try_lock
from spanpost.ledger.people import People
from spanpost.ledger.quarantine import bury, bury_body, mended
from spanpost.ledger.sql import schema
from spanpost.ledger.transactions import Unfoldable, bound, end_frozen, is_of_data, keep, transact, unfoldable

log = logging.getLogger(__name__)
T = TypeVar("T")

#: How often a batch is begun anew because it touched more than was locked.
WIDENINGS = 5
#: What giving the connections back may take, seconds, when the ledger closes.
_CLOSE = 1.0
#: What giving back the turn to tell of all may take, seconds; else the next one has it when it runs out.
_LEAVE = 0.3
#: A time for `Rules.settle` that nobody lives to see: what it puts off waits for `elapse_never`.
NEVER = timedelta(days=36_500)
#: Timers folded in one transaction: those who record wait for its locks.
_DUE = 100
#: How far it is looked beforehand for what the fold of timers will ask for.
_ROUNDS = 2
#: Domains of one transaction, where a batch touches too many for fine locks: with room for those that are found out later.
_AT_ONCE = FINE * 3 // 4


class _Wider(Exception):
    """The fold touched domains that are not locked, and somebody else has them just now."""

    def __init__(self, domains: set[bytes]) -> None:
        super().__init__(f"{len(domains)} domains")
        self.domains = domains


class PostgresLedger(People, Alerts):
    """A `Ledger` in PostgreSQL.

    `pgbouncer` is for poolers in transaction mode: no prepared statements are kept. `is_own` is for a database that nobody
    else looks after (the embedded one): its schema is upgraded when the ledger opens.
    """

    def __init__(
        self,
        dsn: str,
        *,
        rules: Rules | None = None,
        lease: timedelta = timedelta(seconds=60),
        pool_size: int = 4,
        pgbouncer: bool = False,
        is_own: bool = False,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.rules = rules if rules is not None else Rules()
        self._dsn = dsn
        self.lease = lease
        self._pool_size = pool_size
        self._pgbouncer = pgbouncer
        self._is_own = is_own
        self._pool: Any = None
        #: Fences what this process claimed.
        self._owner = uuid4()
        #: As the sinks named them last, by key.
        self._budgets: dict[str, Budget] = {}
        self._jitter = jitter
        self._months_due = 0.0
        self._has_turn = False
        self._begun: usage.Begun = set()
        self._ear = Ear(None if pgbouncer else self._own_connection, self._run)
        #: For those who look: pages by key, timelines, sums, the stream of checkpoints.
        self.browse = Browse(lambda work: self._run(work))
        self.curves = Curves(lambda work: self._run(work))
        self.installations = Installations(lambda work: self._run(work))

    # --- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and check the schema."""
        if self._pool is not None:
            return
        try:
            pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,  # a floor would be restored behind our back, with a traceback for each try while the database is away
                max_size=self._pool_size,
                timeout=10,
                command_timeout=transactions.WAIT,
                statement_cache_size=0 if self._pgbouncer else 200,
                server_settings={"application_name": "spanpost"},
                init=None if self._pgbouncer else bound,
                reset=keep,
            )
            async with pool.acquire() as connection, connection.transaction():
                misfit = await schema.check(connection)
        except (*schema.UNREACHABLE, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConfigError(schema.unreachable(error)) from None
        if misfit is not None and self._is_own:
            # Only now: the migration tool takes a second to import.
            await schema.upgrade(self._dsn)
            async with pool.acquire() as connection, connection.transaction():
                misfit = await schema.check(connection)
        if misfit is not None:
            await pool.close()
            raise ConfigError(misfit)
        self._pool = pool
        bears = self.rules.patience
        if not bears.is_endless:  # that is of a recording: those who listen to the living bear what they bore
            await self._run(lambda c: c.execute(hearing.BEARS, bears.stall, bears.call, bears.outage))

    async def _own_connection(self) -> Any:
        settings = {"application_name": "spanpost"}
        return await asyncpg.connect(self._dsn, timeout=10, command_timeout=10, statement_cache_size=0, server_settings=settings)

    async def close(self) -> None:
        await self._ear.close()
        if self._pool is not None:
            if self._has_turn:
                leaving = asyncio.ensure_future(self._run(lambda c: fleet.leave(c, self._owner)))
                # Not by a timeout: who is cancelled while the database hangs waits for it all the same.
                await asyncio.wait({leaving}, timeout=_LEAVE)
                leaving.cancel()
                await asyncio.wait({leaving}, timeout=0)
            pool, self._pool = self._pool, None
            with contextlib.suppress(TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                async with asyncio.timeout(_CLOSE):  # beyond it the pool cuts its connections, whatever they wait for
                    await pool.close()

    async def _run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        if self._pool is None:
            raise LedgerUnavailable("the ledger is not open")

        async def once(connection: Any) -> T:
            # Read committed whatever the database's default: each statement must see what the locks waited for.
            async with connection.transaction(isolation="read_committed"):
                if self._pgbouncer:
                    await bound(connection, "LOCAL")
                return await work(connection)

        try:
            return await transact(self._pool, once)
        except LedgerUnavailable as error:
            if self._pool is not None and isinstance(error.__cause__, TimeoutError):
                await end_frozen(self._pool)
            raise

    # --- recording --------------------------------------------------------------------------------------------------

    async def record(self, batch: Sequence[Observation]) -> Recorded:
        """Record a batch. See `Ledger.record`.

        When a value is refused, the batch is mended and bisected: the guilty observation is kept in `dead_letters`, its
        siblings are recorded, all in one transaction. A batch of very many traces is recorded in several, one after the other;
        when a later one fails, what was recorded before is met as repeats by whoever tries again.
        """
        batch, beats = without_beats(batch)
        recorded = await self._record(batch) if batch else Recorded()
        if recorded.owed:
            recorded = recorded.plus(await self._record(recorded.owed))
        lost = faults.losses()
        if lost:
            recorded = recorded.plus(Recorded(lost=lost))
        return recorded.plus(await self._hear(beats)) if beats else recorded

    async def _record(self, batch: Sequence[Observation]) -> Recorded:
        recorded = Recorded()
        try:
            with unfoldable():
                placed = walk.prepare(batch, keeps_content=self.rules.keeps_content, prices=self.rules.prices)
                domains = walk.domains(placed)
        except Exception as error:
            return await self._mend(batch, error)
        if len(domains) <= FINE:
            return await self._record_at_once(batch, placed, domains)
        # Locks on so many would keep everybody else waiting, whatever they touch: trace by trace is sooner done for all.
        for part, touched in walk.parts(placed, _AT_ONCE):
            given = [placed[i] for i in part]
            recorded = recorded.plus(await self._record_at_once([batch[i] for i in part], given, touched))
        return recorded

    async def _record_at_once(self, batch: Sequence[Observation], placed: Sequence[Placed], domains: set[bytes]) -> Recorded:
        try:
            try:
                return await self._widening(lambda c, locked: self._take(c, placed, locked), domains)
            except asyncpg.UniqueViolationError:
                return await self._widening(lambda c, locked: self._take(c, placed, locked, asks_all=True), domains)
        except Exception as error:
            return await self._mend(batch, error)

    async def _mend(self, batch: Sequence[Observation], error: Exception) -> Recorded:
        if not is_of_data(error):
            raise error
        log.warning("a batch of %d is mended and taken apart: %s", len(batch), error)
        if isinstance(error, Unfoldable):
            faults.tell(error)
        kept = [mended(o) for o in batch]
        known: set[bytes] = set()
        for o in kept:
            with contextlib.suppress(Exception):
                known |= walk.domains(walk.prepare([o], keeps_content=self.rules.keeps_content, prices=self.rules.prices))
        return await self._widening(lambda c, locked: self._bisect(c, batch, kept, locked), known)

    async def _hear(self, beats: Sequence[Observation]) -> Recorded:
        """Take heartbeats in; what was interrupted of a process that is heard again is taken back."""
        try:
            back = await self._run(lambda c: hearing.hear(c, [mended(beat) for beat in beats], self.rules.patience))
        except Exception as error:
            if not is_of_data(error):
                raise
            log.warning("%d heartbeats are left out: %s", len(beats), error)
            return Recorded(lost={UNFOLDABLE: len(beats)})
        return await self._record(back) if back else Recorded()

    async def elapse(self) -> Recorded:
        """Fold what has fallen due by the database's clock, and say who has fallen silent."""
        keys = await self._run(lambda c: c.fetch("SELECT key FROM timers WHERE at <= clock_timestamp() ORDER BY at LIMIT $1", _DUE))
        await self._keep_months()
        due: dict[bytes, list[bytes]] = {}
        for row in keys:
            due.setdefault(row[0][16:17], []).append(row[0])
        recorded = await self._elapse(due.get(b"g", []) + due.get(b"w", []))
        if processes := due.get(b"p"):
            gone, silent = await self._run(lambda c: hearing.overdue(c, processes, self.rules.patience))
            # First what it means, then that it is so: cut in two, it is found out once more and comes to the same.
            if silent:
                recorded = recorded.plus(await self._record(silent))
            back = await self._run(lambda c: hearing.give_up(c, gone))
            if back:
                recorded = recorded.plus(await self._record(back))
        if tasks := due.get(b"t"):
            recorded = recorded.plus(await self._run(partial(self._look, tasks)))
        if questions := due.get(TIMER):
            recorded = recorded.plus(await self._expire(questions))
        return recorded

    async def listen_anew(self) -> None:
        """Give everybody a full patience from now on."""
        await self._run(lambda c: c.execute(hearing.ANEW))

    async def _look(self, keys: Sequence[bytes], connection: Any) -> Recorded:
        folded = await hearing.look(connection, keys, self.rules.patience, self.rules.routes)
        new = await rows.write_checkpoints(connection, folded) if folded.checkpoints else set()
        count, coalesced = await outbox.put(connection, folded.letters, []) if folded.letters else (0, {})
        return Recorded(
            tasks=folded.tasks,
            checkpoints=[c for c in folded.checkpoints if c.id in new],
            deliveries=count,
            coalesced=coalesced,
        )

    async def elapse_never(self) -> Recorded:
        """Fold now what was put off for ever (`NEVER`), so that nobody else meets it."""
        keys = await self._run(lambda c: c.fetch("SELECT key FROM timers WHERE at > clock_timestamp() + $1::interval / 2", NEVER))
        recorded = Recorded()
        for start in range(0, len(keys), _DUE):
            recorded = recorded.plus(await self._elapse([row[0] for row in keys[start : start + _DUE]], ahead=2 * NEVER))
        return recorded

    async def _elapse(self, asked: Sequence[bytes], ahead: timedelta = timedelta(0)) -> Recorded:
        if not asked:
            return Recorded()

        async def work(connection: Any, locked: set[bytes]) -> Recorded:
            now = await self._lock(connection, locked)
            statement = "DELETE FROM timers WHERE key = ANY($1::bytea[]) AND at <= $2 RETURNING key"
            due = await connection.fetch(statement, asked, now + ahead)
            names = sorted(row[0] for row in due)
            if not names:
                return Recorded()
            records = Records()
            await records.fetch_domains(connection, {name[:16] for name in names})
            await records.fetch(connection, names)
            # What would be missed one by one, and begun anew for each: the traces of these tasks, and the tasks beside them.
            for _ in range(_ROUNDS):
                beside = walk.beside(records, names) - records.whole
                if not beside:
                    break
                await self._lock_more(connection, locked, beside)
                await records.fetch_domains(connection, beside)
            folded = await self._fold(connection, records, locked, lambda: walk.elapse(records, names, self.rules, now))
            recorded = await self._write(connection, records, [], folded, now)
            return await self._spend(connection, recorded, folded, locked, now)

        return await self._widening(work, {key[:16] for key in asked})

    async def _widening(self, work: Callable[[Any, set[bytes]], Awaitable[T]], domains: Iterable[bytes]) -> T:
        locked = set(domains)
        for _ in range(WIDENINGS):
            try:
                return await self._run(partial(_with, work, locked))
            except _Wider as wider:
                locked = locked | wider.domains
        raise LedgerUnavailable(f"the batch touched more than was locked, {WIDENINGS} times: try again")

    async def _lock(self, connection: Any, domains: Iterable[bytes]) -> datetime:
        return await lock(connection, domains)

    async def _lock_more(self, connection: Any, locked: set[bytes], domains: set[bytes]) -> None:
        """Lock further domains if nobody else has them; raises `_Wider`: begin anew with all of them locked in order."""
        if not await try_lock(connection, locked, domains):
            raise _Wider(domains)
        locked |= domains

    async def _take(self, connection: Any, placed: Sequence[Placed], locked: set[bytes], *, asks_all: bool = False) -> Recorded:
        now = await self._lock(connection, locked)
        return await self._take_locked(connection, placed, locked, now, asks_all=asks_all, touched=locked)

    async def _take_locked(
        self,
        connection: Any,
        placed: Sequence[Placed],
        locked: set[bytes],
        now: datetime,
        *,
        asks_all: bool,
        touched: set[bytes] | None = None,
    ) -> Recorded:
        """Record what is new. The audit is asked of what may have been recorded before; of all of it for `asks_all`.

        `touched` are its domains, where they are known. Raises `asyncpg.UniqueViolationError` where a row is met of which all
        other traces were pruned, or a checkpoint that somebody else tells at this moment.
        """
        distinct = list({(p.event_id, p.content_hash): p for p in placed}.values())
        records = Records()
        await records.fetch_domains(connection, walk.domains(distinct) if touched is None else touched)
        doubtful = distinct if asks_all else [p for p in distinct if p.domain not in records.new and not walk.is_new(records, p)]
        new = await self._without_known(connection, distinct, doubtful) if doubtful else distinct
        repeats = len(placed) - len(new)
        if not new:
            return Recorded(repeats=repeats)
        wanted = walk.trail(records.loaded, records.whole, new)
        while wanted:
            await self._lock_more(connection, locked, {key[:16] for key in wanted})
            await records.fetch(connection, wanted)
            wanted = walk.trail(records.loaded, records.whole, new)
        folded = await self._fold(connection, records, locked, lambda: walk.fold(records, new, self.rules, now))
        is_first = touched is not None and not asks_all
        recorded = await self._write(connection, records, new, folded, now, is_first=is_first)
        recorded.repeats = repeats
        recorded.passed_over = len(new) - len(folded.recorded)
        return await self._spend(connection, recorded, folded, locked, now)

    async def _spend(self, connection: Any, recorded: Recorded, folded: Folded, locked: set[bytes], now: datetime) -> Recorded:
        """Add what was spent to its budgets, and record which shares were passed by it.

        The last rows that are locked. What follows a share that was passed is of tasks that are locked already.
        """
        growths, budgets = folded.growths, self.rules.budgets
        passed = await spend.keep(connection, growths, budgets, now, self._begun) if growths else []
        if folded.used:
            await usage.keep(connection, folded.used)
        if not passed:
            return recorded
        return recorded.plus(await self._take_locked(connection, walk.prepare(passed), locked, now, asks_all=False))

    async def _without_known(self, connection: Any, distinct: list[Placed], doubtful: list[Placed]) -> list[Placed]:
        known = await connection.fetch(audit.KNOWN_EVENTS, audit.identities(doubtful))
        if not known:
            return distinct
        gone = {id(doubtful[row[0]]) for row in known}
        return [p for p in distinct if id(p) not in gone]

    async def _fold(self, connection: Any, records: Records, locked: set[bytes], fold: Callable[[], Folded]) -> Folded:
        begun = fold
        while True:
            try:
                with unfoldable():
                    return begun()
            except Missing as missing:
                await self._lock_more(connection, locked, {key[:16] for key in missing.keys})
                if missing.go_on is not None:
                    begun = missing.go_on
                    await records.fetch(connection, missing.keys)
                    continue
                begun = fold
                records.reset()
                for key in missing.keys:
                    await records.fetch_around(connection, key)

    async def _write(
        self, connection: Any, records: Records, placed: Sequence[Placed], folded: Folded, now: datetime, *, is_first: bool = False
    ) -> Recorded:
        if folded.moves:
            await rows.write_moves(connection, folded.moves)
        parts: dict[str, int] = {}
        if folded.recorded:
            await audit.write_events(connection, placed, folded.recorded, now)
            met = Counter([placed[i].source.part for i in folded.recorded])
            parts = {part.name.lower(): count for part, count in met.items()}
        await records.save(connection)
        if folded.gone:
            await rows.write_gone(connection, folded.gone)
        new: set[UUID] = set()
        if folded.checkpoints or folded.retracted:
            new = await rows.write_checkpoints(connection, folded, is_first=is_first)
        if folded.tasks:
            await rows.write_tasks(
                connection, folded.tasks, has_moved=bool(folded.moves or folded.gone), is_heard=_is_heard(placed)
            )
            await hearing.watch_tasks(connection, folded.tasks, folded.started, self.rules.patience)
        owed: list[Observation] = []
        if speaks_of_approvals(placed, folded):
            owed = (await interventions.keep(connection, folded.tasks, now)).owed
        if folded.timers:
            timers = sorted({t.key: t.at for t in folded.timers}.items())
            await connection.execute(
                "INSERT INTO timers (key, at) SELECT * FROM unnest($1::bytea[], $2::timestamptz[])"
                " ON CONFLICT (key) DO UPDATE SET at = excluded.at",
                [key for key, _ in timers],
                [at for _, at in timers],
            )
        count, coalesced = 0, dict[str, int]()
        handover = await handovers.look(connection, folded.woken, self.rules.routes) if folded.woken else None
        if folded.letters or folded.retracted or handover is not None:
            count, coalesced = await outbox.put(connection, folded.letters, folded.retracted, handover)
        limited = quota.limited(placed, folded)
        if limited:
            await spend.count_limits(connection, limited)
        count += await orders.on_end(connection, folded, self.rules.launches, now)
        return Recorded(
            events=sum(parts.values()),
            parts=parts,
            tasks=folded.tasks,
            started=folded.started,
            ended=folded.ended,
            checkpoints=[c for c in folded.checkpoints if c.id in new],
            settled=folded.settled,
            corrections=folded.corrections,
            timed=durations.timed(placed, folded),
            limited=limited,
            waited=durations.waited(folded, new),
            deliveries=count,
            coalesced=coalesced,
            lost=folded.lost,
            owed=owed,
        )

    async def _bisect(
        self, connection: Any, batch: Sequence[Observation], kept: Sequence[Observation], locked: set[bytes]
    ) -> Recorded:
        now = await self._lock(connection, locked)
        total = Recorded()
        waiting = [(0, len(kept))]
        while waiting:
            first, end = waiting.pop()
            try:
                with unfoldable():
                    placed = walk.prepare(kept[first:end], keeps_content=self.rules.keeps_content, prices=self.rules.prices)
                async with connection.transaction():
                    # A copy: what is locked within goes when the part is rolled back.
                    part = await self._take_locked(connection, placed, set(locked), now, asks_all=True)
            except Exception as error:
                if not is_of_data(error):
                    raise
                if end - first > 1:
                    middle = (first + end) // 2
                    waiting += [(middle, end), (first, middle)]
                else:
                    await bury(connection, batch[first], error)
                    total.lost = dict(Counter(total.lost) + Counter({UNFOLDABLE: 1}))
                continue
            total = total.plus(part)
        return total

    async def keep_body(self, tenant: str, source: str, error: str, body: bytes) -> None:
        """Keep a body that a door could not decode, in `dead_letters`. The same bytes again count on."""
        await self._run(lambda c: bury_body(c, tenant, source, error, body))

    async def _keep_months(self) -> None:
        # Best effort: a role that may not make tables goes on in agent_events_rest.
        if time.monotonic() < self._months_due:
            return
        self._months_due = time.monotonic() + 12 * 3600.0
        try:
            await self._run(lambda c: c.fetchval("SELECT spanpost_keep_months()"))
        except LedgerUnavailable as error:
            log.info("partitions of agent_events could not be made ahead, new rows go to agent_events_rest: %s", error)

    # --- letters ----------------------------------------------------------------------------------------------------

    async def claim(self, sinks: Sequence[str], limit: int, budgets: Budgets = unlimited) -> list[Delivery]:
        """Lease what is due. See `Ledger.claim`."""

        def asked(sink: str, address: str, call: Call) -> tuple[Budget, ...]:
            found = budgets(sink, address, call)
            self._budgets.update((b.key, b) for b in found)
            return found

        async def work(connection: Any) -> tuple[list[Delivery], list[int]]:
            return await claims.claim(connection, sinks, limit, self._owner, self.lease, asked, self.rules.routes)

        async def lead_on(connection: Any) -> None:
            await outbox.put(connection, [], [], await handovers.look_at(connection, strays, self.rules.routes))

        found, strays = await self._run(work)
        if strays:
            with contextlib.suppress(LedgerUnavailable):  # they are met again; what was claimed is ours
                await self._run(lead_on)
                if not found:
                    found, _ = await self._run(work)
        return found

    async def settle(self, delivery: Delivery, outcome: Outcome) -> list[Closed]:
        """Say what became of a claimed delivery. A lease that was lost to another settles nothing."""
        jitter = self._jitter()
        is_held, closed = await self._run(lambda c: claims.settle(c, delivery, outcome, self._owner, self._budgets, jitter))
        if not is_held:
            log.info("delivery %d was taken over before it was settled", delivery.id)
        return closed

    async def due_in(self, sinks: Sequence[str] | None = None, budgets: Budgets = unlimited) -> float | None:
        """Seconds until something can be done; None when nothing waits."""

        async def work(connection: Any) -> float | None:
            await connection.execute(hearing.PULSE)
            return await claims.due_in(connection, sinks, budgets)

        return await self._run(work)

    async def budgets(self, *, is_closed: bool = False) -> list[BudgetRow]:
        """List budgets."""
        return await self._run(lambda c: buckets.listed(c, is_closed=is_closed))

    async def reopen_budgets(self, keys: Sequence[str]) -> int:
        """Open closed budgets at once."""
        return await self._run(lambda c: buckets.reopen(c, keys))

    async def deliveries(self, *, state: str | None = None, sink: str | None = None, limit: int = 100) -> list[DeliveryRow]:
        """List deliveries, oldest first."""
        return await self._run(lambda c: outbox.listed(c, state, sink, limit))

    async def retry_deliveries(self, ids: Sequence[int] | None = None, *, sink: str | None = None) -> int:
        """Set dead deliveries waiting again."""
        return await self._run(lambda c: outbox.revive(c, ids, sink))

    async def bury_deliveries(self, ids: Sequence[int]) -> int:
        """Give up waiting deliveries by hand."""
        return await self._run(lambda c: outbox.give_up(c, ids))

    # --- looking ----------------------------------------------------------------------------------------------------

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
        return [hearing.shown(*row) for row in found]

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
        """Return what is kept."""

        async def work(connection: Any) -> dict[str, Any]:
            tables = ("agent_events", "agent_tasks", "agent_checkpoints", "dead_letters")
            found: dict[str, Any] = {t: await connection.fetchval(f"SELECT count(*) FROM {t}") for t in tables}
            states = await connection.fetch("SELECT state, count(*) FROM deliveries GROUP BY state")
            return {**found, "deliveries": {row[0]: row[1] for row in states}}

        return await self._run(work)

    async def usage(self, task_uid: UUID) -> list[Used]:
        """Return what a task's calls came to that have settled, by model."""
        return await self._run(lambda c: usage.of(c, task_uid))

    async def allowance(self, task: Task) -> list[Spent]:
        """Return each budget that a task spends from."""
        return await self._run(lambda c: spend.allowance(c, self.rules.budgets, task, self._begun)) if self.rules.budgets else []

    async def spending(self, tenant: str | None = None, limit: int = 1000) -> list[Spent]:
        """List what is spent of budgets."""
        return await self._run(lambda c: spend.listed(c, tenant, limit))

    async def limits(self, tenant: str | None = None, limit: int = 1000) -> list[Limits]:
        """List how often providers held calls back."""
        return await self._run(lambda c: spend.limits(c, tenant, limit))

    async def fleet(self) -> Fleet | None:
        """Tell of all that is under way, when it is this process's turn."""
        found = await self._run(lambda c: fleet.told(c, self._owner))
        self._has_turn = found is not None
        return found


def _is_heard(placed: Sequence[Placed]) -> bool:
    """Tell whether a task changed by what was told of it: neither time nor a person's act is a sign of its life."""
    return any(p.observation.part is not Part.INTERVENTION for p in placed)


async def _with(work: Callable[[Any, set[bytes]], Awaitable[T]], locked: set[bytes], connection: Any) -> T:
    return await work(connection, locked)
