"""Who did what, over HTTP: acts and reads of content of the caller's tenant, for auditors."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from spanpost.interactions.api import schemas
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.cursors import read
from spanpost.interactions.api.errors import INVALID, NOT_FOUND
from spanpost.interactions.api.parts import TheParts, TheReader, Who
from spanpost.interactions.api.people import note_reads
from spanpost.interactions.api.requests import Cursor, Limit, QueryBody, Time, Word, uid_of
from spanpost.interactions.api.responses import ApiJson, page_json
from spanpost.interactions.authorization import CallerRole
from spanpost.model.acts import NO_TASK, ActFilter, ContentKind
from spanpost.store.protocols import Reader
from spanpost.tasks.act_json import act_json, read_json

router = APIRouter(tags=["audit"])
_UNTRUSTED = "Text from agents."


class ActKey(msgspec.Struct, frozen=True):
    """The act after which the next page begins."""

    number: int


class ActBody(BaseModel):
    """An act of a person or a program, granted or refused."""

    number: int = Field(description="Ascending in the order in which acts were recorded.")
    id: str
    at: str = Field(description="When it happened, by the clock of its source.")
    recorded_at: str
    verb: str
    result: str
    refusal: str | None = Field(description="Why it was refused.")
    task_uid: str | None
    task_id: str | None
    task_name: str | None = Field(description=f"The task's title. {_UNTRUSTED}")
    tenant: str | None
    decision: str | None
    comment: str | None
    actor: str | None
    actor_id: str | None = Field(description="Provider, team and id.")
    actor_email: str | None
    credential: str | None = Field(description="What proved the identity.")
    client: str | None = Field(description="`board`, `mcp` or `cli`, as the client says itself.")
    source: str | None
    os_user: str | None = Field(description="Operating system's user and host of the process that wrote the row.")
    database_role: str | None
    scope: str | None
    rule: str | None = Field(description="Standing approval that it granted, used or revoked.")
    launcher: str | None
    parameters: dict[str, str]
    order_id: str | None = Field(description="Launch order that it placed.")
    approval_id: str | None
    mark: str | None = Field(description="Hash of the question's words.")
    question: str | None = Field(description=f"The question as it stood then. {_UNTRUSTED}")
    detail: str | None = Field(description=_UNTRUSTED)
    options: list[str] = Field(description=_UNTRUSTED)
    risk: str | None = Field(description=_UNTRUSTED)


class ReadBody(BaseModel):
    """How often a person read one kind of content of a task in an hour."""

    hour: str
    content: str = Field(description="`recorded`, `question`, `message`, `acts`, `query` or `proof`.")
    actor: str
    actor_id: str
    reads: int
    first_at: str
    last_at: str
    task_uid: str | None
    task_id: str | None
    task_name: str | None = Field(description=f"The task's title. {_UNTRUSTED}")
    tenant: str | None
    credential: str | None
    client: str | None
    detail: str | None = Field(description="Of a query: the beginning of the last statement.")
    os_user: str | None
    database_role: str | None


class ReadListQuery(QueryBody):
    """Filters for reads of content."""

    task: Word | None = Field(default=None, description="Only of this task and its family, by any of its ids.")
    person: Word = Field(default="", description="Identity, email address or name of a person.")
    since: Time | None = None
    until: Time | None = None
    limit: Limit = 50


class ActListQuery(ReadListQuery):
    """Filters for acts, and the page."""

    source: Word = Field(default="", description="slack, api, oidc, local, cli, hook, rule, spanpost.")
    verb: Word = Field(default="", description="approve, cancel and so on.")
    oldest_first: bool = False
    cursor: Cursor | None = None


@router.get("/api/acts", response_model=schemas.Items[ActBody], responses=INVALID | NOT_FOUND)
async def acts(caller: Who, reader: TheReader, parts: TheParts, asked: Annotated[ActListQuery, Query()]) -> ApiJson:
    """List acts: who did what, by which credential, what was shown, and the result. Needs the role `auditor`."""
    after = read(asked.cursor, ActKey)
    more = {"source": asked.source, "verb": asked.verb, "is_oldest_first": asked.oldest_first}
    found = await _filter(caller, reader, asked, **more)
    await note_reads(parts, caller, ContentKind.ACTS, [found.task_uid or NO_TASK])
    page = await parts.acts.listed(found, after.number if after is not None else None, asked.limit)
    following = ActKey(page.next) if page.next is not None else None
    return page_json(msgspec.structs.replace(page, next=following), map(act_json, page.items))


@router.get("/api/content-reads", response_model=schemas.Items[ReadBody], responses=INVALID | NOT_FOUND)
async def content_reads(
    caller: Who, reader: TheReader, parts: TheParts, asked: Annotated[ReadListQuery, Query()]
) -> ApiJson:
    """List who read content, where `interactions.log_reads` is set: newest hour first. Needs the role `auditor`."""
    found = await parts.acts.reads(await _filter(caller, reader, asked), asked.limit)
    return ApiJson({"items": list(map(read_json, found)), "next": None})


async def _filter(caller: Caller, reader: Reader, asked: ReadListQuery, **more: Any) -> ActFilter:
    caller.need(CallerRole.AUDITOR)
    uid = await uid_of(reader, caller, asked.task, "task")
    return ActFilter(
        tenant=caller.tenant, task_uid=uid, person=asked.person, since=asked.since, until=asked.until, **more
    )
