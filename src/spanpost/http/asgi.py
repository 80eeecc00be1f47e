"""What all doors of HTTP have in common: the words of ASGI, and how a body is read within bounds."""

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
    """Return the address that a request counts for, empty where it is not known. Behind a trusted proxy: its client's."""
    return network_of(client_address(scope))


class HungUp(Exception):
    """The sender closed the connection: nobody waits for an answer."""


class TooLong(Exception):
    """A body is longer than it may be. `begun` is what came of it; the rest is not read."""

    def __init__(self, begun: bytes) -> None:
        super().__init__(f"more than {len(begun)} bytes")
        self.begun = begun


async def read_body(receive: Receive, most: int) -> bytes:
    """Return a request's body. Raises `TooLong` as soon as more than `most` bytes came, and `HungUp`."""
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
    """Return when the other side closed the connection; what it sends until then is not read."""
    while (await receive())["type"] != "http.disconnect":
        continue
