"""Tasks: the caller, lists, one whole task, its timeline, sums."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from spanpost.http.errors import HttpError
from spanpost.interactions.api import figures, schemas
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.cursors import read
from spanpost.interactions.api.errors import INVALID, NOT_FOUND
from spanpost.interactions.api.parts import TheParts, TheReader, Who
from spanpost.interactions.api.people import note_reads
from spanpost.interactions.api.possible import acts_on, answers_to
from spanpost.interactions.api.requests import CostsQuery, StatsQuery, TaskListQuery, TimelineQuery, named, uid_of
from spanpost.interactions.api.responses import (
    ApiJson,
    asked_json,
    page_json,
    stats_json,
    task_summary,
    task_whole,
    timeline_entry_json,
    totals_json,
)
from spanpost.interactions.authorization import CallerRole
from spanpost.model.acts import ContentKind
from spanpost.model.queries import ApprovalQuery, TaskFilter, TaskKey, TaskQuestion, TimelineKey
from spanpost.model.tasks import Task
from spanpost.store.protocols import Reader
from spanpost.tasks.json_form import cost_json, spent_json

router = APIRouter(tags=["tasks"])

#: Child tasks that are returned with a task.
_CHILDREN = 100
#: Follow-ups that are returned with a task.
_FOLLOWERS = 50
#: Questions that are returned with a task.
_QUESTIONS = 200
#: Provider limits that are returned: rows by account, model and day.
_LIMITS = 200


@router.get("/api/me", response_model=schemas.Me, tags=["me"])
async def me(caller: Who) -> ApiJson:
    """Return the caller, and their roles."""
    return ApiJson(
        {
            "name": caller.name,
            "provider": caller.provider,
            "email": caller.email or None,
            "tenant": caller.tenant,
            "roles": sorted(caller.roles),
        }
    )


@router.get("/api/tasks", response_model=schemas.Items[schemas.TaskSummary], responses=INVALID | NOT_FOUND)
async def tasks(caller: Who, reader: TheReader, asked: Annotated[TaskListQuery, Query()]) -> ApiJson:
    """List tasks, newest first."""
    after = read(asked.cursor, TaskKey)
    parent = await uid_of(reader, caller, asked.parent, "parent")
    before = await named(reader, caller, asked.follows, "follows")
    follows = ids_of(before) if before is not None else ()
    found = asked.filter(
        caller.tenant,
        since=asked.since,
        until=asked.until,
        parent=parent,
        follows=follows,
        order=asked.order,
        order_by=asked.sort,
        begins=asked.begins,
    )
    if after is not None and (after.by != asked.sort or (after.rank is None) is not (asked.sort == "newest")):
        said = f"is of a list with another sort, not {asked.sort}; leave it out for the first page"
        raise HttpError(422, "invalid", said, field="cursor")
    page = await reader.tasks(found, after, asked.limit)
    sums = await reader.totals(task.uid for task in page.items if task.child_count)
    return page_json(page, (task_summary(task) | totals_json(sums.get(task.uid)) for task in page.items))


@router.get("/api/stats", response_model=figures.StatsBody, responses=INVALID)
async def stats(caller: Who, reader: TheReader, asked: Annotated[StatsQuery, Query()]) -> ApiJson:
    """Add up the tasks of the last days by agent, by day and by status."""
    until = datetime.now(UTC) + timedelta(minutes=1)  # an agent's clock may be ahead of ours
    since = until - timedelta(days=asked.days)
    return ApiJson(stats_json(await reader.stats(caller.tenant, since, until), since, until))


@router.get("/api/usage", response_model=figures.UsageBody)
async def usage(caller: Who, parts: TheParts) -> ApiJson:
    """Return the spending from budgets, and how often model providers limited calls."""
    spent, limits = await asyncio.gather(
        parts.budgets.spending(caller.tenant), parts.budgets.limits(caller.tenant, _LIMITS)
    )
    return ApiJson(
        {
            "budgets": [spent_json(one) for one in sorted(spent, key=lambda one: -one.share)],
            "provider_limits": [
                {name: value for name, value in msgspec.to_builtins(one).items() if name != "tenant"} for one in limits
            ],
        }
    )


@router.get("/api/costs", response_model=schemas.Items[figures.CostBody], responses=INVALID)
async def costs(caller: Who, parts: TheParts, asked: Annotated[CostsQuery, Query()]) -> ApiJson:
    """List what pull requests, people or repositories cost, the highest first. Sub-agents' cost is included once."""
    found = await parts.budgets.costs(caller.tenant, asked.by, asked.since, asked.limit)
    return ApiJson({"items": [cost_json(one) for one in found], "next": None})


@router.get(
    "/api/tasks/{id:path}/timeline",
    response_model=schemas.Items[schemas.TimelineEntryBody],
    responses=INVALID | NOT_FOUND,
)
async def timeline(
    caller: Who, reader: TheReader, parts: TheParts, id: str, asked: Annotated[TimelineQuery, Query()]
) -> ApiJson:
    """List what happened in a task: checkpoints, steps, calls and people's acts."""
    after = read(asked.after, TimelineKey, "after")
    if after is not None and not 0 <= after.source <= 2:
        raise HttpError(422, "invalid", "is no cursor of this list; leave it out for the first page", field="after")
    if asked.content:
        caller.need(CallerRole.AUDITOR)
    task = await task_of(reader, caller, id)
    if asked.content:
        await note_reads(parts, caller, ContentKind.RECORDED, [task.uid])
    page = await reader.timeline(task.uid, after, asked.limit, content=asked.content, asked=asked.filter())
    return page_json(page, map(timeline_entry_json, page.items))


@router.get("/api/tasks/{id:path}", response_model=schemas.TaskWhole, responses=NOT_FOUND)
async def task(caller: Who, reader: TheReader, parts: TheParts, id: str) -> ApiJson:
    """Return a task by its id, its uid or its trace's id."""
    found = await task_of(reader, caller, id)
    below = TaskFilter(tenant=caller.tenant, parent=found.uid, shows_all=True)
    after = TaskFilter(tenant=caller.tenant, follows=ids_of(found))
    children, followers, rows = await asyncio.gather(
        reader.tasks(below, None, _CHILDREN),
        reader.tasks(after, None, _FOLLOWERS),
        parts.interventions.approvals(ApprovalQuery(task_uid=found.uid, limit=_QUESTIONS)),
    )
    questions = [TaskQuestion(row=row, task=found) for row in rows]
    if questions:
        await note_reads(parts, caller, ContentKind.QUESTION, [found.uid])
    may, acts, sums = await asyncio.gather(
        answers_to(parts, caller, questions),
        acts_on(parts, caller, found),
        reader.totals([found.uid] if found.child_count else []),
    )
    asked = [asked_json(question, one) for question, one in zip(questions, may, strict=True)]
    whole = task_whole(found, children.items, followers.items, asked, acts)
    return ApiJson(whole | totals_json(sums.get(found.uid)))


def ids_of(task: Task) -> tuple[str, ...]:
    """Return all public ids of a task."""
    return tuple(dict.fromkeys((task.task_id, *task.aliases)))


async def task_of(reader: Reader, caller: Caller, id: str) -> Task:
    """Return the caller's task with an id. Raises `HttpError`."""
    found = await reader.task(caller.tenant, id) if "\0" not in id else None
    if found is None:
        raise HttpError(404, "not_found", "no task is known by that id")
    return found
