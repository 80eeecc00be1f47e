"""Parts of requests that wait to be recorded or written to the journal: tenants take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence, Set
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import msgspec

from spanpost.http.shares import Sender, SharedBytes
from spanpost.receivers.admission import MemoryReservation

T = TypeVar("T")

#: A request of at most this many observations may share a transaction with other tenants.
SHARED: Final = 256


class Body(msgspec.Struct, frozen=True):
    """A request body, or a piece of one that is a request by itself."""

    signal: str
    is_json: bool
    body: bytes


class RequestPart(Generic[T]):
    """A part of one request, recorded or written as a whole: observations, or a body.

    `count` is the number of its observations, `size` its weight in bytes. The result of `done` is the number
    of quarantined observations.
    """

    __slots__ = ("content", "count", "done", "is_slow", "sender", "size")

    def __init__(self, sender: Sender, content: T, count: int, size: int, done: asyncio.Future[int]) -> None:
        self.sender = sender
        self.content = content
        self.count = count
        self.size = size
        self.done = done
        self.is_slow = False

    @property
    def tenant(self) -> str:
        """The sender's tenant."""
        return self.sender.tenant

    def fail(self, error: Exception) -> None:
        """Answer the sender with an error: not recorded."""
        if not self.done.done():
            with suppress(asyncio.InvalidStateError):
                self.done.set_exception(error)

    def succeed(self, quarantined: int = 0) -> None:
        """Answer the sender: recorded, except `quarantined` observations."""
        if not self.done.done():
            self.done.set_result(quarantined)


class WaitingParts(Generic[T]):
    """Parts waiting for a transaction: in order of arrival within a tenant; tenants take turns."""

    def __init__(self, queue: SharedBytes) -> None:
        self._by_tenant: dict[str, deque[RequestPart[T]]] = {}
        self._queue = queue
        self.parts = self.count = self.size = 0

    def __bool__(self) -> bool:
        return bool(self._by_tenant)

    @property
    def tenants(self) -> Set[str]:
        """Tenants with waiting parts."""
        return self._by_tenant.keys()

    def put(self, part: RequestPart[T]) -> None:
        """Add a part."""
        self._by_tenant.setdefault(part.tenant, deque()).append(part)
        self._note(part, 1)

    def pop_all(self, tenant: str) -> Sequence[RequestPart[T]]:
        """Take all parts of a tenant."""
        waiting = self._by_tenant.pop(tenant, ())
        for part in waiting:
            self._note(part, -1)
        return waiting

    def take(
        self, most: float, most_bytes: int, *, but: Collection[str] = (), is_one_tenant: bool = False
    ) -> list[RequestPart[T]]:
        """Remove and return as many parts as fit into one transaction, at least one. Skips the tenants in
        `but`.

        With `is_one_tenant`, and after a large part, all parts are of one tenant.
        """
        group: list[RequestPart[T]] = []
        tenants: set[str] = set()
        count = size = 0
        turns = deque(tenant for tenant in self._by_tenant if tenant not in but)
        while turns:
            tenant = turns[0]
            part = self._by_tenant[tenant][0]
            count, size = count + part.count, size + part.size
            if group and (count > most or size > most_bytes):
                break
            is_alone = is_one_tenant or part.count > SHARED
            if is_alone and tenants - {tenant}:
                count, size = count - part.count, size - part.size
                turns.popleft()  # it starts a later group
                continue
            self._pop(tenant)
            group.append(part)
            tenants.add(tenant)
            if is_alone:
                turns = deque((tenant,))
            turns.rotate(-1)
            if tenant not in self._by_tenant:
                turns.remove(tenant)
        return group

    def _pop(self, tenant: str) -> None:
        """Remove a tenant's first part and move the tenant to the end."""
        waiting = self._by_tenant.pop(tenant)
        self._note(waiting.popleft(), -1)
        if waiting:
            self._by_tenant[tenant] = waiting

    def _note(self, part: RequestPart[T], by: int) -> None:
        self.parts += by
        self.count += by * part.count
        self.size += by * part.size
        self._queue.add(part.sender, by * part.size)


def release_after(under_way: Sequence[RequestPart[Any]], reservation: MemoryReservation) -> None:
    """Release the memory when every part is finished: until then it is in use, even if the request was
    cancelled.
    """
    if all(part.done.done() for part in under_way):
        reservation.leave()
    # The gather also retrieves exceptions that nothing else would retrieve.
    whole = asyncio.gather(*(part.done for part in under_way), return_exceptions=True)
    whole.add_done_callback(lambda _: reservation.leave())
