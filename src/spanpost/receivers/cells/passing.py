"""The cells of a routing gateway: which one a request is for, and a request under way to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

import aiohttp

from spanpost.http.asgi import HungUp
from spanpost.http.guard import JSON
from spanpost.http.hosts import Host, host_of
from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.http.shares import Sender
from spanpost.receivers.cells.assignment import CellAssignment, of_host
from spanpost.receivers.cells.cell import Cell, CellMetrics, CellUnavailable
from spanpost.receivers.limits import AdmissionLimits

T = TypeVar("T")
_limited_log = RateLimitedLog(logging.getLogger("spanpost.runtime.gateway"))

#: Responses to telemetry by a gateway: it is recorded, or cannot be, or is to be sent again. Any other, as by a
#: proxy that does not find its gateway, would make the sender drop its telemetry or follow to elsewhere.
_ANSWERS: Final = frozenset({200, 400, 408, 413, 415, 422, 429, 431, 503})
#: Responses of at most this many bytes are read whole.
WHOLE: Final = 256 * 1024
#: Longest wait that a client may ask a cell for (`spanpost.interactions.control`), seconds.
WAIT: Final = 50.0


class Cells:
    """All cells. `limits` are those of one cell."""

    def __init__(
        self,
        cells: Mapping[str, Cell],
        assignment: CellAssignment,
        hosts: Mapping[Host, str],
        limits: AdmissionLimits,
        timeout: timedelta,
        *,
        watch: CellMetrics | None = None,
    ) -> None:
        #: Both are replaced on reload.
        self.assignment, self.hosts = assignment, hosts
        self.limits = limits
        self.timeout = timeout.total_seconds()
        self._cells = cells
        self._watch = watch
        self._is_ending = False

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._cells.values())

    @property
    def in_flight(self) -> int:
        """Bytes of the requests in progress."""
        return sum(cell.admission.held.total for cell in self)

    def end(self) -> None:
        """Refuse new requests, and end waiting agents and event streams: the router stops."""
        self._is_ending = True
        for cell in self:
            cell.end_waits()

    def named(self, name: str) -> Cell | None:
        """Return a cell. Raises `CellUnavailable` once the router stops."""
        if self._is_ending:
            raise CellUnavailable(name, "stopping", "this gateway stops; send it again")
        return self._cells.get(name)

    def of_host(self, host: str) -> Cell | None:
        """Return the cell whose public address has this host."""
        return self.named(of_host(self.hosts, host_of(host)))

    def of_tenant(self, tenant: str) -> Cell:
        """Return the cell of a tenant. Raises `CellUnavailable`: the sender keeps its request and retries."""
        name = self.assignment.of_tenant(tenant)
        if tenant in self.assignment.held:
            raise CellUnavailable(name, "held", "this tenant is being moved to another cell; send it again")
        cell = self.named(name)
        if cell is None:
            _limited_log.error("cell", "tenant %r is in no cell: name it in cells.tenants", tenant[:200])
            raise CellUnavailable("none", "no_cell", "this tenant is in no cell")
        return cell

    def count(self, cell: str, outcome: str, seconds: float | None = None) -> None:
        """Count a request. `outcome` is of a closed list; `seconds`: until the response began."""
        if self._watch is not None:
            self._watch.routed(cell, outcome, seconds)


async def under_way(
    cell: Cell, sender: Sender, work: Coroutine[Any, Any, T], gone: Coroutine[Any, Any, Any] | None, *, is_wait: bool
) -> T:
    """Hold a place of the cell while `work` runs, until the client is `gone`.

    Raises the error of `work`, `HungUp`, and `CellUnavailable` if the place went to another sender.
    """
    task = asyncio.ensure_future(work)
    tasks: list[asyncio.Task[Any]] = [task] + ([asyncio.ensure_future(gone)] if gone is not None else [])
    try:
        with cell.place(sender, task, is_wait=is_wait):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise HungUp
            if task.cancelled():
                raise CellUnavailable(cell.name, "busy", "its place is needed, or this gateway stops; send it again")
            return task.result()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def refuse_distrust(cell: Cell, status: int) -> None:
    """Raise `CellUnavailable` if the cell refuses the router's credential.

    The client must not learn it as the refusal of its own token: it would drop its telemetry.
    """
    if status in (401, 403):
        _limited_log.error(
            f"refused {cell.name}",
            "cell %s refuses this gateway (%d): compare cells.named.%s.token with the cell's gateway.router_tokens",
            *(cell.name, status, cell.name),
        )
        raise CellUnavailable(cell.name, "refused", "it refuses this gateway; send it again")


def refuse_foreign(
    cell: Cell, response: aiohttp.ClientResponse, content_type: str, *, is_telemetry: bool = True
) -> None:
    """Raise `CellUnavailable` if no gateway of spanpost's answered a tenant's request.

    A gateway answers telemetry in the request's content type, and all else in JSON. A page of a proxy, or of another
    program at the cell's address, would be taken for its success, and the telemetry would be recorded nowhere.
    """
    given = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_typed = given == (content_type.partition(";")[0].strip().lower() if is_telemetry else JSON)
    if (response.status in _ANSWERS and is_typed) or (not is_telemetry and response.status >= 400):
        return
    _limited_log.error(
        f"foreign {cell.name}",
        "cell %s answered with %d %r: is a gateway of spanpost's at cells.named.%s.urls?",
        *(cell.name, response.status, given[:80], cell.name),
    )
    response.close()
    raise CellUnavailable(cell.name, "foreign", "no gateway answered in it; send it again")


async def whole(cell: Cell, response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a response. Raises `CellUnavailable` if it breaks off, or is longer than `WHOLE`."""
    found = bytearray()
    try:
        async for part in response.content.iter_any():
            found += part
            if len(found) > WHOLE:
                response.close()
                raise CellUnavailable(cell.name, "broken", "its response is too long; it may have been taken")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        message = f"its response broke off ({type(error).__name__}); it may have been taken"
        raise CellUnavailable(cell.name, "broken", message) from None
    return bytes(found)
