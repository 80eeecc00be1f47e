"""Audit rows: find those that are recorded already, and encode new ones for COPY."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from spanpost.model.observations import Observation, Origin, Part, Repair
from spanpost.store.attribute_sets import LARGE, OFTEN, SHARED, AttributeSets, Content
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
    "occurred_at": "timestamptz", "received_at": "timestamptz", "content_hash": "int8", "event_id": "uuid",
    "repairs": "int2", "part": "int2", "kind": "int2", "role": "int2", "status": "int2", "severity": "int2",
    "idx": "int4", "start_ns": "int8", "end_ns": "int8", "seq": "int8", "tenant": "text", "trace_id": "bytea",
    "span_id": "bytea", "parent_span_id": "bytea", "task_uid": "uuid", "subtree": "bytea", "set_id": "int8",
    "resource": "jsonb", "scope": "text", "name": "text", "attributes": "jsonb", "status_message": "text",
    "links": "jsonb", "body": "jsonb", "producer": "text",
}  # fmt: skip
_WIDTH = len(EVENT_COLUMNS)
#: Bytes of a content's hash that are stored.
_HASH = 8


def event_at(o: Observation) -> datetime:
    """Return an observation's own time, a pure function of the values that the content hash covers."""
    return _EPOCH + timedelta(microseconds=o.at_ns // 1000)


#: The lateral join with its LIMIT makes the planner use the index, whatever size it assumes for the table.
KNOWN_EVENTS = (
    "SELECT given.i FROM json_to_recordset($1::text::json) AS given(i int, at timestamptz, id uuid, hash bigint)"
    " CROSS JOIN LATERAL (SELECT 1 FROM audit_rows e WHERE e.occurred_at = given.at AND e.event_id = given.id"
    " AND e.content_hash = given.hash LIMIT 1) AS known"
)


def identities(placed: Sequence[Placed]) -> str:
    """Return the parameter of `KNOWN_EVENTS`, which returns positions in `placed`."""
    return _json(
        [{"i": i, "at": event_at(p.source), "id": p.event_id.hex(), "hash": hash_of(p)} for i, p in enumerate(placed)]
    ).decode()


def hash_of(p: Placed) -> int:
    """Return the hash of an observation's content as it is stored."""
    return int.from_bytes(p.content_hash[:_HASH], "big", signed=True)


async def write_events(connection: Any, rows: Sequence[bytes]) -> None:
    """Insert audit rows (`events`).

    None of them exists: this was checked under the locks of their domains.
    """
    await copy_into(connection, "audit_rows", EVENT_COLUMNS, rows)


_int4, _int8 = struct.Struct(">ii").pack, struct.Struct(">iq").pack
_fixed = struct.Struct(">hiqiqi8si16sihihihihihih").pack
_times = struct.Struct(">iqiq").pack
_SPAN = size(8)

#: Status message, links, body and producer of a row that has none of them.
_NOTHING_MORE = NULL * 4
_NO_ATTRIBUTES = jsonb(b"{}")


def _laid_out(item: tuple[str, Any]) -> tuple[int, str]:
    """Return the sort key of jsonb for members of an object: the length of the name, then the name."""
    return len(item[0]), item[0]


def events(
    placed: Sequence[Placed],
    recorded: Mapping[int, tuple[UUID | None, bytes]],
    now: datetime,
    sets: AttributeSets | None = None,
    own_sets: Collection[int] = (),
) -> list[tuple[tuple[int, bytes, bytes], bytes]]:
    """Return the audit rows encoded for COPY, each with its key, sorted by key.

    A row names one of the `sets`, or of `own_sets` that this transaction made, where its content has one.
    Raises `ValueError` or `OverflowError` for a value that does not fit its column.
    """
    shared = _Shared(sets if sets is not None else AttributeSets(), now, own_sets)
    try:
        found = sorted(_events(placed, recorded, (now - _EPOCH) // timedelta(microseconds=1) - _YEAR_2000, shared))
    except struct.error as error:
        raise OverflowError(f"a number is out of range: {error}") from error
    shared.note()
    return found


def large_resources(placed: Sequence[Placed], sets: AttributeSets, now: datetime) -> dict[int, Content]:
    """Return the contents with a large resource that many rows of a batch would repeat, by id."""
    counts = Counter([(id(p.source.origin), p.source.tenant) for p in placed])
    origins = {id(p.source.origin): p.source.origin for p in placed}
    often = [_content(origins[each], tenant) for (each, tenant), count in counts.items() if count >= OFTEN]
    return {c.id: c for c in often if len(c.resource) > LARGE and sets.find(c, now) is None}


def _content(origin: Origin, tenant: str) -> Content:
    # In jsonb's own order, so that the server need not sort the members for each row.
    resource = _json(dict(sorted(origin.resource.items(), key=_laid_out)))
    return Content(tenant, msgspec.Raw(resource), f"{origin.scope} {origin.scope_version}".strip())


class _Origin:
    """The shared part of one sender's rows: encoded as columns, and as the content of a set."""

    def __init__(
        self, origin: Origin, tenant: str, sets: AttributeSets, now: datetime, own_sets: Collection[int]
    ) -> None:
        self.origin = origin
        self.content = content = _content(origin, tenant)
        id = sets.find(content, now)
        self.has_set = id is not None
        self.is_large = len(content.resource) > LARGE
        if id is None and self.is_large and content.id in own_sets:
            id = content.id
        #: set_id, resource and scope of rows whose name and attributes are their own.
        if id is None:
            self.columns = NULL + jsonb(bytes(content.resource)) + sized(content.scope.encode())
        else:
            self.columns = _int8(8, id) + NULL * 2
        #: By name and shared attributes: the full content, its columns if it has a set, and its rows.
        self.full: dict[tuple[str, bytes], list[Any]] = {}
        self.rows = 0


class _Shared:
    """Attribute sets of the rows of one batch."""

    def __init__(self, sets: AttributeSets, now: datetime, own_sets: Collection[int]) -> None:
        self._sets = sets
        self._now = now
        self._own_sets = own_sets
        self._origins: dict[tuple[int, str], _Origin] = {}

    def columns(self, o: Observation) -> bytes:
        """Return set_id, resource, scope, name and attributes of a row."""
        key = id(o.origin), o.tenant
        sent_by = self._origins.get(key)
        if sent_by is None:
            sent_by = self._origins[key] = _Origin(o.origin, o.tenant, self._sets, self._now, self._own_sets)
        sent_by.rows += 1
        name, attributes = o.name, o.attributes if not o.unread else {DROPPED: o.unread}
        if sent_by.is_large:
            own = _json(attributes)
            return b"".join((sent_by.columns, sized(name.encode()), size(len(own) + 1), b"\x01", own))
        shared = {said: value for said, value in attributes.items() if said in SHARED}
        raw = _json(shared) if shared else b""
        full = sent_by.full.get((name, raw))
        if full is None:
            content = msgspec.structs.replace(sent_by.content, name=name, attributes=msgspec.Raw(raw) if raw else None)
            found = self._sets.find(content, self._now)
            columns = _int8(8, found) + NULL * 3 if found is not None else b""
            full = sent_by.full[name, raw] = [content, columns, 0]
        full[2] += 1
        if not full[1]:
            own = _json(attributes)
            return b"".join((sent_by.columns, sized(name.encode()), size(len(own) + 1), b"\x01", own))
        if len(shared) == len(attributes):
            return full[1] + (NULL if shared else _NO_ATTRIBUTES)  # type: ignore[no-any-return]
        own = _json({said: value for said, value in attributes.items() if said not in SHARED})
        return b"".join((full[1], size(len(own) + 1), b"\x01", own))

    def note(self) -> None:
        """Note the contents that rows of the batch had to hold themselves."""
        for sent_by in self._origins.values():
            if not sent_by.has_set:
                self._sets.note(sent_by.content, sent_by.rows)
            for content, columns, rows in sent_by.full.values():
                if not columns:
                    self._sets.note(content, rows)


def _events(
    placed: Sequence[Placed], recorded: Mapping[int, tuple[UUID | None, bytes]], now: int, shared: _Shared
) -> Iterator[tuple[tuple[int, bytes, bytes], bytes]]:
    # Caches of encoded values: most of them repeat from row to row.
    ids: dict[bytes, bytes] = {b"": NULL}
    traces: dict[tuple[str, bytes], bytes] = {}
    places: dict[int, tuple[tuple[UUID | None, bytes], bytes]] = {}
    earliest, latest = now - _BACK, now + _AHEAD
    for i, place in recorded.items():
        p = placed[i]
        o, span = p.source, p.observation  # a log record that stands for a span is kept as sent, under that span's ids
        event_id, content_hash, parent_id, trace = (
            p.event_id,
            p.content_hash[:_HASH],
            span.parent_id,
            (o.tenant, span.trace_id),
        )
        at = o.at_ns // 1000 - _YEAR_2000
        flags = o.repairs if earliest <= at <= latest else o.repairs | Repair.FAR
        begins, ends, part = o.start_ns, o.end_ns, o.part
        if begins and ends:
            times = _times(8, begins, 8, ends)
        else:
            times = (_int8(8, begins) if begins else NULL) + (_int8(8, ends) if ends else NULL)
        within = traces.get(trace)
        if within is None:
            within = traces[trace] = sized(o.tenant.encode()) + sized(span.trace_id)
        above = ids.get(parent_id)
        if above is None:
            above = ids[parent_id] = sized(parent_id)
        shown = places.get(id(place))
        if shown is None:
            task_uid, subtree = place
            shown = places[id(place)] = (
                place,
                (sized(task_uid.bytes) if task_uid is not None else NULL) + sized(subtree),
            )
        if o.status_message or o.links or o.body is not None or o.producer:
            more = b"".join(
                (
                    sized(o.status_message.encode()) if o.status_message else NULL,
                    jsonb(_json([(t.hex(), s.hex()) for t, s in o.links])) if o.links else NULL,
                    jsonb(_json(o.body)) if o.body is not None else NULL,
                    sized(o.producer.encode()) if o.producer else NULL,
                )
            )
        else:
            more = _NOTHING_MORE
        yield (
            (at, event_id, content_hash),
            b"".join(
                (
                    _fixed(
                        _WIDTH, 8, at, 8, now, 8, content_hash, 16, event_id, 2, flags, 2, part, 2, o.kind, 2,
                        p.reading.role, 2, o.status, 2, o.severity,
                    ),
                    _int4(4, o.index) if o.index and part <= _LINK else NULL,
                    times,
                    _int8(8, o.seq) if o.seq else NULL,
                    within,
                    _SPAN + span.span_id if len(span.span_id) == 8 else sized(span.span_id),
                    above,
                    shown[1],
                    shared.columns(o),
                    more,
                )
            ),
        )  # fmt: skip
