"""The store in the embedded PostgreSQL: starts the server, or joins that of another process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from spanpost.model.errors import SpanpostError, StoreUnavailable
from spanpost.store.embedded import EmbeddedPostgres
from spanpost.store.embedded_lock import AlreadyOpen
from spanpost.store.embedded_roles import READER, USER
from spanpost.store.postgres import PostgresStore
from spanpost.store.transactions import RETRY_FOR

log = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def reachable(dsn: str | None, data_dir: Path, pg_bin: Path | None, *, role: str = USER) -> Iterator[str]:
    """Yield `dsn`, or without one the URL of the embedded database, started or joined meanwhile."""
    if dsn is not None:
        yield dsn
        return
    server = EmbeddedPostgres(data_dir, pg_bin=pg_bin)
    _start(server)
    try:
        yield server.dsn(role)
    finally:
        server.stop()


def _start(server: EmbeddedPostgres) -> str:
    try:
        return server.start()
    except AlreadyOpen as running:
        if running.socket_dir is None:
            raise
        return server.dsn()


class EmbeddedStore(PostgresStore):
    """A `PostgresStore` with its own server. A second process on the machine joins the first one's server.

    A server lives as long as the process that started it. When that process has ended or the server has
    crashed, the next process that needs it starts it again. Committed data is kept.
    """

    def __init__(self, data_dir: Path, *, pg_bin: Path | None = None, **options: Any) -> None:
        super().__init__("", own_reader=READER, **options)
        self._server = EmbeddedPostgres(data_dir, pg_bin=pg_bin)
        self._is_open = False
        self._restarting = asyncio.Lock()

    async def open(self) -> None:
        """Start or join the server, then connect."""
        self._dsn = await asyncio.to_thread(_start, self._server)
        try:
            await super().open()
        except BaseException:
            await asyncio.to_thread(self._server.stop)
            raise
        self._is_open = True

    async def close(self) -> None:
        """Close the connections, and stop the server if this process started it."""
        self._is_open = False
        await super().close()
        try:
            await asyncio.to_thread(self._server.stop)
        except RuntimeError:  # the interpreter is shutting down and starts no threads any more
            self._server.stop()

    async def run(self, work: Callable[[Any], Awaitable[T]], *, retry_for: float = RETRY_FOR) -> T:
        pool = self._pool
        try:
            return await super().run(work, retry_for=retry_for)
        except StoreUnavailable:
            if not await self._restart(pool):
                raise
        return await super().run(work, retry_for=retry_for)

    async def _restart(self, broken: Any) -> bool:
        """Restart or rejoin the server after `broken`, a pool, failed; False: not possible now."""
        async with self._restarting:
            if not self._is_open:
                return False
            if self._pool is not broken:
                return True  # another task has restarted it
            if self._server.is_running:
                return False  # our server runs: the failure has another cause
            try:
                await asyncio.to_thread(self._server.stop)
                dsn = await asyncio.to_thread(_start, self._server)
                if not self._server.is_running and dsn == self._dsn:
                    return False  # another process owns it and is stopping or starting it
                self._dsn, self._pool = dsn, None
                await super().open()
            except SpanpostError as error:
                log.warning("the embedded database cannot be brought back yet: %s", error)
                self._pool = broken
                return False
            if broken is not None:
                broken.terminate()
            whose = "started again" if self._server.is_running else "joined again"
            log.warning("the process that ran the embedded database is gone: it was %s", whose)
            return True
