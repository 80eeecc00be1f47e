"""What is ordered, by whom and once: retries, what people start, and what the end of a task starts.

Rules.

1. The same asking is the same order: its id is made of what asked. A click is known by its `once`, a rule by the run that ended,
   and a run is retried once: whoever asks for it again is told who did. That stands for a while (`STANDS`), or until the order
   was given up: then it may be asked for again.
2. What a rule starts knows how deep it stands: an order's depth is one more than that of the order by which the ended task was
   started. Beyond `Launches.depth` nothing is started.
3. An agent that does not say by which order it runs has no depth. So a rule also starts no more than `Launches.hourly` in an hour.
4. What ended long ago starts nothing: a drained backlog must set nothing off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.deliveries import Mode, Urgency
from spanpost.model.ids import named
from spanpost.model.interventions import Intervention
from spanpost.model.launch_orders import LAUNCH, Order
from spanpost.model.summaries import SUMMARY
from spanpost.model.tasks import Task
from spanpost.routing.matching import Match, Wanted, is_wanted
from spanpost.routing.planned import PlannedDelivery
from spanpost.text.sanitise import line
from spanpost.text.templates import render

#: How long a retry stands that was carried: who asks within is told of it.
STANDS: Final = timedelta(minutes=15)
#: How an ended task starts another, and a task asked for by a person, are called in `Order.source`.
RULE: Final = "rule"


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Which launcher starts a task again."""

    launcher: str
    match: Match = Match()
    type: Wanted = None

    def takes(self, task: Task) -> bool:
        """Say whether it starts that task again."""
        return self.match.takes(task) and is_wanted(self.type, task.type)


class OnEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of a task starts."""

    #: Names it: in rows, and in what it did once.
    name: str
    start: tuple[str, ...]
    match: Match = Match()
    type: Wanted = None
    status: tuple[str, ...] = ("complete",)
    #: Of the task's own fields, in braces.
    text: str = "{name}"
    parameters: tuple[tuple[str, str], ...] = ()
    #: Tasks that another task started count too.
    is_of_parts: bool = False

    def takes(self, task: Task) -> bool:
        """Say whether the end of that task is one that it waits for."""
        return (
            task.status in self.status
            and (self.is_of_parts or task.parent_uid is None)
            and self.match.takes(task)
            and is_wanted(self.type, task.type)
        )


class Launches(msgspec.Struct, frozen=True, kw_only=True):
    """What may be started, and by what."""

    #: Names of the launchers that are on.
    launchers: frozenset[str] = frozenset()
    retries: tuple[Retry, ...] = ()
    rules: tuple[OnEnd, ...] = ()
    depth: int = 5
    hourly: int = 100
    #: What ended earlier than this before now starts nothing.
    max_age: timedelta = timedelta(minutes=15)

    def retrier(self, task: Task) -> str:
        """Return the launcher that starts a task again; empty where none does."""
        return next((retry.launcher for retry in self.retries if retry.takes(task)), "")


#: Of one lane of summaries so many orders are kept.
KEPT: Final = 20


def planned_of(order: Order) -> PlannedDelivery:
    """Return the delivery that carries an order. What a delivery of a checkpoint has as its checkpoint is the order here."""
    is_summary = order.carrier.startswith(SUMMARY)
    return PlannedDelivery(
        sink=order.carrier,
        address=order.parameters.get("address", "") if is_summary else "",
        # Of one route's summaries each goes after the one before; other orders go beside each other.
        ordering_key=f"{order.carrier}||{order.task_uid if is_summary else order.id}",
        mode=Mode.CHECKPOINT,
        key=str(order.id),
        urgency=Urgency.NORMAL if is_summary else Urgency.END,
        task_uid=order.task_uid or order.id,
        checkpoint_id=order.id,
    )


def blank_task(order: Order) -> Task:
    """Return what stands for the task of an order that is about none, or about one that is gone."""
    return Task(uid=order.id, tenant=order.tenant, task_id="", name=order.text)


def act_id(act: Intervention) -> UUID:
    """Return the id of what an act orders."""
    return UUID(bytes=named(f"{act.tenant}\0order\0{act.idempotency_key}"))


def of_act(act: Intervention, task: Task | None, first: Order | None, at: datetime, *, by: str, by_id: str) -> Order | None:
    """Return what an act orders that stands; None where it orders nothing. `first` is the order by which the task was started."""
    if not act.launcher:
        return None
    text, parameters = act.text, act.parameters
    if task is not None and first is not None and first.tenant == task.tenant:
        # Started again is what was started: a person's comment on the click is no other piece of work.
        text, parameters = first.text, first.parameters
    elif task is not None:
        text, parameters = act.text or task.name, act.parameters or parameters_of(task)
    return Order(
        id=act_id(act),
        tenant=act.tenant,
        carrier=LAUNCH + act.launcher,
        text=text,
        parameters=parameters,
        retry_of=task.task_id if task is not None else "",
        task_uid=task.uid if task is not None else None,
        run=task.runs if task is not None else 0,
        depth=first.depth if first is not None else 0,
        source=act.source or act.actor.provider,
        by=by,
        by_id=by_id,
        at=at,
    )


def parameters_of(task: Task) -> dict[str, str]:
    """Return what is known of a task that was started by nothing of ours, for who starts it again."""
    known = {"agent": task.agent_name, "type": task.type, "repo": task.repo, "topic": task.topic, "environment": task.environment}
    return {name: value for name, value in known.items() if value}


def on_end(task: Task, launches: Launches, by: Order | None, now: datetime) -> Iterator[Order]:
    """Return what the end of a run starts. `by` is the order by which the task was started, where it says it."""
    if task.ended_at is None or now - task.ended_at > launches.max_age:
        return
    depth = by.depth + 1 if by is not None else 1
    for rule in launches.rules:
        if not rule.takes(task):
            continue
        fields = fields_of(task)
        for launcher in rule.start:
            yield Order(
                id=UUID(bytes=named(f"{task.uid}\0{task.runs}\0rule\0{rule.name}\0{launcher}")),
                tenant=task.tenant,
                carrier=LAUNCH + launcher,
                text=render(rule.text, fields)[:4_000],
                parameters={name: render(text, fields)[:1_000] for name, text in rule.parameters},
                caused_by=task.task_id,
                task_uid=task.uid,
                run=task.runs,
                depth=depth,
                source=RULE,
                by=task.requested_by or "",
                rule=rule.name,
                at=now,
            )


#: Names of a task's fields that a rule's texts may hold.
FIELDS: Final = (
    "task_id", "name", "agent_name", "type", "repo", "topic", "environment", "requested_by", "status", "tenant", "session_id",
)  # fmt: skip


def fields_of(task: Task) -> Mapping[str, Any]:
    """Return a task's fields for templates: with ``result.<name>``, ``link.<name>`` and ``error``."""
    found: dict[str, Any] = {name: getattr(task, name) for name in FIELDS}
    found["result"] = {name: str(value) for name, value in task.results.items()}
    found["link"] = dict(task.links)
    found["error"] = line(f"{task.error.type}: {task.error.message}", 500) if task.error is not None else ""
    return found


def too_deep(orders: Sequence[Order], launches: Launches) -> tuple[list[Order], list[Order]]:
    """Part orders into those that may be placed and those that a loop may have made."""
    may = [order for order in orders if order.depth <= launches.depth]
    return may, [order for order in orders if order.depth > launches.depth]
