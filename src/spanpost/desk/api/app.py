"""The HTTP API: ``/api``, an ASGI application."""

from __future__ import annotations

import ipaddress
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.security import HTTPBearer

from spanpost.desk.api import shapes
from spanpost.desk.api.callers import Caller, Role, Tokens
from spanpost.desk.api.errors import Guarded, Refused, handle_errors
from spanpost.desk.api.hall import Hall
from spanpost.desk.api.telling import task_summary
from spanpost.domain.browsing import TaskFilter

PREFIX = "/api/"
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": shapes.Error, "description": text}
    for status, text in {401: "Who asks is not known.", 503: "Not just now; come back after `Retry-After`."}.items()
}


class Api:
    """The application, and what it goes by."""

    def __init__(self, hall: Hall, *, tokens: Tokens, local_tenant: str | None, hosts: tuple[str, ...] = ()) -> None:
        self.hall = hall
        self.tokens = tokens
        #: Whose tasks this machine may see without a token; None: nobody's.
        self.local_tenant = local_tenant
        self.hosts = hosts
        self.app = self._make()
        self.asgi = Guarded(self.app)

    def _make(self) -> FastAPI:
        app = FastAPI(
            title="spanpost",
            version=version("spanpost"),
            description="Tasks of agents, live: what runs, what waits, what failed.",
            openapi_url="/api/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            responses=_ERRORS,
        )
        handle_errors(app)
        bearer = HTTPBearer(auto_error=False, description="A token of `[[desk.tokens]]`.")
        api = self

        async def caller(request: Request, _: Annotated[Any, Depends(bearer)]) -> Caller:
            return api.caller(request)

        who = Annotated[Caller, Depends(caller)]

        @app.get("/api/me", response_model=shapes.Me)
        async def me(caller: who) -> Any:
            """Tell who one is, and what one may."""
            return {
                "name": caller.name,
                "provider": caller.provider,
                "email": caller.email or None,
                "tenant": caller.tenant,
                "roles": sorted(caller.roles),
            }

        @app.get("/api/tasks", response_model=shapes.Items[shapes.TaskSummary])
        async def tasks(caller: who, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Any:
            """List tasks, newest first."""
            page = await api.hall.tasks(TaskFilter(tenant=caller.tenant), None, limit)
            return {"items": [task_summary(task) for task in page.items], "next": None}

        @app.get("/api/tasks/{id:path}", response_model=shapes.TaskSummary)
        async def task(caller: who, id: str) -> Any:
            """Return a task by its id, its uid or its trace's id."""
            found = await api.hall.task(caller.tenant, id)
            if found is None:
                raise Refused(404, "not_found", "no task is known by that id")
            return task_summary(found)

        return app

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
        raise Refused(
            401, "unauthenticated", "a token is needed: Authorization: Bearer ...", headers={"www-authenticate": "Bearer"}
        )


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
