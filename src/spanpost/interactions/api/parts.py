"""What the routes of the API go by, and who asks them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from spanpost.http.authentication import caller_of
from spanpost.http.bearer import holder_of
from spanpost.interactions.api.callers import Caller, CallerRole, CallerTokens
from spanpost.interactions.api.sessions import COOKIE, Sessions
from spanpost.interactions.api.store import BrowsingStore
from spanpost.interactions.api.stream import Hub
from spanpost.interactions.authorization import DECIDE, AuthorizationRules, Rule
from spanpost.interactions.protocols import InteractionMetrics, Resolver
from spanpost.model.interventions import Verb
from spanpost.routing.launch_orders import Launches

_bearer = HTTPBearer(auto_error=False, description="A token of `[[interactions.tokens]]`.")

#: Where no rule decides: what roles may.
BY_ROLE: Final = (
    Rule(actions=frozenset({DECIDE}), roles=(str(CallerRole.APPROVER),)),
    Rule(actions=frozenset(str(verb) for verb in Verb if not verb.is_decision), roles=(str(CallerRole.OPERATOR),)),
)


class ApiParts:
    """What the routes go by. What is set anew holds from the next request on."""

    def __init__(self, interaction_store: BrowsingStore, hub: Hub, *, resolvers: Mapping[str, Resolver], watch: InteractionMetrics | None = None) -> None:
        self.interaction_store = interaction_store
        self.hub = hub
        self.resolvers = resolvers
        self.watch = watch
        self.tokens = CallerTokens()
        #: Where people log in; None where nobody can.
        self.oidc: Any = None
        self.rules = AuthorizationRules(rules=BY_ROLE)
        #: The caller with this machine's token, and its hash; None: there is none here.
        self.local: tuple[Caller, bytes] | None = None
        #: Seconds without an event after which a stream is sent something.
        self.heartbeat = 25.0
        #: Which launchers there are, and which of them starts a task again.
        self.launches = Launches()

    @property
    def way_in(self) -> str:
        """How a caller gets in who has no token: a login, or this machine's token."""
        if self.oidc is not None:
            return "; or log in at /api/login"
        return "; on this machine `spanpost token local` prints one, and the address of the board with it" if self.local else ""

    def of_token(self, token: str, *, is_this_machine: bool) -> Caller | None:
        """Return whose a token is. This machine's token is valid on this machine, and never through a proxy."""
        found = self.tokens.find(token)
        if found is None and self.local is not None and is_this_machine:
            found = holder_of(token, (self.local,))
        return found

    async def of_session(self, request: Request) -> Caller | None:
        """Return whose session a request brings. Raises `LedgerUnavailable` if it is not known whether it was ended."""
        if self.oidc is None:
            return None
        sessions: Sessions = self.oidc.sessions
        return await sessions.find(request.cookies.get(COOKIE))

    async def is_known(self, caller: Caller) -> bool:
        """Tell whether a caller who was let in still is: their session is not over. Raises `LedgerUnavailable`."""
        if caller.until is not None and caller.until <= time.time():
            return False
        return not caller.session or (self.oidc is not None and not await self.oidc.sessions.is_ended(caller.session))


def parts_of(request: Request) -> ApiParts:
    """Return what the application of a request goes by."""
    parts: ApiParts = request.app.state.parts
    return parts


async def _caller(request: Request, _: Annotated[Any, Depends(_bearer)]) -> Caller:
    return await caller_of(request, parts_of(request))


async def _interaction_store(request: Request) -> BrowsingStore:
    return parts_of(request).interaction_store


async def _parts(request: Request) -> ApiParts:
    return parts_of(request)


#: Of routes: who asks, the store, and all else.
Who = Annotated[Caller, Depends(_caller)]
TheInteractionStore = Annotated[BrowsingStore, Depends(_interaction_store)]
TheParts = Annotated[ApiParts, Depends(_parts)]
