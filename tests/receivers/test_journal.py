"""The way through the journal: which requests are answered, recorded and rejected when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanpost.http.rate_limited_log import RateLimitedLog
from spanpost.model.errors import OverBudget, StoreUnavailable
from spanpost.model.journal import Backlog
from spanpost.model.observations import Observation
from spanpost.model.recorded import Recorded
from spanpost.receivers.decode import decode_traces
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.pressure import Pressure
from spanpost.receivers.request_parts import Body, RequestPart
from tests.receivers.endpoints import JSON, PROTOBUF, Answer, Endpoint, SetLimits, opened, traces

BUSY = SetLimits(writers=1, direct_bytes=0, direct=0.0)
SIZE = 100


class Row(NamedTuple):
    """A row of the journal in memory."""

    tenant: str
    observations: Sequence[Observation]


class MemoryJournal:
    """A journal in memory: each body is a row of `SIZE` bytes. Nothing is recorded while `gate` is closed."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.recorded: list[Observation] = []
        self.set_aside: list[Observation] = []
        self.appends = self.postponed = 0
        self.age = 0.0
        self.has_key = True
        self.gate = asyncio.Event()
        self.fail: Exception | None = None
        #: Numbers of spans that are too much, and the error for that.
        self.slow = set[int]()
        self.error: type[Exception] = OverBudget

    async def append(self, parts: Sequence[RequestPart[Body]], /) -> Mapping[str, int]:
        self.appends += 1
        if self.fail is not None:
            raise self.fail
        self.rows += [
            Row(part.tenant, decode_traces(part.content.body, tenant=part.tenant).observations) for part in parts
        ]
        return {part.tenant: SIZE for part in parts}

    def _take(self, tenant: str) -> Row | None:
        return next((row for row in self.rows if row.tenant == tenant), None)

    async def record(self, tenant: str, most: int, /) -> Recorded | None:
        await self.gate.wait()
        if (row := self._take(tenant)) is None:
            return None
        if self.slow & numbers(row.observations):
            await asyncio.sleep(0)
            raise self.error("it is too much")
        self.rows.remove(row)
        self.recorded += row.observations
        return Recorded()

    async def record_alone(self, tenant: str, /) -> Recorded | None:
        if (row := self._take(tenant)) is None:
            return None
        self.rows.remove(row)
        for o in row.observations:
            (self.set_aside if self.slow & numbers([o]) else self.recorded).append(o)
        return Recorded()

    async def depth(self) -> Sequence[Backlog]:
        if self.fail is not None:
            raise self.fail
        tenants = dict.fromkeys(row.tenant for row in self.rows)
        count = {tenant: sum(row.tenant == tenant for row in self.rows) for tenant in tenants}
        own_age, lost = (self.age, 0) if self.has_key else (0.0, len(self.rows))
        return [
            Backlog(
                tenant=t,
                rows=n,
                size=n * SIZE,
                observations=n,
                age=self.age,
                own_age=own_age,
                undecryptable=min(n, lost),
            )
            for t, n in count.items()
        ]

    async def postpone_stalls(self) -> None:
        self.postponed += 1


def numbers(observations: Sequence[Observation]) -> set[int]:
    return {int.from_bytes(o.span_id, "big") for o in observations}


@asynccontextmanager
async def busy(
    journal: MemoryJournal, limits: AdmissionLimits = BUSY, tokens: Sequence[tuple[str, str]] = (), **headers: str
) -> AsyncIterator[tuple[Endpoint, list[asyncio.Task[Answer]]]]:
    """Lend a receiver whose writers hang while another request waits, so that new ones would wait."""
    async with opened(limits, tokens, journal=journal) as endpoint:
        endpoint.interaction_store.gate.clear()
        direct = [asyncio.create_task(endpoint.post("/v1/traces", traces(901), **headers))]
        await endpoint.interaction_store.entered.wait()
        direct.append(asyncio.create_task(endpoint.post("/v1/traces", traces(902), **headers)))
        while not endpoint.receiver.groups.parts:  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield endpoint, direct
        journal.gate.set()
        endpoint.interaction_store.gate.set()
        assert [(await task).status for task in direct] == [200, 200]


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


async def until(happened: object) -> None:
    """Let others go on until a condition holds."""
    while not happened():  # type: ignore[operator]  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_an_idle_gateway_records_directly(journal: MemoryJournal) -> None:
    """Requests that come one after the other never use the journal."""
    async with opened(AdmissionLimits(), journal=journal) as endpoint:
        for number in range(1, 20):
            assert (await endpoint.post("/v1/traces", traces(number))).status == 200
        assert journal.appends == 0
        assert endpoint.interaction_store.spans == [*range(1, 20)]


async def test_what_would_have_to_wait_is_answered_when_it_is_in_the_journal(journal: MemoryJournal) -> None:
    """While a transaction hangs further requests are answered from the journal and recorded later."""
    async with busy(journal) as (endpoint, _):
        answers = await asyncio.gather(*(endpoint.post("/v1/traces", traces(number)) for number in range(1, 10)))
        assert {answer.status for answer in answers} == {200}
        assert journal.appends < 9  # several to a commit
        assert len(journal.rows) == 9
        assert endpoint.interaction_store.spans == []
        journal.gate.set()
    async with opened(BUSY, journal=journal) as _:
        await until(lambda: not journal.rows)
    assert numbers(journal.recorded) == {*range(1, 10)}


async def test_a_full_journal_sends_senders_away_as_a_full_queue_does(journal: MemoryJournal) -> None:
    """A tenant may fill half of the journal; beyond that and its queue share it is 503 with Retry-After."""
    limits = SetLimits(writers=1, direct_bytes=0, direct=0.0, queue=0.0, queue_bytes=10, journal_bytes=6 * SIZE)
    async with busy(journal, limits) as (endpoint, _):
        answers = [await endpoint.post("/v1/traces", traces(number)) for number in range(1, 6)]
        assert [answer.status for answer in answers] == [200, 200, 200, 200, 503]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 5
        assert len(journal.rows) == 4


async def test_another_tenant_has_a_share_of_a_full_journal(journal: MemoryJournal) -> None:
    """When one tenant's share is used up another is still answered."""
    tokens = [(tenant, sha256(tenant.encode()).hexdigest()) for tenant in ("greedy", "modest")]
    limits = SetLimits(writers=1, direct_bytes=0, direct=0.0, queue=0.0, queue_bytes=10, journal_bytes=6 * SIZE)
    async with busy(journal, limits, tokens, authorization="Bearer greedy") as (endpoint, _):
        greedy = [
            (await endpoint.post("/v1/traces", traces(n), authorization="Bearer greedy")).status for n in range(1, 6)
        ]
        assert greedy[-1] == 503
        modest = asyncio.create_task(endpoint.post("/v1/traces", traces(50), authorization="Bearer modest"))
    assert (await modest).status == 200


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"no protobuf at all", PROTOBUF),
        (traces(1)[:-3], PROTOBUF),
        (b"\x0a\x07\x12\x05\x12\x03\xff\xff\xff", PROTOBUF),
        (b'{"resourceSpans": [', JSON),
    ],
    ids=["text", "cut off", "a span that is none", "json"],
)
async def test_a_body_that_cannot_be_decoded_is_refused_before_it_is_written(
    journal: MemoryJournal, body: bytes, content_type: str
) -> None:
    """With the journal in use an undecodable request is still answered 400 and kept in quarantine."""
    async with busy(journal) as (endpoint, _):
        assert (await endpoint.post("/v1/traces", body, content_type)).status == 400
        assert [kept[1] for kept in endpoint.interaction_store.kept] == ["otlp traces"]
        assert not journal.rows


async def test_a_bad_span_is_left_out_of_what_is_written(journal: MemoryJournal) -> None:
    """The sender learns of a span that the parser refuses, and its neighbours are in the journal."""
    bad = b"\x0a\x07\x12\x05\x12\x03\xff\xff\xff"
    async with busy(journal) as (endpoint, _):
        answer = await endpoint.post("/v1/traces", traces(1) + bad + traces(2))
        assert answer.status == 200
        assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
        assert [numbers(row.observations) for row in journal.rows] == [{1, 2}]
        assert len(endpoint.interaction_store.kept) == 1


async def test_lenient_json_is_recorded_directly(journal: MemoryJournal) -> None:
    """JSON that only the lenient parser reads waits for its turn, as it would without a journal."""
    body = b'{"resourceSpans": [], "x": NaN}'
    async with busy(journal) as (endpoint, _):
        assert (await endpoint.post("/v1/traces", body, JSON)).status == 200
        assert not journal.rows


async def test_while_more_arrives_than_is_recorded_nothing_is_recorded_directly(
    journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant whose requests went to the journal uses it for a while, though the queue is empty again."""
    monkeypatch.setattr("spanpost.receivers.pressure._WINDOW", 60.0)
    async with busy(journal) as (endpoint, direct):
        assert (await endpoint.post("/v1/traces", traces(1))).status == 200
        endpoint.interaction_store.gate.set()
        await asyncio.gather(*direct)
        assert (await endpoint.post("/v1/traces", traces(2))).status == 200
        assert endpoint.interaction_store.spans == [901, 902]


def test_pressure_ends_when_less_arrives_than_is_recorded() -> None:
    """A tenant is under pressure while it sends more bytes a second than are recorded, and others are not."""
    pressure = Pressure()
    assert not pressure.is_on("a", 100, 50.0, 0.0)
    pressure.begin("a", 100, 0.0)
    assert [pressure.is_on("a", 100, 50.0, at) for at in (0.1, 0.9, 1.1)] == [True, True, True]
    assert not pressure.is_on("b", 100, 50.0, 1.2)
    assert pressure.is_on("a", 10, 50.0, 2.2)
    assert not pressure.is_on("a", 10, 50.0, 3.3)
    assert not pressure.is_on("a", 1000, 50.0, 3.4)


def test_a_burst_is_several_times_the_pace() -> None:
    """Twice the recording rate is recorded directly; ten times is a burst, until a second after its last
    request.
    """
    for times, is_burst in ((2, False), (10, True)):
        pressure = Pressure()
        pressure.begin("a", 100 * times, 0.0)
        for tenth in range(1, 30):
            pressure.is_on("a", 100 * times, 1000.0, tenth / 10)
        assert pressure.is_burst(1000.0, 2.9) is is_burst
        assert not pressure.is_burst(1000.0, 6.0)


@pytest.mark.slow
async def test_the_lag_is_unknown_while_the_journal_cannot_be_read(journal: MemoryJournal) -> None:
    """A failed check leaves no stale age behind; the next successful one shows one again."""
    journal.age = 7.0
    journal.rows.append(Row("default", []))
    async with opened(BUSY, journal=journal) as endpoint:
        queue = endpoint.receiver.journal
        assert queue is not None
        await until(lambda: queue.lag == 7.0)
        journal.fail = StoreUnavailable("away")
        async with asyncio.timeout(60):
            await until(lambda: queue.lag is None)
        journal.fail = None
        async with asyncio.timeout(60):
            await until(lambda: queue.lag == 7.0)
        journal.gate.set()


async def test_while_the_journal_cannot_be_written_senders_come_back(journal: MemoryJournal) -> None:
    """A store that is down is 503 with Retry-After, through the journal as directly."""
    journal.fail = StoreUnavailable("no space left on device")
    async with busy(journal) as (endpoint, _):
        answer = await endpoint.post("/v1/traces", traces(1))
        assert (answer.status, 1 <= answer.retry_delay <= 5) == (503, True)
        assert endpoint.receiver.trouble
    assert not journal.rows


@pytest.mark.parametrize("error", [OverBudget, MemoryError])
async def test_a_tenant_that_is_too_much_holds_up_no_other(journal: MemoryJournal, error: type[Exception]) -> None:
    """An observation that takes too long, or too much memory, is quarantined apart; all others are recorded."""
    journal.slow, journal.error = {3}, error
    entries = [(tenant, number) for number in range(1, 6) for tenant in ("evil", "good")]
    for tenant, number in entries:
        observations = [Observation(part=0, trace_id=bytes(16), span_id=number.to_bytes(8, "big"), tenant=tenant)]  # type: ignore[arg-type]
        journal.rows.append(Row(tenant, observations))
    journal.rows = [row for row in journal.rows if row.tenant == "evil" or 3 not in numbers(row.observations)]
    journal.gate.set()
    async with opened(BUSY, journal=journal):
        await until(lambda: not journal.rows)
    assert [(o.tenant, int.from_bytes(o.span_id, "big")) for o in journal.set_aside] == [("evil", 3)]
    assert len(journal.recorded) == 8


async def test_tenants_have_their_turns(journal: MemoryJournal) -> None:
    """A tenant with one request is recorded after one of another's, not after its hundred."""
    for tenant, count in (("many", 100), ("one", 1)):
        for number in range(count):
            observations = [Observation(part=0, trace_id=bytes(16), span_id=number.to_bytes(8, "big"), tenant=tenant)]  # type: ignore[arg-type]
            journal.rows.append(Row(tenant, observations))
    journal.gate.set()
    async with opened(BUSY, journal=journal):
        await until(lambda: not journal.rows)
    assert [o.tenant for o in journal.recorded].index("one") <= 2


async def test_stall_timeouts_restart_while_the_journal_is_late(journal: MemoryJournal) -> None:
    """While the journal's oldest row is old, every stall timeout starts again."""
    journal.age = 60.0
    journal.rows.append(Row("default", []))
    async with opened(BUSY, journal=journal):
        await until(lambda: journal.postponed)
        journal.gate.set()
    assert journal.postponed == 1


async def test_rows_of_a_lost_key_delay_nothing(
    journal: MemoryJournal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that no key decrypts keep no task from counting as stalled, and show: as lag, and in the log."""
    monkeypatch.setattr("spanpost.receivers.journal._limited_log", RateLimitedLog(logging.getLogger("spanpost")))
    journal.age, journal.has_key = 86_400.0, False
    journal.rows.append(Row("default", []))
    async with opened(BUSY, journal=journal) as endpoint:
        queue = endpoint.receiver.journal
        assert queue is not None
        await until(lambda: queue.lag == 86_400.0)
        assert "1 rows of the journal wait for a key" in caplog.text
    assert (journal.postponed, len(journal.rows)) == (0, 1)
