"""One cell as a routing gateway sees it: its replicas, connections, and shares.

Cells share nothing here: each has its own connections, places and memory, so that a cell that hangs delays no
request for another cell.

A request is sent to the replica with the fewest requests under way. It is sent once more, to another replica or
on a new connection, only if the first attempt was never sent, or if a repeat changes nothing (`CellRequest.is_safe`).
A replica that does not answer its health page gets no request until it does.
"""

from __future__ import annotations

import asyncio
import io
import logging
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from spanpost.http.shares import Full, Sender, SharedPlaces
from spanpost.receivers.admission import Admission, jitter
from spanpost.receivers.cells.headers import TextHeaders
from spanpost.receivers.limits import AdmissionLimits

log = logging.getLogger("spanpost.runtime.gateway")

#: Seconds: for a connection; between two parts of a response (longer than the longest heartbeat of an event
#: stream); until an idle connection is closed, earlier than the cell does.
_CONNECT, _READ, _IDLE = 2.0, 330.0, 30.0
#: Seconds between two checks of a replica's health, and for its answer.
CHECK_INTERVAL: Final = 1.0
CHECK_TIMEOUT: Final = 5.0
#: Larger bodies are written in pieces.
_WHOLE: Final = 256 * 1024
#: Most bytes of a header of a response.
_FIELD: Final = 32 * 1024
#: Headers that aiohttp would add.
_AUTOMATIC: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class CellUnavailable(Exception):
    """The cell did not answer. `reason` is a word of a closed list, for metrics."""

    def __init__(self, cell: str, reason: str, message: str) -> None:
        super().__init__(f"cell {cell}: {message}")
        self.reason = reason
        self.retry_after = jitter(1, 3)


class CellMetrics(Protocol):
    """**Protocol:** counts requests to cells; implemented by `spanpost.metrics.Metrics`."""

    def routed(self, cell: str, outcome: str, seconds: float | None = None) -> None: ...

    def show_cell(self, cell: str, is_up: bool) -> None: ...


class CellRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a cell."""

    method: str
    #: Path and query as received.
    target: str
    headers: TextHeaders
    body: bytes = b""
    #: A repeat changes nothing: reads, and telemetry, which is recognised by its ids.
    is_safe: bool = False
    #: Seconds until the response must begin.
    timeout: float


class Replica:
    """A gateway of a cell."""

    def __init__(self, url: str) -> None:
        self.url = url
        #: It answers, and reports that it is ready; assumed until the first check.
        self.is_answering = True
        self.is_ready = True
        self.under_way = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request under way."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


class Cell:
    """A cell. Use it in one event loop: `open`, then `send`, then `close`."""

    def __init__(
        self,
        name: str,
        urls: Iterable[str],
        token: str,
        limits: AdmissionLimits,
        *,
        requests: int,
        waits: int,
        tls: ssl.SSLContext | None = None,
        watch: CellMetrics | None = None,
    ) -> None:
        self.name = name
        self.token = token
        #: The memory of requests for this cell, shared by tenants and their addresses.
        self.admission = Admission(limits)
        #: Requests under way; and those that may stay open for long (waiting agents, event streams).
        self._requests: SharedPlaces[asyncio.Task[Any]] = SharedPlaces(requests)
        self._waits: SharedPlaces[asyncio.Task[Any]] = SharedPlaces(waits)
        #: Tasks that hold a place of `_waits`.
        self._waiting: set[asyncio.Task[Any]] = set()
        self.replicas = tuple(Replica(url) for url in urls)
        self._turn = 0
        self._tls = tls
        self._watch = watch
        self._session: aiohttp.ClientSession | None = None
        self._checks: list[asyncio.Task[None]] = []

    # --- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to check the replicas."""
        # The number of connections is that of the places: a queue here would have no shares.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE, ssl=self._tls or True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_AUTOMATIC,
            max_field_size=_FIELD,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_READ),
        )
        self._checks = [asyncio.create_task(self._checking(one)) for one in self.replicas]

    async def close(self) -> None:
        """Close all connections. Requests under way fail."""
        for check in self._checks:
            check.cancel()
        if self._session is not None:
            await self._session.close()

    @property
    def is_up(self) -> bool:
        """Whether a replica is ready."""
        return any(one.is_ready for one in self.replicas)

    async def _checking(self, replica: Replica) -> None:
        while True:
            was_ready = replica.is_ready
            replica.is_ready, replica.is_answering = await self._check(replica)
            if replica.is_ready != was_ready:
                log.warning(
                    "cell %s: %s %s", self.name, replica.url, "is ready" if replica.is_ready else "is not ready"
                )
            if self._watch is not None:
                self._watch.show_cell(self.name, self.is_up)
            await asyncio.sleep(CHECK_INTERVAL)

    async def _check(self, replica: Replica) -> tuple[bool, bool]:
        """Return whether a replica is ready, and whether it answers at all."""
        assert self._session is not None
        asking = self._session.get(f"{replica.url}/health/ready", allow_redirects=False)
        try:
            async with asyncio.timeout(CHECK_TIMEOUT), asking as answer:
                return answer.status == 200, True
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False, False

    # --- places -----------------------------------------------------------------------------------------------------

    @contextmanager
    def place(self, sender: Sender, task: asyncio.Task[Any], *, is_wait: bool) -> Iterator[None]:
        """Hold a place while a task sends a request. If a sender with fewer places needs it, the task is cancelled.

        Raises `CellUnavailable` if the sender has its share already.
        """
        places = self._waits if is_wait else self._requests
        try:
            given_up = places.take(tuple(sender), task)
        except Full:
            message = "too many requests for it are under way; send it again"
            raise CellUnavailable(self.name, "busy", message) from None
        if given_up is not None:
            given_up.cancel()
        if is_wait:
            self._waiting.add(task)
        try:
            yield
        finally:
            places.leave(task)
            self._waiting.discard(task)

    def end_waits(self) -> None:
        """End the requests that may stay open for long: the router stops."""
        for task in self._waiting:
            task.cancel()

    def refuse_down(self) -> None:
        """Raise `CellUnavailable` if no replica answers: then no body needs to be read."""
        if not any(one.is_answering for one in self.replicas):
            raise self._unreachable()

    def _unreachable(self) -> CellUnavailable:
        return CellUnavailable(self.name, "unreachable", "none of its gateways can be reached; send it again")

    # --- requests ---------------------------------------------------------------------------------------------------

    async def send(self, request: CellRequest) -> aiohttp.ClientResponse:
        """Return the response, whose body was not read yet; release it. Raises `CellUnavailable`."""
        failed: set[Replica] = set()
        left = 2
        for replica in self._candidates():
            if replica in failed or not left:
                continue
            left -= 1
            try:
                return await self._exchange(replica, request)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                failed.add(replica)  # nothing was sent
                replica.is_ready = replica.is_answering = False
            except TimeoutError:
                message = f"it did not answer within {request.timeout:g} s; send it again"
                raise CellUnavailable(self.name, "timeout", message) from None
            except (aiohttp.ClientError, OSError) as error:
                if not request.is_safe or not left:
                    message = f"the connection broke ({type(error).__name__}); it may have been taken"
                    raise CellUnavailable(self.name, "broken", message) from None
        raise self._unreachable()

    def _candidates(self) -> Iterator[Replica]:
        """Yield the answering replicas, the best first, and the best once more: its connection may have been closed
        while it was idle.
        """
        self._turn += 1
        count = len(self.replicas)
        turned = [self.replicas[(self._turn + i) % count] for i in range(count)]
        found = sorted((one for one in turned if one.is_answering), key=lambda one: (not one.is_ready, one.under_way))
        yield from found
        yield from found[:1]

    async def _exchange(self, replica: Replica, request: CellRequest) -> aiohttp.ClientResponse:
        assert self._session is not None
        body = io.BytesIO(request.body) if len(request.body) > _WHOLE else request.body or None
        headers = CIMultiDict(request.headers)
        if len(request.body) > _WHOLE:
            headers["content-length"] = str(len(request.body))
        with replica.counted():
            async with asyncio.timeout(request.timeout):
                return await self._session.request(
                    request.method,
                    URL(replica.url + request.target, encoded=True),
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                )
