"""The name of a task, from its runs: its own, its agents', its request's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanpost.model.readings import Role
from spanpost.semconv import TASK_NAME
from tests.tasks.oracle.placement import agents_below
from tests.tasks.oracle.tree import Span

if TYPE_CHECKING:
    from tests.tasks.oracle.tasks import Task

#: Whether it is served (not a job), its start, its name.
Request = tuple[bool, int, str]


def name_of(task: Task, *, has_team: bool = True) -> str:
    """Return the name of a task; `has_team`: that of a team may be the names of its agents."""
    facts, (is_served, _, request) = task.facts, request_around(task)
    own = facts.own_said
    if own is not None and any(
        n.r.task_name and TASK_NAME in n.o.attributes for n, role, _ in facts.spans if role.is_root_span
    ):
        return str(own.value)
    newest = task.newest.run
    team = sorted(agents_below(newest.root)) if newest.root is not None and has_team else []
    if own is not None and len(team) > 1 and (own.priority < 0 or own.value in team):
        named = ", ".join(team[:3]) + (", …" if len(team) > 3 else "")
    elif own is not None and own.priority >= 0:
        named = own.value
    else:
        named = facts.earliest("agent_name", of_root_span=True) or facts.agent_label or ""
    service = facts.earliest("service")
    if named:
        return f"{named} · {request}" if is_served else str(named)
    if request:
        return request
    if own is not None:
        return f"{own.value} · {service}" if service else str(own.value)
    return service or facts.model or ""


def request_around(task: Task) -> Request:
    """Return the nearest request around the runs: the one that began last, a job only without another.

    Without an agent it may lie below what owns the work.
    """
    owners = [owner for run in task.runs for owner in run.owners]
    found = [_own_request(span) for owner in owners for span in _around(owner)]
    if not task.has_root_span:
        found += [_own_request(span) for owner in owners for span in owner.trace.order if span.owner is owner]
    return max((request for request in found if request[2]), default=(False, 0, ""))


def _around(span: Span) -> list[Span]:
    seen = [span]
    while (above := seen[-1].parent) is not None and len(seen) < 64 and above not in seen:
        seen.append(above)
    return seen


def _own_request(span: Span) -> Request:
    best = span.best
    if best is None or not span.has_ended or span.role is not Role.OTHER:
        return False, 0, ""
    o = best.o
    is_served = o.kind in (2, 5)
    if not is_served and (o.parent_id or o.kind > 1):
        return False, 0, ""
    return is_served, o.start_ns or o.at_ns, o.name.partition("?")[0].strip().removeprefix("run/")[:200]
