"""What happens when a budget's limit is near or reached: warnings, acts, questions, and refusals.

Rules. A warning is sent when a share is passed, once in a period: after a correction downwards, passing it
again sends none. Where a limit is raised, shares that are no longer passed may warn again. A task that spends
from a budget which is used up is paused or cancelled, once in a period and for each raise (`occasion_of`): a
person who resumes it lets it go on until the period ends. Where the budget asks, the task is paused and a
question is asked in its thread; only the answer `RAISE_OPTION` of a person raises the limit, once for all that
were asked at that limit. No answer leaves the task paused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from spanpost import semconv as c
from spanpost.model.budgets import BudgetRefusal, Growth, Raise, Spent
from spanpost.model.interventions import Actor, Intervention, Verb
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import Observation, Part, log_index, nanoseconds
from spanpost.model.recorded import BudgetAct
from spanpost.model.tasks import Task
from spanpost.tasks.approvals import approval_key
from spanpost.tasks.budgets import Budget, Scope, added, in_words, limited, opened, period_of, together
from spanpost.tasks.saving_work import saves_work
from spanpost.text.wording import worded

#: The answers to a budget's question.
RAISE_OPTION, STOP_OPTION = "+20 %", "Stop"
#: Begin of the ids of budgets' questions.
ASKS: Final = "spanpost.budget."
#: `Intervention.source` of a budget's acts.
SOURCE: Final = "budget"
SPANPOST: Final = Actor(provider="spanpost", id="budget", name="spanpost")
_VERBS: Final = {"ask": Verb.PAUSE, "pause": Verb.PAUSE, "cancel": Verb.CANCEL}

#: A budget, tenant and scope.
Place = tuple[str, str, Scope]


class LimitQuestion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question that a budget asked: what an answer of a person is about."""

    #: The question's key (`ApprovalRow.key`).
    key: UUID
    budget: str
    tenant: str
    scope: Scope
    #: Start of the period that it was asked in (`act_period`), and the raises before.
    period: datetime
    raises: int
    task_uid: UUID


class LimitAct(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An act of a budget on a task, unless it was done before."""

    act: Intervention
    task: Task
    #: The question that comes with it, and its record.
    question: LimitQuestion | None = None
    record: Observation | None = None
    #: As `Recorded.budget_acts`.
    counted: BudgetAct
    #: As `occasion_of`: also a task that became part of this one was acted on once for it.
    occasion: str


class ScopeReached(msgspec.Struct, frozen=True, gc=False):
    """A scope's rows that changed, the record of a share that was passed, and what is done to tasks."""

    rows: list[Spent]
    warning: Observation | None
    acts: list[LimitAct]
    standing: Spent


class KeptSpending(NamedTuple):
    """What a batch's spending comes to: records of passed shares, and acts, some of which may be done already."""

    passed: list[Observation]
    acts: list[LimitAct]


def by_place(growths: Iterable[Growth]) -> dict[Place, list[Growth]]:
    """Return the growth of each budget and scope, in the order in which their rows are locked."""
    found: dict[Place, list[Growth]] = {}
    for growth in growths:
        found.setdefault((growth.budget, growth.tenant, growth.scope), []).append(growth)
    return dict(sorted(found.items()))


def counts(row: Spent, budget: Budget, now: datetime) -> bool:
    """Tell whether a row of a budget counts now: of a rolling budget each step in the window, of others the period."""
    if budget.rolling is None:
        return row.began_at == period_of(budget, now)[0]
    return row.ends_at > now and row.ends_at - row.began_at == _length(budget, now)


def _length(budget: Budget, now: datetime) -> object:
    began, ends = period_of(budget, now)
    return ends - began


def reached(budget: Budget, rows: Sequence[Spent], growths: Sequence[Growth], now: datetime) -> ScopeReached:
    """Return what growth in one scope comes to. `rows`: all rows of the scope, those of the growth included."""
    known = {row.began_at: row for row in rows}
    changed: dict[datetime, Spent] = {}
    first = growths[0]
    current = opened(budget, first.tenant, first.scope, now)
    for growth in growths:
        row = known.get(growth.began_at)
        if row is None:
            row = msgspec.structs.replace(current, began_at=growth.began_at, ends_at=growth.ends_at)
        row = msgspec.structs.replace(added(row, growth.figures), ends_at=growth.ends_at)
        known[growth.began_at] = changed[growth.began_at] = row
    standing = together([row for row in known.values() if counts(row, budget, now)] or [current], budget)
    warning = None
    newest = known.get(current.began_at, current)
    limits = limited(newest, budget)
    if _limits(limits) != _limits(newest) and any(limit is not None for limit in _limits(newest)):
        warned = max((s for s in budget.warn_at if s <= min(standing.share, standing.warned)), default=0.0)
        standing = msgspec.structs.replace(standing, warned=warned)
        limits = msgspec.structs.replace(limits, warned=warned)
    passed = [level for level in budget.warn_at if standing.warned < level <= standing.share]
    if passed:
        limits = msgspec.structs.replace(limits, warned=max(passed))
        standing = msgspec.structs.replace(standing, warned=max(passed))
        warning = _passed(standing, max(passed), growths[-1].task, now)
    if limits != newest:
        changed[current.began_at] = limits
    acts = []
    if budget.acts and standing.is_used_up:
        tasks = {growth.task.uid: growth.task for growth in growths if growth.is_open}
        acts = [_act(budget, standing, task, now) for _, task in sorted(tasks.items())]
    return ScopeReached(list(changed.values()), warning, acts, standing)


def _limits(spent: Spent) -> tuple[object, ...]:
    return spent.limit_usd, spent.limit_tokens, spent.limit_calls, spent.limit_tool_calls, spent.limit_time


def listed(rows: Iterable[Spent], budgets: Sequence[Budget], now: datetime) -> list[Spent]:
    """Return rows as people see them: the steps of a rolling budget as one, in the order of the newest."""
    by_name = {budget.name: budget for budget in budgets}
    found: dict[tuple[object, ...], list[Spent]] = {}
    for row in rows:
        budget = by_name.get(row.budget)
        if budget is None or budget.rolling is None:
            found[(row.budget, row.tenant, row.scope, row.began_at)] = [row]
        elif counts(row, budget, now):
            found.setdefault((row.budget, row.tenant, row.scope), []).append(row)
    return [
        together(kept, budget) if (budget := by_name.get(kept[0].budget)) is not None else kept[0]
        for kept in found.values()
    ]


def act_period(budget: Budget, now: datetime) -> datetime:
    """Return the begin of the time in which a budget acts once on a task: its period, or a length of its window."""
    if budget.rolling is None:
        return period_of(budget, now)[0]
    epoch = datetime.fromtimestamp(0, now.tzinfo)
    return epoch + budget.rolling * ((now - epoch) // budget.rolling)


def occasion_of(budget: Budget, spent: Spent, now: datetime) -> str:
    """Return what a budget acts for once on each task. The idempotency key of its act is this, and the task's uid."""
    period = act_period(budget, now).isoformat()
    return f"budget {spent.budget!r} {spent.scope!r} {period} {len(spent.raises)}"


def _act(budget: Budget, standing: Spent, task: Task, now: datetime) -> LimitAct:
    text, occasion = worded(in_words(standing))[0], occasion_of(budget, standing, now)
    act = Intervention(
        tenant=task.tenant,
        verb=_VERBS[budget.at_limit],
        key=task.uid,
        actor=SPANPOST,
        text=text,
        source=SOURCE,
        idempotency_key=f"{occasion} {task.uid}",
        at=now,
    )
    counted = BudgetAct(budget=budget.name, tenant=task.tenant, act=budget.at_limit)
    if budget.at_limit != "ask":
        return LimitAct(act=act, task=task, counted=counted, occasion=occasion)
    # Not to be guessed by an agent, which could ask the same before.
    said = f"{act.tenant}\0{act.idempotency_key}\0{now.isoformat()}"
    id = ASKS + blake2b(said.encode("utf-8", "replace"), digest_size=12).hexdigest()
    until = f" until {standing.ends_at:%Y-%m-%d %H:%M} UTC" if budget.period != "task" else ""
    question = f"{text}. The task is paused. Raise the limit by 20 %{until}, or stop the task?"
    options = (RAISE_OPTION, STOP_OPTION)
    mark = c.question_mark(question, "", options, "")
    record = _record(
        c.EVENT_APPROVAL_REQUESTED,
        task,
        now,
        {c.APPROVAL_ID: id, c.APPROVAL_QUESTION: question, c.APPROVAL_OPTIONS: list(options), c.APPROVAL_DIGEST: mark},
        part=Part.LOG,
    )
    asked = LimitQuestion(
        key=approval_key(task.tenant, id, mark, task.trace_id.hex()),
        budget=budget.name,
        tenant=task.tenant,
        scope=standing.scope,
        period=act_period(budget, now),
        raises=len(standing.raises),
        task_uid=task.uid,
    )
    return LimitAct(act=act, task=task, question=asked, record=record, counted=counted, occasion=occasion)


def raised(
    asked: LimitQuestion, budget: Budget | None, rows: Sequence[Spent], act: Intervention, now: datetime
) -> Spent | None:
    """Return the row with the raise that a person's answer grants; None where it grants none.

    The limit is raised once for all questions that were asked at it, and only in their period.
    """
    if budget is None or act.verb is not Verb.CHOOSE or act.option != RAISE_OPTION:
        return None
    current = opened(budget, asked.tenant, asked.scope, now)
    standing = together([row for row in rows if counts(row, budget, now)] or [current], budget)
    if act_period(budget, now) != asked.period or len(standing.raises) != asked.raises:
        return None
    row = next((row for row in rows if row.began_at == current.began_at), current)
    who = act.actor
    id = ":".join(part for part in (who.provider, who.team, who.id) if part)
    new = Raise(by=who.name or who.id, by_id=id, at=now, until=row.ends_at)
    return limited(msgspec.structs.replace(row, raises=(*row.raises, new)), budget)


def follow_up(asked: LimitQuestion, act: Intervention, now: datetime) -> Intervention:
    """Return the act on the task that a person's answer to a budget's question stands for."""
    verb = Verb.RESUME if act.verb is Verb.CHOOSE and act.option == RAISE_OPTION else Verb.CANCEL
    return Intervention(
        tenant=asked.tenant,
        verb=verb,
        key=asked.task_uid,
        actor=act.actor,
        source=act.source,
        idempotency_key=f"{act.idempotency_key} budget",
        at=now,
    )


def refuses(budget: Budget, spent: Spent, tool: str, tool_input: Mapping[str, Any] | None) -> bool:
    """Tell whether a budget refuses a tool call of a task that spends from it."""
    if not (budget.acts and spent.is_used_up):
        return False
    return not saves_work(budget.saving_tools, budget.saving_commands, tool, tool_input)


def refusal_of(spent: Spent, budget: Budget) -> BudgetRefusal:
    """Return the refusal of a tool call."""
    saving = ", ".join(f"`{one}`" for one in budget.saving_commands)
    ends = f" It starts again at {spent.ends_at:%Y-%m-%d %H:%M} UTC." if budget.period != "task" else ""
    only = f" Save your work with one plain command ({saving}), then stop." if saving else " Stop here."
    return BudgetRefusal(budget.name, f"budget: {worded(in_words(spent))[0]}.{ends}{only}")


def asks_to_raise(approval_id: str, option: str) -> bool:
    """Tell whether an answer to a question may raise a budget."""
    return approval_id.startswith(ASKS) and option == RAISE_OPTION


def _passed(spent: Spent, level: float, task: Task, now: datetime) -> Observation:
    text: LocaleMessage = in_words(spent)
    place = spent.budget, spent.tenant, spent.scope, spent.began_at.isoformat()
    return _record(
        c.EVENT_BUDGET,
        task,
        now,
        {
            c.BUDGET_NAME: spent.budget,
            c.BUDGET_TEXT: worded(text)[0],
            c.BUDGET_MESSAGE: msgspec.json.encode(text).decode(),
            c.BUDGET_LEVEL: level,
            # The identity of the occurrence: the budget, its period, the level.
            c.BUDGET_KEY: blake2b(
                repr((*place, level, *map(str, _limits(spent)))).encode(), digest_size=16
            ).hexdigest(),
        },
    )


def _record(
    name: str, task: Task, now: datetime, attributes: dict[str, Any], *, part: Part = Part.INTERVENTION
) -> Observation:
    if not task.span_id:
        attributes[c.TASK_ID] = task.task_id  # the task is known from log records alone: its id identifies it
    record = Observation(
        part=part,
        trace_id=task.trace_id,
        span_id=task.span_id,
        tenant=task.tenant,
        name=name,
        at_ns=nanoseconds(now),
        attributes=attributes,
    )
    return msgspec.structs.replace(record, index=log_index(record))
