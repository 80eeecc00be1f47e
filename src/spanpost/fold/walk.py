"""Lead a batch through the fold: read, place, judge, tell, address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from spanpost.domain.observations import Observation, Part, content_hash, event_id
from spanpost.domain.readings import Reading
from spanpost.fold.batch import Folded, Placed, Rules, Timer
from spanpost.fold.content import without_content
from spanpost.fold.house import House
from spanpost.fold.ids import explicit_uid
from spanpost.fold.read import read
from spanpost.fold.records import (
    DEPTH,
    Cell,
    Group,
    Unit,
    cell_key,
    domain_of,
    group_key,
    kids_key,
    members_key,
    offspring_key,
    seen_key,
    slot_key,
    unit_key,
)
from spanpost.fold.tell import occurrence_id, possible_telling
from spanpost.fold.work import Key, Missing, Work

__all__ = ["Folded", "Placed", "Rules", "Timer", "domains", "elapse", "fold", "mend", "prepare", "seen_keys", "trail"]


def prepare(batch: Sequence[Observation], *, keeps_content: bool = False) -> list[Placed]:
    """Read a batch and name what it is known by. Pure; nothing is dropped but content, where it is not to be kept."""
    placed = []
    domains: dict[tuple[str, bytes], bytes] = {}
    for source in batch:
        reading = read(source)
        o = _stand_in(source, reading) if reading.stands_for is not None else source
        domain = domains.get((o.tenant, o.trace_id))
        if domain is None:
            domain = domains[(o.tenant, o.trace_id)] = domain_of(o.tenant, o.trace_id)
        placed.append(
            Placed(o, reading, event_id(source), content_hash(source), domain, source if keeps_content else without_content(source))
        )
    return placed


def _stand_in(record: Observation, reading: Reading) -> Observation:
    """Return the span for which a log record stands."""
    assert reading.stands_for is not None
    trace_id, span_id, parent_id, start_ns = reading.stands_for
    return msgspec.structs.replace(
        record,
        part=Part.STARTED if reading.is_open else Part.ENDED,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        start_ns=start_ns,
        end_ns=0 if reading.is_open else record.at_ns,
    )


def domains(batch: Sequence[Placed]) -> set[bytes]:
    """Return the lock domains that are known to be touched before anything is fetched."""
    out = {p.domain for p in batch}
    for p in batch:
        r = p.reading
        if r.response_id:
            out.add(slot_key(p.observation.tenant, r.response_id)[:16])
        if r.task_id:
            out.add(explicit_uid(p.observation.tenant, r.task_id))
    return out | {key[:16] for key in seen_keys(batch)}


def trail(loaded: Mapping[Key, msgspec.Struct | None], whole: Collection[bytes], batch: Sequence[Placed]) -> set[Key]:
    """Return the keys that the fold of this batch will ask for and that are not fetched yet.

    Of the domains in `whole` everything is fetched. Call again with what was fetched until nothing is wanted: each round
    climbs one level of parents. What it misses, the fold finds out by raising `Missing`.
    """
    wanted: set[Key] = set()

    def look(key: Key) -> msgspec.Struct | None:
        if key in loaded:
            return loaded[key]
        if key[:16] not in whole:
            wanted.add(key)
        return None

    def group_of(key: Key) -> None:
        look(key)
        look(members_key(key))
        look(offspring_key(key))

    for record in loaded.values():
        if type(record) is Unit:
            if record.group[:16] not in whole:
                group_of(record.group)
        elif type(record) is Group and record.parent:
            look(record.parent)
    parents = {(p.domain, p.observation.span_id): p.observation.parent_id for p in batch if p.is_span and p.domain not in whole}
    for p in batch:
        domain, span_id = p.domain, p.observation.span_id
        if p.reading.response_id:
            look(slot_key(p.observation.tenant, p.reading.response_id))
        if p.reading.task_id:
            group_of(group_key(explicit_uid(p.observation.tenant, p.reading.task_id)))
        if domain in whole:
            continue
        group_of(group_key(domain))
        if p.reading.role.is_box:
            group_of(group_key(domain, span_id))
        for _ in range(DEPTH):
            cell = look(cell_key(domain, span_id))
            look(unit_key(domain, span_id))
            look(kids_key(domain, span_id))
            above = cell.parent if isinstance(cell, Cell) else b""
            span_id = above or parents.get((domain, span_id), b"")
            if not span_id:
                break
    return wanted


def seen_keys(batch: Sequence[Placed]) -> set[Key]:
    """Return the keys by which the fold will ask whether an occurrence was told before."""
    out = set()
    for p in batch:
        kind = possible_telling(p.observation, p.reading)
        if kind is not None:
            out.add(seen_key(p.domain, occurrence_id(p.observation, p.reading, kind).bytes, kind))
    return out


def fold(work: Work, batch: Sequence[Placed], rules: Rules, now: datetime) -> Folded:
    """Fold a batch of new observations into the records and return what it came to.

    `now` is the ledger's clock: it stamps letters and timers and decides nothing else. Total: whatever the observations
    hold, nothing raises but `Missing`.
    """
    house = House(work, rules, now)
    # Parents first: by start, so that a batch that holds a whole trace meets each box before what lies in it.
    order = sorted(range(len(batch)), key=lambda i: _begins(batch[i]))
    try:
        for i in order:
            if batch[i].is_span:
                house.span(i, batch[i])
        for i in order:
            if not batch[i].is_span:
                house.event(i, batch[i])
        return house.close()
    except Missing:
        raise
    except Exception:
        house.keep()  # a fault of ours: a ledger that cannot throw half-done work away must have it whole, to `mend` it
        raise


def elapse(work: Work, due: Sequence[Key], rules: Rules, now: datetime) -> Folded:
    """Fold that time has passed: announce the tasks (by key) whose settling is over."""
    house = House(work, rules, now)
    for key in due:
        house.settled(key)
    return house.close()


def mend(work: Work, changed: Iterable[Key], rules: Rules, now: datetime) -> Folded:
    """Build the tasks anew of which records were changed by a fold that did not come to its end.

    For a ledger that cannot throw half-done work away: what cells and units hold is whole after each observation, what
    their tasks add up may not be.
    """
    house = House(work, rules, now)
    for key in changed:
        unit = work.get(key, Unit) if key[16:17] == b"u" else None
        group = unit.group if unit is not None else key if key[16:17] == b"g" else b""
        if group:
            house.groups.stale.add(group)
    return house.close()


def _begins(p: Placed) -> tuple[int, int, bytes, bytes]:
    o = p.observation
    return (o.start_ns or o.at_ns, 0 if p.reading.role.is_box else 1, o.span_id, p.content_hash)
