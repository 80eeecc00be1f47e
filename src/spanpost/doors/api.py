"""The HTTP API: what of the ledger and of the settings it goes by."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from spanpost.doors import Door, House
from spanpost.ledger.base import TaskQuery
from spanpost.settings.gateway import is_loopback

if TYPE_CHECKING:
    from spanpost.desk.api.callers import Tokens
    from spanpost.domain.browsing import Page, TaskFilter, TaskKey
    from spanpost.domain.tasks import Task
    from spanpost.pipeline import Pipeline
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.desk")


def doors(house: House) -> list[Door]:
    """Open ``/api/``, where its packages are installed."""
    if not house.settings.api.enabled:
        return []
    try:
        from spanpost.desk.api.app import PREFIX, application
        from spanpost.desk.api.parts import Parts
    except ImportError as error:
        log.info("there is no /api: %s is missing; install it with: pip install 'spanpost[api]'", error.name)
        return []
    parts = Parts(
        PipelineHall(house.pipeline),
        tokens=tokens_of(house.settings),
        local_tenant=local_tenant_of(house.settings),
        hosts=house.settings.api.hosts,
    )

    def reload(settings: Settings) -> None:
        parts.tokens, parts.local_tenant, parts.hosts = tokens_of(settings), local_tenant_of(settings), settings.api.hosts

    return [Door(prefix=PREFIX, application=application(parts), reload=reload)]


def tokens_of(settings: Settings) -> Tokens:
    """Return the tokens of the API."""
    from spanpost.desk.api.callers import Token, Tokens

    return Tokens(
        Token(
            name=token.name,
            tenant=token.tenant if token.tenant is not None else settings.intake.tenant,
            roles=frozenset(token.roles),
            digests=tuple(bytes.fromhex(digest) for digest in token.sha256),
        )
        for token in (settings.desk.tokens if settings.desk is not None else ())
    )


def local_tenant_of(settings: Settings) -> str | None:
    """Return whose tasks this machine may see without a token: on loopback, where nobody is asked for any."""
    room = settings.gateway
    has_tokens = bool(settings.desk is not None and settings.desk.tokens) or bool(room is not None and room.tokens)
    return None if has_tokens or (room is not None and not is_loopback(room.host)) else settings.intake.tenant


class PipelineHall:
    """The ledger of a pipeline, as the API needs it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def tasks(self, asked: TaskFilter, after: TaskKey | None, limit: int) -> Page[Task]:
        from spanpost.domain.browsing import Page

        return Page(items=await self._pipeline.ledger.tasks(TaskQuery(tenant=asked.tenant, limit=limit)))

    async def task(self, tenant: str, ref: str) -> Task | None:
        return await self._pipeline.ledger.refer(tenant, ref)
