"""Converts spool records back to observations, with the code that also converts live spans: the results are
the same.

The stand-ins below have those fields of a span, an event and a log record that `spanpost.receivers.spans`
reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from spanpost.model.observations import Observation, Part
from spanpost.receivers import spool_packing as p
from spanpost.receivers.spans import (
    Equals,
    Origins,
    observe_event,
    observe_interruption,
    observe_log,
    observe_span,
    time_of,
)


class _Value(NamedTuple):
    value: Any


class _SpooledStatus(NamedTuple):
    status_code: _Value
    description: Any


class _SpooledContext(NamedTuple):
    trace_id: int
    span_id: int


class _Link(NamedTuple):
    context: _SpooledContext


class _SpooledScope(NamedTuple):
    name: str
    version: str


class _SpooledResource(NamedTuple):
    attributes: dict[str, Any]


class _SpooledEvent:
    def __init__(self, name: Any, timestamp: Any, attributes: dict[str, Any]) -> None:
        self.name, self.timestamp, self.attributes = name, timestamp, attributes


class _Events(list[_SpooledEvent]):
    dropped = 0


def _context(trace_id: bytes, span_id: bytes) -> _SpooledContext:
    return _SpooledContext(int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"))


class _SpooledSpan:
    def __init__(self, record: list[Any], resource: Any, scope: Any) -> None:
        (_, trace_id, span_id, parent_id, self.name, kind, self.start_time, self.end_time, code, description,
         self.attributes, _, self.is_cancelled, links, dropped, events) = record  # fmt: skip
        self._context = _context(trace_id, span_id)
        self.parent = _context(trace_id, parent_id) if parent_id else None
        self.kind = _Value(kind)
        self.status = _SpooledStatus(_Value(code), description)
        self.links = tuple(_Link(_context(*link)) for link in links)
        self.events = _Events(_SpooledEvent(*event) for event in events)
        self.events.dropped = dropped
        self.resource, self.instrumentation_scope = resource, scope

    def get_span_context(self) -> _SpooledContext:
        return self._context


class _SpooledRecord:
    def __init__(self, record: list[Any]) -> None:
        _, trace_id, span_id, self.event_name, self.timestamp, severity, self.body, self.attributes, _ = record
        self.trace_id, self.span_id = int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
        self.observed_timestamp = self.timestamp
        self.severity_number = _Value(severity)


class _LogData:
    def __init__(self, record: list[Any], resource: Any, scope: Any) -> None:
        self.log_record, self.resource, self.instrumentation_scope = _SpooledRecord(record), resource, scope


class Unpacked(NamedTuple):
    """The contents of one spool file."""

    observations: list[Observation]
    #: Number of unreadable records.
    bad: int
    #: Times when records bypassed the file: (from ns, to ns, number, reason).
    gaps: list[tuple[int, int, int, str]]
    #: Starts of spans without an end in this file or earlier ones; empty if the writer closed the spool
    #: properly.
    left_open: list[Observation]
    #: The time of the last observation in this file or earlier ones, ns.
    last_ns: int


class Unpacker:
    """Unpacks the files of one process, in the order in which they were written."""

    def __init__(self, tenant: str, producer: str) -> None:
        self._tenant = tenant
        self._producer = producer
        self._equals: dict[bytes, Equals] = {}
        self._open: dict[bytes, Observation] = {}
        self._last_ns = 0

    def unpack(self, records: Iterable[bytes]) -> Unpacked:
        """Return the observations of one file. Unreadable records are counted and skipped."""
        rows: list[list[Any]] = []
        bad = 0
        for raw in records:
            try:
                row = p.decode(raw)
                row[0] + 0
            except Exception:
                bad += 1
                continue
            rows.append(row)
        origins = Origins()
        named: dict[int, tuple[Any, Any]] = {}
        ended: set[bytes] = set()
        for row in rows:
            if row[0] == p.ORIGIN and len(row) >= 5:
                named[row[1]] = (_SpooledResource(row[2]), _SpooledScope(row[3], row[4]))
            elif row[0] == p.END and len(row) >= 3:
                ended.add(row[2])
        observations: list[Observation] = []
        starts: dict[bytes, Observation] = {}
        gaps: list[tuple[int, int, int, str]] = []
        interrupted: set[bytes] = set()
        is_closed = False
        for row in rows:
            try:
                match row[0]:
                    case p.END:
                        observations += self._end(row, named, origins)
                        self._equals.pop(row[2], None)
                    case p.START:
                        # The end of a span repeats everything in its start.
                        if row[2] not in ended and row[2] not in starts:
                            span = _SpooledSpan(row, *named.get(row[11], (None, None)))
                            start = observe_span(span, Part.STARTED, origins, self._tenant, producer=self._producer)
                            starts[row[2]] = start
                            observations.append(start)
                    case p.EVENT:
                        observations.append(self._event(row, named, origins))
                    case p.LOG:
                        observations.append(
                            observe_log(_LogData(row, *named.get(row[8], (None, None))), origins, self._tenant)
                        )
                    case p.INTERRUPTED:
                        _, trace_id, span_id, name, at_ns, number = row
                        origin = origins.of(*named.get(number, (None, None)))
                        observations.append(observe_interruption(trace_id, span_id, name, at_ns, origin, self._tenant))
                        interrupted.add(span_id)
                    case p.GAP:
                        gaps.append((int(row[1]), int(row[2]), int(row[3]), str(row[4])))
                    case p.CLOSED:
                        is_closed = True
            except Exception:
                bad += 1
        # The writer may have been killed before it listed the open spans at the head of this file: keep the
        # earlier ones.
        self._last_ns = max((o.at_ns for o in observations), default=self._last_ns)
        self._open |= starts
        for span_id in ended | interrupted:
            self._open.pop(span_id, None)
        if is_closed:
            self._open.clear()
        return Unpacked(observations, bad, gaps, list(self._open.values()), self._last_ns)

    def interruptions(self, unpacked: Unpacked) -> list[Observation]:
        """Return an interruption for each span that was open when its process was killed.

        `unpacked` is the process's last file. The head of each file lists the spans that were open then.
        """
        return [
            observe_interruption(
                o.trace_id, o.span_id, o.name, unpacked.last_ns, o.origin, self._tenant, producer=self._producer
            )
            for o in unpacked.left_open
        ]

    def _end(self, row: list[Any], named: dict[int, tuple[Any, Any]], origins: Origins) -> list[Observation]:
        span = _SpooledSpan(row, *named.get(row[11], (None, None)))
        origin = origins.of(span.resource, span.instrumentation_scope)
        equals, span_ns = Equals(), time_of(span.start_time)[0]
        key = (row[1], row[2])
        observations = [
            observe_event(event, span.events.dropped + i, key, origin, self._tenant, equals=equals, span_ns=span_ns)
            for i, event in enumerate(span.events)
        ]
        observations.append(observe_span(span, Part.ENDED, origins, self._tenant, is_cancelled=bool(span.is_cancelled)))
        return observations

    def _event(self, row: list[Any], named: dict[int, tuple[Any, Any]], origins: Origins) -> Observation:
        _, trace_id, span_id, start, index, name, timestamp, attributes, number = row
        return observe_event(
            _SpooledEvent(name, timestamp, attributes),
            index,
            (trace_id, span_id),
            origins.of(*named.get(number, (None, None))),
            self._tenant,
            equals=self._equals.setdefault(span_id, Equals()),
            span_ns=time_of(start)[0],
            producer=self._producer,
        )
