"""Views of a task: its message as Slack shows it, and its context use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from spanpost.interactions.api.errors import NOT_FOUND
from spanpost.interactions.api.parts import TheParts, TheReader, Who
from spanpost.interactions.api.people import note_reads
from spanpost.interactions.api.responses import ApiJson
from spanpost.interactions.api.tasks import task_of
from spanpost.model.acts import ContentKind
from spanpost.model.tasks import Task
from spanpost.tasks.json_form import rfc3339

router = APIRouter(tags=["tasks"])


#: Draws the message of a task, as the arguments of Slack's API. Raises `StoreUnavailable`.
DrawMessage: TypeAlias = Callable[[Task], Awaitable[dict[str, Any]]]


class DrawnMessage(BaseModel):
    """A message as Slack's `chat.postMessage` gets it. Its content is text from agents."""

    text: str
    blocks: list[dict[str, Any]]
    attachments: list[dict[str, Any]]


class MessageView(BaseModel):
    """A task's message, and the replies in its thread."""

    message: DrawnMessage
    replies: list[DrawnMessage]
    channel: str | None = Field(
        description="The channel of its route; null without one: then this is how it would look."
    )
    verbosity: str = Field(description="How much of it the route shows: `live`, `milestones`, `final` or `mute`.")
    task_uid: str = Field(description="The task whose message it is: for a sub-agent, the task above it.")


class UseView(BaseModel):
    """Context use at one model call."""

    at: str
    used_tokens: int
    model: str | None


class ContextView(BaseModel):
    """Context use of a task, call after call."""

    items: list[UseView] = Field(description="Oldest first; if there are many, only the newest.")
    window_tokens: int | None
    window_source: str | None


@router.get("/api/tasks/{id:path}/context", response_model=ContextView, responses=NOT_FOUND)
async def context_curve(caller: Who, reader: TheReader, id: str) -> ApiJson:
    """Return a task's context use, call after call."""
    task = await task_of(reader, caller, id)
    items = [
        {"at": rfc3339(point.at), "used_tokens": point.used_tokens, "model": point.model}
        for point in await reader.curve(task.uid)
    ]
    return ApiJson(
        {
            "items": items,
            "window_tokens": task.context_window_tokens,
            "window_source": task.context_window_source or None,
        }
    )


@router.get("/api/tasks/{id:path}/message", response_model=MessageView, responses=NOT_FOUND)
async def shown_message(caller: Who, reader: TheReader, parts: TheParts, request: Request, id: str) -> ApiJson:
    """Return a task's message as Slack would get it, with the replies in its thread."""
    draw: DrawMessage = request.app.state.draw
    task = await task_of(reader, caller, id)
    await note_reads(parts, caller, ContentKind.MESSAGE, [task.uid])
    return ApiJson(await draw(task))
