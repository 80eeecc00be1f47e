"""Last activity of tasks and producers in memory: the same rules as `heartbeats`, over dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from spanpost.model.observations import Observation
from spanpost.model.tasks import Task
from spanpost.routing.routes import Routes, deliveries
from spanpost.store.memory_tables import MemoryTables
from spanpost.tasks import stall
from spanpost.tasks.folded import Folded
from spanpost.tasks.stall import Producer

#: Levels below a task that are searched for activity.
_DEPTH = 16


class MemoryHeartbeats:
    """Last activity of tasks and producers of one process."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables
        self._clock = tables.clock
        self._stall_rules = tables.rules.stall_rules
        self._outage = tables.rules.outage
        self._timers = tables.timers
        self._producers: dict[bytes, Producer] = {}
        self._active_at: dict[UUID, datetime] = {}
        #: The last activity after which each task was reported as stalled.
        self._reported: dict[UUID, datetime] = {}
        self._seen_at = self._resumed_at = self._clock()

    def pulse(self) -> None:
        """Note that the receiver runs. After an outage every stall timeout restarts."""
        now = self._clock()
        if now - self._seen_at > self._outage:
            self._resumed_at = now
        self._seen_at = max(self._seen_at, now)

    def listen_anew(self) -> None:
        """Restart every stall timeout: nothing could be received until now."""
        self._seen_at = self._resumed_at = self._clock()

    # --- tasks -------------------------------------------------------------------------------------------------------

    def recorded(self, tasks: Iterable[Task], started: Collection[UUID]) -> None:
        """Note that these tasks were active now."""
        now = self._clock()
        for task in tasks:
            self._active_at[task.uid] = now
            if self._stall_rules.is_endless:
                continue
            if task.ended_at is None and (task.uid in started or task.runs > 1):
                self._timers.setdefault(stall.stall_key(task.uid.bytes), now + self._stall_rules.stall_after)

    def forget(self, uids: Iterable[UUID]) -> None:
        """Drop tasks."""
        for uid in uids:
            self._active_at.pop(uid, None)
            self._reported.pop(uid, None)

    def recorded_at(self, task: Task) -> datetime | None:
        """Return when telemetry of a task itself was last recorded; None: it is not known."""
        return self._active_at.get(task.uid)

    def last_active_at(self, task: Task) -> datetime:
        """Return a task's last activity: its own, or of living tasks below it. Heartbeats do not count.

        While the receiver is down: now.
        """
        now = self._clock()
        times = [now if now - self._seen_at > self._outage else self._resumed_at]
        times += [self._active_at[t.uid] for t in self._living(task) if t.uid in self._active_at]
        return max(times)

    def _living(self, task: Task) -> list[Task]:
        """Return a task and the living tasks below it."""
        found, below, depth = [task], [task], 0
        tree = self._tables.tasks.below(task.root_uid or task.uid)
        while below and depth < _DEPTH:
            uids = {t.uid for t in below}
            below = [t for t in tree if t.parent_uid in uids and t.ended_at is None]
            found += below
            depth += 1
        return found

    def shown(self, task: Task) -> Task:
        """Return a task with its current status."""
        now = self._clock()
        stall_rules = self._stall_rules
        active_at = self._active_at.get(task.uid, now)
        if task.ended_at is not None or now - active_at < stall_rules.stall_after:
            return task
        has_open_call = self._tables.has_open_call(self._living(task), now - stall_rules.open_call_after)
        return stall.now_shown(
            task, stall.phase(task, self.last_active_at(task), now, stall_rules, has_open_call=has_open_call)
        )

    def scan(self, keys: Iterable[bytes], routes: Routes) -> Folded:
        """Check tasks whose timer has expired; return the checkpoints of those that stalled."""
        out = Folded()
        now = self._clock()
        for key in keys:
            task = self._tables.task(UUID(bytes=key[:16]))
            if task is None or task.ended_at is not None:
                continue
            last_active_at, shown = self.last_active_at(task), self.shown(task)
            self._timers[key] = stall.next_check_at(last_active_at, now, self._stall_rules)
            if shown.rule != "stall" or self._reported.get(task.uid) == last_active_at:
                continue
            self._reported[task.uid] = last_active_at
            checkpoint = stall.stalled(shown, last_active_at, self._stall_rules)
            root = self._tables.task(task.root_uid or task.uid) or task
            out.tasks.append(shown)
            out.checkpoints.append(checkpoint)
            out.deliveries.extend(deliveries(shown, checkpoint, routes, root=self.shown(root), now=now))
        return out

    # --- processes ---------------------------------------------------------------------------------------------------

    def hear(self, beats: Sequence[Observation]) -> list[Observation]:
        """Record heartbeats; return the observations that revive tasks of processes that were considered gone."""
        now = self._clock()
        revived: list[Observation] = []
        for beat in stall.newest(beats):
            key = stall.producer_key(beat.tenant, beat.producer)
            before = self._producers.get(key)
            producer = stall.hear(before, beat, now)
            if producer is None:
                continue
            self._producers[key] = producer
            self._timers.setdefault(key, producer.last_seen_at + stall.gone_after(producer, self._stall_rules))
            if before is not None and before.gone_at is not None:
                records = [stall.revived(t, producer) for t in self._of(producer)]
                revived += [record for record in records if record is not None]
        return revived

    def _of(self, producer: Producer) -> list[Task]:
        others = {t for p in self._producers.values() if p.key != producer.key and p.gone_at is None for t in p.traces}
        tasks = [t for t in self._tables.tasks.values() if t.tenant == producer.tenant]
        return sorted((t for t in tasks if stall.is_of(t, producer, others)), key=lambda t: t.uid)

    def overdue(self, keys: Iterable[bytes]) -> list[Observation]:
        """Check processes whose timer has expired; return the observations that interrupt the tasks of those
        that are gone.
        """
        now = self._clock()
        records: list[Observation] = []
        for key in keys:
            producer = self._producers.get(key)
            if producer is None or producer.gone_at is not None:
                continue
            after = stall.gone_after(producer, self._stall_rules)
            due = max(producer.last_seen_at, self._resumed_at) + after
            if due > now:
                self._timers[key] = due
                continue
            living = [t for t in self._of(producer) if t.ended_at is None]
            interrupted = [r for t in living if (r := stall.silenced(t, producer, self._stall_rules)) is not None]
            records += interrupted
            if len(interrupted) < len(living):
                self._timers[key] = now + after
            elif interrupted:
                self._producers[key] = msgspec.structs.replace(producer, gone_at=now)
            else:
                del self._producers[key]
        return records
