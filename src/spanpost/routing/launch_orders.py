"""Orders to start something, each placed once: retries, tasks that people start, and tasks that the end of
another starts.

Rules.

1. The same request is the same order: its id is made of the request. A click has its idempotency key, a rule
   the run that ended, and a run is retried once: a second request is answered with its author. That
   holds for a while (`STANDS`), or until the order was given up: then it may be requested again.
2. A rule's order has a depth: one more than that of the order by which the ended task was started. Beyond
   `Launches.max_depth` nothing is started.
3. An agent that does not say by which order it runs has no depth. So a rule also starts at most
   `Launches.max_hourly` an hour.
4. A task that ended long ago starts nothing: a drained backlog must not start tasks.
5. A rule that waits for several agents (`OnEnd.after_all`) has one order for each value of the field that their
   tasks share. The store looks up the other tasks (`Join`) when one of them ends, so their order does not matter.
6. A schedule has one order for each of its times (`spanpost.routing.schedules`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from spanpost.model.deliveries import Mode, Urgency
from spanpost.model.ids import named
from spanpost.model.interventions import Actor, ApprovalRow, Intervention, Result, Verb, Verdict
from spanpost.model.launch_orders import HOOK, LAUNCH, Order
from spanpost.model.summaries import SUMMARY
from spanpost.model.tasks import Task
from spanpost.routing.matching import Match, Wanted, is_wanted
from spanpost.routing.parameters import Parameter
from spanpost.routing.planned import PlannedDelivery
from spanpost.routing.schedules import SCHEDULE, Schedule
from spanpost.text.sanitise import line
from spanpost.text.templates import render

#: How long a delivered retry holds: a request within that time is answered with it.
STANDS: Final = timedelta(minutes=15)
#: `Order.source` of a rule's order, and of a webhook's.
RULE: Final = "rule"
_HOOK: Final = "hook"
#: Provider of the actor of a program of spanpost.
SPANPOST: Final = "spanpost"


@dataclass(frozen=True, kw_only=True)
class Retry(Match):
    """A launcher that retries tasks."""

    launcher: str
    type: Wanted = None

    def takes(self, task: Task) -> bool:
        """Return whether it retries that task."""
        return super().takes(task) and is_wanted(self.type, task.type)


#: A field that the tasks of several agents share.
Shared: TypeAlias = Literal["caused_by", "session_id", "topic"]


class Join(NamedTuple):
    """The tasks that a rule waits for: those of a tenant with the same value in a field."""

    rule: str
    tenant: str
    field: Shared
    value: str


@dataclass(frozen=True, kw_only=True)
class OnEnd(Match):
    """A rule: the end of a task starts other tasks."""

    #: Its name, in rows and in the ids of its orders.
    name: str
    start: tuple[str, ...]
    type: Wanted = None
    status: tuple[str, ...] = ("complete",)
    #: A template with the task's own fields in braces.
    text: str = "{name}"
    parameters: Mapping[str, str] = field(default_factory=dict)
    #: Whether tasks below another task count too.
    parts: bool = False
    #: Agents of which each must have ended; empty: any task starts the rule alone.
    after_all: tuple[str, ...] = ()
    #: What their tasks have in common, and how long ago the first may have begun.
    per: Shared = "caused_by"
    within: timedelta = timedelta(days=1)

    def takes(self, task: Task) -> bool:
        """Return whether the end of that task starts it, or is one of those that it waits for."""
        return (
            task.status in self.status
            and (not self.after_all or is_wanted(self.after_all, task.agent_name))
            and (self.parts or task.parent_uid is None)
            and super().takes(task)
            and is_wanted(self.type, task.type)
        )

    def join(self, task: Task) -> Join | None:
        """Return what the rule waits for beside that task; None where it waits for nothing, or nothing is shared."""
        value = getattr(task, self.per)
        return Join(self.name, task.tenant, self.per, value) if self.after_all and value else None

    def is_complete(self, tasks: Iterable[Task]) -> bool:
        """Return whether each of the agents has ended, in these tasks."""
        agents = [task.agent_name for task in tasks if self.takes(task)]
        return all(any(is_wanted(wanted, agent) for agent in agents) for wanted in self.after_all)


@dataclass(frozen=True, kw_only=True)
class Launches:
    """The launchers, and the rules by which they start tasks."""

    #: Settings of the launchers by name.
    named: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retries: tuple[Retry, ...] = ()
    rules: tuple[OnEnd, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    max_depth: int = 5
    max_hourly: int = 100
    #: Tasks that ended longer ago than this start nothing.
    max_age: timedelta = timedelta(minutes=15)

    @property
    def launchers(self) -> frozenset[str]:
        """Names of the enabled launchers. Rules and retries that name others start nothing."""
        return frozenset(name for name, settings in self.named.items() if settings.get("enabled", True))

    def declared(self, launcher: str) -> Sequence[Parameter]:
        """Return the parameters that a launcher declares."""
        found: Sequence[Parameter] = self.named.get(launcher, {}).get("parameters", ())
        return found

    def retrier(self, task: Task) -> str:
        """Return the launcher that retries a task; empty where none does."""
        on = self.launchers
        return next((retry.launcher for retry in self.retries if retry.launcher in on and retry.takes(task)), "")


#: Orders kept per ordering key of summaries.
KEPT: Final = 20


def planned_of(order: Order) -> PlannedDelivery:
    """Return the delivery that carries an order: in place of a checkpoint's id it has the order's."""
    is_summary = order.carrier.startswith(SUMMARY)
    return PlannedDelivery(
        sink=order.carrier,
        address=order.parameters.get("address", "") if is_summary else "",
        # The summaries of one route go one after the other; other orders go in parallel.
        ordering_key=f"{order.carrier}||{order.task_uid if is_summary else order.id}",
        mode=Mode.CHECKPOINT,
        key=str(order.id),
        urgency=Urgency.NORMAL if is_summary else Urgency.END,
        task_uid=order.task_uid or order.id,
        checkpoint_id=order.id,
    )


def blank_task(order: Order) -> Task:
    """Return a stand-in for the task of an order without one, or whose task is gone."""
    return Task(uid=order.id, tenant=order.tenant, task_id="", name=order.text)


def act_id(act: Intervention) -> UUID:
    """Return the id of an act's order."""
    return UUID(bytes=named(f"{act.tenant}\0order\0{act.idempotency_key}"))


def of_act(
    act: Intervention, task: Task | None, first: Order | None, at: datetime, *, by: str, by_id: str
) -> Order | None:
    """Return the order of an act; None where it orders nothing.

    `first` is the order by which the task was started.
    """
    if not act.launcher:
        return None
    text, parameters = act.text, act.parameters
    if task is not None and first is not None and first.tenant == task.tenant:
        # A retry starts the same work: a person's comment on the click does not change it.
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
        # So a rule that waits for several agents takes the retry in place of the task.
        caused_by=(task.caused_by or "") if task is not None else "",
        task_uid=task.uid if task is not None else None,
        run=task.runs if task is not None else 0,
        depth=first.depth if first is not None else 0,
        source=act.source or act.actor.provider,
        by=by,
        by_id=by_id,
        at=at,
    )


def of_decision(
    act: Intervention, row: ApprovalRow, task: Task | None, launcher: str, at: datetime, *, by: str, by_id: str
) -> Order | None:
    """Return the order that resumes the run of a decided question; None where nothing is resumed.

    A question has one order, also where several traces asked it in the same words.
    """
    if not launcher or not row.resume:
        return None
    session, directory = row.resume
    return Order(
        id=UUID(bytes=named(f"{row.tenant}\0resume\0{row.approval_id}\0{row.mark}")),
        tenant=row.tenant,
        carrier=LAUNCH + launcher,
        text=f"Resume {session}",
        parameters={"session": session} | ({"cwd": directory} if directory else {}),
        caused_by=task.task_id if task is not None else "",
        task_uid=row.task_uid,
        source=act.source or act.actor.provider,
        by=by,
        by_id=by_id,
        at=at,
    )


def act_of(order: Order) -> tuple[Intervention, Verdict] | None:
    """Return the act of a program that placed an order: a webhook or a rule. None where a person's act did.

    No field of a task names its actor.
    """
    if not order.carrier.startswith(LAUNCH) or order.source not in (_HOOK, RULE, SCHEDULE):
        return None
    if order.source in (RULE, SCHEDULE):
        actor = Actor(provider=SPANPOST, id="", name=SPANPOST, credential=f"launch {order.source} {order.rule}")
    else:
        name = order.by_id.removeprefix(HOOK)
        actor = Actor(provider=_HOOK, id=name, name=order.by or name, credential=f"hook {name}")
    act = Intervention(
        tenant=order.tenant,
        verb=Verb.START,
        key=order.id,
        actor=actor,
        text=order.text,
        source=order.source,
        launcher=order.name,
        parameters=order.parameters,
        idempotency_key=f"order {order.id}",
        at=order.at,
    )
    return act, Verdict(result=Result.DONE, task_uid=order.task_uid, order_id=order.id)


def parameters_of(task: Task) -> dict[str, str]:
    """Return the parameters of a task that no order started, for its retry."""
    known = {
        "agent": task.agent_name,
        "type": task.type,
        "repo": task.repo,
        "topic": task.topic,
        "environment": task.environment,
    }
    return {name: value for name, value in known.items() if value}


def _is_late(task: Task, launches: Launches, now: datetime) -> bool:
    return task.ended_at is None or now - task.ended_at > launches.max_age


def joins(tasks: Iterable[Task], launches: Launches, now: datetime) -> list[tuple[Join, OnEnd]]:
    """Return what rules wait for beside these ended tasks, in the order in which it is locked."""
    found = {
        join: rule
        for rule in launches.rules
        if rule.after_all
        for task in tasks
        if not _is_late(task, launches, now) and rule.takes(task) and (join := rule.join(task)) is not None
    }
    return sorted(found.items(), key=lambda one: one[0])


def on_end(
    task: Task, launches: Launches, by: Order | None, now: datetime, complete: Collection[Join] = ()
) -> Iterator[Order]:
    """Return the orders that the end of a run places.

    `by` is the order by which the task was started, where the task names it. `complete` has those of `joins` whose
    tasks have all ended.
    """
    if _is_late(task, launches, now):
        return
    depth = by.depth + 1 if by is not None else 1
    on = launches.launchers
    for rule in launches.rules:
        if not rule.takes(task):
            continue
        join = rule.join(task)
        if rule.after_all and join not in complete:
            continue
        cause = f"{task.uid}\0{task.runs}" if join is None else "\0".join(join)
        fields = fields_of(task)
        for launcher in (name for name in dict.fromkeys(rule.start) if name in on):
            yield Order(
                id=UUID(bytes=named(f"{cause}\0rule\0{rule.name}\0{launcher}")),
                tenant=task.tenant,
                carrier=LAUNCH + launcher,
                text=render(rule.text, fields)[:4_000],
                parameters={name: render(text, fields)[:1_000] for name, text in rule.parameters.items()},
                caused_by=task.task_id,
                task_uid=task.uid,
                run=task.runs,
                depth=depth,
                source=RULE,
                by=task.requested_by or "",
                rule=rule.name,
                at=now,
            )


#: Fields of a task that a rule's texts may use.
FIELDS: Final = (
    "task_id", "name", "agent_name", "type", "repo", "topic", "environment", "requested_by", "status", "tenant",
    "session_id",
)  # fmt: skip


def fields_of(task: Task) -> Mapping[str, Any]:
    """Return a task's fields for templates: with ``result.<name>``, ``link.<name>`` and ``error``."""
    found: dict[str, Any] = {name: getattr(task, name) for name in FIELDS}
    found["result"] = {name: str(value) for name, value in task.results.items()}
    found["link"] = dict(task.links)
    found["error"] = line(f"{task.error.type}: {task.error.message}", 500) if task.error is not None else ""
    return found


def log_fields(order: Order) -> dict[str, str]:
    """Return what a line of the log about an order has as fields."""
    return {"tenant": order.tenant, "task_id": order.caused_by}


def too_deep(orders: Sequence[Order], launches: Launches) -> tuple[list[Order], list[Order]]:
    """Split orders into those within the allowed depth and those that a loop may have made."""
    may = [order for order in orders if order.depth <= launches.max_depth]
    return may, [order for order in orders if order.depth > launches.max_depth]
