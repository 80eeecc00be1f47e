"""The store in the embedded PostgreSQL: starts the server, or joins the one that another process of this machine runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from spanpost.model.errors import SpanpostError, StoreUnavailable
from spanpost.store.embedded import AlreadyOpen, EmbeddedPostgres
from spanpost.store.embedded_roles import READER, USER
from spanpost.store.postgres import PostgresStore

log = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def reachable(dsn: str | None, data_dir: Path, pg_bin: Path | None, *, role: str = USER) -> Iterator[str]:
    """Lend the address of a database: the one that is named, else the embedded one's, started or joined for as long as that."""
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
        if not running.is_reachable:
            raise
        return server.dsn()


class EmbeddedStore(PostgresStore):
    """A `PostgresLedger` that brings its server along. Opened second on one machine, it joins the first one's server.

    A server lives as long as the process that started it. When that is gone, or the server has fallen over, the next process
    that needs it starts it again: what was committed is there.
    """

    def __init__(self, data_dir: Path, *, pg_bin: Path | None = None, **options: Any) -> None:
        super().__init__("", own_reader=READER, **options)
        self._server = EmbeddedPostgres(data_dir, pg_bin=pg_bin)
        self._is_open = False
        self._returning = asyncio.Lock()

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
        """Let go of the connections, and stop the server if it is ours."""
        self._is_open = False
        await super().close()
        try:
            await asyncio.to_thread(self._server.stop)
        except RuntimeError:  # the interpreter is on its way out and lends no threads any more
            self._server.stop()

    async def _run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        pool = self._pool
        try:
            return await super()._run(work)
        except StoreUnavailable:
            if not await self._return(pool):
                raise
        return await super()._run(work)

    async def _return(self, lost: Any) -> bool:
        """Bring the server back after its owner left or it fell over; False when nothing could be done about it now."""
        async with self._returning:
            if not self._is_open:
                return False
            if self._pool is not lost:
                return True  # somebody else was here before
            if self._server.is_running:
                return False  # it lives and is ours: the trouble lies elsewhere
            try:
                await asyncio.to_thread(self._server.stop)
                dsn = await asyncio.to_thread(_start, self._server)
                if not self._server.is_running and dsn == self._dsn:
                    return False  # another process has it: ending, or starting it
                self._dsn, self._pool = dsn, None
                await super().open()
            except SpanpostError as error:
                log.warning("the embedded database cannot be brought back yet: %s", error)
                self._pool = lost
                return False
            if lost is not None:
                lost.terminate()
            whose = "started again" if self._server.is_running else "joined again"
            log.warning("the process that ran the embedded database is gone: it was %s", whose)
            return True
