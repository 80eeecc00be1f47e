"""A task's waterfall over HTTP: what it and the tasks below it did, on one axis of time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from spanpost.http.tags import is_known, tag_of
from spanpost.interactions.api.errors import INVALID, NOT_FOUND
from spanpost.interactions.api.parts import TheParts, TheReader, Who
from spanpost.interactions.api.people import note_reads
from spanpost.interactions.api.requests import QueryBody, Time
from spanpost.interactions.api.responses import ApiJson, unchanged
from spanpost.interactions.api.schemas import MONEY
from spanpost.interactions.api.tasks import task_of
from spanpost.model.acts import ContentKind
from spanpost.tasks.titles import title

router = APIRouter(tags=["tasks"])
_UNTRUSTED = "Text from agents."


class TrackBody(BaseModel):
    """A task of the waterfall."""

    uid: str
    parent_uid: str | None
    title: str = Field(description=_UNTRUSTED)
    agent_name: str | None
    status: str
    started_at: str | None
    ended_at: str | None
    cost_usd: str | None = Field(description=MONEY)
    context_window_tokens: int | None


class BarBody(BaseModel):
    """A call or step; in a folded waterfall several of one kind."""

    task_uid: str
    kind: Literal["step", "llm", "tool", "handoff"]
    name: str = Field(description=f"The tool's or the model's name, else the span's. {_UNTRUSTED}")
    started_at: str
    ended_at: str | None = Field(description="Null: it has not ended.")
    count: int = Field(description="Calls that the bar stands for.")
    errors: int
    span_id: str | None
    trace_id: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cost_usd: str | None = Field(description=MONEY)


class TickBody(BaseModel):
    """A checkpoint."""

    task_uid: str
    at: str
    kind: str
    status: str
    text: str = Field(description=_UNTRUSTED)


class AskedBody(BaseModel):
    """The time in which a question was open."""

    task_uid: str
    key: str
    question: str = Field(description=_UNTRUSTED)
    asked_at: str
    closed_at: str | None = Field(description="Null: it is open.")
    state: str


class UseBody(BaseModel):
    """What was used when a model call ended."""

    task_uid: str
    at: str
    used_tokens: int | None = Field(description="Of its context window.")
    cost_usd: str | None = Field(description=f"Of all tasks of the waterfall until then. {MONEY}")


class WaterfallBody(BaseModel):
    """What a task and the tasks below it did in a window of time."""

    tracks: list[TrackBody] = Field(description="The task, and at most 39 below it, oldest first.")
    bars: list[BarBody]
    ticks: list[TickBody] = Field(description="The newest 600.")
    questions: list[AskedBody]
    uses: list[UseBody] = Field(description="Model calls, of very many every n-th; empty with `since` or `until`.")
    is_folded: bool = Field(description="More than 800 calls in the window: a bar stands for several of one kind.")
    is_cut: bool = Field(description="Of a task with more than 20,000 calls in the window the newest are folded.")
    trace_url: str | None = Field(description="The task's trace, by `api.trace_url`.")


class WaterfallQuery(QueryBody):
    """The window of time."""

    since: Time | None = Field(default=None, description="Begin; the task's own if it is missing.")
    until: Time | None = Field(default=None, description="End; the task's own, or now, if it is missing.")


_TRACK = ("agent_name", "status", "started_at", "ended_at", "cost_usd", "context_window_tokens")


@router.get("/api/tasks/{id:path}/waterfall", response_model=WaterfallBody, responses=INVALID | NOT_FOUND)
async def waterfall(
    caller: Who,
    reader: TheReader,
    parts: TheParts,
    request: Request,
    id: str,
    asked: Annotated[WaterfallQuery, Query()],
) -> Response:
    """Return a task's calls, checkpoints, questions, context and cost in a window of time, with those below it."""
    task = await task_of(reader, caller, id)
    # The board asks for it every few seconds: what has not changed is not read.
    tag = tag_of(await reader.version(task.uid), asked.since, asked.until, parts.trace_link(task))
    if is_known(request.headers.get("if-none-match", ""), tag):
        return unchanged(tag)
    found = await reader.waterfall(task.uid, asked.since, asked.until)
    if found.questions:
        await note_reads(parts, caller, ContentKind.QUESTION, {one.task_uid for one in found.questions})
    tracks = [
        {"uid": str(one.uid), "parent_uid": str(one.parent_uid) if one.parent_uid is not None else None}
        | {"title": title(one)}
        | {name: getattr(one, name) for name in _TRACK}
        for one in found.tracks
    ]
    return ApiJson(
        {
            "tracks": tracks,
            **{name: [_plain(one) for one in getattr(found, name)] for name in ("bars", "ticks", "questions", "uses")},
            "is_folded": found.is_folded,
            "is_cut": found.is_cut,
            "trace_url": parts.trace_link(task),
        },
        tag=tag,
    )


def _plain(one: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.structs.asdict(one)
    return {name: (value or None) if isinstance(value, bytes) else value for name, value in fields.items()}
