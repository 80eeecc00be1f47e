"""The ledger in the embedded PostgreSQL: starts the server, or joins the one that another process of this machine runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spanpost.ledger.embedded import AlreadyOpen, EmbeddedPostgres
from spanpost.ledger.postgres import PostgresLedger


@contextmanager
def reachable(dsn: str | None, data_dir: Path, pg_bin: Path | None) -> Iterator[str]:
    """Lend the address of a database: the one that is named, else the embedded one, started or joined for as long as that."""
    if dsn is not None:
        yield dsn
        return
    server = EmbeddedPostgres(data_dir, pg_bin=pg_bin)
    address = _start(server)
    try:
        yield address
    finally:
        server.stop()


def _start(server: EmbeddedPostgres) -> str:
    try:
        return server.start()
    except AlreadyOpen as running:
        if running.dsn is None:
            raise
        return running.dsn


class LocalLedger(PostgresLedger):
    """A `PostgresLedger` that brings its server along. Opened second on one machine, it joins the first one's server."""

    def __init__(self, data_dir: Path, *, pg_bin: Path | None = None, **options: Any) -> None:
        super().__init__("", is_own=True, **options)
        self._server = EmbeddedPostgres(data_dir, pg_bin=pg_bin)

    async def open(self) -> None:
        """Start or join the server, then connect."""
        self._dsn = await asyncio.to_thread(_start, self._server)
        try:
            await super().open()
        except BaseException:
            await asyncio.to_thread(self._server.stop)
            raise

    async def close(self) -> None:
        """Let go of the connections, and stop the server if it is ours."""
        await super().close()
        try:
            await asyncio.to_thread(self._server.stop)
        except RuntimeError:  # the interpreter is on its way out and lends no threads any more
            self._server.stop()
