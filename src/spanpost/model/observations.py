"""An observation: one received span, span event, link or log record, as a value."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from hashlib import blake2b
from typing import Any, Final

import msgspec

#: A signed 64-bit column overflows above this; a time after the year 2262 is an error.
MAX_NS = 2**63 - 1


class Part(IntEnum):
    """The part of a span that an observation reports. Part of the wire identity: never renumber."""

    ENDED = 0
    #: The span is known and has not ended: a live start, a later update, a pending span, end time 0.
    STARTED = 1
    EVENT = 2
    LINK = 3
    LOG = 4
    #: A person's act. Only the store creates it: no receiver does, so no sender can forge it.
    INTERVENTION = 5


class Status(IntEnum):
    """The span status code as OTLP numbers it."""

    UNSET = 0
    OK = 1
    ERROR = 2


class Origin(msgspec.Struct, frozen=True, kw_only=True, eq=True, gc=False):
    """The sender: resource and instrumentation scope, shared by the observations of one batch."""

    resource: dict[str, Any] = {}
    scope: str = ""
    scope_version: str = ""


NO_ORIGIN = Origin()


#: Characters that receivers keep of `Observation.thrown`: of the type, the message and the end of the stack trace.
THROWN_CAPS: Final = (1024, 16 * 1024, 64 * 1024)


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One span, span event, link or log record, as a receiver decoded it.

    Times are Unix nanoseconds as sent (0: not given). `trace_id` has 16 bytes, `span_id` and `parent_id` 8;
    a log record outside any span has empty ids. `index` is the position among the span's events or links;
    for a log record a 128-bit hash (`log_index`). `at_ns` is the occurrence's own time: a span's end when it
    has ended, else its start or the time of its update; an event's timestamp; a record's timestamp or else
    its observed time. An event with a time after its span's end has that end.
    """

    part: Part
    trace_id: bytes
    span_id: bytes
    tenant: str = "default"
    index: int = 0
    #: Number among the span's events of the same name and time, from 0: it keeps equal events apart.
    ordinal: int = 0
    parent_id: bytes = b""
    #: Span name, event name, or the log record's event name ("" for a plain log line).
    name: str = ""
    #: OTLP span kind, 0 to 5.
    kind: int = 0
    at_ns: int = 0
    start_ns: int = 0
    end_ns: int = 0
    status: Status = Status.UNSET
    status_message: str = ""
    attributes: dict[str, Any] = {}
    origin: Origin = NO_ORIGIN
    #: (trace id, span id) of each link of a span.
    links: tuple[tuple[bytes, bytes], ...] = ()
    #: Number of exception events on the ended span: they report its ERROR status, so the span does not
    #: repeat it.
    exceptions: int = 0
    #: Type, message and the end of the stack trace of the last of them; empty without one.
    thrown: tuple[str, ...] = ()
    #: A log record's body (text, map or null) and severity number.
    body: Any = None
    severity: int = 0
    #: Live records only: the producer (one per process, another after fork) and the producer's number for
    #: the record.
    producer: str = ""
    seq: int = 0
    #: Bits of `Repair`: what a receiver repaired.
    repairs: int = 0
    #: Attributes that a receiver left undecoded because no name is an agent's
    #: (`spanpost.readers.is_silent`).
    unread: int = 0


class Repair:
    """Bits of `Observation.repairs`: a value was repaired, nothing was discarded."""

    SYNTHETIC_ID = 1
    TEXT = 2
    NUMBER = 4
    TRUNCATED = 8
    TIME = 16
    DEPTH = 32
    NOT_UTF8 = 64
    #: Nothing was repaired, but its time is far from the time of receipt: a wrong sender's clock, or old
    #: data.
    FAR = 128


_PARTS = [bytes((part,)) for part in Part]
_FIRSTS = [part + bytes(16) for part in _PARTS]


def nanoseconds(at: datetime) -> int:
    """Return a time as Unix nanoseconds, in whole microseconds."""
    return int(at.timestamp() * 1e6) * 1000


def event_id(observation: Observation) -> bytes:
    """Return the wire identity (tenant, trace, span, part, index) as a 128-bit key: the audit row's."""
    o = observation
    index, trace_id, span_id = o.index, o.trace_id, o.span_id
    if len(trace_id) != 16 or len(span_id) != 8:
        trace_id, span_id = trace_id.rjust(16, b"\0"), span_id.rjust(8, b"\0")
    which = _FIRSTS[o.part] if not index else _PARTS[o.part] + index.to_bytes(16, "big")
    return blake2b(
        b"%b\0%b%b%b" % (o.tenant.encode("utf-8", "replace"), trace_id, span_id, which), digest_size=16
    ).digest()


_encode = msgspec.msgpack.Encoder(order="deterministic", enc_hook=repr).encode


def content_hash(observation: Observation) -> bytes:
    """Return 16 bytes, equal for equal content. Resource and scope are left out: Collectors enrich them."""
    o = observation
    attributes = o.attributes
    if "agent.producer" in attributes or "agent.seq" in attributes:
        attributes = {k: v for k, v in attributes.items() if k != "agent.producer" and k != "agent.seq"}
    content = (
        o.parent_id,
        o.name,
        o.kind,
        o.at_ns,
        o.start_ns,
        o.end_ns,
        int(o.status),
        o.status_message,
        attributes if not o.unread else o.unread,
        o.links,
        o.body,
    )
    try:
        packed = _encode(content)
    except (UnicodeEncodeError, OverflowError, RecursionError, TypeError, ValueError):
        packed = repr(content).encode("utf-8", "backslashreplace")  # values that no receiver lets in still get a hash
    return blake2b(packed, digest_size=16).digest()


def log_index(observation: Observation) -> int:
    """Return the 128-bit index of a log record: a hash of its content (without seq and producer)."""
    return int.from_bytes(content_hash(observation), "big")
