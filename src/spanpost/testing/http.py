"""A small HTTP server for tests of sinks: it stores requests and answers as configured, also badly."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

import msgspec


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it arrived. Names of headers are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The fate of a request: an answer; or, after the request was read, a reset or no answer."""

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b""
    #: Close the connection without an answer, as a dying proxy does.
    resets: bool = False
    #: Never answer.
    hangs: bool = False
    #: Send a part of the body and never end it.
    drips: bool = False


class HttpReceiver:
    """Serves a free port of this machine, in the running loop: ``async with HttpReceiver() as receiver``.

    `answers` are the next answers, in order; after them every answer is 200.
    """

    def __init__(self, answers: Iterable[HttpAnswer] = ()) -> None:
        self.posted: list[Posted] = []
        self.answers = deque(answers)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> HttpReceiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.posted.append(Posted(method=method, path=path, headers=headers, body=body))
        answer = self.answers.popleft() if self.answers else HttpAnswer()
        if answer.hangs:
            await asyncio.Event().wait()
        if answer.resets:
            writer.transport.abort()
            return False
        length = len(answer.body) + (1_000_000 if answer.drips else 0)
        headers = {"content-length": str(length), **answer.headers}
        writer.write(
            f"HTTP/1.1 {answer.status} told\r\n".encode()
            + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers.items())
        )
        writer.write(b"\r\n" + answer.body)
        await writer.drain()
        if answer.drips:
            await asyncio.Event().wait()
        return True
