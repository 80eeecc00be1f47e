"""OTLP/gRPC on real sockets: requests that never send, and the service for others meanwhile."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from spanpost.http.tokens import hash_of
from tests.receivers.endpoints import Endpoint, opened, traces

grpc = pytest.importorskip("grpc")
from spanpost.receivers.otlp_grpc import READERS, GrpcServer, OtlpGrpc, RecordsMessages  # noqa: E402

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TOKENS = [("red", hash_of("red")), ("blue", hash_of("blue"))]


class Served:
    """A gRPC server with an endpoint's receiver."""

    def __init__(self, endpoint: Endpoint, handlers: OtlpGrpc, port: int) -> None:
        self.endpoint, self.handlers, self.port = endpoint, handlers, port
        self._channels: list[Any] = []

    def channel(self) -> Any:
        """Return a separate connection."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options))
        return self._channels[-1]

    async def silent(self, count: int, tenant: str = "red") -> list[Any]:
        """Open requests on one connection that never send; return when the server has those that still hold
        a turn.
        """
        channel, unread = self.channel(), self.handlers._unread._turns
        before = len(unread)
        calls = [channel.stream_unary(METHOD)(metadata=(("authorization", f"Bearer {tenant}"),)) for _ in range(count)]
        while len(unread) < before + count - (READERS if before else 0):  # noqa: ASYNC110
            await asyncio.sleep(0)
        return calls

    async def send(self, number: int, tenant: str) -> Any:
        """Send a span on a new connection; return the answer, or the code of a refusal."""
        call = self.channel().unary_unary(METHOD)(
            traces(number), metadata=(("authorization", f"Bearer {tenant}"),), timeout=60
        )
        try:
            return await call
        except grpc.RpcError as error:
            return error.code().name

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[Served]:
    async with opened(tokens=TOKENS) as endpoint:
        handlers = OtlpGrpc(
            RecordsMessages(endpoint.receiver, lambda: ""), endpoint.sender_tokens, is_ready=lambda: True
        )
        server = GrpcServer(handlers, most_bytes=100_000, connections=100, **options)
        port = server.listen("127.0.0.1:0")
        await server.start()
        there = Served(endpoint, handlers, port)
        try:
            yield there
        finally:
            await there.close()
            await server.stop(0)


@pytest.mark.parametrize("tenant", ["blue", "red"], ids=["another tenant", "another connection"])
async def test_requests_that_never_send_keep_nobody_out(tenant: str) -> None:
    """M3: while one sender has far more requests open than are read at once, another's are answered OK in
    turn.
    """
    async with served() as there:
        silent = [*await there.silent(90), *await there.silent(90)] if tenant == "blue" else await there.silent(90)
        for number in range(1, 6):
            assert await there.send(number, tenant) == b""
        assert there.endpoint.interaction_store.spans == [1, 2, 3, 4, 5]
        assert sum(not call.done() for call in silent) > READERS
        assert there.endpoint.receiver.in_flight == 0


async def test_a_request_that_loses_its_turn_is_to_be_repeated() -> None:
    """The one request that loses its turn to another sender is answered UNAVAILABLE at once, which exporters repeat."""
    async with served() as there:
        silent = await there.silent(READERS)
        assert await there.send(1, "blue") == b""
        codes = [asyncio.create_task(call.code()) for call in silent]
        [ended], _ = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
        assert ended.result() is grpc.StatusCode.UNAVAILABLE


async def test_two_tokens_are_none() -> None:
    """A call with two tokens is refused, whichever comes first: a proxy before it may have read the other one."""
    async with served() as there:
        for first, second in (("red", "blue"), ("red", "red"), ("nobody", "red")):
            two = [("authorization", f"Bearer {tenant}") for tenant in (first, second)]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await there.channel().unary_unary(METHOD)(traces(1), metadata=two, timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert there.endpoint.interaction_store.spans == []


async def test_without_a_token_nothing_is_read() -> None:
    """A request without a token is refused, and health is answered, before any message has come."""
    async with served() as there:
        assert await there.send(1, "nobody") == "UNAUTHENTICATED"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await there.channel().stream_unary(METHOD)(timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await there.channel().stream_unary("/grpc.health.v1.Health/Check")(timeout=60) == b"\x08\x01"
        assert there.endpoint.interaction_store.spans == []


async def test_the_unix_socket_is_never_open_to_others(tmp_path: Path) -> None:
    """L7: with any umask, the socket is readable for owner and group alone from its creation on."""
    path = tmp_path / "otlp.sock"
    before = os.umask(0)
    try:
        async with opened() as endpoint:
            server = GrpcServer(
                OtlpGrpc(RecordsMessages(endpoint.receiver, lambda: ""), endpoint.sender_tokens, is_ready=lambda: True),
                most_bytes=1000,
                connections=10,
            )
            server.listen_on_socket(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            await server.stop(0)
    finally:
        os.umask(before)
