"""Who is recorded with whom, in which turn, and what becomes of those beside a tenant that takes too long."""

from __future__ import annotations

import asyncio

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanpost.domain.errors import LedgerUnavailable
from spanpost.domain.observations import Observation
from spanpost.intake.admission import Limits
from spanpost.intake.decode import decode_traces
from spanpost.intake.recording_groups import SHARED, Part
from spanpost.shares import Sender
from tests.intake.doors import Door, opened, traces


def observations(tenant: str, *numbers: int) -> list[Observation]:
    return list(decode_traces(traces(*numbers), tenant=tenant).observations)


def put(door: Door, tenant: str, *numbers: int) -> Part:
    """Have one request recorded."""
    [part] = door.receiver.groups.put(Sender(tenant, ""), observations(tenant, *numbers), 100)
    return part


def met(door: Door) -> list[list[tuple[str, int]]]:
    """Return the batches that were recorded: tenant and number of each span."""
    return [[(o.tenant, int.from_bytes(o.span_id, "big")) for o in batch] for batch in door.hall.batches]


async def busy(door: Door, writers: int) -> None:
    """Wait until so many writers have a group in hand."""
    while door.receiver.groups.under_way < writers:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_tenants_take_turns() -> None:
    """Who has one request waiting is in the next group, however many another has; each tenant's own keep their order."""
    async with opened(Limits(writers=1, group=3)) as door:
        parts = [put(door, "loud", n) for n in range(1, 6)] + [put(door, "quiet", 7), put(door, "other", 8)]
        for part in parts:
            assert await part.done == 0
        assert met(door) == [
            [("loud", 1), ("quiet", 7), ("other", 8)],
            [("loud", 2), ("loud", 3), ("loud", 4)],
            [("loud", 5)],
        ]


async def test_a_tenant_has_not_all_writers() -> None:
    """While one tenant's groups hang in all writers, what another sends is committed, and what the one sends more is not."""
    async with opened(Limits(writers=2, group=2)) as door:
        door.hall.is_held = lambda batch: batch[0].tenant == "loud"
        loud = [put(door, "loud", n) for n in range(1, 9)]
        await busy(door, 2)
        assert await put(door, "quiet", 9).done == 0
        assert await put(door, "other", 10).done == 0
        assert met(door) == [[("quiet", 9)], [("other", 10)]]
        assert door.receiver.groups.under_way == 2
        door.hall.let_go.set()
        assert [await part.done for part in loud] == [0] * 8


async def test_a_large_request_is_recorded_with_its_own_tenants_alone() -> None:
    """What may take long does not share a transaction with small requests of others; those of its own tenant come along."""
    async with opened(Limits(writers=1)) as door:
        door.hall.is_held = lambda batch: batch[0].tenant == "first"
        first = put(door, "first", 1)
        await busy(door, 1)
        waiting = [put(door, "a", 2), put(door, "large", *range(1000, 1001 + SHARED)), put(door, "large", 3), put(door, "b", 4)]
        for part in waiting:
            assert await part.done == 0
        assert [{tenant for tenant, _ in batch} for batch in met(door)] == [{"a", "b"}, {"large"}]
        door.hall.let_go.set()
        assert await first.done == 0


async def test_what_takes_too_long_is_taken_apart_by_tenants() -> None:
    """The others of a group are committed, each by itself; of the one that takes too long its sender hears how much is kept aside."""
    async with opened(Limits(writers=1)) as door:
        door.hall.is_slow = lambda o: o.span_id[-1] == 5
        a, evil, b = put(door, "a", 2), put(door, "evil", 4, 5, 6), put(door, "b", 3)
        assert [await part.done for part in (a, b, evil)] == [0, 0, 1]
        assert met(door) == [[("a", 2)], [("b", 3)], [("evil", 4), ("evil", 6)]]


async def test_what_a_slow_tenant_sends_keeps_no_other_waiting() -> None:
    """While the lane of slow ones hangs, the only other writer goes on; and there a tenant's healthy requests are recorded together."""
    async with opened(Limits(writers=1)) as door:
        groups = door.receiver.groups
        door.hall.is_slow = lambda o: o.span_id[-1] == 5
        assert await put(door, "evil", 5).done == 1
        door.hall.gate.clear()
        hanging = put(door, "evil", 1)
        door.hall.entered.clear()
        await door.hall.entered.wait()
        waiting = [put(door, "evil", n) for n in (2, 3)]
        assert groups.under_way == 1
        door.hall.entered.clear()
        good = put(door, "good", 7)
        await door.hall.entered.wait()
        assert groups.under_way == 2
        door.hall.gate.set()
        assert [await part.done for part in (good, hanging, *waiting)] == [0, 0, 0, 0]
        assert [("evil", 2), ("evil", 3)] in met(door)


async def test_a_slow_tenant_is_one_like_others_after_a_while() -> None:
    """Some time after the last that took too long a tenant's requests are recorded with those of others again."""
    async with opened(Limits(writers=1)) as door:
        door.hall.is_slow = lambda o: o.span_id[-1] == 5
        assert await put(door, "evil", 5).done == 1
        assert put(door, "evil", 1).is_slow
        door.receiver.groups._slow_until["evil"] = 0.0
        assert not put(door, "evil", 2).is_slow


async def test_who_sent_what_is_kept_aside_is_told_not_to_send_it_again() -> None:
    """The answer is 200 with a partial success: how many spans are rejected, and why. A Collector drops them."""
    async with opened() as door:
        door.hall.is_slow = lambda o: o.span_id[-1] == 5
        answer = await door.post("/v1/traces", traces(4, 5, 6))
        assert answer.status == 200
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert partial.rejected_spans == 1
        assert "do not send them again" in partial.error_message
        assert door.hall.spans == [4, 6]


async def test_a_ledger_that_is_away_fails_the_slow_too() -> None:
    """What waits in the lane of slow ones is 503 when the ledger goes away, and so is what waits there at the stop."""
    async with opened(Limits(writers=1)) as door:
        door.hall.is_slow = lambda o: o.span_id[-1] == 5
        assert await put(door, "evil", 5).done == 1
        door.hall.fail = lambda batch: LedgerUnavailable("gone")
        part = put(door, "evil", 1)
        await asyncio.wait([part.done])
        assert isinstance(part.done.exception(), LedgerUnavailable)
        door.hall.gate.clear()
        parts = [put(door, "evil", n) for n in (1, 2)]
        assert not await door.receiver.close(0.0)
        assert all(isinstance(part.done.exception(), LedgerUnavailable) for part in parts)


async def test_what_comes_after_the_end_is_refused_at_once() -> None:
    """A body that is still being decoded when all writers have ended waits for none of them, in neither lane."""
    async with opened(Limits(writers=1)) as door:
        door.receiver.groups._is_slow("evil")
        assert await door.receiver.close(1.0)
        for tenant in ("evil", "quiet"):
            assert isinstance(put(door, tenant, 1).done.exception(), LedgerUnavailable)
        assert not door.receiver.waiting
