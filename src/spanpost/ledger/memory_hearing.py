"""Who is heard, in memory: the same rules as `hearing`, over dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from spanpost.domain.observations import Observation
from spanpost.domain.tasks import Task
from spanpost.fold import silence
from spanpost.fold.batch import Folded
from spanpost.fold.routes import Routes, letters
from spanpost.fold.silence import Patience, Producer

#: Below another, so deep is looked for who was heard.
_DEPTH = 16


class Knows(Protocol):
    """**Protocol:** what is asked of the ledger that keeps the tasks."""

    def stored(self) -> Collection[Task]: ...

    def task(self, uid: UUID) -> Task | None: ...

    def has_open_call(self, tasks: Collection[Task], since: datetime) -> bool: ...


class Hearing:
    """Who was heard last, of one process's ledger. `timers` are the ledger's."""

    def __init__(self, knows: Knows, clock: Callable[[], datetime], patience: Patience, timers: dict[bytes, datetime]) -> None:
        self._knows = knows
        self._clock = clock
        self._patience = patience
        self._timers = timers
        self._producers: dict[bytes, Producer] = {}
        self._heard: dict[UUID, datetime] = {}
        self._told: set[tuple[UUID, datetime]] = set()
        self._seen_at = self._resumed_at = clock()

    def pulse(self) -> None:
        """Note that somebody listens; after an outage everybody's patience begins anew."""
        now = self._clock()
        if now - self._seen_at > self._patience.outage:
            self._resumed_at = now
        self._seen_at = max(self._seen_at, now)

    def listen_anew(self) -> None:
        """Give everybody a full patience from now on."""
        self._seen_at = self._resumed_at = self._clock()

    # --- tasks --------------------------------------------------------------------------------------------------------

    def recorded(self, tasks: Iterable[Task], started: Collection[UUID]) -> None:
        """Note that something of these tasks was recorded."""
        now = self._clock()
        for task in tasks:
            self._heard[task.uid] = now
            if self._patience.is_endless:
                continue
            if task.ended_at is None and (task.uid in started or task.segments > 1):
                self._timers.setdefault(silence.stall_key(task.uid.bytes), now + self._patience.stall)

    def forget(self, uids: Iterable[UUID]) -> None:
        """Let go of tasks."""
        for uid in uids:
            self._heard.pop(uid, None)
        self._told = {(uid, at) for uid, at in self._told if uid in self._heard}

    def heard_at(self, task: Task) -> datetime:
        """Return when a task was heard of last: itself, living tasks below it, its process; while nobody listened, now."""
        now = self._clock()
        heard = [now if now - self._seen_at > self._patience.outage else self._resumed_at]
        heard += [self._heard[t.uid] for t in self._living(task) if t.uid in self._heard]
        for p in self._producers.values():
            if p.gone_at is None and p.tenant == task.tenant and task.trace_id in p.traces:
                heard.append(p.heard_at)
        return max(heard)

    def _living(self, task: Task) -> list[Task]:
        """Return a task and the living ones below it."""
        found, below, depth = [task], [task], 0
        while below and depth < _DEPTH:
            uids = {t.uid for t in below}
            below = [t for t in self._knows.stored() if t.parent_uid in uids and t.ended_at is None]
            found += below
            depth += 1
        return found

    def shown(self, task: Task) -> Task:
        """Return a task under its status of now."""
        now = self._clock()
        patience = self._patience
        own = self._heard.get(task.uid, now)
        if task.ended_at is not None or now - own < patience.stall:
            return task
        has_open_call = self._knows.has_open_call(self._living(task), now - patience.call)
        return silence.now_shown(task, silence.phase(task, self.heard_at(task), now, patience, has_open_call=has_open_call))

    def look(self, keys: Iterable[bytes], routes: Routes) -> Folded:
        """Look at tasks whose time has come; return what is told of those that fell silent."""
        out = Folded()
        now = self._clock()
        for key in keys:
            task = self._knows.task(UUID(bytes=key[:16]))
            if task is None or task.ended_at is not None:
                continue
            heard_at, shown = self.heard_at(task), self.shown(task)
            self._timers[key] = silence.look_again(heard_at, now, self._patience)
            if shown.rule != "silence" or (task.uid, heard_at) in self._told:
                continue
            self._told.add((task.uid, heard_at))
            told = silence.stalled(shown, heard_at, self._patience)
            root = self._knows.task(task.root_uid or task.uid) or task
            out.tasks.append(shown)
            out.checkpoints.append(told)
            out.letters.extend(letters(shown, told, routes, root=self.shown(root), now=now))
        return out

    # --- processes ----------------------------------------------------------------------------------------------------

    def hear(self, beats: Sequence[Observation]) -> list[Observation]:
        """Take heartbeats in; return the records that bring tasks back of processes that had been given up."""
        now = self._clock()
        back: list[Observation] = []
        for beat in silence.newest(beats):
            key = silence.producer_key(beat.tenant, beat.producer)
            before = self._producers.get(key)
            heard = silence.hear(before, beat, now)
            if heard is None:
                continue
            self._producers[key] = heard
            self._timers.setdefault(key, heard.heard_at + silence.gone_after(heard, self._patience))
            if before is not None and before.gone_at is not None:
                records = [silence.revived(t, heard) for t in self._of(heard)]
                back += [record for record in records if record is not None]
        return back

    def _of(self, producer: Producer) -> list[Task]:
        others = {t for p in self._producers.values() if p.key != producer.key and p.gone_at is None for t in p.traces}
        tasks = [t for t in self._knows.stored() if t.tenant == producer.tenant]
        return sorted((t for t in tasks if silence.is_of(t, producer, others)), key=lambda t: t.uid)

    def overdue(self, keys: Iterable[bytes]) -> list[Observation]:
        """Look at processes whose time has come; return the records that interrupt the tasks of those that are gone."""
        now = self._clock()
        records: list[Observation] = []
        for key in keys:
            producer = self._producers.get(key)
            if producer is None or producer.gone_at is not None:
                continue
            after = silence.gone_after(producer, self._patience)
            due = max(producer.heard_at, self._resumed_at) + after
            if due > now:
                self._timers[key] = due
                continue
            living = [t for t in self._of(producer) if t.ended_at is None]
            silent = [r for t in living if (r := silence.silenced(t, producer, self._patience)) is not None]
            records += silent
            if len(silent) < len(living):
                self._timers[key] = now + after
            elif silent:
                self._producers[key] = msgspec.structs.replace(producer, gone_at=now)
            else:
                del self._producers[key]
        return records
