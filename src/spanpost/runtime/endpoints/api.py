"""The HTTP API: its settings, and its access to the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING
from uuid import UUID

from spanpost.http.bearer import digest_of
from spanpost.http.hosts import is_loopback
from spanpost.http.routing import HttpRoute
from spanpost.interactions.protocols import PersonMessage
from spanpost.model.budgets import Limits, Spent
from spanpost.model.interventions import ApprovalRow
from spanpost.model.queries import Page, Position, Stats, StreamedCheckpoint, TimelineEntry, TimelineKey
from spanpost.model.sessions import KeepsSessions
from spanpost.model.tasks import Task
from spanpost.runtime import local_token
from spanpost.runtime.decisions import questions_named
from spanpost.runtime.endpoints import Endpoint, EndpointContext
from spanpost.runtime.interactions import StoreInteractions, resolvers_of
from spanpost.runtime.task_view import TaskViews
from spanpost.settings.interactions import InteractionsSettings
from spanpost.store.protocols import ApprovalQuery

if TYPE_CHECKING:
    from spanpost.interactions.api.callers import Caller
    from spanpost.interactions.api.oidc import Oidc
    from spanpost.interactions.api.parts import ApiParts
    from spanpost.runtime.pipeline import Pipeline
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.interactions")

#: Questions that are returned with a task.
_QUESTIONS = 200
#: Provider limits that are returned: rows by account, model and day.
_LIMITS = 200


def prepare(settings: Settings) -> None:
    """Import the packages, if they are installed."""
    if settings.api.enabled:
        with suppress(ImportError):  # `endpoints` logs which is missing
            import_module("spanpost.interactions.api.app")


def endpoints(context: EndpointContext) -> list[Endpoint]:
    """Return ``/api/``, if its packages are installed. Raises `ConfigError`."""
    settings, pipeline = context.settings, context.pipeline
    if not settings.api.enabled:
        return []
    try:
        from spanpost.interactions.api.app import PREFIX, application
        from spanpost.interactions.api.parts import ApiParts
        from spanpost.interactions.api.stream import Hub
    except ImportError as error:
        log.info("there is no /api: %s is missing; install it with: pip install 'spanpost[api]'", error.name)
        return []
    interaction_store = ApiStore(pipeline)
    hub = Hub(interaction_store, most=settings.api.max_streams)
    parts = ApiParts(
        interaction_store,
        hub,
        resolvers=resolvers_of(settings.interactions or InteractionsSettings()),
        watch=pipeline.metrics,
    )
    go_by(parts, settings, pipeline.store.sessions)
    drawing = TaskViews(pipeline, settings)

    def reload(settings: Settings) -> None:
        go_by(parts, settings, pipeline.store.sessions)
        drawing.settings = settings
        hub.renew()

    pipeline.recorded.subscribe(lambda recorded: hub.add(recorded.tasks))
    return [Endpoint(routes=[HttpRoute(PREFIX, application(parts, drawing))], reload=reload, end=hub.end)]


def go_by(parts: ApiParts, settings: Settings, sessions: KeepsSessions) -> None:
    """Apply settings to the API."""
    from spanpost.interactions.api.callers import CallerToken, CallerTokens
    from spanpost.interactions.api.parts import BY_ROLE

    interactions = settings.interactions or InteractionsSettings()
    parts.tokens = CallerTokens(
        CallerToken(
            name=token.name,
            tenant=token.tenant if token.tenant is not None else settings.intake.tenant,
            roles=frozenset(token.roles),
            digests=tuple(bytes.fromhex(digest) for digest in token.sha256),
        )
        for token in interactions.tokens
    )
    parts.rules = interactions.with_rules((*interactions.rules, *BY_ROLE))
    parts.launches = settings.launchers
    parts.heartbeat = settings.api.heartbeat.total_seconds()
    parts.oidc = oidc_of(settings, sessions)
    token = token_here(settings)
    parts.local = (_this_machine(settings), digest_of(token)) if token else None


def token_here(settings: Settings) -> str:
    """Return this machine's token; empty if the API requires other tokens, a login or a certificate."""
    interactions, gateway = settings.interactions, settings.gateway
    is_asked = (
        (interactions is not None and bool(interactions.tokens))
        or settings.oidc is not None
        or (
            gateway is not None
            and (bool(gateway.tokens) or gateway.client_ca is not None or not is_loopback(gateway.host))
        )
    )
    return "" if is_asked or not settings.api.local else local_token.kept(settings.database.data_dir)


def _this_machine(settings: Settings) -> Caller:
    from spanpost.interactions.api.callers import Caller

    roles = frozenset({"viewer", *settings.api.local_roles})
    return Caller(provider="local", id="local", name="this machine", tenant=settings.intake.tenant, roles=roles)


def oidc_of(settings: Settings, sessions: KeepsSessions) -> Oidc | None:
    """Return the login; None if it is not configured."""
    from spanpost.interactions.api.oidc import Oidc, OidcTerms
    from spanpost.interactions.api.sessions import Sessions

    section = settings.oidc
    if section is None:
        return None
    terms = OidcTerms(
        issuer=section.issuer,
        client_id=section.client_id,
        client_secret=section.client_secret.get_secret_value() if section.client_secret is not None else "",
        public_url=section.public_url,
        scopes=section.scopes,
        tenant=section.tenant if section.tenant is not None else settings.intake.tenant,
        tenant_claim=section.tenant_claim,
        roles_claim=section.roles_claim,
        roles=section.roles,
        default_roles=section.default_roles,
    )
    secret = section.session_secret.get_secret_value().encode() if section.session_secret is not None else b""
    return Oidc(terms, Sessions(sessions, section.session.total_seconds(), secret))


class ApiStore(StoreInteractions):
    """The store of a pipeline, as the API needs it."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline.store, pipeline.take)

    async def _shown(self, message: PersonMessage) -> Task | None:
        return None  # acts over HTTP have no message

    async def timeline(
        self, task_uid: UUID, after: TimelineKey | None, limit: int, *, content: bool
    ) -> Page[TimelineEntry]:
        return await self._browse.timeline(task_uid, after, limit, content=content)

    async def stats(self, tenant: str, since: datetime, until: datetime) -> Stats:
        return await self._browse.stats(tenant, since, until)

    async def spending(self, tenant: str) -> list[Spent]:
        return await self._store.spending(tenant)

    async def limits(self, tenant: str) -> list[Limits]:
        return await self._store.limits(tenant, _LIMITS)

    async def questions_named(self, tenant: str, ref: str) -> Sequence[ApprovalRow]:
        return await questions_named(self._store, tenant, ref)

    async def rows_of(self, task_uid: UUID) -> Sequence[ApprovalRow]:
        return await self._store.approvals(ApprovalQuery(task_uid=task_uid, limit=_QUESTIONS))

    async def head(self) -> Position:
        return await self._browse.head()

    async def news(self, after: Position, limit: int, tenant: str | None = None) -> list[StreamedCheckpoint]:
        return await self._browse.news(after, limit, tenant)

    async def changed(self, since: datetime, limit: int) -> list[tuple[UUID, datetime]]:
        return await self._browse.changed(since, limit)

    async def now(self) -> datetime:
        return await self._browse.now()

    async def those(self, uids: Iterable[UUID]) -> list[Task]:
        return await self._browse.those(uids)
