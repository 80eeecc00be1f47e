"""What may be asked in a query, and in a body."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Header
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from spanpost.http.errors import HttpError
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.store import BrowsingStore
from spanpost.model.queries import TaskFilter
from spanpost.model.tasks import Task
from spanpost.semconv import STATUSES

#: No task began outside.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_NO_NUL: Final = r"^[^\x00]*$"


def _sane(at: datetime) -> datetime:
    """Return a time in UTC (which is meant without a zone), no further away than any task."""
    try:
        return min(max(at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC), _EARLIEST), _LATEST)
    except OverflowError:
        return _EARLIEST if at.year < 2000 else _LATEST


def _written(said: Any) -> Any:
    """Refuse numbers, which pydantic takes for seconds since 1970."""
    if not (isinstance(said, str) and said[:4].isdigit() and said[4:5] == "-"):
        raise ValueError("write it as in 2026-03-01T12:00:00Z")
    return said


Word = Annotated[str, StringConstraints(max_length=500, pattern=_NO_NUL)]
Words = Annotated[list[Word], Field(max_length=50)]
Time = Annotated[datetime, BeforeValidator(_written), AfterValidator(_sane)]
Status = Literal[STATUSES]  # type: ignore[valid-type]  # a tuple of nine words
Limit = Annotated[int, Field(ge=1, le=200, description="Items of a page.")]
Cursor = Annotated[str, Field(max_length=400, description="`next` of the page before.")]
Text = Annotated[str, StringConstraints(max_length=4_000, pattern=_NO_NUL)]
#: The same for every repeat of the same request, so that it is done once.
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=200, description="Repeats with the same key, path and body are one act."
    ),
]


class QueryBody(BaseModel):
    """A query. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class TaskWords(QueryBody):
    """Which tasks. Said several times one of them must be met; what is not said is met by any."""

    status: list[Status] = Field(default=[], max_length=9)
    agent: Words = Field(default=[], description="`agent_name`.")
    topic: Words = []
    type: Words = []
    environment: Words = []
    q: Annotated[str, StringConstraints(max_length=200, pattern=_NO_NUL)] = Field(
        default="", description="Stands somewhere in name, action, id or agent, in capitals or not."
    )
    roots: bool = Field(default=False, description="Only those without a task above them.")
    all: bool = Field(default=False, description="Those too that are recorded and not announced (a lone model call).")

    def filter(self, tenant: str, **more: Any) -> TaskFilter:
        """Return the filter that is meant, within a tenant."""
        return TaskFilter(
            tenant=tenant,
            statuses=tuple(self.status),
            agents=tuple(self.agent),
            topics=tuple(self.topic),
            types=tuple(self.type),
            environments=tuple(self.environment),
            q=self.q,
            is_root=self.roots,
            shows_all=self.all,
            **more,
        )


class TaskListQuery(TaskWords):
    """Which tasks, and which page of them."""

    since: Time | None = Field(default=None, description="Began then or later; without a zone UTC is meant.")
    until: Time | None = Field(default=None, description="Began before.")
    parent: Word | None = Field(default=None, description="Only tasks that this one started, by any of its ids.")
    follows: Word | None = Field(
        default=None, description="Only those that retry this task, or that its end started, by any of its ids."
    )
    order: Word = Field(default="", description="Only the task that this order started (`order_id`).")
    limit: Limit = 50
    cursor: Cursor | None = None


class TimelineQuery(QueryBody):
    """Which page of a timeline."""

    after: Cursor | None = None
    limit: Limit = 100
    content: bool = Field(default=False, description="Attributes as recorded too: needs the role `auditor`.")


class StatsQuery(QueryBody):
    """Of which days."""

    days: int = Field(default=7, ge=1, le=366, description="Of the last so many days, until now.")


class ApprovalListQuery(QueryBody):
    """Which questions, and which page of them."""

    state: Literal["open", "decided", "void", "expired"] | None = None
    agent: Word | None = None
    risk: Word | None = None
    task: Word | None = Field(default=None, description="Only of this task, by any of its ids.")
    limit: Limit = 50
    cursor: Cursor | None = None


class Body(BaseModel):
    """A body. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class Comment(Body):
    """Words that go with an act."""

    comment: Text = ""


class DecisionBody(Comment):
    """An answer to a question."""

    decision: Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=_NO_NUL)] = Field(
        description="`approve` or `deny`, or one of the question's options."
    )


class MessageBody(Body):
    """Words to an agent."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=_NO_NUL)]


class WorkBody(Body):
    """Work that is to be started."""

    text: Text = Field(default="", description="What is to be done, for who does it.")
    parameters: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NO_NUL)],
        Annotated[str, StringConstraints(max_length=1_000, pattern=_NO_NUL)],
    ] = Field(default={}, max_length=50, description="What the launcher is given, by name.")


async def named(interaction_store: BrowsingStore, caller: Caller, ref: str | None, field: str) -> Task | None:
    """Return the task that a field names; None where it names none. Raises `HttpError`."""
    if ref is None:
        return None
    found = await interaction_store.task(caller.tenant, ref)
    if found is None:
        raise HttpError(404, "not_found", "no task is known by that id", field=field)
    return found


async def uid_of(interaction_store: BrowsingStore, caller: Caller, ref: str | None, field: str) -> Any:
    """Return the uid of the task that a field names; None where it names none. Raises `HttpError`."""
    task = await named(interaction_store, caller, ref, field)
    return task.uid if task is not None else None
