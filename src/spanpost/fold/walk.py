"""Lead a batch through the fold: read, place, judge, tell, address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import datetime

import msgspec

from spanpost.domain.observations import Observation, Part, content_hash, event_id
from spanpost.domain.readings import Reading, Role, Tells
from spanpost.fold import milestones
from spanpost.fold.approvals import APPROVAL, topic_of
from spanpost.fold.batch import Folded, Placed, Prices, Rules, Timer
from spanpost.fold.content import without_content
from spanpost.fold.house import House
from spanpost.fold.ids import explicit_uid
from spanpost.fold.lanes import talk_domain
from spanpost.fold.read import NOTHING, read
from spanpost.fold.records import (
    DEPTH,
    PLACEHOLDER,
    Cell,
    Group,
    Members,
    Offspring,
    Unit,
    cell_key,
    domain_of,
    given_key,
    group_key,
    kids_key,
    meeting_key,
    members_key,
    offspring_key,
    seen_key,
    slot_key,
    strand_key,
    unit_key,
)
from spanpost.fold.spans import link_of
from spanpost.fold.tell import occurrence_id, possible_telling
from spanpost.fold.work import Key, Missing, Work

__all__ = ["Folded", "Placed", "Rules", "Timer", "domains", "elapse", "fold", "is_new", "mend", "parts", "prepare", "trail"]

#: Bound once: an enum's members are looked up slowly.
_STARTED = Part.STARTED
_LLM = Role.LLM
_NOTHING = Tells.NOTHING


def prepare(batch: Sequence[Observation], *, keeps_content: bool = False, prices: Prices | None = None) -> list[Placed]:
    """Read a batch and name what it is known by. Pure; nothing is dropped but content, where it is not to be kept.

    Model calls are priced here, once: what a call cost is kept with it.
    """
    placed = []
    domains: dict[tuple[str, bytes], bytes] = {}
    talks: dict[tuple[str, str], bytes] = {}
    for source in batch:
        reading = read(source)
        if reading.is_plan and reading.step_name is not None and not keeps_content:
            reading = msgspec.structs.replace(reading, step_name=None)
        o = source if reading.stands_for is None else _stand_in(source, reading)
        tenant, part = o.tenant, o.part
        domain = domains.get((tenant, o.trace_id))
        if domain is None:
            domain = domains[tenant, o.trace_id] = domain_of(tenant, o.trace_id)
        if reading is NOTHING and o is source and part <= _STARTED:
            kept = source if not source.attributes or keeps_content else without_content(source)
            placed.append(Placed(o, reading, event_id(source), content_hash(source), domain, kept))
            continue
        usage = reading.usage
        if usage is not None and prices is not None and reading.role == _LLM:
            priced = prices.priced(source, reading.provider, reading.model, usage)
            if priced is not usage:
                reading = msgspec.structs.replace(reading, usage=priced)
        telling = None
        if reading.tells is not _NOTHING or reading.failure is not None:
            kind = possible_telling(o, reading)
            if kind is not None:
                id = occurrence_id(o, reading, kind)
                telling = (kind, id, seen_key(domain, id.bytes, kind))
        talk = b""
        if (said := reading.conversation_id) and (usage is not None or reading.context_used is not None) and reading.says_use:
            talk = talks.get((tenant, said), b"")
            if not talk:
                talk = talks[tenant, said] = talk_domain(tenant, said)
        placed.append(
            Placed(
                o,
                reading,
                event_id(source),
                content_hash(source),
                domain,
                source if keeps_content else without_content(source),
                telling,
                slot_key(tenant, of_call) if (of_call := reading.call_key or reading.response_id) else b"",
                explicit_uid(tenant, reading.task_id) if reading.task_id else b"",
                talk,
            )
        )
    return placed


def _stand_in(record: Observation, reading: Reading) -> Observation:
    """Return the span for which a log record stands, or the record on the span that it is told of."""
    assert reading.stands_for is not None
    trace_id, span_id, parent_id, start_ns = reading.stands_for
    at_ns = reading.at_ns or record.at_ns
    part = Part.LOG if reading.is_event else Part.STARTED if reading.is_open else Part.ENDED
    return msgspec.structs.replace(
        record,
        part=part,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        at_ns=at_ns,
        start_ns=start_ns,
        end_ns=at_ns if part is Part.ENDED else 0,
    )


def domains(batch: Sequence[Placed]) -> set[bytes]:
    """Return the lock domains that are known to be touched before anything is fetched."""
    out = {p.domain for p in batch}
    talks = {(p.observation.tenant, p.reading.conversation_id) for p in batch if p.reading.conversation_id}
    out |= {meeting_key(tenant, b"c", talk)[:16] for tenant, talk in talks if talk}
    for p in batch:
        if p.slot:
            out.add(p.slot[:16])
        if p.task_uid:
            out.add(p.task_uid)
        if p.talk:
            out.add(p.talk)
        if p.telling is not None:
            out.add(p.telling[2][:16])
        if p.reading.approval is not None:
            out.add(topic_of(p.observation.tenant, APPROVAL, p.reading.approval.id))
        if p.observation.links and p.reading.role.is_box and (other := link_of(p.observation)):
            out.add(other)
    return out


def parts(batch: Sequence[Placed], most: int) -> list[tuple[list[int], set[bytes]]]:
    """Return the positions of a batch in parts, each with the domains that it touches: at most so many, as far as that goes with
    whole traces."""
    traces: dict[bytes, list[int]] = {}
    for i, p in enumerate(batch):
        traces.setdefault(p.domain, []).append(i)
    found: list[tuple[list[int], set[bytes]]] = []
    for positions in traces.values():
        more = domains([batch[i] for i in positions])
        if not found or len(found[-1][1] | more) > most:
            found.append(([], set()))
        found[-1][0].extend(positions)
        found[-1][1].update(more)
    return found


def apart(batch: Sequence[Placed], domains: Set[bytes]) -> tuple[tuple[list[int], set[bytes]], tuple[list[int], set[bytes]]]:
    """Return the positions of the traces of a batch that touch none of some domains, and of those that do, with what each touch."""
    others: tuple[list[int], set[bytes]] = ([], set())
    those: tuple[list[int], set[bytes]] = ([], set())
    for positions, touched in parts(batch, 0):
        found = others if touched.isdisjoint(domains) else those
        found[0].extend(positions)
        found[1].update(touched)
    return others, those


def is_new(work: Work, p: Placed) -> bool:
    """Tell whether an observation was surely not recorded before: whatever is recorded leaves its span's cell behind.

    Cells that were pruned are forgotten; what they were of is then taken for new.
    """
    try:
        cell = work.get(cell_key(p.domain, p.observation.span_id), Cell)
    except Missing:
        return False
    return cell is None or (p.is_span and cell.state == PLACEHOLDER)


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
        look(given_key(key))

    for record in loaded.values():
        if type(record) is Unit:
            if record.group[:16] not in whole:
                group_of(record.group)
            for meeting in record.meetings:
                look(meeting)
        elif type(record) is Group and record.parent:
            look(record.parent)
    parents = {(p.domain, p.observation.span_id): p.observation.parent_id for p in batch if p.domain not in whole and p.is_span}
    for p in batch:
        domain = p.domain
        if p.slot and p.slot[:16] not in whole:
            look(p.slot)
        if p.task_uid and p.task_uid not in whole:
            group_of(group_key(p.task_uid))
        if p.telling is not None and p.telling[2][:16] not in whole:
            look(p.telling[2])
        if domain in whole:
            continue
        span_id = p.observation.span_id
        group_of(group_key(domain))
        look(strand_key(domain))
        if p.reading.role.is_box:
            group_of(group_key(domain, span_id))
        for _ in range(DEPTH):
            cell = look(cell_key(domain, span_id))
            look(unit_key(domain, span_id))
            look(kids_key(domain, span_id))
            above = cell.parent if type(cell) is Cell else b""
            span_id = above or parents.get((domain, span_id), b"")
            if not span_id:
                break
    return wanted


def fold(work: Work, batch: Sequence[Placed], rules: Rules, now: datetime) -> Folded:
    """Fold a batch of new observations into the records and return what it came to.

    `now` is the ledger's clock: it stamps letters and timers and decides nothing else. Total: whatever the observations
    hold, nothing raises but `Missing`.
    """
    house = House(work, rules, now)
    # Parents first: by start, so that a batch that holds a whole trace meets each box before what lies in it.
    order = sorted(range(len(batch)), key=list(map(_begins, batch)).__getitem__)
    events = []
    try:
        for i in order:
            p = batch[i]
            if p.observation.part <= _STARTED:
                house.span(i, p)
            else:
                events.append(i)
        for i in events:
            house.event(i, batch[i])
        return house.close()
    except Missing as missing:
        _may_go_on(missing, house)
        raise
    except Exception:
        house.keep()  # a fault of ours: a ledger that cannot throw half-done work away must have it whole, to `mend` it
        raise


def beside(work: Work, tasks: Sequence[Key]) -> set[bytes]:
    """Return the domains that the tasks' own records name: of their spans, of the task above and of those below."""
    found: set[bytes] = set()
    for key in map(milestones.group_of, tasks):
        with suppress(Missing):
            group = work.get(key, Group)
            if group is not None and group.parent:
                found.add(group.parent[:16])
            members = work.get(members_key(key), Members)
            if members is not None:
                found.update([domain for domain, _ in members.units])
            below = work.get(offspring_key(key), Offspring)
            if below is not None:
                found.update([child[:16] for child in below.tasks])
    return found


def elapse(work: Work, due: Sequence[Key], rules: Rules, now: datetime) -> Folded:
    """Fold that time has passed: announce the tasks (by key) whose settling is over."""
    house = House(work, rules, now)
    for key in due:
        group = milestones.group_of(key)
        if group is not key:
            house.closing.tell_held(group)
        else:
            house.settled(key)
    try:
        return house.close()
    except Missing as missing:
        _may_go_on(missing, house)
        raise


def _may_go_on(missing: Missing, house: House) -> None:
    """Let the ledger have the batch closed from where it stands, once what was asked for is there."""
    if house.is_asking:

        def go_on() -> Folded:
            try:
                return house.close()
            except Missing as another:
                _may_go_on(another, house)
                raise

        missing.go_on = go_on


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
    return (o.start_ns or o.at_ns, 0 if 4 <= p.reading.role <= 6 else 1, o.span_id, p.content_hash)
