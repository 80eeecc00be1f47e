"""Tasks: the caller, lists, one whole task, its timeline, sums."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from spanpost.http.errors import HttpError
from spanpost.interactions.api import schemas
from spanpost.interactions.api.callers import Caller, CallerRole
from spanpost.interactions.api.cursors import read
from spanpost.interactions.api.errors import INVALID, NOT_FOUND
from spanpost.interactions.api.parts import TheInteractionStore, TheParts, Who
from spanpost.interactions.api.possible import acts_on, answers_to
from spanpost.interactions.api.requests import StatsQuery, TaskListQuery, TimelineQuery, named, uid_of
from spanpost.interactions.api.responses import (
    ApiJson,
    asked_json,
    page_json,
    stats_json,
    task_summary,
    task_whole,
    timeline_entry_json,
)
from spanpost.interactions.api.store import BrowsingStore
from spanpost.model.queries import TaskFilter, TaskKey, TaskQuestion, TimelineKey
from spanpost.model.tasks import Task
from spanpost.tasks.json_form import spent_json

router = APIRouter(tags=["tasks"])

#: Child tasks that are returned with a task.
_CHILDREN = 100
#: Follow-ups that are returned with a task.
_FOLLOWERS = 50


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
async def tasks(
    caller: Who, interaction_store: TheInteractionStore, asked: Annotated[TaskListQuery, Query()]
) -> ApiJson:
    """List tasks, newest first."""
    after = read(asked.cursor, TaskKey)
    parent = await uid_of(interaction_store, caller, asked.parent, "parent")
    before = await named(interaction_store, caller, asked.follows, "follows")
    follows = ids_of(before) if before is not None else ()
    found = asked.filter(
        caller.tenant, since=asked.since, until=asked.until, parent=parent, follows=follows, order=asked.order
    )
    page = await interaction_store.tasks(found, after, asked.limit)
    return page_json(page, map(task_summary, page.items))


@router.get("/api/stats", response_model=schemas.StatsBody, responses=INVALID)
async def stats(caller: Who, interaction_store: TheInteractionStore, asked: Annotated[StatsQuery, Query()]) -> ApiJson:
    """Add up the tasks of the last days by agent, by day and by status."""
    until = datetime.now(UTC) + timedelta(minutes=1)  # an agent's clock may be ahead of ours
    since = until - timedelta(days=asked.days)
    return ApiJson(stats_json(await interaction_store.stats(caller.tenant, since, until), since, until))


@router.get("/api/usage", response_model=schemas.UsageBody)
async def usage(caller: Who, interaction_store: TheInteractionStore) -> ApiJson:
    """Return the spending from budgets, and how often model providers limited calls."""
    spent, limits = await asyncio.gather(
        interaction_store.spending(caller.tenant), interaction_store.limits(caller.tenant)
    )
    return ApiJson(
        {
            "budgets": [spent_json(one) for one in sorted(spent, key=lambda one: -one.share)],
            "provider_limits": [
                {name: value for name, value in msgspec.to_builtins(one).items() if name != "tenant"} for one in limits
            ],
        }
    )


@router.get(
    "/api/tasks/{id:path}/timeline",
    response_model=schemas.Items[schemas.TimelineEntryBody],
    responses=INVALID | NOT_FOUND,
)
async def timeline(
    caller: Who, interaction_store: TheInteractionStore, id: str, asked: Annotated[TimelineQuery, Query()]
) -> ApiJson:
    """List what happened in a task, oldest first: checkpoints, steps, calls and people's acts."""
    after = read(asked.after, TimelineKey, "after")
    if after is not None and not 0 <= after.source <= 2:
        raise HttpError(422, "invalid", "is no cursor of this list; leave it out for the first page", field="after")
    if asked.content:
        caller.need(CallerRole.AUDITOR)
    task = await task_of(interaction_store, caller, id)
    page = await interaction_store.timeline(task.uid, after, asked.limit, content=asked.content)
    return page_json(page, map(timeline_entry_json, page.items))


@router.get("/api/tasks/{id:path}", response_model=schemas.TaskWhole, responses=NOT_FOUND)
async def task(caller: Who, interaction_store: TheInteractionStore, parts: TheParts, id: str) -> ApiJson:
    """Return a task by its id, its uid or its trace's id."""
    found = await task_of(interaction_store, caller, id)
    below = TaskFilter(tenant=caller.tenant, parent=found.uid, shows_all=True)
    after = TaskFilter(tenant=caller.tenant, follows=ids_of(found))
    children, followers, rows = await asyncio.gather(
        interaction_store.tasks(below, None, _CHILDREN),
        interaction_store.tasks(after, None, _FOLLOWERS),
        interaction_store.rows_of(found.uid),
    )
    questions = [TaskQuestion(row=row, task=found) for row in rows]
    may, acts = await asyncio.gather(answers_to(parts, caller, questions), acts_on(parts, caller, found))
    asked = [asked_json(question, one) for question, one in zip(questions, may, strict=True)]
    return ApiJson(task_whole(found, children.items, followers.items, asked, acts))


def ids_of(task: Task) -> tuple[str, ...]:
    """Return all public ids of a task."""
    return tuple(dict.fromkeys((task.task_id, *task.aliases)))


async def task_of(interaction_store: BrowsingStore, caller: Caller, id: str) -> Task:
    """Return the caller's task with an id. Raises `HttpError`."""
    found = await interaction_store.task(caller.tenant, id) if "\0" not in id else None
    if found is None:
        raise HttpError(404, "not_found", "no task is known by that id")
    return found
