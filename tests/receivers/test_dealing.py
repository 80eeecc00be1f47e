"""Dealing among workers: the parts of a trace meet, and nothing is lost when a worker is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from spanpost.model.errors import StoreUnavailable
from spanpost.receivers.dealing import Dealer, split
from spanpost.receivers.decode import decode_traces
from spanpost.receivers.protobuf_pieces import wrap
from tests.eventually import eventually_async
from tests.receivers.endpoints import JSON, Endpoint, opened, traces


@asynccontextmanager
async def workers(
    directory: Path, total: int = 2, running: int = 2, answer_timeout: float = 60
) -> AsyncIterator[list[Endpoint]]:
    """Lend the endpoints of workers; those beyond `running` do not exist."""
    async with asyncio.TaskGroup() as group:
        ended = asyncio.Event()
        ready: list[asyncio.Future[Endpoint]] = [asyncio.get_running_loop().create_future() for _ in range(running)]

        async def work(number: int) -> None:
            dealer = Dealer(number, total, directory, answer_timeout=answer_timeout)
            async with opened(dealer=dealer) as endpoint:
                await dealer.start(endpoint.receiver.take_share)
                ready[number].set_result(endpoint)
                await ended.wait()
                await dealer.close()

        for number in range(running):
            group.create_task(work(number))
        yield [await each for each in ready]
        ended.set()


def test_shares_hold_whole_traces_and_all_spans() -> None:
    """Each span is in one share with its resource and scope, and a trace's spans share one in any body."""
    request = ExportTraceServiceRequest.FromString(traces(*range(1, 101)))
    request.resource_spans[0].resource.attributes.add(key="service.name").value.string_value = "agent"
    request.resource_spans[0].scope_spans[0].scope.name = "scope"
    body = request.SerializeToString()
    shares = [decode_traces(share).observations for share in split(body, 3, 0)]
    assert sorted((o for share in shares for o in share), key=lambda o: o.span_id) == decode_traces(body).observations
    assert all(len(share) > 10 for share in shares)
    again = [decode_traces(share).observations for share in split(traces(*range(50, 60)), 3, 0)]
    for first, second in zip(shares, again, strict=True):
        assert {o.trace_id for o in second} <= {o.trace_id for o in first}


def test_spans_without_an_id_stay() -> None:
    """A span whose trace id is missing or of another length stays with the receiving worker."""
    request = ExportTraceServiceRequest.FromString(traces(1, 2))
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b""
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"
    shares = split(request.SerializeToString(), 4, 3)
    assert [bool(share) for share in shares] == [False, False, False, True]


async def test_each_trace_is_recorded_by_its_owner(tmp_path: Path) -> None:
    """Wherever its parts arrive, a trace is recorded by one worker; both record some, and each span once."""
    async with workers(tmp_path) as (first, second):
        for at, endpoint in enumerate((first, second)):
            answers = [await endpoint.post("/v1/traces", traces(n, n + 100)) for n in range(1 + at, 60, 2)]
            assert {answer.status for answer in answers} == {200}
        recorded = [each.interaction_store.spans for each in (first, second)]
        assert sorted(recorded[0] + recorded[1]) == [*range(1, 60), *range(101, 160)]
        assert all(recorded)
        assert [n % 2 for n in recorded[0]] == [0] * len(recorded[0])


async def test_a_share_whose_owner_is_gone_is_recorded_here(tmp_path: Path) -> None:
    """Without the other worker, and with the socket of a killed one, all spans are recorded."""
    async with workers(tmp_path, running=1) as (only,):
        assert (await only.post("/v1/traces", traces(1, 2))).status == 200
        dead = await asyncio.start_unix_server(lambda _, writer: writer.close(), tmp_path / "worker-1.sock")
        assert (await only.post("/v1/traces", traces(3, 4))).status == 200
        dead.close()
        assert only.interaction_store.spans == [1, 2, 3, 4]


async def test_a_share_whose_owner_hangs_is_recorded_here(tmp_path: Path) -> None:
    """A worker that takes a share and never answers costs its time limit, and all spans are recorded."""
    async with workers(tmp_path, running=1, answer_timeout=0.05) as (only,):
        is_over = asyncio.Event()

        async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await is_over.wait()
            writer.close()

        async with await asyncio.start_unix_server(hang, tmp_path / "worker-1.sock"):
            assert (await only.post("/v1/traces", traces(1, 2))).status == 200
            assert only.interaction_store.spans == [1, 2]
            is_over.set()


async def test_the_sender_gets_the_owners_answer(tmp_path: Path) -> None:
    """An owner that cannot record asks the sender to repeat; spans that it cannot read are counted as
    rejected.
    """
    bad = traces(1).replace(b"\x12\x06\x0a\x04chat", b"\x12\x06\x0a\x05chat")
    async with workers(tmp_path) as (first, second):
        answer = await first.post("/v1/traces", bad + traces(3))
        assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
        assert [kept[1] for kept in second.interaction_store.kept] == ["otlp traces"]
        second.interaction_store.fail = lambda batch: StoreUnavailable("the database does not take it")
        assert (await first.post("/v1/traces", traces(4, 5))).status == 503
        assert first.interaction_store.spans == [4]


#: Spans that the parser accepts and the reader refuses, of two traces: the first worker's and the second worker's.
BAD = [traces(n).replace(b"\x12\x06\x0a\x04chat", b"\x12\x06\x0a\x05chat") for n in (2, 1)]


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_bad_span_fails_no_span_of_another_worker(tmp_path: Path, owner: int) -> None:
    """One bad span, the only one of its worker, is rejected; the others are recorded, as by one process."""
    async with workers(tmp_path) as endpoints:
        answer = await endpoints[0].post("/v1/traces", BAD[owner] + traces(3 + owner, 5 + owner))
        assert answer.status == 200
        assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
        assert sorted(n for each in endpoints for n in each.interaction_store.spans) == [3 + owner, 5 + owner]
        assert [kept[1] for each in endpoints for kept in each.interaction_store.kept] == ["otlp traces"]
        # Without other spans, the worker that has the request refuses it.
        assert (await endpoints[0].post("/v1/traces", BAD[owner])).status == 400


async def test_a_share_that_holds_too_much_is_refused_as_a_request_is(tmp_path: Path) -> None:
    """Wherever its spans belong, a request with more elements than its size allows is 413."""
    request = ExportTraceServiceRequest.FromString(traces(1))
    fields = b"\x78\x01" * 60_000  # unknown fields beside the spans are elements
    body = bytes(wrap(1, request.resource_spans[0].SerializeToString() + fields))
    async with workers(tmp_path) as endpoints:
        assert [(await each.post("/v1/traces", body)).status for each in endpoints] == [413, 413]


async def test_a_request_with_a_large_resource_is_recorded(tmp_path: Path) -> None:
    """A resource that is too large to be repeated in each share keeps no span from being recorded."""
    request = ExportTraceServiceRequest.FromString(traces(1, 2))
    request.resource_spans[0].resource.attributes.add(key="service.name").value.string_value = "x" * 200_000
    async with workers(tmp_path) as (first, second):
        assert (await first.post("/v1/traces", request.SerializeToString())).status == 200
        assert first.interaction_store.spans + second.interaction_store.spans == [1, 2]


@pytest.mark.parametrize(("body", "kind"), [(b'{"resourceSpans": []}', JSON), (b"", "application/x-protobuf")])
async def test_what_cannot_be_split_is_recorded_where_it_arrives(tmp_path: Path, body: bytes, kind: str) -> None:
    """JSON and an empty request are answered by the worker that received them."""
    async with workers(tmp_path, running=1) as (only,):
        assert (await only.post("/v1/traces", body, kind)).status == 200


def test_the_end_of_a_worker_logs_no_error(tmp_path: Path) -> None:
    """A loop that ends while another worker's connection is open reports no exception."""
    reported: list[object] = []

    async def live() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        await Dealer(0, 2, tmp_path).start(lambda share: asyncio.Future())
        await asyncio.open_unix_connection(tmp_path / "worker-0.sock")
        await eventually_async(lambda: len(asyncio.all_tasks()) > 1)
        await asyncio.sleep(0)  # the connection's task begins

    asyncio.run(live())
    assert reported == []
