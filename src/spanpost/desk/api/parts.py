"""What the routes of the API go by, and who asks them."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from spanpost.desk.api.callers import Caller, Role, Tokens
from spanpost.desk.api.errors import Refused
from spanpost.desk.api.hall import Hall

_bearer = HTTPBearer(auto_error=False, description="A token of `[[desk.tokens]]`.")


class Parts:
    """What the routes go by. What is set anew holds from the next request on."""

    def __init__(self, hall: Hall, *, tokens: Tokens, local_tenant: str | None, hosts: tuple[str, ...] = ()) -> None:
        self.hall = hall
        self.tokens = tokens
        #: Whose tasks this machine may see without a token; None: nobody's.
        self.local_tenant = local_tenant
        self.hosts = hosts

    def caller(self, request: Request) -> Caller:
        """Return who asks. Raises `Refused`."""
        said = request.headers.get("authorization")
        if said is not None:
            scheme, _, token = said.partition(" ")
            found = self.tokens.find(token.strip()) if scheme.lower() == "bearer" else None
            if found is None:
                raise Refused(401, "unauthenticated", "the token is not known here", headers={"www-authenticate": "Bearer"})
            return found
        if self.local_tenant is not None and _is_local(request):
            return Caller(
                provider="local", id="local", name="this machine", tenant=self.local_tenant, roles=frozenset({Role.VIEWER})
            )
        message = "a token is needed: Authorization: Bearer ..."
        raise Refused(401, "unauthenticated", message, headers={"www-authenticate": "Bearer"})


def parts_of(request: Request) -> Parts:
    """Return what the application of a request goes by."""
    parts: Parts = request.app.state.parts
    return parts


async def _caller(request: Request, _: Annotated[Any, Depends(_bearer)]) -> Caller:
    return parts_of(request).caller(request)


async def _hall(request: Request) -> Hall:
    return parts_of(request).hall


#: Of routes: who asks, and the ledger.
Who = Annotated[Caller, Depends(_caller)]
TheHall = Annotated[Hall, Depends(_hall)]


def _is_local(request: Request) -> bool:
    """Tell whether a request was made at this machine and to it by name: no proxy's, and no page's of elsewhere."""
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")):
        return False
    return _is_loopback(request.client.host if request.client else "") and _is_loopback(host_of(request.headers.get("host", "")))


def host_of(said: str) -> str:
    """Return the host of a Host header, without its port."""
    if said.startswith("["):
        return said[1:].partition("]")[0]
    return said.rpartition(":")[0] if ":" in said else said


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
