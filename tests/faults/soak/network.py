"""A TCP proxy with TLS before PostgreSQL's socket: it passes, slows, swallows, or cuts."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import threading
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import trustme

#: A client's request for TLS, before anything else.
_TLS = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class Passes(StrEnum):
    """What the network does."""

    ALL = "all"
    #: Each piece of at most a thousand bytes is late by 20 ms.
    SLOWLY = "slowly"
    #: What the gateway sends arrives, and no answer comes back.
    ONE_WAY = "one way"
    #: No packet arrives, in either direction; connections stay open, and what was sent arrives afterwards.
    SWALLOWED = "swallowed"
    #: Connections are cut, and none is accepted.
    NOTHING = "nothing"


class Network:
    """The proxy, in a thread of its own. `dsn` is the database's address behind it, `home` has its CA."""

    def __init__(self, dsn: str, home: Path) -> None:
        self._authority = trustme.CA()
        authority = home / "ca.pem"
        self._authority.cert_pem.write_to_path(str(authority))
        self.certify()
        parts = urlsplit(dsn)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self.passes = Passes.ALL
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        port = self._server.sockets[0].getsockname()[1]
        verified = f"sslmode=verify-full&sslrootcert={quote(str(authority), safe='')}"
        self.dsn = f"postgresql://{parts.netloc.rpartition('@')[0]}@localhost:{port}{parts.path}?{verified}"

    def set(self, passes: Passes) -> None:
        """Change what passes; every change but of the speed cuts the open connections."""
        was, self.passes = self.passes, passes
        flows = self._flows.clear if passes is Passes.SWALLOWED else self._flows.set
        self._loop.call_soon_threadsafe(flows)
        if Passes.NOTHING in (passes, was) or Passes.ONE_WAY is was:
            self.cut()

    def certify(self, *, is_expired: bool = False) -> None:
        """Show another certificate to new connections, of the same CA."""
        day = datetime.timedelta(days=1)
        until = datetime.datetime.now(datetime.UTC) + (-day if is_expired else day)
        certificate = self._authority.issue_cert("localhost", not_before=until - 2 * day, not_after=until)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self._certificate = context

    def cut(self) -> None:
        """Cut the open connections; new ones are accepted if `passes` says so."""
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
        await self._flows.wait()
        try:
            if await reader.readexactly(len(_TLS)) == _TLS:
                writer.write(b"S")
                await writer.start_tls(self._certificate)
            answers, server = await self._connect()
        except (OSError, asyncio.IncompleteReadError):  # refused our certificate, or the database is down
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
                await self._flows.wait()
                if not (is_answer and self.passes is Passes.ONE_WAY):
                    writer.write(piece)
                    await writer.drain()
        writer.close()
