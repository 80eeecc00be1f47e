"""Lead a batch through the fold: read, place, judge, report, plan deliveries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from datetime import datetime

import msgspec

from spanpost.model.ids import explicit_uid
from spanpost.model.observations import Observation, Part, content_hash, event_id
from spanpost.model.readings import EventReport, Reading, Role
from spanpost.readers import NOTHING, read
from spanpost.readers.asks import with_words
from spanpost.readers.call_hashes import hash_call
from spanpost.readers.redaction import Redaction
from spanpost.tasks import milestones
from spanpost.tasks.approvals import APPROVAL, topic_of
from spanpost.tasks.checkpoints import occurrence_id, possible_kind
from spanpost.tasks.conversations import conversation_domain
from spanpost.tasks.fold import Fold, go_on
from spanpost.tasks.folded import Folded, FoldRules, Placed, PriceSource, Timer
from spanpost.tasks.loop_facts import has_failed
from spanpost.tasks.record_keys import (
    candidates_key,
    child_tasks_key,
    domain_of,
    duplicates_key,
    members_key,
    seen_key,
    tenant_key,
)
from spanpost.tasks.records import PLACEHOLDER, ChildTasks, Members, Node, Subtree, TaskState
from spanpost.tasks.spans import link_of
from spanpost.tasks.work import Key, Work
from spanpost.text.content import without_content

__all__ = [
    "FoldRules",
    "Folded",
    "Placed",
    "Timer",
    "domains",
    "elapse",
    "fold",
    "is_new",
    "mend",
    "parts",
    "prepare",
]

#: Bound once: looking up an enum's member is slow.
_STARTED = Part.STARTED
_LLM, _TOOL = Role.LLM, Role.TOOL
_NOTHING = EventReport.NOTHING


def prepare(
    batch: Sequence[Observation],
    *,
    keeps_content: bool = False,
    prices: PriceSource | None = None,
    redaction: Redaction | None = None,
    key: bytes | None = b"",
    tick: Callable[[], None] = go_on,
) -> list[Placed]:
    """Read a batch and compute its keys. Pure; removes only secrets, and content unless it is kept.

    Model calls are priced here, once, so that their cost is stored with them. The result holds no secret
    that is known, and of the content of tool calls hashes by `key` (None: none), which are made before
    anything is removed. `tick` is called before each observation, and may raise `Interrupted`.
    """
    placed = []
    domains: dict[tuple[str, bytes], bytes] = {}
    talks: dict[tuple[str, str], bytes] = {}
    for source in batch:
        tick()
        reading = read(source)
        call = None
        if key is not None and reading.role is _TOOL and not reading.is_open and source.part is not _STARTED:
            call = hash_call(
                source.attributes,
                reading.failure,
                has_failed=has_failed(source, reading),
                tool=reading.tool_name or source.name,
                tenant=source.tenant,
                key=key,
            )
        if redaction is None:
            taken = source
            kept = source if keeps_content else without_content(source)
        else:
            source, reading, kept = redaction.cleaned(source, reading, keeps_content=keeps_content)
            taken = kept
        if keeps_content:
            reading = with_words(source, reading)
        elif reading.is_plan and reading.step_name is not None:
            reading = msgspec.structs.replace(reading, step_name=None)
        judged = reading.evaluation
        if judged is not None and judged.explanation and not judged.is_person and not keeps_content:
            reading = msgspec.structs.replace(reading, evaluation=msgspec.structs.replace(judged, explanation=""))
        o = taken if reading.stands_for is None else _stand_in(taken, reading)
        tenant, part = o.tenant, o.part
        domain = domains.get((tenant, o.trace_id))
        if domain is None:
            domain = domains[tenant, o.trace_id] = domain_of(tenant, o.trace_id)
        if reading is NOTHING and o is taken and part <= _STARTED:
            placed.append(Placed(o, reading, event_id(source), content_hash(source), domain, kept))
            continue
        usage = reading.usage
        if usage is not None and prices is not None and reading.role == _LLM:
            priced = prices.priced(source, reading.provider, reading.model, usage)
            if priced is not usage:
                reading = msgspec.structs.replace(reading, usage=priced)
        occurrence = None
        if reading.reports is not _NOTHING or reading.failure is not None:
            kind = possible_kind(o, reading)
            if kind is not None:
                id = occurrence_id(o, reading, kind)
                occurrence = (kind, id, seen_key(domain, id.bytes))
        talk = b""
        if (
            (said := reading.conversation_id)
            and (usage is not None or reading.context_used is not None)
            and reading.says_use
        ):
            talk = talks.get((tenant, said), b"")
            if not talk:
                talk = talks[tenant, said] = conversation_domain(tenant, said)
        placed.append(
            Placed(
                o,
                reading,
                event_id(source),
                content_hash(source),
                domain,
                kept,
                occurrence,
                duplicates_key(tenant, of_call) if (of_call := reading.call_key or reading.response_id) else b"",
                explicit_uid(tenant, reading.task_id) if reading.task_id else b"",
                talk,
                call,
            )
        )
    return placed


def _stand_in(record: Observation, reading: Reading) -> Observation:
    """Return the span that a log record stands for, or the record placed on the span that it names."""
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
    """Return the lock domains known to be touched before anything is fetched, and the tenants' keys."""
    out = {p.domain for p in batch}
    out.update(map(tenant_key, {p.observation.tenant for p in batch}))
    talks = {(p.observation.tenant, p.reading.conversation_id) for p in batch if p.reading.conversation_id}
    out |= {candidates_key(tenant, b"c", talk)[:16] for tenant, talk in talks if talk}
    for p in batch:
        if p.duplicates:
            out.add(p.duplicates[:16])
        if p.task_uid:
            out.add(p.task_uid)
        if p.talk:
            out.add(p.talk)
        if p.occurrence is not None:
            out.add(p.occurrence[2][:16])
        if p.reading.approval is not None:
            out.add(topic_of(p.observation.tenant, APPROVAL, p.reading.approval.id))
        if p.observation.links and p.reading.role.is_root_span and (other := link_of(p.observation)):
            out.add(other)
    return out


def parts(batch: Sequence[Placed], most: int) -> list[tuple[list[int], set[bytes]]]:
    """Split a batch into positions with their domains: at most `most`, unless a single trace has more."""
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


def apart(
    batch: Sequence[Placed], domains: Set[bytes]
) -> tuple[tuple[list[int], set[bytes]], tuple[list[int], set[bytes]]]:
    """Split a batch into traces that touch none of `domains` and the others: positions, touched domains."""
    others: tuple[list[int], set[bytes]] = ([], set())
    those: tuple[list[int], set[bytes]] = ([], set())
    for positions, touched in parts(batch, 0):
        found = others if touched.isdisjoint(domains) else those
        found[0].extend(positions)
        found[1].update(touched)
    return others, those


def is_new(node: Node | None, p: Placed) -> bool:
    """Tell by its span's node whether an observation is surely new: every recorded one leaves a node behind.

    Pruned nodes are forgotten; their observations count as new.
    """
    return node is None or (p.is_span and node.state == PLACEHOLDER)


def fold(
    work: Work, batch: Sequence[Placed], rules: FoldRules, now: datetime, tick: Callable[[], None] = go_on
) -> Folded:
    """Fold a batch of new observations into the records and return what it came to.

    `now` is the store's clock: it stamps deliveries and timers and decides nothing else. Total: whatever the
    observations hold, only `work` and `tick` raise. `tick` is called again and again; both may stop the fold
    by raising `Interrupted`.
    """
    fold = Fold(work, rules, now, tick)
    try:
        for i in parents_first(batch):
            tick()
            if batch[i].is_span:
                fold.span(i, batch[i])
            else:
                fold.event(i, batch[i])
        return fold.close()
    except Exception:
        fold.keep()  # our bug: a store that cannot roll back needs all records written, for `mend`
        raise


def beside(work: Work, tasks: Sequence[Key]) -> set[bytes]:
    """Return the domains that the tasks' records name: of their spans, parents and child tasks."""
    found: set[bytes] = set()
    keys = list(map(milestones.state_of, tasks))
    work.want([asked for key in keys for asked in (key, members_key(key), child_tasks_key(key))])
    for key in keys:
        state = work.get(key, TaskState)
        if state is not None and state.parent:
            found.add(state.parent[:16])
        members = work.get(members_key(key), Members)
        if members is not None:
            found.update([subtree[:16] for subtree in members.subtrees])
        below = work.get(child_tasks_key(key), ChildTasks)
        if below is not None:
            found.update([child[:16] for child in below.tasks])
    return found


def elapse(work: Work, due: Sequence[Key], rules: FoldRules, now: datetime, tick: Callable[[], None] = go_on) -> Folded:
    """Fold the passing of time: announce the tasks (by key) whose settling time is over."""
    fold = Fold(work, rules, now, tick)
    for key in due:
        state = milestones.state_of(key)
        if state is not key:
            fold.mark_due(state)
        else:
            fold.finalize(key)
    return fold.close()


def mend(work: Work, changed: Iterable[Key], rules: FoldRules, now: datetime) -> Folded:
    """Rebuild the tasks whose records were changed by a fold that did not finish.

    For a store that cannot roll back: nodes and subtrees are consistent after each observation, the sums of
    their tasks may not be.
    """
    fold = Fold(work, rules, now)
    for key in changed:
        subtree = work.get(key, Subtree) if key[16:17] == b"u" else None
        state = subtree.state if subtree is not None else key if key[16:17] == b"g" else b""
        if state:
            fold.states.stale.add(state)
    return fold.close()


def parents_first(batch: Sequence[Placed]) -> list[int]:
    """Return a batch's positions in folding order.

    Parents come before the spans below them, whatever their times say, so that each span is placed once. Of
    one span the start comes before the end, and the greatest copy first. Events come last.
    """
    spans: dict[bytes, list[int]] = {}
    events = []
    for i in sorted(range(len(batch)), key=list(map(_begins, batch)).__getitem__):
        p = batch[i]
        if p.is_span:
            spans.setdefault(p.domain + p.observation.span_id, []).append(i)
        else:
            events.append(i)
    order: list[int] = []
    met: set[bytes] = set()
    for span in spans:
        way = []
        while span in spans and span not in met:
            met.add(span)
            way.append(span)
            p = batch[spans[span][-1]]
            span = p.domain + p.observation.parent_id
        for at in reversed(way):
            copies = spans[at]
            order += copies if len(copies) == 1 else sorted(copies, key=lambda i: _greatest(batch[i]))
    return order + events


def _begins(p: Placed) -> tuple[int, int, bytes, bytes]:
    o = p.observation
    return (o.start_ns or o.at_ns, 0 if 4 <= p.reading.role <= 6 else 1, o.span_id, p.content_hash)


def _greatest(p: Placed) -> tuple[int, int, int]:
    o = p.observation
    return (-o.part, -(o.end_ns or o.at_ns), -len(o.attributes) - o.unread)
