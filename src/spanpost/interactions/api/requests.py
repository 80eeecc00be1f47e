"""Queries and bodies of requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Header
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from spanpost.http.errors import HttpError
from spanpost.interactions.api.callers import Caller
from spanpost.model.costs import CostsBy, SpendBy
from spanpost.model.interventions import RATINGS
from spanpost.model.queries import LEAST_PREFIX, TaskFilter, TimelineFilter
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.semconv import STATUSES
from spanpost.store.protocols import Reader

#: No task began outside of these.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_NO_NUL: Final = r"^[^\x00]*$"


def _sane(at: datetime) -> datetime:
    """Return a time in UTC (assumed without a zone), limited to the range of tasks."""
    try:
        return min(max(at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC), _EARLIEST), _LATEST)
    except OverflowError:
        return _EARLIEST if at.year < 2000 else _LATEST


def _written(said: Any) -> Any:
    """Refuse numbers, which pydantic reads as seconds since 1970."""
    if not (isinstance(said, str) and said[:4].isdigit() and said[4:5] == "-"):
        raise ValueError("write it as in 2026-03-01T12:00:00Z")
    return said


Word = Annotated[str, StringConstraints(max_length=500, pattern=_NO_NUL)]
Beginning = Annotated[str, StringConstraints(max_length=200, pattern=rf"^$|^[^\x00]{{{LEAST_PREFIX},}}$")]
Words = Annotated[list[Word], Field(max_length=50)]
Time = Annotated[datetime, BeforeValidator(_written), AfterValidator(_sane)]
Status = Literal[STATUSES]  # type: ignore[valid-type]  # a tuple of nine words
Limit = Annotated[int, Field(ge=1, le=200, description="Items of a page.")]
Cursor = Annotated[str, Field(max_length=400, description="`next` of the page before.")]
Text = Annotated[str, StringConstraints(max_length=4_000, pattern=_NO_NUL)]
#: The same for every repeat of a request, so that it is done once.
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Repeats with the same key, path and body are one act.",
    ),
]


class QueryBody(BaseModel):
    """A query. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class TaskWords(QueryBody):
    """Filters for tasks. A repeated filter matches any of its values; a missing one matches all."""

    status: list[Status] = Field(default=[], max_length=9)
    agent: Words = Field(default=[], description="`agent_name`.")
    topic: Words = []
    type: Words = []
    environment: Words = []
    model: Words = Field(default=[], description="Model of its last call.")
    person: Words = Field(default=[], description="`requested_by`.")
    repo: Words = []
    session: Words = Field(default=[], description="`session_id`.")
    error: Annotated[str, StringConstraints(max_length=200, pattern=_NO_NUL)] = Field(
        default="", description="Part of the error's type or message; case does not matter."
    )
    min_cost: float | None = Field(default=None, ge=0, le=1e12, description="Its own cost in US dollars, or more.")
    max_cost: float | None = Field(default=None, ge=0, le=1e12)
    min_seconds: float | None = Field(default=None, ge=0, le=1e12, description="From its start to its end, or more.")
    max_seconds: float | None = Field(default=None, ge=0, le=1e12)
    q: Annotated[str, StringConstraints(max_length=200, pattern=_NO_NUL)] = Field(
        default="", description="Part of the name, action, id or agent; case does not matter."
    )
    roots: bool = Field(default=False, description="Only tasks without a task above them.")
    below: bool = Field(default=False, description="Only tasks with a task above them.")
    all: bool = Field(
        default=False, description="Also tasks that are only recorded, not announced (a lone model call)."
    )

    def filter(self, tenant: str, **more: Any) -> TaskFilter:
        """Return the filter, within a tenant."""
        return TaskFilter(
            tenant=tenant,
            statuses=tuple(self.status),
            agents=tuple(self.agent),
            topics=tuple(self.topic),
            types=tuple(self.type),
            environments=tuple(self.environment),
            models=tuple(self.model),
            people=tuple(self.person),
            repos=tuple(self.repo),
            sessions=tuple(self.session),
            error=self.error,
            min_cost=self.min_cost,
            max_cost=self.max_cost,
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            is_below=self.below,
            q=self.q,
            is_root=self.roots,
            shows_all=self.all,
            **more,
        )


class FacetsQuery(TaskWords):
    """Filters for tasks, and their time."""

    since: Time | None = Field(default=None, description="Began then or later; UTC if it has no zone.")
    until: Time | None = Field(default=None, description="Began before.")


class SortedQuery(FacetsQuery):
    """Filters for tasks, and the order."""

    sort: Literal["newest", "cost", "duration"] = Field(default="newest", description="The greatest comes first.")


class TaskListQuery(SortedQuery):
    """Filters for tasks, and the page."""

    parent: Word | None = Field(default=None, description="Only tasks that this one started, by any of its ids.")
    follows: Word | None = Field(
        default=None, description="Only tasks that retry this one, or that its end started, by any of its ids."
    )
    order: Word = Field(default="", description="Only the task that this order started (`order_id`).")
    begins: Beginning = Field(default="", description="Beginning of the `uid` or of the `task_id`.")
    limit: Limit = 50
    cursor: Cursor | None = None


class TimelineQuery(QueryBody):
    """The page of a timeline."""

    after: Cursor | None = None
    limit: Limit = 100
    content: bool = Field(default=False, description="Also attributes as recorded: needs the role `auditor`.")
    order: Literal["oldest", "newest"] = Field(default="oldest", description="What comes first.")
    of: list[Literal["checkpoints", "calls", "errors", "people"]] = Field(
        default=[],
        max_length=4,
        description="`checkpoints`; `calls`: of models and tools, steps, handoffs; `errors`; `people`: questions "
        "and acts. Repeated: any of them; not given: all.",
    )
    since: Time | None = Field(default=None, description="Then or later.")
    until: Time | None = Field(default=None, description="Then or before.")

    def filter(self) -> TimelineFilter:
        """Return the filter."""
        return TimelineFilter(
            is_newest_first=self.order == "newest", of=frozenset(self.of), since=self.since, until=self.until
        )


class StatsQuery(QueryBody):
    """The days of the sums."""

    days: int = Field(default=7, ge=1, le=366, description="Number of days, until now.")


class CostsQuery(QueryBody):
    """What costs are listed by."""

    by: CostsBy = Field(default="pr", description="`pr`: each pull request; `person`: `requested_by`; `repo`.")
    since: Time | None = Field(
        default=None, description="Of root tasks that began then or later; UTC if it has no zone."
    )
    limit: Limit = 50


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone: use a name as Europe/Berlin") from None
    return name


class DaysQuery(QueryBody):
    """What the cost of days is listed by."""

    by: SpendBy = Field(default="model", description="`model`, `agent`, `person` (`requested_by`) or `repo`.")
    days: int = Field(default=30, ge=1, le=366, description="Number of days, until today.")
    zone: Annotated[str, StringConstraints(max_length=60, pattern=_NO_NUL), AfterValidator(_zone)] = Field(
        default="UTC", description="Time zone of the days."
    )


class DeliveriesQuery(QueryBody):
    """Which deliveries are listed."""

    state: Literal["waiting", "sending", "dead"] = "waiting"
    limit: Limit = 200


class ApprovalListQuery(QueryBody):
    """Filters for questions, and the page."""

    state: Literal["open", "decided", "void", "expired", "withdrawn", "ended"] | None = None
    agent: Word | None = None
    risk: Word | None = None
    task: Word | None = Field(default=None, description="Only of this task, by any of its ids.")
    begins: Beginning = Field(default="", description="Beginning of the `key` or of the `id`.")
    limit: Limit = 50
    cursor: Cursor | None = None


class ApiBody(BaseModel):
    """A body. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class Comment(ApiBody):
    """Words that go with an act."""

    comment: Text = ""


class DecisionBody(Comment):
    """An answer to a question."""

    decision: Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=_NO_NUL)] = Field(
        description="`approve` or `deny`, or one of the question's options."
    )
    scope: Scope = Field(
        default=Scope.ONCE,
        description="How far an approval goes: `once`, this tool in this `task`, for one `hour`, or `always`. All but "
        "`once` make a standing approval.",
    )


class BatchBody(Comment):
    """One answer to several questions."""

    keys: Annotated[list[UUID], Field(min_length=1, max_length=50)] = Field(description="Keys of the questions.")
    decision: Literal["approve", "deny"]


class StandingListQuery(QueryBody):
    """Filters for standing approvals."""

    all: bool = Field(default=False, description="Also those that are over or revoked.")
    limit: Limit = 200


class RatingBody(Comment):
    """A rating of a task's work."""

    rating: Literal[RATINGS]  # type: ignore[valid-type]  # a tuple of two words


class MessageBody(ApiBody):
    """Words to an agent."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=_NO_NUL)]


class WorkBody(ApiBody):
    """Work that is to be started."""

    text: Text = Field(default="", description="The work, in words.")
    parameters: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NO_NUL)],
        Annotated[str, StringConstraints(max_length=1_000, pattern=_NO_NUL)],
    ] = Field(default={}, max_length=50, description="Parameters of the launcher, by name.")


async def named(reader: Reader, caller: Caller, ref: str | None, field: str) -> Task | None:
    """Return the task that a field names; None for an empty field. Raises `HttpError`."""
    if ref is None:
        return None
    found = await reader.task(caller.tenant, ref)
    if found is None:
        raise HttpError(404, "not_found", "no task is known by that id", field=field)
    return found


async def uid_of(reader: Reader, caller: Caller, ref: str | None, field: str) -> Any:
    """Return the uid of the task that a field names; None for an empty field. Raises `HttpError`."""
    task = await named(reader, caller, ref, field)
    return task.uid if task is not None else None
