"""Cost of pull requests, people and repositories, the same as the view `agent_result_costs` in PostgreSQL.

A root task and all tasks below it are one family, whose cost is counted once. It is split evenly among the
family's pull requests, to a billionth of a dollar; the first of them by key takes the remainder, so that the
parts add up to the whole. Person and repository are those of the root task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_DOWN, Decimal
from uuid import UUID

import msgspec

from spanpost.model.costs import PULL_REQUEST, CostsBy, ResultCost
from spanpost.model.tasks import Task

#: Characters of an artifact's key that rows keep.
_KEY = 600
_UNIT = Decimal("0.000000001")


class CostPart(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a family's cost for one pull request; of a family without any, all of it."""

    root: Task
    pull_request: str | None
    cost_usd: Decimal | None
    is_partial: bool


def pull_requests(tasks: Iterable[Task]) -> list[str]:
    """Return the keys of the pull requests that tasks made, each once."""
    return sorted({a.key[:_KEY] for task in tasks for a in task.artifacts if a.kind.lower() == PULL_REQUEST})


def parts(root: Task, family: Sequence[Task]) -> list[CostPart]:
    """Return the parts of a family's cost. `family` includes the root."""
    costs = [task.cost_usd for task in family if task.cost_usd is not None]
    cost = sum(costs, Decimal(0)) if costs else None
    is_partial = any(task.unpriced_calls for task in family)
    made = pull_requests(family)
    if not made:
        return [CostPart(root=root, pull_request=None, cost_usd=cost, is_partial=is_partial)]
    each = (cost / len(made)).quantize(_UNIT, ROUND_DOWN) if cost is not None else None
    found = []
    for n, key in enumerate(made):
        of_this = each
        if n == 0 and cost is not None and each is not None:
            of_this = cost - each * (len(made) - 1)
        found.append(CostPart(root=root, pull_request=key, cost_usd=of_this, is_partial=is_partial))
    return found


def listed(tasks: Iterable[Task], by: CostsBy) -> list[ResultCost]:
    """Return the costs of all families among `tasks`, the highest first."""
    families: dict[UUID, list[Task]] = {}
    roots: dict[UUID, Task] = {}
    for task in tasks:
        root_uid = task.root_uid or task.uid
        families.setdefault(root_uid, []).append(task)
        if root_uid == task.uid:
            roots[root_uid] = task
    groups: dict[str, list[CostPart]] = {}
    for uid, root in roots.items():
        for part in parts(root, families[uid]):
            if by == "pr" and part.pull_request is None:
                continue
            key = part.pull_request if by == "pr" else root.requested_by if by == "person" else root.repo
            groups.setdefault(key or "", []).append(part)
    found = [_sum(key, group) for key, group in groups.items()]
    return sorted(found, key=lambda one: (-(one.cost_usd if one.cost_usd is not None else Decimal(-1)), one.key))


def _sum(key: str, group: Sequence[CostPart]) -> ResultCost:
    costs = [part.cost_usd for part in group if part.cost_usd is not None]
    return ResultCost(
        key=key,
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        tasks=len({part.root.uid for part in group}),
        pull_requests=len({part.pull_request for part in group if part.pull_request is not None}),
        is_partial=any(part.is_partial for part in group),
    )
