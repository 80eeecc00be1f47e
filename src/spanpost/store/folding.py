"""One transaction of the Postgres store: lock the domains of a batch, fetch their records, fold, write.

All transactions take locks in one order: the domains of a batch (`locks`); rows of events, task state, tasks
and checkpoints (sorted by key); ordering keys (sorted); deliveries. Advisory locks end with the transaction,
so a pooler in transaction mode does no harm.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import Result
from spanpost.model.observations import Observation, Part
from spanpost.model.recorded import ERASED, Recorded
from spanpost.model.tasks import Task
from spanpost.readers.redaction import Redaction
from spanpost.store import (
    audit,
    evaluation_rows,
    heartbeats,
    intervention_rows,
    launch_orders,
    outbox,
    rows,
    takeovers,
    usage,
)
from spanpost.store import budgets as spend
from spanpost.store.attribute_sets import AttributeSets, add
from spanpost.store.erasing import tombstones
from spanpost.store.fold_threads import FoldThreads, TimeMeter
from spanpost.store.late import take_late
from spanpost.store.locks import lock, try_lock
from spanpost.store.quarantine import mended
from spanpost.store.task_state import Changed, FetchedRecords
from spanpost.store.transactions import confirm, unfoldable
from spanpost.tasks import batches, durations, provider_limits
from spanpost.tasks import interventions as judging
from spanpost.tasks.budget_limits import LimitAct
from spanpost.tasks.evaluations import any_evaluated
from spanpost.tasks.folded import Folded, FoldRules, Placed
from spanpost.tasks.prefetch import Prefetch
from spanpost.tasks.questions import speaks_of_approvals
from spanpost.tasks.record_keys import node_key
from spanpost.tasks.work import Interrupted, Key

T = TypeVar("T")

#: How often a transaction is restarted because it touched more domains than it had locked.
WIDENINGS = 5
#: Levels of parents that are fetched one query a level.
_LEVELS = 32


class Wider(Exception):
    """The fold touched domains that others have locked: restart with all of them locked in order.

    An exception, because the transaction must end without a result: advisory locks can be taken in order only
    from its beginning, and the fold runs in a thread of its own that has to be left.
    """

    def __init__(self, domains: set[bytes]) -> None:
        super().__init__(f"{len(domains)} domains")
        self.domains = domains


class Ready(NamedTuple):
    """The results of a fold, encoded for the database: records, audit rows, tasks."""

    changed: Changed
    events: list[bytes]
    tasks: list[Task]
    given: str


class Folding(ABC):
    """Transactions that fold: the base of all parts of `PostgresStore` that record."""

    rules: FoldRules
    #: Seconds of processor time that one trace may take in one transaction.
    trace_budget: float
    _threads: FoldThreads
    _begun: usage.Begun
    _sets: AttributeSets
    #: The database's key for the hashes that replace secrets.
    _key: bytes

    @property
    def redaction(self) -> Redaction | None:
        """The redaction by the current rules; None: nothing is redacted."""
        redaction = self.rules.redaction
        if redaction is not None:
            redaction.keyed(self._key)
        return redaction

    @property
    def hash_key(self) -> bytes:
        """The database's key of hashes that stand for what must not be read."""
        return self._key

    @abstractmethod
    async def run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run `work` in its own transaction."""

    async def widening(self, work: Callable[[Any, set[bytes]], Awaitable[T]], domains: Iterable[bytes]) -> T:
        """Run `work(connection, locked)` in a transaction; again with more domains when it needs them."""
        locked = set(domains)
        for _ in range(WIDENINGS):
            try:
                return await self.run(partial(_with, work, locked))
            except Wider as wider:
                locked = locked | wider.domains
        raise StoreUnavailable(f"the batch touched more than was locked, {WIDENINGS} times: try again")

    async def lock(self, connection: Any, domains: Iterable[bytes]) -> datetime:
        """Lock domains in order; return the time by the database's clock."""
        return await lock(connection, domains)

    async def lock_more(self, connection: Any, locked: set[bytes], domains: set[bytes]) -> None:
        """Lock further domains. Raises `Wider` when another transaction has one of them."""
        if not await try_lock(connection, locked, domains):
            raise Wider(domains)
        locked |= domains

    async def take_locked(
        self,
        connection: Any,
        placed: Sequence[Placed],
        locked: set[bytes],
        now: datetime,
        *,
        asks_all: bool,
        touched: set[bytes] | None = None,
        meter: TimeMeter | None = None,
    ) -> Recorded:
        """Record the new observations of a batch.

        The audit rows are asked about observations that may be duplicates; about all of them with
        `asks_all`. `touched` are the batch's domains, if known. Raises `OverBudget`; and
        `asyncpg.UniqueViolationError` for an audit row whose task state is gone, or for a checkpoint that
        another transaction writes at this moment.
        """
        meter = meter or self.meter()
        distinct = list({(p.event_id, p.content_hash): p for p in placed}.values())
        records = self._records(connection, locked, meter, tombstones.of({p.domain for p in distinct}, self._key))
        await records.fetch_domains(connection, batches.domains(distinct) if touched is None else touched)
        if records.sets_since is not None:
            self._sets.forget(records.sets_since)
        erased = 0
        if records.erased:
            given = len(placed)
            placed = [p for p in placed if p.domain not in records.erased]
            distinct = [p for p in distinct if p.domain not in records.erased]
            erased = given - len(placed)
        doubtful = distinct if asks_all else [p for p in distinct if not _is_new(records, p)]
        new = await self._without_known(connection, distinct, doubtful) if doubtful else distinct
        duplicates = len(placed) - len(new)
        if not new:
            await confirm(connection)
            return Recorded(duplicates=duplicates, dropped={ERASED: erased} if erased else {})
        new, late = await take_late(connection, new, records.new, self._sets, now)
        if not new:
            late.duplicates = duplicates
            late.dropped = {**late.dropped, ERASED: erased} if erased else late.dropped
            return late
        await self._follow(connection, records, locked, new, meter)
        large = audit.large_resources(new, self._sets, now)
        own_sets = await add(connection, large) if large else ()
        folded, ready = await self._fold(
            meter, records, new, now, lambda: batches.fold(records, new, self.rules, now, meter.tick), own_sets
        )
        is_first = touched is not None and not asks_all
        recorded = await self._write(connection, new, folded, ready, now, is_first=is_first)
        recorded.duplicates = duplicates
        if erased:
            recorded.dropped = {**recorded.dropped, ERASED: erased}
        recorded.ignored = len(new) - len(folded.recorded)
        recorded = await self._spend(connection, recorded, folded, locked, now, meter)
        return recorded.plus(late) if late.events else recorded

    async def _spend(
        self, connection: Any, recorded: Recorded, folded: Folded, locked: set[bytes], now: datetime, meter: TimeMeter
    ) -> Recorded:
        """Add what was spent to its budgets; record the thresholds that were passed, and what budgets do to tasks.

        These are the last rows to be locked. The records belong to tasks that are locked already.
        """
        growths, budgets = folded.growths, self.rules.budgets
        kept = await spend.keep(connection, growths, budgets, now, self._begun) if growths else None
        if folded.used:
            await usage.keep(connection, folded.used)
        if kept is None or not (kept.passed or kept.acts):
            return recorded
        records = [*kept.passed]
        for limit in kept.acts:
            records += await self._act(connection, limit, recorded, now)
        with unfoldable():
            placed = batches.prepare(list(map(mended, records)), keeps_content=True)
        return recorded.plus(await self.take_locked(connection, placed, locked, now, asks_all=False, meter=meter))

    async def _act(self, connection: Any, limit: LimitAct, recorded: Recorded, now: datetime) -> list[Observation]:
        """Record what a budget does to a task; return the records to fold."""
        verdict = judging.judge(limit.act, None, limit.task, now)
        await intervention_rows.write_act(connection, limit.act, verdict, None)
        if verdict.result is not Result.DONE:
            return []
        recorded.budget_acts.append(limit.counted)
        await intervention_rows.notify(connection, judging.topics_of(limit.task))
        records = [judging.done(limit.act, limit.task, now)]
        if limit.question is not None and limit.record is not None:
            await spend.ask(connection, limit.question)
            records.append(limit.record)
        return records

    async def _without_known(self, connection: Any, distinct: list[Placed], doubtful: list[Placed]) -> list[Placed]:
        found = await connection.fetch(audit.KNOWN_EVENTS, audit.identities(doubtful))
        if not found:
            return distinct
        known = {id(doubtful[row[0]]) for row in found}
        return [p for p in distinct if id(p) not in known]

    def meter(self) -> TimeMeter:
        """Return a meter with the default limit of a transaction: the time that one trace may take alone."""
        return TimeMeter(self.trace_budget)

    def _records(
        self, connection: Any, locked: set[bytes], meter: TimeMeter, tombstones: Mapping[bytes, bytes] | None = None
    ) -> FetchedRecords:
        """Return the records of one transaction.

        Records that the fold needs and that were not fetched are fetched then. `tombstones`: domains by the
        tombstones that they would have if they were erased.
        """
        loop = asyncio.get_running_loop()
        # The thread that folds has the context of its first caller, which may have an agent's span.
        context = copy_context()

        async def bring(records: FetchedRecords, keys: Sequence[Key]) -> None:
            await self.lock_more(connection, locked, {key[:16] for key in keys})
            if len(keys) == 1:
                await records.fetch_around(connection, keys[0])
            else:
                await records.fetch(connection, keys)

        def ask(records: FetchedRecords, keys: Sequence[Key]) -> None:
            meter.asked()
            try:
                context.run(asyncio.run_coroutine_threadsafe, bring(records, keys), loop).result()
            except BaseException as error:
                raise Interrupted(error) from error

        return FetchedRecords(ask, tombstones)

    async def _follow(
        self, connection: Any, records: FetchedRecords, locked: set[bytes], new: Sequence[Placed], meter: TimeMeter
    ) -> None:
        """Fetch the records connected with a batch, level by level.

        Beyond `_LEVELS`, which no normal trace has, in pages.
        """
        trail = await self._threads.run(meter, lambda: Prefetch(records.loaded, records.whole, records.leads, new))
        level = 0
        while wanted := await self._threads.run(meter, trail.step):
            level += 1
            await self.lock_more(connection, locked, {key[:16] for key in wanted})
            await records.fetch(connection, wanted)
            if level > _LEVELS:
                for domain in {domain for domain, _ in trail.open}:
                    await records.fetch_more(connection, domain)

    async def _fold(
        self,
        meter: TimeMeter,
        records: FetchedRecords,
        placed: Sequence[Placed],
        now: datetime,
        fold: Callable[[], Folded],
        own_sets: Collection[int] = (),
    ) -> tuple[Folded, Ready]:
        """Fold in a thread, and encode the results there."""

        def work() -> tuple[Folded, Ready]:
            with unfoldable():
                folded = fold()
            events = [row for _, row in audit.events(placed, folded.recorded, now, self._sets, own_sets)]
            return folded, Ready(records.changed(), events, *rows.ready_tasks(folded.tasks))

        return await self._threads.run(meter, work)

    async def _write(
        self,
        connection: Any,
        placed: Sequence[Placed],
        folded: Folded,
        ready: Ready,
        now: datetime,
        *,
        is_first: bool = False,
    ) -> Recorded:
        if folded.moves:
            await rows.write_moves(connection, folded.moves)
        parts: dict[str, int] = {}
        if folded.recorded:
            await audit.write_events(connection, ready.events)
            met = Counter([placed[i].source.part for i in folded.recorded])
            parts = {part.name.lower(): count for part, count in met.items()}
        await ready.changed.save(connection)
        if folded.gone:
            await rows.write_gone(connection, folded.gone)
        new: set[UUID] = set()
        if folded.checkpoints or folded.retracted:
            new = await rows.write_checkpoints(connection, folded, is_first=is_first)
        if folded.moved_spans:
            await rows.write_span_moves(connection, folded.moved_spans)
        if folded.tasks:
            await rows.write_tasks(
                connection, ready.tasks, ready.given, has_moved=folded.has_moved, has_telemetry=_has_telemetry(placed)
            )
            await heartbeats.watch_tasks(connection, folded.tasks, folded.started, self.rules.stall_rules)
        owed: list[Observation] = []
        if speaks_of_approvals(placed, folded):
            kept = await intervention_rows.keep(connection, folded.tasks, now)
            owed = kept.owed
            if unasked := kept.unasked:
                folded.deliveries = [d for d in folded.deliveries if d.checkpoint_id not in unasked]
        evaluated = await evaluation_rows.keep(connection, folded.tasks) if any_evaluated(folded) else []
        if folded.timers:
            timers = sorted({t.key: t.at for t in folded.timers}.items())
            await connection.execute(
                "INSERT INTO timers (key, at) SELECT * FROM unnest($1::bytea[], $2::timestamptz[])"
                " ON CONFLICT (key) DO UPDATE SET at = excluded.at",
                [key for key, _ in timers],
                [at for _, at in timers],
            )
        count, coalesced = 0, dict[str, int]()
        takeover = await takeovers.plan(connection, folded.woken, self.rules.routes) if folded.woken else None
        if folded.deliveries or folded.retracted or takeover is not None:
            count, coalesced = await outbox.put(connection, folded.deliveries, folded.retracted, takeover)
        limited = provider_limits.limited(placed, folded)
        if limited:
            await spend.count_limits(connection, limited)
        count += await launch_orders.on_end(connection, folded, self.rules.launches, now)
        return Recorded(
            events=sum(parts.values()),
            parts=parts,
            tasks=folded.tasks,
            started=folded.started,
            ended=folded.ended,
            checkpoints=[c for c in folded.checkpoints if c.id in new],
            finalized=folded.finalized,
            corrections=folded.corrections,
            timed=durations.timed(placed, folded),
            limited=limited,
            evaluated=evaluated,
            waited=durations.waited(folded, new),
            deliveries=count,
            coalesced=coalesced,
            dropped=folded.dropped,
            owed=owed,
        )


def _is_new(records: FetchedRecords, p: Placed) -> bool:
    key = node_key(p.domain, p.observation.span_id)
    return p.domain in records.new or (records.is_known(key) and batches.is_new(records.get(key), p))


def _has_telemetry(placed: Sequence[Placed]) -> bool:
    """Return whether telemetry changed the tasks: time and people's acts do not show that a task is alive."""
    return any(p.observation.part is not Part.INTERVENTION for p in placed)


async def _with(work: Callable[[Any, set[bytes]], Awaitable[T]], locked: set[bytes], connection: Any) -> T:
    return await work(connection, locked)
