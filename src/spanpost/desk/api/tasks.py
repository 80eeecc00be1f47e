"""Tasks: who one is, lists, and one task whole."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from spanpost.desk.api import shapes
from spanpost.desk.api.errors import Refused
from spanpost.desk.api.parts import TheHall, Who
from spanpost.desk.api.telling import task_summary
from spanpost.domain.browsing import TaskFilter

router = APIRouter()


@router.get("/api/me", response_model=shapes.Me)
async def me(caller: Who) -> Any:
    """Tell who one is, and what one may."""
    return {
        "name": caller.name,
        "provider": caller.provider,
        "email": caller.email or None,
        "tenant": caller.tenant,
        "roles": sorted(caller.roles),
    }


@router.get("/api/tasks", response_model=shapes.Items[shapes.TaskSummary])
async def tasks(caller: Who, hall: TheHall, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Any:
    """List tasks, newest first."""
    page = await hall.tasks(TaskFilter(tenant=caller.tenant), None, limit)
    return {"items": [task_summary(task) for task in page.items], "next": None}


@router.get("/api/tasks/{id:path}", response_model=shapes.TaskSummary)
async def task(caller: Who, hall: TheHall, id: str) -> Any:
    """Return a task by its id, its uid or its trace's id."""
    found = await hall.task(caller.tenant, id)
    if found is None:
        raise Refused(404, "not_found", "no task is known by that id")
    return task_summary(found)
