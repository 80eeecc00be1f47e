"""Audit rows: find those that are recorded already, and encode new ones for COPY."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.observations import Observation, Origin, Part, Repair
from spanpost.store.copying import NULL, copy_into, jsonb, size, sized
from spanpost.tasks.folded import Placed
from spanpost.text.repair import DROPPED

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Microseconds from the Unix epoch to PostgreSQL's epoch.
_YEAR_2000 = 946_684_800_000_000
#: Events whose time is further back or ahead than this are flagged `Repair.FAR`; microseconds.
_BACK, _AHEAD = 366 * 86_400_000_000, 86_400_000_000
#: Parts above this have a 128-bit hash as index, which does not fit the column.
_LINK = Part.LINK
_json = msgspec.json.Encoder(enc_hook=str).encode

#: Columns in the order of COPY: those of fixed size that are never null come first.
EVENT_COLUMNS = {
    "event_id": "uuid", "content_hash": "bytea", "part": "int2", "kind": "int2", "role": "int2", "occurred_at": "timestamptz",
    "status": "int2", "severity": "int2", "repairs": "int4", "seq": "int8", "received_at": "timestamptz", "idx": "int8",
    "start_ns": "int8", "end_ns": "int8", "tenant": "text", "trace_id": "bytea", "span_id": "bytea", "parent_span_id": "bytea",
    "name": "text", "attributes": "jsonb", "resource": "jsonb", "scope": "text", "task_uid": "uuid", "subtree": "bytea",
    "status_message": "text", "links": "jsonb", "body": "jsonb", "producer": "text",
}  # fmt: skip
_WIDTH = len(EVENT_COLUMNS)


def event_at(o: Observation) -> datetime:
    """Return an observation's own time, a pure function of what its content hash covers."""
    return _EPOCH + timedelta(microseconds=o.at_ns // 1000)


#: The lateral join with its LIMIT makes the planner use the index, whatever size it assumes for the table.
KNOWN_EVENTS = (
    "SELECT given.i FROM json_to_recordset($1::text::json) AS given(i int, at timestamptz, id uuid, hash text)"
    " CROSS JOIN LATERAL (SELECT 1 FROM agent_events e WHERE e.occurred_at = given.at AND e.event_id = given.id"
    " AND e.content_hash = decode(given.hash, 'base64') LIMIT 1) AS known"
)


def identities(placed: Sequence[Placed]) -> str:
    """Return the parameter of `KNOWN_EVENTS`, which returns positions in `placed`."""
    return _json(
        [
            {"i": i, "at": event_at(p.source), "id": p.event_id.hex(), "hash": p.content_hash}
            for i, p in enumerate(placed)
        ]
    ).decode()


async def write_events(connection: Any, rows: Sequence[bytes]) -> None:
    """Insert audit rows (`events`).

    None of them exists: this was checked under the locks of their domains.
    """
    await copy_into(connection, "agent_events", EVENT_COLUMNS, rows)


_int8 = struct.Struct(">iq").pack
_fixed = struct.Struct(">hi16si16sihihihiqihihiiiqiq").pack
_times = struct.Struct(">iqiqiq").pack
_EMPTY = size(0)
_SPAN = size(8)


_NO_LINKS = jsonb(b"[]")
#: Status message, links, body and producer of a row that has none of them.
_NOTHING_MORE = _EMPTY + _NO_LINKS + NULL + _EMPTY


def _laid_out(item: tuple[str, Any]) -> tuple[int, str]:
    """Return the sort key of jsonb for members of an object: the length of the name, then the name."""
    return len(item[0]), item[0]


def events(
    placed: Sequence[Placed], recorded: Mapping[int, tuple[UUID | None, bytes]], now: datetime
) -> list[tuple[tuple[int, bytes, bytes], bytes]]:
    """Return the audit rows encoded for COPY, each with its key, sorted by key.

    Raises `ValueError` or `OverflowError` for a value that does not fit its column.
    """
    try:
        return sorted(_events(placed, recorded, (now - _EPOCH) // timedelta(microseconds=1) - _YEAR_2000))
    except struct.error as error:
        raise OverflowError(f"a number is out of range: {error}") from error


def _events(
    placed: Sequence[Placed], recorded: Mapping[int, tuple[UUID | None, bytes]], now: int
) -> Iterator[tuple[tuple[int, bytes, bytes], bytes]]:
    # Caches of encoded values: most of them repeat from row to row.
    origins: dict[int, tuple[Origin, bytes]] = {}
    texts: dict[str, bytes] = {}
    ids: dict[bytes, bytes] = {b"": NULL}
    traces: dict[tuple[str, bytes], bytes] = {}
    places: dict[int, tuple[tuple[UUID | None, bytes], bytes]] = {}

    def text(value: str) -> bytes:
        known = texts.get(value)
        if known is None:
            known = texts[value] = sized(value.encode())
        return known

    earliest, latest = now - _BACK, now + _AHEAD
    for i, place in recorded.items():
        p = placed[i]
        o, span = p.source, p.observation  # a log record that stands for a span is kept as sent, under that span's ids
        event_id, content_hash, parent_id, trace = p.event_id, p.content_hash, span.parent_id, (o.tenant, span.trace_id)
        at = o.at_ns // 1000 - _YEAR_2000
        flags = o.repairs if earliest <= at <= latest else o.repairs | Repair.FAR
        begins, ends, part = o.start_ns, o.end_ns, o.part
        if begins and ends and part <= _LINK:
            times = _times(8, o.index, 8, begins, 8, ends)
        else:
            times = b"".join(
                (
                    _int8(8, o.index) if part <= _LINK else NULL,
                    _int8(8, begins) if begins else NULL,
                    _int8(8, ends) if ends else NULL,
                )
            )
        within = traces.get(trace)
        if within is None:
            within = traces[trace] = text(o.tenant) + sized(span.trace_id)
        above = ids.get(parent_id)
        if above is None:
            above = ids[parent_id] = sized(parent_id)
        sent_by = origins.get(id(o.origin))
        if sent_by is None:
            scope = f"{o.origin.scope} {o.origin.scope_version}".strip()
            # In jsonb's own order, so that the server need not sort the members for each row.
            resource = dict(sorted(o.origin.resource.items(), key=_laid_out))
            sent_by = origins[id(o.origin)] = (o.origin, jsonb(_json(resource)) + text(scope))
        shown = places.get(id(place))
        if shown is None:
            task_uid, subtree = place
            shown = places[id(place)] = (
                place,
                (sized(task_uid.bytes) if task_uid is not None else NULL) + sized(subtree),
            )
        attributes = _json(o.attributes if not o.unread else {DROPPED: o.unread})
        if o.status_message or o.links or o.body is not None or o.producer:
            more = b"".join(
                (
                    sized(o.status_message.encode()),
                    jsonb(_json([(t.hex(), s.hex()) for t, s in o.links])) if o.links else _NO_LINKS,
                    jsonb(_json(o.body)) if o.body is not None else NULL,
                    text(o.producer),
                )
            )
        else:
            more = _NOTHING_MORE
        yield (
            (at, event_id, content_hash),
            b"".join(
                (
                    _fixed(
                        _WIDTH, 16, event_id, 16, content_hash, 2, part, 2, o.kind, 2, p.reading.role, 8, at, 2, o.status,
                        2, o.severity, 4, flags, 8, o.seq, 8, now,
                    ),
                    times,
                    within,
                    _SPAN + span.span_id if len(span.span_id) == 8 else sized(span.span_id),
                    above,
                    texts.get(o.name) or text(o.name),
                    size(len(attributes) + 1),
                    b"\x01",
                    attributes,
                    sent_by[1],
                    shown[1],
                    more,
                )
            ),
        )  # fmt: skip
