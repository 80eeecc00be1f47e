"""The HTTP API: what of the ledger and of the settings it goes by."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from spanpost import local_token
from spanpost.assembly import launches_of
from spanpost.bearer import digest_of
from spanpost.deciding import questions_named
from spanpost.desk.base import Message
from spanpost.domain.browsing import (
    Happening,
    News,
    Page,
    Position,
    Stats,
    TimelineKey,
)
from spanpost.domain.interventions import ApprovalRow
from spanpost.domain.sessions import KeepsSessions
from spanpost.domain.spend import Limits, Spent
from spanpost.domain.tasks import Task
from spanpost.doors import Door, House
from spanpost.drawing import Drawing
from spanpost.hosts import is_loopback
from spanpost.http.routing import HttpRoute
from spanpost.ledger.base import ApprovalQuery
from spanpost.reception import LedgerHall, resolvers_of, rules_of
from spanpost.settings.desk import DeskSettings

if TYPE_CHECKING:
    from spanpost.desk.api.callers import Caller
    from spanpost.desk.api.oidc import Oidc
    from spanpost.desk.api.parts import Parts
    from spanpost.pipeline import Pipeline
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.desk")

#: Questions of one task that are told with it.
_QUESTIONS = 200
#: Accounts, models and days of which is told how often providers held calls back.
_LIMITS = 200


def prepare(settings: Settings) -> None:
    """Import the packages, where they are installed."""
    if settings.api.enabled:
        with suppress(ImportError):  # `doors` says which is missing
            import_module("spanpost.desk.api.app")


def doors(house: House) -> list[Door]:
    """Open ``/api/``, where its packages are installed. Raises `ConfigError`."""
    settings, pipeline = house.settings, house.pipeline
    if not settings.api.enabled:
        return []
    try:
        from spanpost.desk.api.app import PREFIX, application
        from spanpost.desk.api.parts import Parts
        from spanpost.desk.api.stream import Hub
    except ImportError as error:
        log.info("there is no /api: %s is missing; install it with: pip install 'spanpost[api]'", error.name)
        return []
    hall = ApiHall(pipeline)
    hub = Hub(hall, most=settings.api.max_streams)
    parts = Parts(hall, hub, resolvers=resolvers_of(settings.desk or DeskSettings()), watch=pipeline.metrics)
    go_by(parts, settings, pipeline.ledger.sessions)
    drawing = Drawing(pipeline, settings)

    def reload(settings: Settings) -> None:
        go_by(parts, settings, pipeline.ledger.sessions)
        drawing.settings = settings
        hub.renew()

    pipeline.recorded.subscribe(lambda recorded: hub.hear(recorded.tasks))
    return [Door(routes=[HttpRoute(PREFIX, application(parts, drawing))], reload=reload, end=hub.end)]


def go_by(parts: Parts, settings: Settings, sessions: KeepsSessions) -> None:
    """Have the API go by these settings."""
    from spanpost.desk.api.callers import Token, Tokens
    from spanpost.desk.api.parts import BY_ROLE

    desk = settings.desk or DeskSettings()
    parts.tokens = Tokens(
        Token(
            name=token.name,
            tenant=token.tenant if token.tenant is not None else settings.intake.tenant,
            roles=frozenset(token.roles),
            digests=tuple(bytes.fromhex(digest) for digest in token.sha256),
        )
        for token in desk.tokens
    )
    rules = rules_of(desk)
    parts.rules = msgspec.structs.replace(rules, rules=(*rules.rules, *BY_ROLE))
    parts.launches = launches_of(settings)
    parts.heartbeat = settings.api.heartbeat.total_seconds()
    parts.oidc = oidc_of(settings, sessions)
    token = token_here(settings)
    parts.local = (_this_machine(settings), digest_of(token)) if token else None


def token_here(settings: Settings) -> str:
    """Return this machine's token; empty if the API asks for other tokens, a login or a client certificate."""
    desk, gateway = settings.desk, settings.gateway
    is_asked = (
        (desk is not None and bool(desk.tokens))
        or settings.oidc is not None
        or (gateway is not None and (bool(gateway.tokens) or gateway.client_ca is not None or not is_loopback(gateway.host)))
    )
    return "" if is_asked or not settings.api.local else local_token.kept(settings.database.data_dir)


def _this_machine(settings: Settings) -> Caller:
    from spanpost.desk.api.callers import Caller

    roles = frozenset({"viewer", *settings.api.local_roles})
    return Caller(provider="local", id="local", name="this machine", tenant=settings.intake.tenant, roles=roles)


def oidc_of(settings: Settings, sessions: KeepsSessions) -> Oidc | None:
    """Return where people log in."""
    from spanpost.desk.api.oidc import Oidc, Terms
    from spanpost.desk.api.sessions import Sessions

    room = settings.oidc
    if room is None:
        return None
    terms = Terms(
        issuer=room.issuer,
        client_id=room.client_id,
        client_secret=room.client_secret.get_secret_value() if room.client_secret is not None else "",
        public_url=room.public_url,
        scopes=room.scopes,
        tenant=room.tenant if room.tenant is not None else settings.intake.tenant,
        tenant_claim=room.tenant_claim,
        roles_claim=room.roles_claim,
        roles=room.roles,
        default_roles=room.default_roles,
    )
    secret = room.session_secret.get_secret_value().encode() if room.session_secret is not None else b""
    return Oidc(terms, Sessions(sessions, room.session.total_seconds(), secret))


class ApiHall(LedgerHall):
    """The ledger of a pipeline, as the API needs it."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline.ledger, pipeline.take)

    async def _shown(self, message: Message) -> Task | None:
        return None  # nothing is asked of the API in a message of ours

    async def timeline(self, task_uid: UUID, after: TimelineKey | None, limit: int, *, content: bool) -> Page[Happening]:
        return await self._browse.timeline(task_uid, after, limit, content=content)

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        return await self._browse.stats(tenant, since, until)

    async def spending(self, tenant: str) -> list[Spent]:
        return await self._ledger.spending(tenant)

    async def limits(self, tenant: str) -> list[Limits]:
        return await self._ledger.limits(tenant, _LIMITS)

    async def questions_named(self, tenant: str, ref: str) -> Sequence[ApprovalRow]:
        return await questions_named(self._ledger, tenant, ref)

    async def rows_of(self, task_uid: UUID) -> Sequence[ApprovalRow]:
        return await self._ledger.approvals(ApprovalQuery(task_uid=task_uid, limit=_QUESTIONS))

    async def head(self) -> Position:
        return await self._browse.head()

    async def news(self, after: Position, limit: int, tenant: str | None = None) -> list[News]:
        return await self._browse.news(after, limit, tenant)

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        return await self._browse.changed(since, limit)

    async def now(self) -> datetime:
        return await self._browse.now()

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        return await self._browse.those(uids)
