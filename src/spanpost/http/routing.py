"""The router of every endpoint: Starlette's, with one set of exception handlers around it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping
from typing import Any, Final

from starlette.routing import BaseRoute, Match, Route, Router

from spanpost.http.asgi import HungUp, Receive, Scope, Send
from spanpost.http.errors import HttpError, error_of, log_fault, note_outcome, outcome_of, response_of

_STOPPING: Final = HttpError(503, "unavailable", "the gateway stops; send it again", retry_after=2)
#: Where a request has the counter of its route.
_COUNT: Final = "spanpost.count"
#: Counts a response by status and outcome (an error's reason, or a label of the endpoint).
CountsAnswers = Callable[[int, str], None]


class HttpRoute(Route):
    """A path of an `HttpRouter` and its endpoint.

    A path that ends with a slash covers all below it, ``/`` only itself. The endpoint is a function of a `Request`,
    or an ASGI application. Without `methods` it checks the method itself.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        methods: Collection[str] | None = None,
        *,
        count: CountsAnswers | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self._count = count
        if path.endswith("/") and path != "/":
            self.path_regex = re.compile(re.escape(path))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether it has the request's path and method; the router then counts the response with it."""
        match, found = super().matches(scope)
        return match, {**found, _COUNT: self._count}


class HttpRouter:
    """An ASGI application of routes. Every error has the same body."""

    def __init__(self, routes: Iterable[BaseRoute], on_fault: Callable[[Scope, Exception], None] = log_fault) -> None:
        self.routes = tuple(routes)
        self._router = Router(self.routes, redirect_slashes=False)
        self.on_fault = on_fault

    @property
    def paths(self) -> list[str]:
        """Paths of the routes, without duplicates, in order."""
        return list(dict.fromkeys(str(getattr(route, "path", "")) for route in self.routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # makes the router raise for unknown paths
        status = 0

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._router(scope, receive, noted)
        except HungUp:
            return
        except asyncio.CancelledError:
            if status:
                raise
            # The server stops, and the time for answers is over. It would answer 500, after which exporters drop spans.
            await _fail(scope, receive, noted, _STOPPING)
        except Exception as error:
            known = error_of(scope, error, self.on_fault)
            if not status:
                await _fail(scope, receive, noted, known)
            # Else the server sees a response without an end, and closes the connection.
        count: CountsAnswers | None = scope.pop(_COUNT, None)  # of the route that matched, here or below
        if count is not None and status:
            count(status, outcome_of(scope))

    def table(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield the path and methods of every route, nested ones too.

        No methods: the endpoint checks them.
        """
        yield from _table(self.routes)


async def _fail(scope: Scope, receive: Receive, send: Send, error: HttpError) -> None:
    note_outcome(scope, error.outcome)
    await response_of(scope, error)(scope, receive, send)


def _table(routes: Iterable[Any]) -> Iterator[tuple[str, frozenset[str]]]:
    for route in routes:
        below = getattr(getattr(route, "endpoint", None), "routes", None)
        if below is not None:
            yield from _table(below)
        elif hasattr(route, "path"):
            yield route.path, frozenset(route.methods or ())
