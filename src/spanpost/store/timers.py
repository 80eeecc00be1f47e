"""The part of the Postgres store that folds timers when they are due: finalized usage, expiry, stalls."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.store import faults, heartbeats, outbox, rows
from spanpost.store.fold_threads import TimeMeter
from spanpost.store.folding import Folding
from spanpost.store.interventions import PostgresInterventions
from spanpost.store.task_state import tenants_of
from spanpost.store.transactions import Unfoldable, is_of_data
from spanpost.tasks import batches
from spanpost.tasks.chains import NEXT
from spanpost.tasks.interventions import TIMER
from spanpost.tasks.milestones import TIMERS, state_of
from spanpost.tasks.record_keys import tenant_key

log = logging.getLogger(__name__)

#: A value for `FoldRules.announce_delay` that never passes: its timers wait for `elapse_never`.
NEVER = timedelta(days=36_500)
#: Timers folded in one transaction: recording waits for its locks.
_DUE = 100
#: Rounds of prefetching neighbouring tasks before timers are folded.
_ROUNDS = 2


#: How long a timer is postponed when its fold fails or takes too long.
PUT_OFF = timedelta(hours=1)
_PUT_OFF = "UPDATE timers SET at = clock_timestamp() + $2 WHERE key = $1"


class Elapsing(Folding):
    """The methods of `PostgresStore` for timers."""

    _months_due = 0.0

    batch_budget: float
    interventions: PostgresInterventions

    @abstractmethod
    async def _record_all(self, batch: Sequence[Observation]) -> Recorded: ...

    async def elapse(self) -> Recorded:
        """Fold the timers that are due by the database's clock, and record stalled tasks and processes."""
        keys = await self.run(
            lambda c: c.fetch("SELECT key FROM timers WHERE at <= clock_timestamp() ORDER BY at LIMIT $1", _DUE)
        )
        await self._keep_months()
        due: dict[bytes, list[bytes]] = {}
        for row in keys:
            due.setdefault(row[0][16:17], []).append(row[0])
        recorded = await self._elapse([key for kind in TIMERS for key in due.get(kind, [])])
        if processes := due.get(b"p"):
            gone, stalled = await self.run(lambda c: heartbeats.check_processes(c, processes, self.rules.stall_rules))
            # First the interrupted tasks, then the mark on the process: after a crash in between, both are
            # done again.
            if stalled:
                recorded = recorded.plus(await self._record_all(stalled))
            back = await self.run(lambda c: heartbeats.give_up(c, gone))
            if back:
                recorded = recorded.plus(await self._record_all(back))
        if tasks := due.get(b"t"):
            recorded = recorded.plus(await self.run(partial(self._check_tasks, tasks)))
        if questions := due.get(TIMER):
            recorded = recorded.plus(await self.interventions.expire(questions))
        if places := due.get(NEXT):
            recorded = recorded.plus(await self.interventions.pass_on(places))
        return recorded

    async def listen_anew(self) -> None:
        """Restart every producer's stall timeout."""
        await self.run(lambda c: c.execute(heartbeats.RESTART))

    async def _check_tasks(self, keys: Sequence[bytes], connection: Any) -> Recorded:
        folded = await heartbeats.check_tasks(connection, keys, self.rules.stall_rules, self.rules.routes)
        new = await rows.write_checkpoints(connection, folded) if folded.checkpoints else set()
        count, coalesced = await outbox.put(connection, folded.deliveries, []) if folded.deliveries else (0, {})
        return Recorded(
            tasks=folded.tasks,
            checkpoints=[c for c in folded.checkpoints if c.id in new],
            deliveries=count,
            coalesced=coalesced,
        )

    async def elapse_never(self) -> Recorded:
        """Fold now the timers that were set to `NEVER`, so that no other process finds them later."""
        keys = await self.run(
            lambda c: c.fetch("SELECT key FROM timers WHERE at > clock_timestamp() + $1::interval / 2", NEVER)
        )
        recorded = Recorded()
        for start in range(0, len(keys), _DUE):
            recorded = recorded.plus(
                await self._elapse([row[0] for row in keys[start : start + _DUE]], ahead=2 * NEVER)
            )
        return recorded

    async def _elapse(self, asked: Sequence[bytes], ahead: timedelta = timedelta(0)) -> Recorded:
        """Fold these timers: together, else one by one.

        A timer that takes too long by itself, or whose task state cannot be read or folded, is postponed.
        """
        if not asked:
            return Recorded()
        try:
            return await self._elapse_at_once(asked, ahead)
        except Exception as error:
            if not isinstance(error, OverBudget) and not is_of_data(error):
                raise
            if isinstance(error, Unfoldable):
                faults.tell(error)
            if len(asked) == 1:
                log.error("the timer of a task is put off for %s: %s: %s", PUT_OFF, type(error).__name__, error)
                await self.run(lambda c: c.execute(_PUT_OFF, asked[0], PUT_OFF))
                return Recorded()
        recorded = Recorded()
        for key in asked:
            recorded = recorded.plus(await self._elapse([key], ahead))
        return recorded

    async def _elapse_at_once(self, asked: Sequence[bytes], ahead: timedelta) -> Recorded:
        tenants = await self.run(partial(tenants_of, keys=[state_of(key) for key in asked]))

        async def work(connection: Any, locked: set[bytes]) -> Recorded:
            now = await self.lock(connection, locked)
            statement = "DELETE FROM timers WHERE key = ANY($1::bytea[]) AND at <= $2 RETURNING key"
            due = await connection.fetch(statement, asked, now + ahead)
            names = sorted(row[0] for row in due)
            if not names:
                return Recorded()
            meter = TimeMeter(self.batch_budget) if len(asked) > 1 else self.meter()
            records = self._records(connection, locked, meter)
            await records.fetch_domains(connection, {name[:16] for name in names})
            await records.fetch(connection, names)
            # Prefetch the traces of these tasks and their neighbours: each would be a miss that restarts the
            # fold.
            for _ in range(_ROUNDS):
                beside = await self._threads.run(meter, lambda: batches.beside(records, names)) - records.whole
                if not beside:
                    break
                await self.lock_more(connection, locked, beside)
                await records.fetch_domains(connection, beside)
            fold = partial(batches.elapse, records, names, self.rules, now, meter.tick)
            folded, ready = await self._fold(meter, records, [], now, fold)
            recorded = await self._write(connection, [], folded, ready, now)
            return await self._spend(connection, recorded, folded, locked, now, meter)

        return await self.widening(work, {key[:16] for key in asked} | {tenant_key(tenant) for tenant in tenants})

    async def _keep_months(self) -> None:
        # Best effort: a role that may not make tables goes on in audit_rows_rest.
        if time.monotonic() < self._months_due:
            return
        self._months_due = time.monotonic() + 12 * 3600.0
        try:
            await self.run(lambda c: c.fetchval("SELECT spanpost_keep_months()"))
        except StoreUnavailable as error:
            log.info("partitions of audit_rows could not be made ahead, new rows go to audit_rows_rest: %s", error)
