"""Random histories of agents for the property tests: trees of spans, reported live and at their end, stacked and torn.

Histories are made of readings, not of attributes: the reader has tests of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from uuid import UUID

import msgspec

from spanpost.model.budgets import Used
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.observations import Observation, Part, Status, content_hash, event_id
from spanpost.model.readings import Approval, Artifact, EventReport, Failure, Finish, Reading, Role
from spanpost.model.tasks import Task
from spanpost.model.usage import Usage
from spanpost.readers import NOTHING
from spanpost.tasks import batches
from spanpost.tasks.conversations import conversation_domain
from spanpost.tasks.folded import Folded, FoldRules, Placed
from spanpost.tasks.record_keys import domain_of, duplicates_key
from spanpost.tasks.records import DEPTH
from spanpost.tasks.work import Key, R

SECOND = 10**9
BASE = 1_790_000_000 * SECOND
NOW = datetime(2026, 9, 21, tzinfo=UTC)


def placed(o: Observation, r: Reading) -> Placed:
    duplicates = duplicates_key(o.tenant, name) if (name := r.call_key or r.response_id) else b""
    r = NOTHING if r == NOTHING else r  # as the reader has it: the fold knows strangers by it
    talk = conversation_domain(o.tenant, r.conversation_id) if r.conversation_id and r.says_use else b""
    return Placed(
        o, r, event_id(o), content_hash(o), domain_of(o.tenant, o.trace_id), o, duplicates=duplicates, talk=talk
    )


class Packed:
    """A `Work` that stores every record as bytes, as a database does."""

    def __init__(self) -> None:
        self.docs: dict[Key, bytes] = {}
        self.open: dict[Key, msgspec.Struct | None] = {}
        self.dirty: set[Key] = set()

    def get(self, key: Key, kind: type[R]) -> R | None:
        if key not in self.open:
            doc = self.docs.get(key)
            self.open[key] = None if doc is None else msgspec.msgpack.decode(doc, type=kind)
        return self.open[key]  # type: ignore[return-value]

    def want(self, keys: Iterable[Key]) -> None:
        """Do nothing: all records are in memory."""

    def put(self, key: Key, record: msgspec.Struct) -> None:
        self.open[key] = record
        self.dirty.add(key)

    def drop(self, key: Key) -> None:
        self.open[key] = None
        self.dirty.add(key)

    def commit(self) -> None:
        for key in self.dirty:
            record = self.open[key]
            if record is None:
                self.docs.pop(key, None)
            else:
                self.docs[key] = msgspec.msgpack.encode(record)
        self.open.clear()
        self.dirty.clear()


class Twin:
    """The smallest store: it folds batches and keeps the results."""

    def __init__(self, rules: FoldRules | None = None) -> None:
        self.work = Packed()
        self.rules = rules or FoldRules(windows={"gpt-x": 1000})
        self.seen: set[tuple[bytes, bytes]] = set()
        self.tasks: dict[UUID, Task] = {}
        self.checkpoints: dict[UUID, Checkpoint] = {}
        self.judged: list[UUID] = []
        self.timers: dict[Key, datetime] = {}
        #: Finalized usage, by task and model.
        self.used: list[Used] = []

    def record(self, batch: list[Placed]) -> Folded:
        new = []
        for p in batch:
            if (p.event_id, p.content_hash) not in self.seen:
                self.seen.add((p.event_id, p.content_hash))
                new.append(p)
        return self._keep(self._fold(partial(batches.fold, self.work, new, self.rules, NOW)))

    def _fold(self, fold: Callable[[], Folded]) -> Folded:
        return fold()

    def elapse(self) -> Folded:
        due = sorted(self.timers)
        self.timers.clear()
        return self._keep(self._fold(partial(batches.elapse, self.work, due, self.rules, NOW + timedelta(hours=1))))

    def _keep(self, folded: Folded) -> Folded:
        self.work.commit()
        self.used += folded.used
        for timer in folded.timers:
            self.timers[timer.key] = timer.at
        for move in folded.moves:
            for c in list(self.checkpoints.values()):
                if c.subtree == move.subtree_from and c.trace_id == move.trace_id:
                    self.checkpoints[c.id] = msgspec.structs.replace(c, subtree=move.subtree_to, task_uid=move.task_uid)
        for moved in folded.moved_spans:
            for c in list(self.checkpoints.values()):
                if (c.span_id, c.trace_id) == (moved.span_id, moved.trace_id):
                    self.checkpoints[c.id] = msgspec.structs.replace(c, subtree=moved.subtree, task_uid=moved.task_uid)
        for id in folded.retracted:
            self.checkpoints.pop(id, None)
        for c in folded.checkpoints:
            if not c.is_reported:
                self.judged.append(c.id)
            self.checkpoints[c.id] = c
        for uid, _ in folded.gone:
            self.tasks.pop(uid, None)
        for task in folded.tasks:
            self.tasks[task.uid] = task
        return folded

    def outcome(self) -> tuple[list[Task], list[tuple[object, ...]]]:
        """What must not depend on the order: the tasks, and the reported checkpoints, each with its task."""
        reported = sorted(
            (
                str(c.id),
                c.kind,
                c.status,
                c.text,
                c.at,
                self.tasks[c.task_uid].task_id if c.task_uid in self.tasks else "?",
            )
            for c in self.checkpoints.values()
            if c.is_reported
        )
        rows = (
            msgspec.structs.replace(t, message_uid=None) for t in self.tasks.values()
        )  # which message carries it may differ
        return sorted(rows, key=lambda t: str(t.uid)), reported  # type: ignore[return-value]


def history(random: Random, *, size: int = 14) -> list[Placed]:
    """Return one history, in order of time."""
    out: list[Placed] = []
    traces: list[tuple[bytes, bytes]] = []
    # Some traces follow one another, as resumed runs do.
    after = BASE if random.random() < 0.4 else 0
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        out += _trace(random, size, traces, after)
        after = after and max((p.observation.at_ns for p in out), default=after) + SECOND
    out.sort(key=lambda p: (p.observation.at_ns, p.content_hash))
    return out


def _trace(random: Random, size: int, traces: list[tuple[bytes, bytes]], after: int) -> list[Placed]:
    trace = random.randbytes(16)
    n = random.randint(1, size)
    spans = [random.randbytes(8) for _ in range(n)]
    out: list[Placed] = []
    responses = [f"resp-{i}-{trace.hex()[:4]}" for i in range(3)]
    task_ids = ["job-1", "job-2"]
    start = after or BASE + random.randrange(100) * SECOND
    ends = start + (n + 2) * 10 * SECOND
    for i, span in enumerate(spans):
        parent = b"" if i == 0 else spans[max(0, i - random.randint(1, 3))]
        if random.random() < 0.04:
            parent = random.randbytes(8)  # a parent that never comes
        role = random.choice((Role.TASK, Role.AGENT, Role.WORKFLOW)) if i == 0 else _role(random)
        begins, finishes = start + i * SECOND, ends - i * SECOND + random.randrange(5)
        reading = _span_reading(random, role, responses, task_ids)
        if i == 0 and random.random() < 0.2:
            reading = msgspec.structs.replace(reading, role=Role.OTHER)
        if reading.role is Role.LLM:
            reading = _spoken(Random(span), reading)
        has_failed = random.random() < 0.12 and reading.role is not Role.OTHER
        if has_failed:
            reading = msgspec.structs.replace(reading, failure=Failure(type="ValueError", message=f"bad {i}"))
        links = ()
        if reading.role is Role.PLUMBING and traces and random.random() < 0.7:
            links = (random.choice(traces),)
        traces.append((trace, span))
        common = {
            "links": links,
            "trace_id": trace,
            "span_id": span,
            "parent_id": parent,
            "name": f"span {i}",
            "start_ns": begins,
            "attributes": {"i": i},
        }
        if random.random() < 0.4:
            early = msgspec.structs.replace(reading, usage=None, failure=None)
            if random.random() < 0.4:
                early = Reading(role=Role.OTHER)
            out.append(placed(Observation(part=Part.STARTED, at_ns=begins, **common), early))  # type: ignore[arg-type]
            for k in range(random.choice((0, 0, 1, 2))):
                at = begins + (finishes - begins) * (k + 1) // 4
                out.append(_look(random, Observation(part=Part.STARTED, at_ns=at, **common), reading, k))  # type: ignore[arg-type]
        if random.random() < 0.93:  # else it is open for ever
            status = Status.ERROR if has_failed else random.choice((Status.OK, Status.UNSET))
            end = Observation(part=Part.ENDED, at_ns=finishes, end_ns=finishes, status=status, **common)  # type: ignore[arg-type]
            out.append(placed(end, reading))
            if random.random() < 0.1:
                out.append(_copy(random, end, reading))
        for k in range(random.choice((0, 0, 1, 2))):
            out.append(_event(random, trace, span, begins + k * 1000, k))
    return out


def _look(random: Random, o: Observation, final: Reading, number: int) -> Placed:
    """Return a later copy of a running span.

    More is known of it, perhaps it has another name, and its progress is the newest.
    """
    seen = msgspec.structs.replace(final, usage=None, failure=None, status=None, progress=float(random.randrange(100)))
    if final.role is Role.AGENT and random.random() < 0.3:
        seen = msgspec.structs.replace(seen, agent_name=random.choice(("", "cid")))
    if final.role is Role.OTHER:
        seen = final
    return placed(msgspec.structs.replace(o, attributes={**o.attributes, "look": number}), seen)


def _copy(random: Random, o: Observation, reading: Reading) -> Placed:
    """Return a copy of a span with other content, as of an exporter that adds attributes or does not know the start."""
    changed = msgspec.structs.replace(o, attributes={**o.attributes, "enriched": random.randrange(3)})
    if random.random() < 0.3:
        changed = msgspec.structs.replace(changed, start_ns=0)
    if reading.role is Role.AGENT and random.random() < 0.5:
        reading = msgspec.structs.replace(reading, agent_name=random.choice(("", "dan")))
    return placed(changed, reading)


def _role(random: Random) -> Role:
    return random.choices(
        (Role.LLM, Role.TOOL, Role.STEP, Role.OTHER, Role.AGENT, Role.WORKFLOW, Role.TASK, Role.PLUMBING),
        (8, 5, 4, 3, 3, 1, 1, 2),
    )[0]


def _span_reading(random: Random, role: Role, responses: list[str], task_ids: list[str]) -> Reading:
    values: dict[str, object] = {"role": role}
    if role is Role.LLM:
        values["model"] = random.choice(("gpt-x", "gpt-y"))
        values["finish"] = random.choice((Finish.STOP, Finish.TOOLS, Finish.UNKNOWN))
        if random.random() < 0.8:
            cached = random.choice((None, 5))
            values["usage"] = Usage(input=random.randrange(1, 1000), output=random.randrange(100), cache_read=cached)
        if random.random() < 0.4:
            values["response_id"] = random.choice(responses)
    elif role is Role.TOOL:
        values["tool_name"] = random.choice(("search", "write"))
        values["has_no_result"] = random.random() < 0.3
        if random.random() < 0.5:
            values["tool_call_id"] = random.choice(("call-1", "call-2", "call-3"))
    elif role is Role.AGENT:
        values["agent_name"] = random.choice(("ann", "bob"))
    elif role is Role.TASK:
        if random.random() < 0.5:
            values["task_id"] = random.choice(task_ids)
        values["task_name"] = "the job"
    if role is not Role.OTHER and random.random() < 0.3:
        values["conversation_id"] = random.choice(("talk-1", "talk-2"))
    if role is not Role.OTHER and random.random() < 0.05:
        values["is_interrupt"] = True
    if role.is_root_span and random.random() < 0.2:
        values["status"] = random.choice(("complete", "error", "paused"))
    if role is not Role.OTHER and random.random() < 0.2:
        values["progress"] = float(random.randrange(100))
    if role is not Role.OTHER and random.random() < 0.1:
        values["step_name"], values["step_index"] = f"step {random.randrange(3)}", random.randrange(1, 4)
    return Reading(**values)  # type: ignore[arg-type]


def _spoken(random: Random, reading: Reading) -> Reading:
    """Return a model call that may name its conversation and its agent, or report a compaction before it."""
    if random.random() < 0.5:
        reading = msgspec.structs.replace(reading, conversation_id=random.choice(("talk-1", "talk-2")))
    if random.random() < 0.5:
        reading = msgspec.structs.replace(reading, agent_label=random.choice(("ann", "bob")))
    if random.random() < 0.1:
        reading = msgspec.structs.replace(
            reading, reports=EventReport.COMPACTION, compaction=(None, None), occurrence="compacted"
        )
    return reading


def _event(random: Random, trace: bytes, span: bytes, at: int, index: int) -> Placed:
    """Return an event. What is drawn of its meaning is in its content, too: equal content has one meaning."""
    o = Observation(part=Part.EVENT, trace_id=trace, span_id=span, name="agent.checkpoint", at_ns=at, index=index)
    what = random.randrange(6)
    if what <= 1:
        progress = float(random.randrange(100))
        o = msgspec.structs.replace(o, attributes={"progress": progress})
        r = Reading(reports=EventReport.CHECKPOINT, message=f"news {at}", progress=progress)
    elif what == 2:
        name = random.choice("ab")
        o = msgspec.structs.replace(o, name="agent.artifact", attributes={"name": name})
        r = Reading(reports=EventReport.ARTIFACT, artifact=Artifact(name=name, uri="file:///x"))
    elif what == 3:
        o = msgspec.structs.replace(o, name="exception")
        r = Reading(
            reports=EventReport.ERROR,
            failure=Failure(type="KeyError", message="k"),
            occurrence=f"KeyError {random.randrange(2)}",
        )
    elif what == 4:
        o = msgspec.structs.replace(o, name="agent.approval.requested")
        r = Reading(
            reports=EventReport.APPROVAL_REQUESTED, approval=Approval(id=random.choice(("q1", "q2")), question="sure?")
        )
    else:
        o = msgspec.structs.replace(o, name="agent.approval.resolved")
        r = Reading(
            reports=EventReport.APPROVAL_RESOLVED, approval=Approval(id=random.choice(("q1", "q2")), decision="approve")
        )
    return placed(o, r)


def feed(batch: list[Placed], random: Random | None, twin: Twin | None = None) -> Twin:
    """Fold a history: in order and whole, or shuffled, with repeats, in random batches; then let all timers elapse."""
    twin = twin or Twin()
    if random is None:
        twin.record(list(batch))
    else:
        mixed = [*batch, *random.choices(batch, k=random.randrange(1 + len(batch)))] if batch else []
        random.shuffle(mixed)
        while mixed:
            k = random.choice((1, 1, 2, 5, len(mixed)))
            twin.record(mixed[:k])
            mixed = mixed[k:]
    for _ in range(3):
        twin.elapse()
    return twin


def deep(random: Random) -> list[Placed]:
    """Return one trace deeper than what is followed: a chain with branches, of root spans or of others.

    Perhaps it has a circle.
    """
    trace, n = random.randbytes(16), random.randint(2, 2 * DEPTH)
    spans = [random.randbytes(8) for _ in range(n)]
    parents = [spans[max(0, i - random.choice((1, 1, 1, 1, 2)))] if i else b"" for i in range(n)]
    if random.random() < 0.5:  # a circle: of all of them, of two, or of something between
        parents[random.choice((0, 0, random.randrange(n)))] = spans[random.choice((n - 1, random.randrange(n)))]
    names = random.choice((("ann",), ("ann",), ("ann", "bob"), ("ann", "")))
    roles = random.choice(
        ((Role.AGENT,), (Role.AGENT, Role.TOOL), (Role.TOOL, Role.STEP, Role.LLM), (Role.AGENT, Role.LLM, Role.OTHER))
    )
    out = []
    for i, span in enumerate(spans):
        role = random.choice(roles) if i or random.random() < 0.5 else Role.AGENT
        named = {"agent_name": random.choice(names)} if role is Role.AGENT else {}
        if role is Role.TOOL:
            named = {"tool_name": random.choice("abc")}
        used = (
            {"usage": Usage(input=random.randrange(1, 9), output=1), "model": random.choice("mn")}
            if role is Role.LLM
            else {}
        )
        reading = Reading(role=role, **named, **used)  # type: ignore[arg-type]
        out.append(_whole(trace, span, parents[i], BASE + i, BASE + 10 * n - i, reading))
    return out


def resumptions(random: Random) -> list[Placed]:
    """Return runs of a conversation and of a team's messages; some wait for a person, and others continue them."""
    out: list[Placed] = []
    at, former = BASE, (b"", b"")
    for number in range(random.randint(2, 5)):
        trace, root_span = random.randbytes(16), random.randbytes(8)
        begins = at
        agent = random.choice(("ann", "ann", "bob"))
        call = random.choice(("call-1", "call-2", ""))
        tool = Reading(
            role=Role.TOOL,
            tool_name=random.choice(("write", "search")),
            tool_call_id=call,
            has_no_result=random.random() < 0.6,
        )
        model = Reading(
            role=Role.LLM,
            model="gpt-x",
            usage=Usage(input=10, output=1),
            finish=random.choice((Finish.STOP, Finish.TOOLS)),
        )
        parts = [model, tool] if random.random() < 0.5 else [tool, model] if random.random() < 0.5 else [tool]
        if random.random() < 0.2:
            parts = [*parts, msgspec.structs.replace(model, is_interrupt=True)]
        for part in parts:
            at += SECOND
            out.append(_whole(trace, random.randbytes(8), root_span, at, at + SECOND // 2, part))
        root = Reading(role=Role.AGENT, agent_name=agent, conversation_id=random.choice(("talk", "talk", None)))
        above = random.randbytes(8) if random.random() < 0.5 else b""
        at += SECOND
        out.append(_whole(trace, root_span, above, begins, at, root))
        if above:
            links = (former,) if former[0] and random.random() < 0.6 else ()
            out.append(_whole(trace, above, b"", begins, at, Reading(role=Role.PLUMBING), links))
        if random.random() < 0.5:
            message = random.randbytes(8)
            out.append(_whole(trace, message, root_span, at, at, Reading(role=Role.PLUMBING)))
            former = (trace, message)
        if random.random() < 0.8:
            at += SECOND * random.choice((0, 1, 5))
        else:
            at = begins + number  # side by side
    return out


def _whole(
    trace: bytes,
    span: bytes,
    parent: bytes,
    begins: int,
    ends: int,
    reading: Reading,
    links: tuple[tuple[bytes, bytes], ...] = (),
) -> Placed:
    o = Observation(
        part=Part.ENDED,
        trace_id=trace,
        span_id=span,
        parent_id=parent,
        name="span",
        start_ns=begins,
        end_ns=ends,
        at_ns=ends,
        links=links,
    )
    return placed(o, reading)
