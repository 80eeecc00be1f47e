"""Tasks: who one is, lists, one task whole, its timeline, sums."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from spanpost.desk.api import shapes
from spanpost.desk.api.asking import StatsQuery, TaskListQuery, TimelineQuery, named, uid_of
from spanpost.desk.api.callers import Caller, Role
from spanpost.desk.api.cursors import read
from spanpost.desk.api.errors import INVALID, NOT_FOUND
from spanpost.desk.api.hall import Hall
from spanpost.desk.api.may import acts_on, answers_to
from spanpost.desk.api.parts import TheHall, TheParts, Who
from spanpost.desk.api.telling import Json, asked_json, happening_json, page_json, stats_json, task_summary, task_whole
from spanpost.domain.browsing import Question, TaskFilter, TaskKey, TimelineKey
from spanpost.domain.tasks import Task
from spanpost.fold.report import spent_json
from spanpost.http.errors import HttpError

router = APIRouter(tags=["tasks"])

#: Tasks below one that are told with it.
_CHILDREN = 100
#: And tasks that followed it.
_FOLLOWERS = 50


@router.get("/api/me", response_model=shapes.Me, tags=["me"])
async def me(caller: Who) -> Json:
    """Tell who one is, and what one may."""
    return Json(
        {
            "name": caller.name,
            "provider": caller.provider,
            "email": caller.email or None,
            "tenant": caller.tenant,
            "roles": sorted(caller.roles),
        }
    )


@router.get("/api/tasks", response_model=shapes.Items[shapes.TaskSummary], responses=INVALID | NOT_FOUND)
async def tasks(caller: Who, hall: TheHall, asked: Annotated[TaskListQuery, Query()]) -> Json:
    """List tasks, newest first."""
    after = read(asked.cursor, TaskKey)
    parent = await uid_of(hall, caller, asked.parent, "parent")
    before = await named(hall, caller, asked.follows, "follows")
    follows = ids_of(before) if before is not None else ()
    found = asked.filter(caller.tenant, since=asked.since, until=asked.until, parent=parent, follows=follows, order=asked.order)
    page = await hall.tasks(found, after, asked.limit)
    return page_json(page, map(task_summary, page.items))


@router.get("/api/stats", response_model=shapes.Stats, responses=INVALID)
async def stats(caller: Who, hall: TheHall, asked: Annotated[StatsQuery, Query()]) -> Json:
    """Add up the tasks of the last days by agent, by day and by status."""
    until = datetime.now(UTC) + timedelta(minutes=1)  # an agent's clock may be ahead of ours
    since = until - timedelta(days=asked.days)
    return Json(stats_json(await hall.stats(caller.tenant, since, until), since, until))


@router.get("/api/usage", response_model=shapes.Usage)
async def usage(caller: Who, hall: TheHall) -> Json:
    """Tell what is spent of budgets, and how often model providers held calls back."""
    spent, limits = await asyncio.gather(hall.spending(caller.tenant), hall.limits(caller.tenant))
    return Json(
        {
            "budgets": [spent_json(one) for one in sorted(spent, key=lambda one: -one.share)],
            "provider_limits": [
                {name: value for name, value in msgspec.to_builtins(one).items() if name != "tenant"} for one in limits
            ],
        }
    )


@router.get("/api/tasks/{id:path}/timeline", response_model=shapes.Items[shapes.Happening], responses=INVALID | NOT_FOUND)
async def timeline(caller: Who, hall: TheHall, id: str, asked: Annotated[TimelineQuery, Query()]) -> Json:
    """List what happened in a task, oldest first: what was told, steps and calls, what people did."""
    after = read(asked.after, TimelineKey, "after")
    if after is not None and not 0 <= after.source <= 2:
        raise HttpError(422, "invalid", "is no cursor of this list; leave it out for the first page", field="after")
    if asked.content:
        caller.need(Role.AUDITOR)
    task = await task_of(hall, caller, id)
    page = await hall.timeline(task.uid, after, asked.limit, content=asked.content)
    return page_json(page, map(happening_json, page.items))


@router.get("/api/tasks/{id:path}", response_model=shapes.TaskWhole, responses=NOT_FOUND)
async def task(caller: Who, hall: TheHall, parts: TheParts, id: str) -> Json:
    """Return a task by its id, its uid or its trace's id."""
    found = await task_of(hall, caller, id)
    below = TaskFilter(tenant=caller.tenant, parent=found.uid, shows_all=True)
    after = TaskFilter(tenant=caller.tenant, follows=ids_of(found))
    children, followers, rows = await asyncio.gather(
        hall.tasks(below, None, _CHILDREN), hall.tasks(after, None, _FOLLOWERS), hall.rows_of(found.uid)
    )
    questions = [Question(row=row, task=found) for row in rows]
    may, acts = await asyncio.gather(answers_to(parts, caller, questions), acts_on(parts, caller, found))
    asked = [asked_json(question, one) for question, one in zip(questions, may, strict=True)]
    return Json(task_whole(found, children.items, followers.items, asked, acts))


def ids_of(task: Task) -> tuple[str, ...]:
    """Return all public ids of a task."""
    return tuple(dict.fromkeys((task.task_id, *task.aliases)))


async def task_of(hall: Hall, caller: Caller, id: str) -> Task:
    """Return the caller's task of an id. Raises `HttpError`."""
    found = await hall.task(caller.tenant, id) if "\0" not in id else None
    if found is None:
        raise HttpError(404, "not_found", "no task is known by that id")
    return found
