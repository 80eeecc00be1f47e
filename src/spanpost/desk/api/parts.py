"""What the routes of the API go by, and who asks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from spanpost.desk.api.callers import Caller, Role, Tokens
from spanpost.desk.api.errors import Refused
from spanpost.desk.api.hall import Hall
from spanpost.desk.api.sessions import COOKIE, Sessions
from spanpost.desk.api.stream import Hub
from spanpost.desk.base import Resolver, Watches
from spanpost.desk.who import DECIDE, Rule, Rules
from spanpost.domain.interventions import Verb
from spanpost.fold.orders import Launches
from spanpost.urls import is_loopback

_bearer = HTTPBearer(auto_error=False, description="A token of `[[desk.tokens]]`.")
_BEARER: Final = {"www-authenticate": "Bearer"}
#: What a proxy says that it stands between.
_PROXIED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
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
        #: Whose tasks this machine may see without a token; None: nobody's.
        self.local_tenant: str | None = None
        #: And what this machine may then.
        self.local_roles: frozenset[str] = frozenset({str(Role.VIEWER)})
        #: Under which names browsers reach us, beside loopback.
        self.hosts: tuple[str, ...] = ()
        #: Seconds without an event after which a stream is sent something.
        self.heartbeat = 25.0
        #: Which launchers there are, and which of them starts a task again.
        self.launches = Launches()

    def caller(self, request: Request) -> Caller:
        """Return who asks. Raises `Refused`."""
        said = request.headers.get("authorization")
        if said is not None:
            # No browser sends it by itself: no page of elsewhere speaks for its bearer.
            scheme, _, token = said.partition(" ")
            found = self.tokens.find(token.strip()) if scheme.lower() == "bearer" else None
            if found is None:
                raise Refused(401, "unauthenticated", "the token is not known here", headers=_BEARER)
            return found
        person = self._session(request)
        if person is None and self.local_tenant is not None and _is_here(request):
            person = Caller(provider="local", id="local", name="this machine", tenant=self.local_tenant, roles=self.local_roles)
        if person is None:
            way = "; or log in at /api/login" if self.oidc is not None else ""
            raise Refused(401, "unauthenticated", f"a token is needed: Authorization: Bearer ...{way}", headers=_BEARER)
        # Browsers say by themselves who that is: a page of elsewhere must not speak for them.
        self.refuse_foreign(request)
        return person

    def _session(self, request: Request) -> Caller | None:
        if self.oidc is None:
            return None
        sessions: Sessions = self.oidc.sessions
        return sessions.find(request.cookies.get(COOKIE))

    def refuse_foreign(self, request: Request) -> None:
        """Raise `Refused` for what a page of elsewhere may have a browser send: to a name that is not ours, or from another origin."""
        host = request.headers.get("host", "").lower()
        if not (is_loopback(host_of(host)) or host in self.hosts or host_of(host) in self.hosts):
            raise Refused(403, "unknown_host", "this host is not known here: name it in api.hosts, or send a token")
        if request.method in _SAFE:
            return
        origin = request.headers.get("origin")
        if origin is None or urlsplit(origin).netloc.lower() != host:
            raise Refused(403, "foreign_origin", "a request that changes something must come from our own pages, or bring a token")


def parts_of(request: Request) -> Parts:
    """Return what the application of a request goes by."""
    parts: Parts = request.app.state.parts
    return parts


async def _caller(request: Request, _: Annotated[Any, Depends(_bearer)]) -> Caller:
    return parts_of(request).caller(request)


async def _hall(request: Request) -> Hall:
    return parts_of(request).hall


async def _parts(request: Request) -> Parts:
    return parts_of(request)


#: Of routes: who asks, the ledger, and all else.
Who = Annotated[Caller, Depends(_caller)]
TheHall = Annotated[Hall, Depends(_hall)]
TheParts = Annotated[Parts, Depends(_parts)]


def _is_here(request: Request) -> bool:
    """Tell whether a request was made at this machine, and not by a proxy for somebody else."""
    return is_loopback(request.client.host if request.client else "") and not any(name in request.headers for name in _PROXIED)


def host_of(said: str) -> str:
    """Return the host of a Host header, without its port."""
    if said.startswith("["):
        return said[1:].partition("]")[0]
    return said.rpartition(":")[0] if ":" in said else said
