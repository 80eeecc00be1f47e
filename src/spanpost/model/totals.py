"""Totals of tasks with all tasks below them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

import msgspec

from spanpost.model.tasks import Task
from spanpost.model.usage import Usage


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over several tasks. None: unknown for all of them."""

    tasks: int
    llm_calls: int
    unpriced_calls: int
    usage: Usage


def together(tasks: Iterable[Task]) -> Totals:
    """Return the sums over tasks."""
    tasks = list(tasks)

    def total(field: str) -> int | None:
        said = [value for task in tasks if (value := getattr(task, field)) is not None]
        return sum(said) if said else None

    costs = [task.cost_usd for task in tasks if task.cost_usd is not None]
    return Totals(
        tasks=len(tasks),
        llm_calls=sum(task.llm_calls for task in tasks),
        unpriced_calls=sum(task.unpriced_calls for task in tasks),
        usage=Usage(
            input=total("input_tokens"),
            output=total("output_tokens"),
            cache_read=total("cache_read_tokens"),
            cache_write=total("cache_write_tokens"),
            reasoning=total("reasoning_tokens"),
            cost_usd=sum(costs, Decimal(0)) if costs else None,
        ),
    )


def totals(tasks: Iterable[Task]) -> dict[UUID, Totals]:
    """Return, for each task with tasks below it, the totals of them all."""
    known = {task.uid: task for task in tasks}
    below: dict[UUID, list[UUID]] = {}
    for task in known.values():
        if task.parent_uid in known and task.parent_uid != task.uid:
            below.setdefault(task.parent_uid, []).append(task.uid)
    out = {}
    for uid in below:
        family, waiting = {uid: None}, [uid]
        while waiting:
            new = [child for child in below.get(waiting.pop(), ()) if child not in family]  # parents may form a cycle
            family.update(dict.fromkeys(new))
            waiting += new
        out[uid] = together(known[one] for one in family)
    return out
