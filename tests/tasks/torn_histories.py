"""Histories torn further than `histories`: the same spans, reported as real senders and collectors do.

A start hangs elsewhere than its end, or has another role; a person acts; a call is reported as a data point.
Each is done to a history of `histories`. What is left out: copies of which one says its parent and another does not,
events that say nothing, which are signs of work only where their span was known before them; and calls that name their
task, or below which something hangs, whose start hangs elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

import msgspec

from spanpost import semconv as c
from spanpost.model.interventions import Verb
from spanpost.model.observations import Observation, Origin, Part
from spanpost.model.readings import METERED, Act, Approval, EventReport, Failure, Reading, Role
from spanpost.model.usage import Usage
from spanpost.routing.routes import Route, Routes
from spanpost.tasks.folded import FoldRules, Placed
from tests.tasks.histories import SECOND, history, placed

#: Rules that ask for attributes of `routed`.
ROUTED = FoldRules(
    windows={"gpt-x": 1000},
    routes=Routes(sinks=("x",), routes=(Route(sink="x", attributes={"team": "a", "region": "eu"}),)),
)

Tear = Callable[[Random, list[Placed]], list[Placed]]


def torn(random: Random) -> list[Placed]:
    """Return a history that was torn in one to three ways."""
    return torn_by(random, *random.sample(TEARS, random.randint(1, 3)))


def torn_by(random: Random, *tears: Tear) -> list[Placed]:
    """Return a history that was torn in these ways, in order of time."""
    out = history(random)
    for tear in tears:
        out = tear(random, out)
    unique = {(p.event_id, p.content_hash): p for p in out}  # as a store has it, also where the resources differ
    return sorted(unique.values(), key=lambda p: (p.observation.at_ns, p.content_hash))


def early_starts(random: Random, sent: list[Placed]) -> list[Placed]:
    """Report calls without children at their start, too; some of these starts hang below another span."""
    out = list(sent)
    parents = {q.observation.parent_id for q in sent}
    reporting = {q.observation.span_id for q in sent if not q.is_span or q.reading.reports}
    for p in sent:
        o, r = p.observation, p.reading
        is_leaf = r.role in (Role.LLM, Role.TOOL) and o.span_id not in parents | reporting and not r.task_id
        if o.part is not Part.ENDED or not is_leaf or random.random() < 0.3:
            continue
        others = [
            q.observation.span_id
            for q in sent
            if q.domain == p.domain and q.is_span and q.observation.span_id != o.span_id
        ]
        parent = random.choice(others) if others and random.random() < 0.7 else o.parent_id
        early = msgspec.structs.replace(
            o,
            part=Part.STARTED,
            parent_id=parent,
            at_ns=o.start_ns,
            end_ns=0,
            status=0,
            attributes={"early": random.randrange(3)},
        )
        out.append(placed(early, msgspec.structs.replace(r, usage=None, failure=None)))
    return out


def other_roles(random: Random, sent: list[Placed]) -> list[Placed]:
    """Add copies of spans under another role, as two instrumentations do; a root span stays a root span."""
    out = list(sent)
    for p in sent:
        if p.is_span and p.reading.role is not Role.OTHER and random.random() < 0.25:
            root_spans = (Role.AGENT, Role.WORKFLOW, Role.TASK)
            role = random.choice(
                root_spans if p.reading.role.is_root_span else (Role.STEP, Role.TOOL, Role.LLM, Role.HANDOFF)
            )
            o = msgspec.structs.replace(p.observation, attributes={**p.observation.attributes, "as": int(role)})
            if random.random() < 0.5 and o.part is Part.ENDED:
                o = msgspec.structs.replace(o, part=Part.STARTED, at_ns=o.start_ns, end_ns=0)
            out.append(
                placed(
                    o, Reading(role=role) if random.random() < 0.5 else msgspec.structs.replace(p.reading, role=role)
                )
            )
    return out


def interrupted(random: Random, sent: list[Placed]) -> list[Placed]:
    """Add interrupts, resting sessions, processes that are gone or stalled, and reports about these."""
    out = list(sent)
    for p in sent:
        if not p.is_span or random.random() < 0.8:
            continue
        o = p.observation
        said = random.choice(
            (
                Reading(is_interrupt=True),
                Reading(is_gone=True),
                Reading(is_stalled=True),
                Reading(rests=True, is_quiet=True, progress=9.0),
                Reading(is_idle=True, is_quiet=True, action="idle"),
                Reading(reports=EventReport.ERROR, failure=Failure(type="E", log_tail="tail")),
                Reading(status="cancelled"),
                Reading(is_cancelled=True),
                Reading(context_used=random.randrange(900), context_window=1000),
                Reading(action="thinks"),
                Reading(step_index=2, step_count=3, progress=10.0),
                Reading(step_key="k1", step_name="prompt"),
                Reading(is_plan=True, step_index=1),
                Reading(links={"pr": "https://x"}, results={"n": random.randrange(3)}),
            )
        )
        event = Observation(
            part=Part.EVENT, trace_id=o.trace_id, span_id=o.span_id, name="agent.word", at_ns=o.at_ns + len(out)
        )
        out.append(placed(event, said))
    return out


def acts_of_people(random: Random, sent: list[Placed]) -> list[Placed]:
    """Add acts of people through spanpost: decisions, and requests to tasks."""
    out = list(sent)
    for p in sent:
        if not p.is_span or random.random() < 0.85:
            continue
        o, trace = p.observation, p.observation.trace_id
        at = o.at_ns + random.randrange(-5, 5) * SECOND
        if random.random() < 0.5:
            name = random.choice(
                (
                    c.EVENT_APPROVAL_RESOLVED,
                    c.EVENT_APPROVAL_RESOLVED,
                    c.EVENT_APPROVAL_ESCALATED,
                    c.EVENT_APPROVAL_AWAITED,
                )
            )
            is_answer = name == c.EVENT_APPROVAL_RESOLVED
            report = {
                c.EVENT_APPROVAL_RESOLVED: EventReport.APPROVAL_RESOLVED,
                c.EVENT_APPROVAL_ESCALATED: EventReport.APPROVAL_REQUESTED,
            }
            a = Approval(
                id=random.choice(("q1", "q2")),
                decision=random.choice(("approve", "deny")) if is_answer else "",
                by="eve" if is_answer else "",
                source="slack" if is_answer else "",
                question="" if is_answer else "sure?",
            )
            r = Reading(reports=report.get(name, EventReport.NOTHING), approval=a)
        else:
            name = c.EVENT_INTERVENTION
            verb = random.choice((Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.MUTE, Verb.UNMUTE))
            r = Reading(act=Act(verb=str(verb), by=random.choice(("eve", "")), seen_ns=random.choice((0, at))))
        out.append(
            placed(
                Observation(
                    part=Part.INTERVENTION,
                    trace_id=trace,
                    span_id=o.span_id,
                    name=name,
                    at_ns=at,
                    attributes={"said": str(r.act or r.approval)},  # another text has another hash
                ),
                r,
            )
        )
    return out


def priced(random: Random, sent: list[Placed]) -> list[Placed]:
    """Add costs of calls, costs or tokens of runs on root spans, and data points of a session."""
    out = []
    for p in sent:
        o, r = p.observation, p.reading
        if r.role is Role.LLM and r.usage is not None and random.random() < 0.6:
            r = msgspec.structs.replace(
                r, usage=msgspec.structs.replace(r.usage, cost_usd=Decimal(random.randrange(9)) / 100)
            )
        elif r.role.is_root_span and o.part is Part.ENDED and random.random() < 0.3:
            r = msgspec.structs.replace(r, cost_usd=Decimal(random.randrange(9)))
        elif r.role.is_root_span and o.part is Part.ENDED and random.random() < 0.4:
            total = Usage(input=random.randrange(100), output=random.randrange(100))
            r = msgspec.structs.replace(
                r, aggregate=total, totals_of=random.choice(("", "ann's life")), conversation_id=None
            )
        out.append(placed(o, r))
        if p.is_span and random.random() < 0.1:
            point = msgspec.structs.replace(
                o,
                span_id=random.randbytes(8),
                parent_id=METERED,
                part=Part.ENDED,
                end_ns=o.at_ns,
                name="point",
                links=(),
            )
            used = Usage(input=random.randrange(50), output=1, cost_usd=random.choice((None, Decimal(1))))
            out.append(
                placed(
                    point,
                    Reading(
                        role=Role.LLM,
                        is_metered=True,
                        usage=used,
                        model="gpt-x",
                        task_id=random.choice((None, "job-1")),
                    ),
                )
            )
    return out


def routed(random: Random, sent: list[Placed]) -> list[Placed]:
    """Add attributes that routes ask for to spans and processes."""
    out = []
    for p in sent:
        o = p.observation
        if random.random() < 0.5:
            o = msgspec.structs.replace(o, attributes={**o.attributes, "team": random.choice(("a", True, 3, 1.5))})
        if random.random() < 0.5:
            o = msgspec.structs.replace(o, origin=Origin(resource={"region": random.choice(("eu", "us"))}))
        out.append(placed(o, p.reading))
    return out


def called_alike(random: Random, sent: list[Placed]) -> list[Placed]:
    """Name calls alike, tool calls among them, and mark parts of calls."""
    out = []
    for p in sent:
        r = p.reading
        if r.role in (Role.LLM, Role.TOOL) and random.random() < 0.4:
            r = msgspec.structs.replace(r, call_key=f"call-{random.randrange(3)}", is_same_call=random.random() < 0.2)
        elif r.role is Role.LLM and random.random() < 0.2:
            r = msgspec.structs.replace(r, is_aside=True)
        elif r.role is Role.TOOL and random.random() < 0.3:
            r = msgspec.structs.replace(
                r, tool_name=random.choice((None, "final_answer")), has_result=random.random() < 0.5
            )
        out.append(placed(p.observation, r))
    return out


def served(random: Random, sent: list[Placed]) -> list[Placed]:
    """Make spans requests, messages of a queue, jobs, or calls of other programs; some have no name."""
    out, salt = [], random.random()
    for p in sent:
        o, own = p.observation, Random(f"{salt}{p.observation.span_id.hex()}")
        if p.is_span and own.random() < 0.6:
            kind = own.choice((0, 1, 2, 2, 3, 4, 5, 5))
            name = own.choice((o.name, "POST /answer", "GET /x?y=1", "orders process", "run/job", "?", ""))
            o = msgspec.structs.replace(o, kind=kind, name=name, attributes={**o.attributes, "kind": kind})
        out.append(placed(o, p.reading))
    unique = {(p.event_id, p.content_hash): p for p in out}
    return sorted(unique.values(), key=lambda p: (p.observation.at_ns, p.content_hash))


TEARS: tuple[Tear, ...] = (
    early_starts,
    other_roles,
    interrupted,
    acts_of_people,
    priced,
    routed,
    called_alike,
)
