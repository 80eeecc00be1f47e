"""What lists of tasks come to: facets, a file for spreadsheets, the cost of each day."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from spanpost.interactions.api import schemas
from spanpost.interactions.api.errors import INVALID
from spanpost.interactions.api.parts import TheParts, TheReader, Who
from spanpost.interactions.api.requests import DaysQuery, DeliveriesQuery, FacetsQuery, SortedQuery
from spanpost.interactions.api.responses import ApiJson, plain, task_summary
from spanpost.interactions.api.schemas import MONEY
from spanpost.interactions.authorization import CallerRole
from spanpost.model.queries import Page, TaskFilter, TaskKey
from spanpost.model.tasks import Task
from spanpost.store.protocols import Reader

router = APIRouter(tags=["tasks"])
#: Rows of a file, and of each query for it: in other orders than by start each query reads all tasks that match.
ROWS: Final = 10_000
_PAGE: Final = 1000
COLUMNS: Final = (
    "task_id", "name", "agent_name", "status", "started_at", "ended_at", "cost_usd", "unpriced_calls", "input_tokens",
    "output_tokens", "cache_read_tokens", "llm_calls", "tool_calls", "tool_errors", "model", "repo", "environment",
    "topic", "type", "requested_by", "session_id", "failure", "parent_task_id", "trace_id", "uid",
)  # fmt: skip


class FacetBody(BaseModel):
    """A value, and how many of the tasks have it."""

    value: str | None = Field(description="Null: they have none. Text from agents.")
    count: int


class FacetsBody(BaseModel):
    """How many tasks match, and the 20 most frequent values by field."""

    total: int
    cost_usd: str | None = Field(description=f"Of the tasks' own calls. {MONEY}")
    fields: dict[str, list[FacetBody]] = Field(
        description="By filter: status, agent, model, person, repo, environment, topic, type."
    )
    since: str | None = Field(
        description="Only tasks that began then or later were counted: the newest 50,000. Null: all were."
    )


class DeliveryBody(BaseModel):
    """A checkpoint or state of a task on its way to a sink."""

    id: int = Field(description="The number by which `spanpost deliveries` names it.")
    sink: str
    address: str
    ordering_key: str
    mode: Literal["checkpoint", "state", "erase"]
    state: Literal["waiting", "sending", "delivered", "dead"]
    task_id: str
    kind: str
    attempt: int
    born_at: str
    not_before: str | None = Field(description="It waits until then.")
    reason: str
    error: str = Field(description="What the sink answered.")


class ComponentBody(BaseModel):
    """State of a component of the gateway."""

    name: str
    state: Literal["ok", "late", "down", "unknown"] = Field(
        description="`late`: it works, and is behind or has given something up."
    )
    since: str | None = Field(description="Of trouble: when it began; else of what went well last. Null: not known.")
    detail: str = Field(description="Figures of all tenants; empty without the role `operator` or `auditor`.")


class DaySpendBody(BaseModel):
    """What the model calls of a day came to."""

    day: str
    key: str | None = Field(description="Empty: none is known; null: all beyond the 10 that cost most. Untrusted text.")
    cost_usd: str
    calls: int
    unpriced: int = Field(description="Calls without a known cost: the true cost is higher.")
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int


@router.get("/api/facets", response_model=FacetsBody, responses=INVALID)
async def facets(caller: Who, reader: TheReader, asked: Annotated[FacetsQuery, Query()]) -> ApiJson:
    """Count the tasks of a filter, and the most frequent values of their fields."""
    found = await reader.facets(asked.filter(caller.tenant, since=asked.since, until=asked.until))
    return ApiJson(msgspec.structs.asdict(found) | {"fields": msgspec.to_builtins(found.fields)})


@router.get("/api/tasks.csv", response_class=Response, responses=INVALID)
async def as_csv(caller: Who, reader: TheReader, asked: Annotated[SortedQuery, Query()]) -> Response:
    """Return the first 10,000 tasks of a filter as CSV (UTF-8). Texts that a spreadsheet would compute are quoted."""
    found = asked.filter(caller.tenant, since=asked.since, until=asked.until, order_by=asked.sort)
    # Errors of the first query are an answer; later ones end the file.
    first = await reader.tasks(found, None, _PAGE)
    headers = {"content-disposition": 'attachment; filename="tasks.csv"', "cache-control": "no-store"}
    return StreamingResponse(_written(reader, found, first), headers=headers, media_type="text/csv; charset=utf-8")


@router.get("/api/deliveries", response_model=schemas.Items[DeliveryBody], responses=INVALID)
async def deliveries(caller: Who, parts: TheParts, asked: Annotated[DeliveriesQuery, Query()]) -> ApiJson:
    """List what waits to be sent to sinks, is being sent, or was given up (`dead`), oldest first."""
    if parts.outbox is None:
        return ApiJson({"items": [], "next": None})
    rows = await parts.outbox.deliveries(state=asked.state, limit=asked.limit, tenant=caller.tenant)
    return ApiJson({"items": [msgspec.structs.asdict(one) for one in rows], "next": None})


@router.get("/api/components", response_model=schemas.Items[ComponentBody])
async def components(caller: Who, parts: TheParts) -> ApiJson:
    """List the state of the gateway's components. Their figures are of all tenants: for operators and auditors, and
    this machine's token.
    """
    found = await parts.components() if parts.components is not None else ()
    sees = caller.provider == "local" or not caller.roles.isdisjoint((CallerRole.OPERATOR, CallerRole.AUDITOR))
    items = [msgspec.structs.asdict(one) | ({} if sees else {"detail": ""}) for one in found]
    return ApiJson({"items": items, "next": None})


@router.get("/api/costs/days", response_model=schemas.Items[DaySpendBody], responses=INVALID, tags=["tasks"])
async def days(caller: Who, parts: TheParts, asked: Annotated[DaysQuery, Query()]) -> ApiJson:
    """List what each day's model calls cost, by model, agent, person or repository. Calls count once finalized."""
    now = datetime.now(UTC)
    today = now.astimezone(ZoneInfo(asked.zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = [today - timedelta(days=before) for before in range(asked.days - 1, -1, -1)]
    found = await parts.budgets.days(caller.tenant, asked.by, begins, now + timedelta(days=1))
    return ApiJson({"items": [msgspec.structs.asdict(one) for one in found], "next": None})


async def _written(reader: Reader, asked: TaskFilter, page: Page[Task]) -> AsyncIterator[str]:
    yield _lines([list(COLUMNS)])
    count = 0
    while page.items:
        items = page.items[: ROWS - count]
        yield _lines([[_cell(task_json.get(name)) for name in COLUMNS] for task_json in map(task_summary, items)])
        count += len(items)
        after: TaskKey | None = page.next
        if after is None or count >= ROWS:
            return
        page = await reader.tasks(asked, after, _PAGE)


def _lines(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    said = plain(value)
    text = "" if said is None else str(said)
    # An agent's name must not be a formula where the file is opened.
    return f"'{text}" if isinstance(said, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
