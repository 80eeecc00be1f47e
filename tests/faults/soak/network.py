"""A TCP proxy before PostgreSQL's socket: it passes, slows, swallows answers, or cuts."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit


class Passes(StrEnum):
    """What the network does."""

    ALL = "all"
    #: Each piece of at most a thousand bytes is late by 20 ms.
    SLOWLY = "slowly"
    #: What the gateway sends arrives, and no answer comes back.
    ONE_WAY = "one way"
    #: Connections are cut, and none is accepted.
    NOTHING = "nothing"


class Network:
    """The proxy, in a thread of its own. `dsn` is the database's address behind it."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self.passes = Passes.ALL
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        port = self._server.sockets[0].getsockname()[1]
        self.dsn = f"postgresql://{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}{parts.path}"

    def set(self, passes: Passes) -> None:
        """Change what passes; every change but of the speed cuts the open connections."""
        was, self.passes = self.passes, passes
        if Passes.NOTHING in (passes, was) or Passes.ONE_WAY is was:
            self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """Cut everything."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.set(Passes.NOTHING)

    def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.passes is Passes.NOTHING:
            writer.transport.abort()
            return
        try:
            answers, server = await self._connect()
        except OSError:  # the database is down
            writer.transport.abort()
            return
        self._open |= {writer, server}
        try:
            await asyncio.gather(self._pass_on(reader, server), self._pass_on(answers, writer, is_answer=True))
        finally:
            self._open -= {writer, server}

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self._socket)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(1000 if self.passes is Passes.SLOWLY else 65536):
                if self.passes is Passes.SLOWLY:
                    await asyncio.sleep(0.02)
                if not (is_answer and self.passes is Passes.ONE_WAY):
                    writer.write(piece)
                    await writer.drain()
        writer.close()
