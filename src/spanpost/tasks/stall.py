"""Silence: who was heard last, when nobody is heard any more, and what that means.

Rules
- A task is *heard* when anything of it, or of a living task below it, is recorded, and by the heartbeats of a process that
  names its trace. It is *stalled* when it was not heard for `Patience.stall`, unless a tool or model call of it is known to be
  open. Nobody stores that: it is computed when the task is read, from the clock of whoever keeps it.
- A process is *gone* when its heartbeats stopped for `Patience.gone` (or three of its intervals) with roots open. Its tasks are
  then interrupted, by a record that says so and is folded like any other: weaker than every other end, and taken back by
  anything that the task told of itself after the moment of the record.
- A heartbeat is placed in time by its own clock and the least delay that was seen of its process: one that waited in a
  Collector tells of the time when it was sent. One that is older than the newest is nothing.
- While nobody listened (an outage of ours) nobody was silent: patience begins anew.

Theory. The records are functions of the process's newest heartbeat, and facts of the fold: any order of arrival comes to the
same task. What depends on the clock alone (stalled) is in no fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

#: Statuses under which silence shows; a task that waits for a person, or was paused, may be silent.
_QUIET = frozenset({c.STARTING, c.WORKING, c.CONTEXT_WARNING})
#: Heartbeats that may be missed, in intervals.
_MISSED = 3
#: A stalled task is looked at again after as long as it was silent, at most after this.
_LIMITED_LOG = timedelta(hours=1)


_ENDLESS = timedelta(days=36_500)


class StallRules(msgspec.Struct, frozen=True, kw_only=True):
    """How long silence is borne."""

    stall: timedelta = timedelta(minutes=5)
    gone: timedelta = timedelta(minutes=1)
    #: How long a tool or model call that is known to be open explains it.
    call: timedelta = timedelta(hours=1)
    #: Nobody having listened for longer is an outage of ours.
    outage: timedelta = timedelta(seconds=30)

    @property
    def is_endless(self) -> bool:
        """True where nobody is ever silent."""
        return self.stall >= _ENDLESS


#: For what is not listened to but read: nobody is silent.
NO_STALL = StallRules(stall=_ENDLESS, gone=_ENDLESS)


class Producer(msgspec.Struct, frozen=True, kw_only=True):
    """A process that sends heartbeats, as its newest tells. Times of `heard_at` and `gone_at` are the store's."""

    tenant: str
    producer: str
    seq: int
    at_ns: int
    last_seen_at: datetime
    #: Least time seen between the process's clock and ours: what its clock is off, and the way.
    lag: timedelta
    interval: timedelta
    #: Open spans without a parent in the process: (trace id, span id).
    roots: tuple[tuple[bytes, bytes], ...] = ()
    gone_at: datetime | None = None

    @property
    def key(self) -> bytes:
        """What it is stored and timed by."""
        return producer_key(self.tenant, self.producer)

    @property
    def traces(self) -> frozenset[bytes]:
        """Traces that it has open."""
        return frozenset(trace for trace, _ in self.roots)


def producer_key(tenant: str, producer: str) -> bytes:
    """Return the key of a process: 16 bytes, and a byte that says what sort of timer it is."""
    return blake2b(f"{tenant}\0{producer}".encode("utf-8", "replace"), digest_size=16).digest() + b"p"


def stall_key(uid: bytes) -> bytes:
    """Return the key of a task's timer."""
    return uid + b"t"


def is_beat(o: Observation) -> bool:
    """Tell whether an observation is a heartbeat: of a process, no row of any task."""
    return o.name == c.EVENT_HEARTBEAT and bool(o.producer)


def hear(known: Producer | None, beat: Observation, now: datetime) -> Producer | None:
    """Return what is known of a process after a heartbeat; None when it is not newer than what is known."""
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
    return max(stall_rules.gone, producer.interval * _MISSED)


def is_of(task: Task, producer: Producer, others: Iterable[bytes]) -> bool:
    """Tell whether a task runs in a process: its box is a root there, or its trace is open there and in no other (`others`)."""
    if (task.trace_id, task.span_id) in producer.roots:
        return True
    return task.trace_id in producer.traces and task.trace_id not in others


def silenced(task: Task, producer: Producer, stall_rules: StallRules) -> Observation | None:
    """Return the record that interrupts a task whose process is gone; None when it was heard of since."""
    if task.ended_at is not None or not task.span_id:
        return None
    at_ns = min(producer.at_ns + _ns(gone_after(producer, stall_rules)), MAX_NS)
    last = task.last_event_at
    if last is not None and last > (moment(at_ns) or last):
        return None
    return _record(c.EVENT_SPAN_SILENT, task, producer, at_ns)


def revived(task: Task, producer: Producer) -> Observation | None:
    """Return the record that takes an interruption back, of a process that is heard again; None where there is none."""
    if task.end_reason != "interrupted" or not task.span_id:
        return None
    return _record(c.EVENT_SPAN_HEARD, task, producer, producer.at_ns)


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


def phase(task: Task, last_seen_at: datetime, now: datetime, stall_rules: StallRules, *, has_open_call: bool = False) -> str:
    """Return a task's status as it is now. `heard_at`: when it was heard last, in whatever way, by the clock of `now`."""
    if task.ended_at is not None or task.status not in _QUIET or has_open_call or now - last_seen_at < stall_rules.stall:
        return task.status
    return c.STALLED


def look_again(last_seen_at: datetime, now: datetime, stall_rules: StallRules) -> datetime:
    """Return when a task is to be looked at for silence next."""
    return max(last_seen_at + stall_rules.stall, now + min(max(now - last_seen_at, timedelta(seconds=1)), _LIMITED_LOG, stall_rules.stall))


def stalled(task: Task, last_seen_at: datetime, stall_rules: StallRules) -> Checkpoint:
    """Return the news that a task was not heard of since then: one for each time that it falls silent."""
    text, saying = worded(message("checkpoint.stalled", time=stall_rules.stall.total_seconds()))
    return Checkpoint(
        id=uuid_of(named(f"{task.uid}\0{Kind.STALLED}\0{last_seen_at.timestamp():.6f}")),
        tenant=task.tenant,
        task_uid=task.uid,
        kind=Kind.STALLED,
        status=c.STALLED,
        text=text,
        message=saying,
        at=last_seen_at + stall_rules.stall,
        trace_id=task.trace_id,
        span_id=task.span_id,
        subtree=task.span_id,
    )


def now_shown(task: Task, status: str) -> Task:
    """Return a task as it is shown under its status of now."""
    return task if status == task.status else msgspec.structs.replace(task, status=status, is_inferred=True, rule="stall")


def without_beats(batch: Sequence[Observation]) -> tuple[Sequence[Observation], list[Observation]]:
    """Return what is folded of a batch, and its heartbeats."""
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
