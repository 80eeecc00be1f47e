"""ASGI types, and reading a body up to a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from spanpost.http.guard import client_address
from spanpost.http.shares import network_of

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def address_of(scope: Scope) -> str:
    """Return the address that a request counts for (behind a trusted proxy, its client's); empty: unknown."""
    return network_of(client_address(scope))


class HungUp(Exception):
    """The client closed the connection before the response."""


class TooLong(Exception):
    """A body is longer than allowed. `begun` is its beginning; the rest is not read."""

    def __init__(self, begun: bytes) -> None:
        super().__init__(f"more than {len(begun)} bytes")
        self.begun = begun


async def read_body(receive: Receive, most: int) -> bytes:
    """Return a request's body. Raises `TooLong` as soon as more than `most` bytes arrived, and `HungUp`."""
    parts: list[bytes] = []
    size = 0
    while True:
        part, has_more = await _part(receive)
        parts.append(part)
        size += len(part)
        if size > most:
            raise TooLong(b"".join(parts)[:most])
        if not has_more:
            return b"".join(parts)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise HungUp
    return message.get("body") or b"", bool(message.get("more_body"))


async def until_hung_up(receive: Receive) -> None:
    """Wait until the client closes the connection; ignore everything it sends."""
    while (await receive())["type"] != "http.disconnect":
        continue
