"""The router of every endpoint: Starlette's, with one set of exception handlers around it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping
from typing import Any, Final

from starlette.routing import BaseRoute, Route, Router

from spanpost.http.asgi import HungUp, Receive, Scope, Send
from spanpost.http.errors import HttpError, error_of, log_fault, note_outcome, outcome_of, response_of

_STOPPING: Final = HttpError(503, "unavailable", "the gateway stops; send it again", retry_after=2)
#: Counts a response by status and outcome (an error's reason, or a label of the endpoint).
CountsAnswers = Callable[[int, str], None]


class HttpRoute(Route):
    """A path and its endpoint. A path that ends with a slash covers all below it, ``/`` only itself.

    The endpoint is a function of a `Request`, or an ASGI application. Without `methods` it checks the method
    itself.
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

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint and count the response."""
        if self._count is None:
            await super().handle(scope, receive, send)
            return
        status = 0

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await super().handle(scope, receive, counted)
        except HungUp:
            raise
        except Exception as error:
            known = error_of(scope, error, scope["app"].on_fault)
            self._count(known.status_code, known.outcome)
            raise known from None
        if status:
            self._count(status, outcome_of(scope))


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
        is_answered = False

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._router(scope, receive, noted)
        except HungUp:
            return
        except asyncio.CancelledError:
            if is_answered:
                raise
            # The server stops, and the time for answers is over. It would answer 500, after which exporters drop spans.
            await response_of(scope, _STOPPING)(scope, receive, send)
        except Exception as error:
            known = error_of(scope, error, self.on_fault)
            note_outcome(scope, known.outcome)
            await response_of(scope, known)(scope, receive, send)

    def table(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield the path and methods of every route, nested ones too.

        No methods: the endpoint checks them.
        """
        yield from _table(self.routes)


def _table(routes: Iterable[Any]) -> Iterator[tuple[str, frozenset[str]]]:
    for route in routes:
        below = getattr(getattr(route, "endpoint", None), "routes", None)
        if below is not None:
            yield from _table(below)
        elif hasattr(route, "path"):
            yield route.path, frozenset(route.methods or ())
