"""Tasks in a terminal, one line each: families as trees, and what waits or failed first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.text import Text

from spanpost.cli import columns as c
from spanpost.cli.columns import Column
from spanpost.model.tasks import RESTING, Task
from spanpost.model.totals import totals
from spanpost.semconv import CANCELLED, COMPLETE, ERROR, STALLED, WAITING
from spanpost.sinks import labels
from spanpost.sinks.loop_label import loop
from spanpost.text.figures import count, money
from spanpost.text.locales import ENGLISH
from spanpost.text.sanitise import line

COLUMNS: Final = (
    Column(""),
    Column("status", at=120),
    Column("task", is_flexible=True),
    Column("agent", most=16),
    Column("done", is_right=True),
    Column("cost", is_right=True),
    Column("ctx", is_right=True),
    Column("of window", at=170),
    Column("in", at=150, is_right=True),
    Column("out", at=150, is_right=True),
    Column("calls", at=150, is_right=True),
    Column("tools", at=140, is_right=True),
    Column("took", at=110, is_right=True),
    Column("age", is_right=True),
    Column("id"),
    Column("started", at=180),
    Column("task id", at=200),
)
_UNKNOWN: Final = "–"
#: What needs a person comes first, then what runs, then what has ended.
_RANKS: Final = {WAITING: 0, ERROR: 1, STALLED: 2, RESTING: 6, COMPLETE: 8, CANCELLED: 9}


def print_tasks(tasks: Sequence[Task], *, is_ascii: bool = False, console: Console | None = None) -> None:
    """Print tasks, one line each. Child tasks stand below their parents."""
    c.print_fitted(COLUMNS, rows_of(tasks, datetime.now(UTC)), is_ascii=is_ascii, console=console)


def rows_of(tasks: Sequence[Task], now: datetime) -> list[list[Text | str]]:
    """Return the cells of tasks, as a tree."""
    sums = totals(tasks)
    costs = {uid: one.usage.cost_usd for uid, one in sums.items()}
    return [row_of(task, depth, now, costs.get(task.uid, task.cost_usd)) for depth, task in as_tree(tasks)]


def row_of(task: Task, depth: int, now: datetime, cost: Decimal | None) -> list[Text | str]:
    """Return the cells of a task; `cost`: with the tasks below it."""
    shown = labels.task_label(task)
    done, share = labels.percent(task), task.context_share
    ended = task.ended_at if labels.is_final(task) else None
    tools = f"{task.tool_calls}" + (f" ({task.tool_errors} failed)" if task.tool_errors else "")
    return [
        *c.signed(shown, status_of(task)),
        _name(task, depth),
        line(task.agent_name or "", 60) or _UNKNOWN,
        _UNKNOWN if done is None else f"{done:.0f} %",
        _UNKNOWN if cost is None else money(cost) + ("+" if task.unpriced_calls else ""),
        _UNKNOWN if share is None else Text(f"{100 * share:.0f}%", style=_heat(share)),
        " ".join(filter(None, (labels.window(task), labels.forecast(task)))) or _UNKNOWN,
        _tokens(task.input_tokens),
        _tokens(task.output_tokens),
        str(task.llm_calls),
        tools,
        c.span(ended - task.started_at) if ended is not None and task.started_at is not None else "",
        c.ago(task.started_at, now) or _UNKNOWN,
        c.short(task.uid),
        c.time_of(task.started_at),
        line(task.task_id, 300),
    ]


def status_of(task: Task) -> str:
    """Return the word of a status: as the option ``--status`` has it, and whether it was concluded."""
    if task.shown_status == RESTING:
        return "between prompts"
    return f"{line(task.status, 20)}{' (inferred)' if task.is_inferred else ''}"


def matter(task: Task, limit: int = 120) -> str:
    """Return what matters now: the open question, the first line of the error, or what the task is doing."""
    if task.status == ERROR and task.error is not None:
        return line(labels.failure_line(task), limit)
    if questions := task.open_approvals:
        return "" if labels.is_final(task) else line(questions[0].question, limit)
    if labels.is_final(task):
        return ""
    if task.child_question:
        return f"below: {line(task.child_question, limit)}"
    said = ENGLISH.translate(task.messages.get("last_checkpoint"), task.last_checkpoint or "")
    return loop(task) or line(said, limit) or labels.doing(task, limit)


def _name(task: Task, depth: int) -> Text:
    width = 24 if task.waits_for_person or task.status == ERROR else 80  # for what it waits for, or why it failed
    said = Text(("   " * (depth - 1) + "└ " if depth else "") + labels.title(task, width))
    if what := matter(task):
        urgent = {WAITING: "yellow", ERROR: "red"}.get(task.shown_status, "dim")
        said.append(f"  {what}", style=urgent)
    return said


def _heat(share: float) -> str:
    return "" if share < labels.WARM else "red" if share >= labels.HOT else "yellow"


def _tokens(value: int | None) -> str:
    return _UNKNOWN if value is None else count(value)


def rank(task: Task) -> int:
    """Return the place of a task among its siblings: waiting, failed and stalled ones first."""
    return _RANKS.get(task.shown_status, 5)


def as_tree(tasks: Sequence[Task]) -> Iterable[tuple[int, Task]]:
    """Yield tasks with their depth: each family together, what needs a person first among siblings."""
    known = {task.uid for task in tasks}
    below: dict[UUID | None, list[Task]] = {}
    for task in tasks:
        parent = task.parent_uid if task.parent_uid in known and task.parent_uid != task.uid else None
        below.setdefault(parent, []).append(task)
    seen: set[UUID] = set()

    waiting = [(0, task) for task in reversed(below.get(None, []))]
    while waiting:
        depth, task = waiting.pop()
        seen.add(task.uid)
        yield depth, task
        waiting.extend((depth + 1, child) for child in sorted(below.get(task.uid, []), key=rank)[::-1])
    # A cycle of parents has no root; its tasks are listed too.
    yield from ((0, task) for task in tasks if task.uid not in seen)


def summary(tasks: Sequence[Task], checkpoints: int) -> str:
    """Return what recordings hold, in one line."""
    statuses: dict[str, int] = {}
    for task in tasks:
        statuses[task.status] = statuses.get(task.status, 0) + 1
    each = ", ".join(f"{n} {line(status, 30)}" for status, n in statuses.items())
    calls, usd = sum(task.llm_calls for task in tasks), [task.cost_usd for task in tasks if task.cost_usd is not None]
    parts = [
        f"{_counted(len(tasks), 'task')} ({each})",
        _counted(calls, "model call"),
        _counted(checkpoints, "checkpoint"),
    ]
    return " · ".join(parts + ([money(sum(usd, Decimal(0)))] if usd else []))


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def print_explained(tasks: Sequence[Task], explained: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Print the explanation of each task, with the rule that decided its status."""
    for _, task in as_tree(tasks):
        why = explained.get(task.uid)
        if not why:
            continue
        print(f"\n{c.short(task.uid)}  {labels.title(task, 80)}: {line(task.status, 30)}")
        for name in ("why", "message", "status", "name", "tokens"):
            print(f"  {name:<7} {line(str(why[name]), 300)}")
        print(f"  {'rule':<7} {line(task.rule, 300)}")
        for merged in why["merged"]:
            print(f"  merged  {line(str(merged), 300)}")
