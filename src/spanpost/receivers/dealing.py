"""Dealing among the workers of one machine: parts of one trace meet in one worker.

A worker that takes a request splits it by trace id and passes each share to its owner over a Unix socket. The
owner takes it as a request of the same sender. Parts of a trace that are recorded together cost half, and
workers do not wait for each other's locks. A share whose owner does not answer is recorded by the worker that
has it: if the owner has recorded it as well, it is recognised as a duplicate.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from spanpost.receivers.admission import Busy
from spanpost.receivers.decoded import Undecodable
from spanpost.receivers.encodings import BodyTooLarge
from spanpost.receivers.otlp_protobuf import elements_of
from spanpost.receivers.pieces import LEAST, WHOLE
from spanpost.receivers.protobuf_pieces import fields_beside, messages_in, wrap

#: A span's first field as all known senders write it: its trace id.
_TRACE_ID: Final = b"\x0a\x10"
#: Bytes of the trace id by which traces are dealt: the last are random in every kind of id.
_FIRST, _LAST = 10, 18
#: Seconds for an owner's answer. It answers within `AdmissionLimits.commit_timeout` (4 s), unless it hangs.
_ANSWER: Final = 6.0


class Share(msgspec.Struct, frozen=True, array_like=True):
    """A part of a request, on its way to its owner."""

    signal: str
    tenant: str
    address: str
    body: bytes
    #: Other shares hold the rest of the request.
    is_part: bool = False


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """The owner's answer: what it left out, or after how many seconds to try again, or that it cannot read it."""

    rejected: int = 0
    message: str = ""
    retry_after: int = 0
    is_refused: bool = False


def is_dealt(signal: str, body: bytes) -> bool:
    """Whether a request is split among workers: spans, in a small body that can be parsed."""
    return signal == "traces" and len(body) <= WHOLE and elements_of(signal, body, WHOLE // LEAST) > 0


def split(body: bytes, total: int, own: int) -> list[bytes]:
    """Return the shares of a traces request, by owner: each a request. Spans without an id are `own`.

    Raises `Undecodable` if it is none, and `BodyTooLarge` for a resource or scope that is too large.
    """
    shares: list[list[bytes]] = [[] for _ in range(total)]
    for start, end in messages_in(body, 0, len(body), 1):
        resource = _all(fields_beside(body, start, end))
        by_scope: list[list[bytes]] = [[] for _ in range(total)]
        for scope_start, scope_end in messages_in(body, start, end, 2):
            scope = _all(fields_beside(body, scope_start, scope_end))
            spans: list[list[bytes]] = [[] for _ in range(total)]
            for at, stop in messages_in(body, scope_start, scope_end, 2):
                owner = own
                if body[at : at + 2] == _TRACE_ID:
                    owner = int.from_bytes(body[at + _FIRST : at + _LAST]) % total
                spans[owner].append(wrap(2, body[at:stop]))
            for owner, some in enumerate(spans):
                if some:
                    by_scope[owner].append(wrap(2, scope + b"".join(some)))
        for owner, some in enumerate(by_scope):
            if some:
                shares[owner].append(wrap(1, resource + b"".join(some)))
    return [b"".join(some) for some in shares]


class Dealer:
    """Passes shares to the workers that own them, and takes those of this worker.

    Call `start`, then `pass_on`, then `close`, in one loop.
    """

    def __init__(self, number: int, total: int, directory: Path, *, answer_timeout: float = _ANSWER) -> None:
        self._answer_timeout = answer_timeout
        self.number = number
        self.total = total
        self._directory = directory
        self._free: dict[int, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}
        self._server: asyncio.Server | None = None

    def _path(self, number: int) -> Path:
        return self._directory / f"worker-{number}.sock"

    async def start(self, take: Callable[[Share], Awaitable[Outcome]]) -> None:
        """Take shares from other workers from now on."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Cancelled at the end of the loop: the streams of Python 3.11 log that as an error.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    share = msgspec.msgpack.decode(await _read(reader), type=Share)
                    _write(writer, await take(share))
                    await writer.drain()
            writer.close()

        path = self._path(self.number)
        path.unlink(missing_ok=True)  # of the process before this one
        self._server = await asyncio.start_unix_server(serve, path)

    async def pass_on(self, owner: int, share: Share) -> Outcome | None:
        """Return the owner's answer; None: it gives none, or refuses the share, so record or refuse it here.

        Raises `Busy`.
        """
        try:
            free = self._free.setdefault(owner, [])
            reader, writer = free.pop() if free else await asyncio.open_unix_connection(self._path(owner))
            try:
                async with asyncio.timeout(self._answer_timeout):
                    _write(writer, share)
                    await writer.drain()
                    outcome = msgspec.msgpack.decode(await _read(reader), type=Outcome)
            except BaseException:
                writer.close()
                raise
        except (OSError, asyncio.IncompleteReadError):
            return None
        free.append((reader, writer))
        if outcome.retry_after:
            raise Busy(outcome.message, outcome.retry_after)
        return None if outcome.is_refused else outcome

    async def close(self) -> None:
        """Take no more shares, and let go of the connections."""
        if self._server is not None:
            self._server.close()
        for _, writer in (pair for free in self._free.values() for pair in free):
            writer.close()


async def outcome_of(taking: Awaitable[tuple[int, str]]) -> Outcome:
    """Return a worker's answer for a share: the number of elements left out, and why."""
    try:
        return Outcome(*await taking)
    except Busy as busy:
        return Outcome(0, str(busy), busy.retry_after)
    except (Undecodable, BodyTooLarge):
        return Outcome(is_refused=True)


def _write(writer: asyncio.StreamWriter, message: msgspec.Struct) -> None:
    content = msgspec.msgpack.encode(message)
    writer.write(len(content).to_bytes(8))
    writer.write(content)


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(8)))


def _all(steps: object) -> bytes:
    """Return the result of a generator that may be paused."""
    try:
        while True:
            next(steps)  # type: ignore[call-overload]
    except StopIteration as done:
        return bytes(done.value)
