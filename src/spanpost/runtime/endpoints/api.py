"""The HTTP API, made from the settings."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Final

from spanpost.http.bearer import digest_of
from spanpost.http.hosts import is_loopback
from spanpost.http.routing import HttpRoute
from spanpost.interactions.read_log import ReadLog
from spanpost.model.tasks import Task
from spanpost.runtime import local_token
from spanpost.runtime.endpoints import Endpoint, EndpointContext
from spanpost.runtime.interactions import alert_acts_of, resolvers_of, slack_of
from spanpost.runtime.task_view import TaskMessages
from spanpost.settings.interactions import InteractionsSettings
from spanpost.store.directory import LoginSessions

if TYPE_CHECKING:
    from spanpost.interactions.api.callers import Caller, CallerTokens
    from spanpost.interactions.api.oidc import Oidc
    from spanpost.interactions.api.parts import ApiParts
    from spanpost.settings import Settings

log = logging.getLogger("spanpost.interactions")

#: Settings of a login that decide what a person may do.
_GIVES_ROLES: Final = {"issuer", "client_id", "tenant", "tenant_claim", "roles_claim", "roles", "default_roles"}


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
    store = pipeline.store
    hub = Hub(store.reader, most=settings.api.max_streams, most_of_tenant=settings.api.max_tenant_streams)
    parts = ApiParts(
        store.reader,
        store.interventions,
        store.budgets,
        store.acts,
        hub,
        take=pipeline.components.take,
        resolvers=resolvers_of(settings.interactions or InteractionsSettings()),
        watch=pipeline.metrics,
    )
    parts.outbox = store.outbox
    parts.components = context.components
    parts.stored = context.sender_tokens.stored
    go_by(parts, settings, store.sessions)
    parts.alerts = alert_acts_of(settings, store, pipeline.components.take, pipeline.metrics)
    drawing = TaskMessages(store.reader, settings)

    def reload(settings: Settings) -> None:
        parts.alerts = alert_acts_of(settings, store, pipeline.components.take, pipeline.metrics)
        go_by(parts, settings, store.sessions)
        drawing.settings = settings
        hub.renew()

    pipeline.components.recorded.subscribe(lambda recorded: hub.add(recorded.tasks))
    routes = [HttpRoute(PREFIX, application(parts, drawing.draw))]
    return [Endpoint(routes=routes, reload=reload, end=hub.end, check=hub.check)]


def go_by(parts: ApiParts, settings: Settings, sessions: LoginSessions) -> None:
    """Apply settings to the API."""
    from spanpost.interactions.api.parts import BY_ROLE

    interactions = settings.interactions or InteractionsSettings()
    parts.tokens = caller_tokens(settings)
    parts.rules = interactions.with_rules((*interactions.rules, *BY_ROLE))
    parts.launches = settings.launchers
    parts.read_log = ReadLog(parts.acts, is_on=interactions.log_reads)
    parts.trace_link = trace_link(settings)
    parts.heartbeat = settings.api.heartbeat.total_seconds()
    parts.oidc = oidc_of(settings, sessions)
    token = token_here(settings)
    parts.local = (_this_machine(settings), digest_of(token)) if token else None


def trace_link(settings: Settings) -> Callable[[Task], str | None]:
    """Return a function that fills in the address of a task's trace."""
    from spanpost.sinks.slack.links import Template

    slack = slack_of(settings)
    given = (one for one in (slack.links if slack is not None else {}).values() if "{trace_id}" in one)
    address = settings.api.trace_url or next(given, "")
    return Template("trace", address).filled if address else lambda task: None


def caller_tokens(settings: Settings) -> CallerTokens:
    """Return the API tokens of the settings."""
    from spanpost.interactions.api.callers import CallerToken, CallerTokens

    interactions = settings.interactions or InteractionsSettings()
    return CallerTokens(
        CallerToken(
            name=token.name,
            tenant=token.tenant if token.tenant is not None else settings.intake.tenant,
            roles=frozenset(token.roles),
            digests=tuple(bytes.fromhex(digest) for digest in token.sha256),
        )
        for token in interactions.tokens
    )


def token_here(settings: Settings) -> str:
    """Return this machine's token; empty if the API requires other tokens, a login or a certificate."""
    interactions, gateway = settings.interactions, settings.gateway
    is_asked = (
        (interactions is not None and bool(interactions.tokens))
        or settings.oidc is not None
        or (
            gateway is not None
            and (gateway.asks_token or gateway.client_ca is not None or not is_loopback(gateway.host))
        )
    )
    return "" if is_asked or not settings.api.local else local_token.kept(settings.database.data_dir)


def _this_machine(settings: Settings) -> Caller:
    from spanpost.interactions.api.callers import Caller

    roles = frozenset({"viewer", *settings.api.local_roles})
    return Caller(provider="local", id="local", name="this machine", tenant=settings.intake.tenant, roles=roles)


def oidc_of(settings: Settings, sessions: LoginSessions) -> Oidc | None:
    """Return the login; None if it is not configured."""
    from spanpost.interactions.api.oidc import Oidc
    from spanpost.interactions.api.sessions import Sessions

    section = settings.oidc
    if section is None:
        return None
    secret = section.session_secret.get_secret_value().encode() if section.session_secret is not None else b""
    # A session holds the roles of its login: it ends when a login would give others.
    given = section.model_dump(mode="json", include=_GIVES_ROLES) | {"else": settings.intake.tenant}
    bound = hmac.digest(secret, json.dumps(given, sort_keys=True).encode(), sha256)
    return Oidc(
        section,
        Sessions(sessions, section.session.total_seconds(), bound),
        tenant=settings.intake.tenant,
        client_secret=section.client_secret.get_secret_value() if section.client_secret is not None else "",
    )
