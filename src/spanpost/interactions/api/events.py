"""``/api/events``: server-sent events.

Each checkpoint once, in order and resumable by its id; tasks as they are now.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Header, Query
from pydantic import Field
from starlette.responses import Response

from spanpost.http.asgi import Receive, Scope, Send, until_hung_up
from spanpost.http.errors import HttpError
from spanpost.http.shares import Full
from spanpost.interactions.api.cursors import position_of, position_text
from spanpost.interactions.api.errors import INVALID, NOT_FOUND
from spanpost.interactions.api.parts import TheParts, Who
from spanpost.interactions.api.requests import TaskWords, Word, uid_of
from spanpost.interactions.api.responses import dumped, task_summary
from spanpost.interactions.api.stream import Hub, Joined
from spanpost.model.errors import StoreUnavailable
from spanpost.model.queries import Position, StreamedCheckpoint, TaskFilter
from spanpost.model.tasks import Task
from spanpost.store.protocols import CheckpointStream
from spanpost.tasks.json_form import streamed_json

router = APIRouter(tags=["events"])

#: Seconds between batches of task states; checkpoints are sent with them.
_PACE: Final = 0.2
#: Seconds after which a client that reads nothing is disconnected.
_STUCK: Final = 60.0
#: Tasks that a stream remembers as sent. A client that missed more states must ask for the tasks again.
_REMEMBERED: Final = 10_000
_PAGE: Final = 200
#: Milliseconds after which a browser reconnects.
_RETRY: Final = 2_000


class EventQuery(TaskWords):
    """Which tasks, and which events."""

    event: list[Literal["checkpoint", "task"]] = Field(
        default=[], max_length=2, description="Only these events; without any, both."
    )
    task: Word | None = Field(default=None, description="Only this task and the tasks below it, by any of its ids.")
    after: str | None = Field(
        default=None, max_length=100, description="As `Last-Event-ID`, for clients that cannot send headers."
    )


@router.get(
    "/api/events",
    response_class=Response,
    responses=INVALID
    | NOT_FOUND
    | {
        200: {
            "description": "A stream that does not end: `event: checkpoint` (with an id), "
            "`event: task` (a task as it is now), `event: hello` at its beginning, `event: reset` when the "
            "client must ask for the tasks again, and comments as heartbeats.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def events(
    caller: Who,
    parts: TheParts,
    asked: Annotated[EventQuery, Query()],
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)] = None,
) -> Response:
    """Follow tasks. `Last-Event-ID` resumes a stream: each checkpoint comes once."""
    hub = parts.hub
    said = last or asked.after
    after = position_of(said) if said else None
    uid = await uid_of(parts.reader, caller, asked.task, "task")
    if hub.is_ended:
        raise _too_many()
    try:
        joined = await hub.join((caller.tenant, f"{caller.provider}:{caller.id}"))
    except Full:
        raise _too_many() from None
    kinds = frozenset(asked.event or ("checkpoint", "task"))
    following = Following(
        hub,
        joined,
        parts.reader,
        asked.filter(caller.tenant),
        uid,
        kinds,
        parts.heartbeat,
        is_known=partial(parts.is_known, caller),
    )
    return Stream(following.texts(after), hub, joined)


def _too_many() -> HttpError:
    said = "all streams of api.max_streams, or of api.max_tenant_streams of this tenant, are open; come back"
    return HttpError(503, "too_many", said, headers={"retry-after": "5"})


class Stream(Response):
    """A streaming answer.

    It ends if its client hangs up or is stuck, or the stream ends; then it leaves the hub.
    """

    media_type = "text/event-stream"

    def __init__(self, texts: AsyncIterator[str], hub: Hub, joined: Joined) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._texts = texts
        self._hub = hub
        self._joined = joined

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            sending = asyncio.ensure_future(self._send(send))
            gone = asyncio.ensure_future(until_hung_up(receive))
            try:
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                for each in (sending, gone):
                    each.cancel()
                await asyncio.wait({sending, gone})
        finally:
            self._hub.leave(self._joined)

    async def _send(self, send: Send) -> None:
        async for text in self._texts:
            async with asyncio.timeout(_STUCK):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Following:
    """The events of one stream."""

    def __init__(
        self,
        hub: Hub,
        joined: Joined,
        stream: CheckpointStream,
        asked: TaskFilter,
        uid: UUID | None,
        kinds: frozenset[str],
        heartbeat: float,
        *,
        is_known: Callable[[], Awaitable[bool]],
    ) -> None:
        self._hub = hub
        self._joined = joined
        self._stream = stream
        self._tenant = asked.tenant
        #: Whether the caller's session is still valid.
        self._is_known = is_known
        self._asked = asked
        self._of_task = msgspec.structs.replace(asked, statuses=())
        self._uid = uid
        self._kinds = kinds
        self._heartbeat = heartbeat
        self._era = hub.era
        self._version = hub.version
        #: Tasks that were sent. One that no longer matches the filter is sent once more.
        self._shown: OrderedDict[UUID, None] = OrderedDict()

    async def _is_over(self) -> bool:
        if self._hub.is_ended or self._joined.is_over or self._hub.era != self._era:
            return True
        try:
            return not await self._is_known()
        except StoreUnavailable:  # without the store there is nothing to send
            return False

    async def texts(self, after: Position | None) -> AsyncIterator[str]:
        """Yield the stream's text, without end."""
        hub = self._hub
        assert hub.read_to is not None
        place, is_unknown = hub.read_to, False
        if after is not None:
            # Another process may have read further than this one, but not further than the store.
            is_unknown = after > place and after.number > (await self._stream.head()).number
            place = place if is_unknown else after
        yield _event("hello", {"heartbeat": self._heartbeat}, place, retry=_RETRY)
        if is_unknown:  # an id of another database, or of a restored one
            yield _event("reset", {"reason": "the id is of another stream"})
        quiet_since = asyncio.get_running_loop().time()
        while not await self._is_over():
            seen = hub.changes
            text, place, is_behind = await self._next(place)
            now = asyncio.get_running_loop().time()
            if text:
                quiet_since = now
                yield text
            elif now - quiet_since >= self._heartbeat:
                quiet_since = now
                # The position is sent too, so that a quiet stream resumes from a recent one.
                yield f": still here\nid: {position_text(place)}\n\n"
            if not is_behind:
                await hub.wait(seen, max(0.0, quiet_since + self._heartbeat - now))
                await asyncio.sleep(_PACE)
        yield ": the stream ends, come back\n\n"

    async def _next(self, place: Position) -> tuple[str, Position, bool]:
        """Return the next text, the position after it, and whether there is more already."""
        hub, out, is_behind = self._hub, list[str](), False
        if "checkpoint" in self._kinds:
            found = hub.checkpoints_after(place)
            if found is None:
                read_to = hub.read_to
                try:
                    found = await self._stream.streamed(place, _PAGE, self._tenant)
                except StoreUnavailable:
                    return "", place, False
                is_behind = len(found) == _PAGE
                if not is_behind and read_to is not None:
                    place = max(place, found[-1].position if found else read_to, read_to)
            else:
                is_behind = len(found) > _PAGE
                found = found[:_PAGE]
            out += [_event("checkpoint", streamed_json(one), one.position) for one in found if self._takes(one)]
            place = max(place, found[-1].position) if found else place
        if "task" in self._kinds:
            if self._version < hub.dropped:
                out.append(_event("reset", {"reason": "too far behind: ask for the tasks anew"}))
            states, self._version = hub.states_after(self._version), hub.version
            out += [_event("task", task_summary(task)) for task in states if self._shows(task)]
        return "".join(out), place, is_behind

    def _takes(self, one: StreamedCheckpoint) -> bool:
        return self._is_of(one.task) and (not self._asked.statuses or one.checkpoint.status in self._asked.statuses)

    def _is_of(self, task: Task) -> bool:
        return self._of_task.takes(task) and (
            self._uid is None or self._uid in (task.uid, task.parent_uid, task.root_uid)
        )

    def _shows(self, task: Task) -> bool:
        if not self._is_of(task):
            return False
        if not self._asked.statuses or task.status in self._asked.statuses:
            self._shown[task.uid] = None
            if len(self._shown) > _REMEMBERED:
                self._shown.popitem(last=False)
            return True
        return self._shown.pop(task.uid, 0) is None


def _event(name: str, data: Any, place: Position | None = None, *, retry: int | None = None) -> str:
    head = f"retry: {retry}\n" if retry is not None else ""
    head += f"id: {position_text(place)}\n" if place is not None else ""
    return f"{head}event: {name}\ndata: {dumped(data)}\n\n"
