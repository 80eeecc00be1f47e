"""Shared state of the API's routes, and the identification of callers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from spanpost.http.authentication import caller_of
from spanpost.http.bearer import holder_of
from spanpost.http.errors import HttpError
from spanpost.http.stored_tokens import StoredTokens, TokenRefused
from spanpost.interactions.alerts import AlertActs
from spanpost.interactions.api.callers import Caller, CallerTokens
from spanpost.interactions.api.refused_logins import RefusedLogins
from spanpost.interactions.api.sessions import COOKIE, Sessions
from spanpost.interactions.api.stream import Hub
from spanpost.interactions.authorization import RAISE, AuthorizationRules, CallerRole, Rule
from spanpost.interactions.protocols import InteractionMetrics, Resolver
from spanpost.interactions.read_log import ReadLog
from spanpost.model.access_tokens import ACT
from spanpost.model.acts import CLIENT_HEADER, CLIENTS
from spanpost.model.interventions import Verb
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.routing.launch_orders import Launches
from spanpost.store.protocols import Acts, Budgets, Interventions, Outbox, Reader

_bearer = HTTPBearer(auto_error=False, description="A token of `[[interactions.tokens]]` or `spanpost token new`.")

#: Rules by role and by a token's single actions, used where no configured rule decides.
BY_ROLE: Final = (
    Rule(actions=frozenset({RAISE}), roles=(str(CallerRole.APPROVER),)),
    *(
        Rule(
            actions=frozenset({str(verb)}),
            roles=(str(CallerRole.APPROVER if verb.is_decision else CallerRole.OPERATOR), f"{ACT}{verb}"),
        )
        for verb in Verb
        if verb is not Verb.REVOKE
    ),
)


class ApiParts:
    """Shared state of the routes. New values hold from the next request on.

    `take` receives the records of an intervention.
    """

    def __init__(
        self,
        reader: Reader,
        interventions: Interventions,
        budgets: Budgets,
        acts: Acts,
        hub: Hub,
        *,
        take: Callable[[Recorded], None],
        resolvers: Mapping[str, Resolver],
        watch: InteractionMetrics | None = None,
    ) -> None:
        self.reader = reader
        self.interventions = interventions
        self.budgets = budgets
        self.acts = acts
        self.take = take
        self.hub = hub
        self.resolvers = resolvers
        self.watch = watch
        #: Who reads content.
        self.read_log = ReadLog(acts, is_on=False)
        self.refused_logins = RefusedLogins(acts)
        self.tokens = CallerTokens()
        #: The tokens of the database.
        self.stored = StoredTokens()
        #: The alerts, and where they are silenced.
        self.alerts: AlertActs | None = None
        #: The login; None if nobody can log in.
        self.oidc: Any = None
        self.rules = AuthorizationRules(rules=BY_ROLE)
        #: The caller of this machine's token, and the token's hash; None without such a token.
        self.local: tuple[Caller, bytes] | None = None
        #: Seconds without an event after which a stream sends a heartbeat.
        self.heartbeat = 25.0
        #: What waits to be sent; None in a process without an outbox.
        self.outbox: Outbox | None = None
        #: Returns the state of the gateway's components (`spanpost.runtime.component_health`).
        self.components: Callable[[], Awaitable[Sequence[msgspec.Struct]]] | None = None
        #: Returns the address of a task's trace; None where it is not known.
        self.trace_link: Callable[[Task], str | None] = lambda task: None
        #: The known launchers, and which of them retries a task.
        self.launches = Launches()

    @property
    def way_in(self) -> str:
        """How a caller without a token gets in: by a login, or with this machine's token."""
        if self.oidc is not None:
            return "; or log in at /api/login"
        return (
            "; on this machine `spanpost token local` prints one, and the address of the board with it"
            if self.local
            else ""
        )

    async def of_token(self, token: str, *, is_this_machine: bool) -> Caller | None:
        """Return the caller of a token.

        This machine's token is valid only here, and never through a proxy.
        """
        found = self.tokens.find(token)
        if found is None and self.local is not None and is_this_machine:
            found = holder_of(token, (self.local,))
        return found or self._stored(token)

    def _stored(self, token: str) -> Caller | None:
        """Return the caller of a token of the database. Raises `HttpError`."""
        try:
            found = self.stored.find(token)
        except TokenRefused as refused:
            raise HttpError(refused.status, refused.reason, str(refused), retry_after=refused.retry_after) from None
        if found is None:
            return None
        if not found.roles or found.tenant is None:
            has = ", ".join(sorted(found.scopes))
            raise HttpError(403, "scope", f"this needs a token with a role at the API; this one has {has}")
        until = found.expires_at.timestamp() if found.expires_at is not None else None
        return Caller(
            provider="api",
            id=found.name,
            name=found.name,
            tenant=found.tenant,
            roles=found.roles,
            until=until,
            token=found.id,
        )

    async def of_session(self, request: Request) -> Caller | None:
        """Return the caller of a request's session.

        Raises `StoreUnavailable` if its end cannot be checked.
        """
        if self.oidc is None:
            return None
        sessions: Sessions = self.oidc.sessions
        return await sessions.find(request.cookies.get(COOKIE))

    async def is_known(self, caller: Caller) -> bool:
        """Tell whether an admitted caller's session or token is still valid. Raises `StoreUnavailable`."""
        if caller.until is not None and caller.until <= time.time():
            return False
        if caller.token is not None:
            return self.stored.is_valid(caller.token)
        return not caller.session or (self.oidc is not None and not await self.oidc.sessions.is_ended(caller.session))


def parts_of(request: Request) -> ApiParts:
    """Return the shared state of the application that a request is for."""
    parts: ApiParts = request.app.state.parts
    return parts


async def _caller(request: Request, _: Annotated[Any, Depends(_bearer)]) -> Caller:
    caller = await caller_of(request, parts_of(request))
    client = "board" if caller.session else request.headers.get(CLIENT_HEADER, "")
    return msgspec.structs.replace(caller, client=client if client in CLIENTS else "")


async def _reader(request: Request) -> Reader:
    return parts_of(request).reader


async def _parts(request: Request) -> ApiParts:
    return parts_of(request)


#: Parameters of routes: the caller, the store's reader, the shared state.
Who = Annotated[Caller, Depends(_caller)]
TheReader = Annotated[Reader, Depends(_reader)]
TheParts = Annotated[ApiParts, Depends(_parts)]
