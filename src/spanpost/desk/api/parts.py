"""What the routes of the API go by, and who asks them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from spanpost.bearer import holder_of
from spanpost.desk.api.callers import Caller, Role, Tokens
from spanpost.desk.api.errors import Refused
from spanpost.desk.api.hall import Hall
from spanpost.desk.api.sessions import COOKIE, Sessions
from spanpost.desk.api.stream import Hub
from spanpost.desk.base import Resolver, Watches
from spanpost.desk.who import DECIDE, Rule, Rules
from spanpost.domain.interventions import Verb
from spanpost.fold.orders import Launches
from spanpost.http_guard import passed_of

_bearer = HTTPBearer(auto_error=False, description="A token of `[[desk.tokens]]`.")
_BEARER: Final = {"www-authenticate": "Bearer"}
_SAFE: Final = ("GET", "HEAD", "OPTIONS")

#: Where no rule decides: what roles may.
BY_ROLE: Final = (
    Rule(actions=frozenset({DECIDE}), roles=(str(Role.APPROVER),)),
    Rule(actions=frozenset(str(verb) for verb in Verb if not verb.is_decision), roles=(str(Role.OPERATOR),)),
)


class Parts:
    """What the routes go by. What is set anew holds from the next request on."""

    def __init__(self, hall: Hall, hub: Hub, *, resolvers: Mapping[str, Resolver], watch: Watches | None = None) -> None:
        self.hall = hall
        self.hub = hub
        self.resolvers = resolvers
        self.watch = watch
        self.tokens = Tokens()
        #: Where people log in; None where nobody can.
        self.oidc: Any = None
        self.rules = Rules(rules=BY_ROLE)
        #: The caller with this machine's token, and its hash; None: there is none here.
        self.local: tuple[Caller, bytes] | None = None
        #: Seconds without an event after which a stream is sent something.
        self.heartbeat = 25.0
        #: Which launchers there are, and which of them starts a task again.
        self.launches = Launches()

    async def caller(self, request: Request) -> Caller:
        """Return who asks. Raises `Refused`, and `LedgerUnavailable` where it cannot be said whether a session was ended."""
        said = request.headers.get("authorization")
        if said is not None:
            # No browser sends it by itself: no page of elsewhere speaks for its bearer.
            scheme, _, token = said.partition(" ")
            found = self._holder(token.strip(), request) if scheme.lower() == "bearer" else None
            if found is None:
                raise Refused(401, "unauthenticated", f"the token is not known here{self._here}", headers=_BEARER)
            return found
        person = await self._session(request)
        if person is None:
            way = "; or log in at /api/login" if self.oidc is not None else self._here
            raise Refused(401, "unauthenticated", f"a token is needed: Authorization: Bearer ...{way}", headers=_BEARER)
        self.refuse_foreign(request)
        return person

    def _holder(self, token: str, request: Request) -> Caller | None:
        """Return whose a token is. This machine's token is valid on this machine, and never through a proxy."""
        found = self.tokens.find(token)
        if found is None and self.local is not None and passed_of(request.scope).is_this_machine:
            found = holder_of(token, (self.local,))
        return found

    @property
    def _here(self) -> str:
        """Where the token of this machine is found, for a refusal."""
        return "; on this machine `spanpost token local` prints one, and the address of the board with it" if self.local else ""

    async def _session(self, request: Request) -> Caller | None:
        if self.oidc is None:
            return None
        sessions: Sessions = self.oidc.sessions
        return await sessions.find(request.cookies.get(COOKIE))

    async def is_known(self, caller: Caller) -> bool:
        """Tell whether a caller who was let in still is: their session is not over. Raises `LedgerUnavailable`."""
        if caller.until is not None and caller.until <= time.time():
            return False
        return not caller.session or (self.oidc is not None and not await self.oidc.sessions.is_ended(caller.session))

    def refuse_foreign(self, request: Request) -> None:
        """Raise `Refused` for a change that names no page: a cookie proves the browser, `Origin` the page.

        The guard (`spanpost.http_guard`) has refused any other `Origin` than ours.
        """
        if request.method not in _SAFE and "origin" not in request.headers:
            raise Refused(403, "foreign_origin", "a request that changes something must come from our own pages, or bring a token")


def parts_of(request: Request) -> Parts:
    """Return what the application of a request goes by."""
    parts: Parts = request.app.state.parts
    return parts


async def _caller(request: Request, _: Annotated[Any, Depends(_bearer)]) -> Caller:
    return await parts_of(request).caller(request)


async def _hall(request: Request) -> Hall:
    return parts_of(request).hall


async def _parts(request: Request) -> Parts:
    return parts_of(request)


#: Of routes: who asks, the ledger, and all else.
Who = Annotated[Caller, Depends(_caller)]
TheHall = Annotated[Hall, Depends(_hall)]
TheParts = Annotated[Parts, Depends(_parts)]
