"""Stalled tasks and processes that are gone: when they were last seen, and what follows.

Rules
- A task is *active* when anything of it, or of a running task below it, is recorded. It is *seen* then, and by
  the heartbeats of a process that names its trace. It is *stalled* when it was not active for
  `StallRules.stall_after`, whether its process lives or not, unless a tool or model call of it is known to be
  open. That is not stored: it is computed when the task is read, from the
  store's clock.
- A process is *gone* when it sent no heartbeat for `StallRules.interrupt_after` (or three of its intervals) and has
  root spans open. Its tasks are then interrupted, by a record that is folded like any other: weaker than
  every other end, and taken back by anything that the task reports with a time after that record.
- A heartbeat is placed in time by its own clock and the least delay seen of its process: one that waited in a
  Collector counts for the time when it was sent. One that is older than the newest is ignored.
- While no receiver ran (an outage of ours) nothing counts as stalled: all timeouts begin anew.

Theory. The records are functions of the process's newest heartbeat, and facts of the fold: any order of
arrival gives the same task. What depends on the clock alone (stalled) is in no fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

import msgspec

from spanpost import semconv as c
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.ids import named, uuid_of
from spanpost.model.observations import MAX_NS, Observation, Part, log_index
from spanpost.model.tasks import Task
from spanpost.readers.events import read_event
from spanpost.readers.values import number
from spanpost.tasks.times import moment
from spanpost.text.wording import message, worded

#: Statuses that become "stalled"; a task that waits for a person, or was paused, may be quiet.
_QUIET = frozenset({c.STARTING, c.WORKING, c.CONTEXT_WARNING})
#: Heartbeats that may be missed, in intervals.
_MISSED = 3
#: A stalled task is checked again after as long as it has been quiet, at most after this.
_LONGEST_RECHECK = timedelta(hours=1)


_ENDLESS = timedelta(days=36_500)


#: A longer time without a receiver is an outage of ours.
OUTAGE = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class StallRules:
    """How long a task, a process or a call may be quiet."""

    stall_after: timedelta = timedelta(minutes=5)
    interrupt_after: timedelta = timedelta(minutes=1)
    #: How long an open tool or model call explains that nothing else is received.
    open_call_after: timedelta = timedelta(hours=1)
    #: How long a run that ended on a tool call without an answer may be quiet before it waits for a person.
    unanswered_after: timedelta = timedelta(seconds=10)

    @property
    def is_endless(self) -> bool:
        """True where nothing ever counts as stalled."""
        return self.stall_after >= _ENDLESS


#: For telemetry that is read from a file, not received: nothing stalls.
NO_STALL = StallRules(stall_after=_ENDLESS, interrupt_after=_ENDLESS)


class Producer(msgspec.Struct, frozen=True, kw_only=True):
    """A process that sends heartbeats, as its newest one says.

    `last_seen_at` and `gone_at` are by the store's clock.
    """

    tenant: str
    producer: str
    seq: int
    at_ns: int
    last_seen_at: datetime
    #: Least difference seen between the process's clock and ours: the clocks' offset plus the way.
    lag: timedelta
    interval: timedelta
    #: Open spans without a parent in the process: (trace id, span id).
    roots: tuple[tuple[bytes, bytes], ...] = ()
    gone_at: datetime | None = None

    @property
    def key(self) -> bytes:
        """Key of its row and its timer."""
        return producer_key(self.tenant, self.producer)

    @property
    def traces(self) -> frozenset[bytes]:
        """Traces in which it has root spans open."""
        return frozenset(trace for trace, _ in self.roots)


def producer_key(tenant: str, producer: str) -> bytes:
    """Return the key of a process: 16 bytes, and one that names the kind of timer."""
    return blake2b(f"{tenant}\0{producer}".encode("utf-8", "replace"), digest_size=16).digest() + b"p"


def stall_key(uid: bytes) -> bytes:
    """Return the key of a task's timer."""
    return uid + b"t"


def is_beat(o: Observation) -> bool:
    """Return whether an observation is a heartbeat: it is of a process, not of a task."""
    return o.name == c.EVENT_HEARTBEAT and bool(o.producer)


def hear(known: Producer | None, beat: Observation, now: datetime) -> Producer | None:
    """Return the process's state after a heartbeat; None when the heartbeat is not newer than the known one."""
    if known is not None and (beat.seq, beat.at_ns) <= (known.seq, known.at_ns):
        return None
    sent = moment(beat.at_ns)
    lag = now - sent if sent is not None else timedelta(0)
    last_seen_at = now
    if known is not None:
        lag = min(lag, known.lag)
        if sent is not None:
            last_seen_at = max(known.last_seen_at, min(now, sent + lag))
    seconds = number(beat.attributes.get(c.HEARTBEAT_INTERVAL)) or 0.0
    return Producer(
        tenant=beat.tenant,
        producer=beat.producer,
        seq=beat.seq,
        at_ns=beat.at_ns,
        last_seen_at=last_seen_at,
        lag=lag,
        interval=timedelta(seconds=min(max(seconds, 0.0), 86_400.0)),
        roots=read_event(beat).open_roots,
    )


def gone_after(producer: Producer, stall_rules: StallRules) -> timedelta:
    """Return how long a process may send no heartbeat."""
    return max(stall_rules.interrupt_after, producer.interval * _MISSED)


def is_of(task: Task, producer: Producer, others: Iterable[bytes]) -> bool:
    """Return whether a task runs in a process.

    True when its root span is open there, or its trace is open there and in no other process (`others`).
    """
    if (task.trace_id, task.span_id) in producer.roots:
        return True
    return task.trace_id in producer.traces and task.trace_id not in others


def silenced(task: Task, producer: Producer, stall_rules: StallRules) -> Observation | None:
    """Return the record that interrupts a task whose process is gone; None when something was received since."""
    if task.ended_at is not None or not task.span_id:
        return None
    at_ns = min(producer.at_ns + _ns(gone_after(producer, stall_rules)), MAX_NS)
    last = task.last_event_at
    if last is not None and last > (moment(at_ns) or last):
        return None
    return _record(c.EVENT_SPAN_STALLED, task, producer, at_ns)


def revived(task: Task, producer: Producer) -> Observation | None:
    """Return the record that takes an interruption back, of a process that sends again; None when there is none."""
    if task.end_reason != "interrupted" or not task.span_id:
        return None
    return _record(c.EVENT_SPAN_RECOVERED, task, producer, producer.at_ns)


def _record(name: str, task: Task, producer: Producer, at_ns: int) -> Observation:
    record = Observation(
        part=Part.LOG,
        trace_id=task.trace_id,
        span_id=task.span_id,
        tenant=task.tenant,
        name=name,
        at_ns=at_ns,
        attributes={"spanpost.inferred": True, "spanpost.heartbeat_unix_nano": producer.at_ns},
        producer=producer.producer,
        seq=producer.seq,
    )
    return msgspec.structs.replace(record, index=log_index(record))


def phase(
    task: Task, last_active_at: datetime, now: datetime, stall_rules: StallRules, *, has_open_call: bool = False
) -> str:
    """Return a task's current status. `last_active_at` is by the clock of `now`."""
    if (
        task.ended_at is not None
        or task.status not in _QUIET
        or has_open_call
        or now - last_active_at < stall_rules.stall_after
    ):
        return task.status
    return c.STALLED


def next_check_at(last_active_at: datetime, now: datetime, stall_rules: StallRules) -> datetime:
    """Return when to check next whether a task is stalled."""
    pause = min(max(now - last_active_at, timedelta(seconds=1)), _LONGEST_RECHECK, stall_rules.stall_after)
    return max(last_active_at + stall_rules.stall_after, now + pause)


def stalled(task: Task, last_active_at: datetime, stall_rules: StallRules) -> Checkpoint:
    """Return the checkpoint that a task is stalled: one for each time that it stalls."""
    text, locale_message = worded(message("checkpoint.stalled", time=stall_rules.stall_after.total_seconds()))
    return Checkpoint(
        id=uuid_of(named(f"{task.uid}\0{Kind.STALLED}\0{last_active_at.timestamp():.6f}")),
        tenant=task.tenant,
        task_uid=task.uid,
        kind=Kind.STALLED,
        status=c.STALLED,
        text=text,
        message=locale_message,
        at=last_active_at + stall_rules.stall_after,
        trace_id=task.trace_id,
        span_id=task.span_id,
        subtree=task.span_id,
    )


def now_shown(task: Task, status: str) -> Task:
    """Return a task under its current status."""
    return (
        task if status == task.status else msgspec.structs.replace(task, status=status, is_inferred=True, rule="stall")
    )


def without_beats(batch: Sequence[Observation]) -> tuple[Sequence[Observation], list[Observation]]:
    """Return the observations of a batch that are folded, and its heartbeats."""
    beats = [o for o in batch if is_beat(o)]
    return ([o for o in batch if not is_beat(o)], beats) if beats else (batch, beats)


def newest(beats: Sequence[Observation]) -> list[Observation]:
    """Return the newest heartbeat of each process, in the order of their keys."""
    best: dict[bytes, Observation] = {}
    for beat in beats:
        key = producer_key(beat.tenant, beat.producer)
        known = best.get(key)
        if known is None or (beat.seq, beat.at_ns) > (known.seq, known.at_ns):
            best[key] = beat
    return [best[key] for key in sorted(best)]


def _ns(span: timedelta) -> int:
    return int(span.total_seconds() * 1e9)
