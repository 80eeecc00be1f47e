"""Recording groups: which requests share one, in which order, and the neighbours of a tenant that takes too
long.
"""

from __future__ import annotations

import asyncio

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanpost.http.shares import Sender
from spanpost.model.errors import StoreUnavailable
from spanpost.model.observations import Observation
from spanpost.receivers.decode import decode_traces
from spanpost.receivers.limits import AdmissionLimits
from spanpost.receivers.request_parts import SHARED, RequestPart
from tests.receivers.endpoints import Endpoint, opened, traces


def observations(tenant: str, *numbers: int) -> list[Observation]:
    return list(decode_traces(traces(*numbers), tenant=tenant).observations)


def put(endpoint: Endpoint, tenant: str, *numbers: int) -> RequestPart:
    """Record one request."""
    [part] = endpoint.receiver.groups.put(Sender(tenant, ""), observations(tenant, *numbers), 100)
    return part


def met(endpoint: Endpoint) -> list[list[tuple[str, int]]]:
    """Return the recorded batches: tenant and number of each span."""
    return [
        [(o.tenant, int.from_bytes(o.span_id, "big")) for o in batch] for batch in endpoint.interaction_store.batches
    ]


async def busy(endpoint: Endpoint, writers: int) -> None:
    """Wait until so many writers work on a group."""
    while endpoint.receiver.groups.under_way < writers:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_tenants_take_turns() -> None:
    """A tenant's one request is in the next group however many another has; each tenant's order stays."""
    async with opened(AdmissionLimits(writers=1, group_size=3)) as endpoint:
        parts = [put(endpoint, "loud", n) for n in range(1, 6)] + [put(endpoint, "quiet", 7), put(endpoint, "other", 8)]
        for part in parts:
            assert await part.done == 0
        assert met(endpoint) == [
            [("loud", 1), ("quiet", 7), ("other", 8)],
            [("loud", 2), ("loud", 3), ("loud", 4)],
            [("loud", 5)],
        ]


async def test_a_tenant_has_not_all_writers() -> None:
    """While one tenant's groups block their writers, another tenant commits, and the first gets no more."""
    async with opened(AdmissionLimits(writers=2, group_size=2)) as endpoint:
        endpoint.interaction_store.is_held = lambda batch: batch[0].tenant == "loud"
        loud = [put(endpoint, "loud", n) for n in range(1, 9)]
        await busy(endpoint, 2)
        assert await put(endpoint, "quiet", 9).done == 0
        assert await put(endpoint, "other", 10).done == 0
        assert met(endpoint) == [[("quiet", 9)], [("other", 10)]]
        assert endpoint.receiver.groups.under_way == 2
        endpoint.interaction_store.let_go.set()
        assert [await part.done for part in loud] == [0] * 8


async def test_a_large_request_is_recorded_with_its_own_tenants_alone() -> None:
    """A large request shares its transaction with requests of its own tenant only."""
    async with opened(AdmissionLimits(writers=1)) as endpoint:
        endpoint.interaction_store.is_held = lambda batch: batch[0].tenant == "first"
        first = put(endpoint, "first", 1)
        await busy(endpoint, 1)
        waiting = [
            put(endpoint, "a", 2),
            put(endpoint, "large", *range(1000, 1001 + SHARED)),
            put(endpoint, "large", 3),
            put(endpoint, "b", 4),
        ]
        for part in waiting:
            assert await part.done == 0
        assert [{tenant for tenant, _ in batch} for batch in met(endpoint)] == [{"a", "b"}, {"large"}]
        endpoint.interaction_store.let_go.set()
        assert await first.done == 0


async def test_what_takes_too_long_is_taken_apart_by_tenants() -> None:
    """After a timeout the others of a group are committed, each by itself; the slow one's sender learns how
    much is quarantined.
    """
    async with opened(AdmissionLimits(writers=1)) as endpoint:
        endpoint.interaction_store.is_slow = lambda o: o.span_id[-1] == 5
        a, evil, b = put(endpoint, "a", 2), put(endpoint, "evil", 4, 5, 6), put(endpoint, "b", 3)
        assert [await part.done for part in (a, b, evil)] == [0, 0, 1]
        assert met(endpoint) == [[("a", 2)], [("b", 3)], [("evil", 4), ("evil", 6)]]


async def test_what_a_slow_tenant_sends_keeps_no_other_waiting() -> None:
    """While the writer for slow tenants hangs the other continues, and healthy requests there are grouped."""
    async with opened(AdmissionLimits(writers=1)) as endpoint:
        groups = endpoint.receiver.groups
        endpoint.interaction_store.is_slow = lambda o: o.span_id[-1] == 5
        assert await put(endpoint, "evil", 5).done == 1
        endpoint.interaction_store.gate.clear()
        hanging = put(endpoint, "evil", 1)
        endpoint.interaction_store.entered.clear()
        await endpoint.interaction_store.entered.wait()
        waiting = [put(endpoint, "evil", n) for n in (2, 3)]
        assert groups.under_way == 1
        endpoint.interaction_store.entered.clear()
        good = put(endpoint, "good", 7)
        await endpoint.interaction_store.entered.wait()
        assert groups.under_way == 2
        endpoint.interaction_store.gate.set()
        assert [await part.done for part in (good, hanging, *waiting)] == [0, 0, 0, 0]
        assert [("evil", 2), ("evil", 3)] in met(endpoint)


async def test_a_slow_tenant_is_one_like_others_after_a_while() -> None:
    """Some time after its last timeout a tenant's requests are recorded with those of others again."""
    async with opened(AdmissionLimits(writers=1)) as endpoint:
        endpoint.interaction_store.is_slow = lambda o: o.span_id[-1] == 5
        assert await put(endpoint, "evil", 5).done == 1
        assert put(endpoint, "evil", 1).is_slow
        endpoint.receiver.groups._slow_until["evil"] = 0.0
        assert not put(endpoint, "evil", 2).is_slow


async def test_the_sender_of_quarantined_spans_must_not_repeat_them() -> None:
    """The answer is 200 with a partial success: how many spans are rejected, and why. A Collector drops
    them.
    """
    async with opened() as endpoint:
        endpoint.interaction_store.is_slow = lambda o: o.span_id[-1] == 5
        answer = await endpoint.post("/v1/traces", traces(4, 5, 6))
        assert answer.status == 200
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert partial.rejected_spans == 1
        assert "do not send them again" in partial.error_message
        assert endpoint.interaction_store.spans == [4, 6]


async def test_a_store_that_is_down_fails_slow_tenants_too() -> None:
    """Waiting requests of slow tenants are 503 when the store goes down, and at the stop."""
    async with opened(AdmissionLimits(writers=1)) as endpoint:
        endpoint.interaction_store.is_slow = lambda o: o.span_id[-1] == 5
        assert await put(endpoint, "evil", 5).done == 1
        endpoint.interaction_store.fail = lambda batch: StoreUnavailable("gone")
        part = put(endpoint, "evil", 1)
        await asyncio.wait([part.done])
        assert isinstance(part.done.exception(), StoreUnavailable)
        endpoint.interaction_store.gate.clear()
        parts = [put(endpoint, "evil", n) for n in (1, 2)]
        assert not await endpoint.receiver.close(0.0)
        assert all(isinstance(part.done.exception(), StoreUnavailable) for part in parts)


async def test_what_comes_after_the_end_is_refused_at_once() -> None:
    """A body that is still being decoded when all writers have ended waits for none of them, of any kind."""
    async with opened(AdmissionLimits(writers=1)) as endpoint:
        endpoint.receiver.groups._mark_slow("evil")
        assert await endpoint.receiver.close(1.0)
        for tenant in ("evil", "quiet"):
            assert isinstance(put(endpoint, tenant, 1).done.exception(), StoreUnavailable)
        assert not endpoint.receiver.waiting
