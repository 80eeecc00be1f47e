"""Limits of tenants: what is admitted in a time, what a request over a limit is answered, and who is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanpost.http.tokens import hash_of
from spanpost.model.errors import StoreUnavailable
from spanpost.model.tenant_limits import OwnTenantLimits, TenantLimitRules, TokenBucket
from spanpost.receivers.tenant_gate import OverLimit, TenantGate
from tests.receivers.endpoints import Endpoint, opened

TOKENS = [("acme", hash_of("acme")), ("globex", hash_of("globex"))]
NOW = 1_000.0


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def spans(number: int, trace: int = 1, first: int = 1) -> bytes:
    whole = ExportTraceServiceRequest()
    scope = whole.resource_spans.add().scope_spans.add()
    for each in range(first, first + number):
        scope.spans.add(
            name="chat", trace_id=trace.to_bytes(16, "big"), span_id=each.to_bytes(8, "big"),
            start_time_unix_nano=10**18, end_time_unix_nano=10**18 + 1,
        ).attributes.add(key="gen_ai.operation.name").value.string_value = "chat"  # fmt: skip
    return whole.SerializeToString()


async def post(there: Endpoint, tenant: str, body: bytes) -> Any:
    return await there.post("/v1/traces", body, authorization=f"Bearer {tenant}")


def recorded(there: Endpoint) -> int:
    return sum(map(len, there.interaction_store.batches))


# --- the bucket -------------------------------------------------------------------------------------------------------


@given(
    rate=st.integers(1, 1000),
    size=st.integers(1, 5000),
    requests=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 2000)), max_size=60),
)
def test_no_time_admits_more_than_the_rate_with_its_burst(
    rate: int, size: int, requests: list[tuple[float, int]]
) -> None:
    """In every period the admitted entries are at most the burst, the rate for its time, and one request."""
    bucket, now, admitted = TokenBucket(size, 0.0), 0.0, []
    for pause, entries in requests:
        now += pause
        if not bucket.wait(rate, size, now):
            bucket.take(entries)
            admitted.append((now, entries))
    for first, (begin, _) in enumerate(admitted):
        for last in range(first, len(admitted)):
            end, largest = admitted[last][0], max(entries for _, entries in admitted[first : last + 1])
            total = sum(entries for _, entries in admitted[first : last + 1])
            assert total <= size + rate * (end - begin) + largest + 1e-6


@given(rate=st.integers(1, 1000), size=st.integers(1, 5000), entries=st.integers(1, 100_000))
def test_a_body_of_any_size_is_admitted_after_the_wait(rate: int, size: int, entries: int) -> None:
    """A request larger than the burst is taken, and after the named wait the next one is."""
    bucket = TokenBucket(size, 0.0)
    assert bucket.wait(rate, size, 0.0) == 0
    bucket.take(entries)
    wait = bucket.wait(rate, size, 0.0)
    assert wait == pytest.approx(max(entries - size + 1, 0) / rate)
    assert bucket.wait(rate, size, wait + 1e-6) < 1e-6
    bucket.take(-entries)
    assert bucket.is_full(rate, size, wait + 1e-6)


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_a_tenant_may_have_limits_of_its_own() -> None:
    """What a tenant does not set is general, and 0 is no limit."""
    own = {"acme": OwnTenantLimits(entries_per_second=5, stored_bytes=0)}
    rules = TenantLimitRules(entries_per_second=100, open_tasks=7, stored_bytes=10, tenants=own)
    assert (rules.of("acme").entries_per_second, rules.of("acme").bucket) == (5, 50)
    assert (rules.of("acme").open_tasks, rules.of("acme").stored_bytes) == (7, 0)
    assert rules.of("globex") is rules


async def test_a_tenant_over_its_rate_is_asked_to_come_back() -> None:
    """The request is answered 503 with the time after which it is taken, and another tenant is not concerned."""
    clock = Clock()
    gate = TenantGate(TenantLimitRules(entries_per_second=10, burst=20), clock=clock)
    async with opened(tokens=TOKENS, gate=gate) as there:
        gate.watch = there.metrics
        assert (await post(there, "acme", spans(60))).status == 200
        refused = await post(there, "acme", spans(1, trace=2))
        assert refused.status == 503
        assert 5 <= int(refused.headers["retry-after"]) <= 6  # 41 entries are missing
        assert b"tenant acme sends more than 10" in refused.body
        assert b"TENANT_RATE" in refused.body
        assert (await post(there, "globex", spans(1))).status == 200
        clock.now += 4.2
        assert (await post(there, "acme", spans(1, trace=2))).status == 200
        sample = {"limit": "rate", "tenant": "acme"}
        assert there.metrics.registry.get_sample_value("spanpost_tenant_refused_total", sample) == 1
        assert recorded(there) == 62


async def test_what_the_store_refuses_costs_nothing_of_the_rate() -> None:
    """A tenant whose requests fail because the database is down is not over its rate when they come again."""
    gate = TenantGate(TenantLimitRules(entries_per_second=1, burst=1), clock=Clock())
    async with opened(tokens=TOKENS, gate=gate) as there:
        there.interaction_store.fail = lambda batch: StoreUnavailable("down")
        assert (await post(there, "acme", spans(50))).status == 503
        there.interaction_store.fail = lambda batch: None
        assert (await post(there, "acme", spans(50))).status == 200


async def test_limits_change_while_requests_come() -> None:
    """New rules hold from the next request on: a limit that is raised or removed lets the tenant in at once."""
    gate = TenantGate(TenantLimitRules(entries_per_second=1, burst=1), clock=Clock())
    async with opened(tokens=TOKENS, gate=gate) as there:
        assert (await post(there, "acme", spans(50))).status == 200
        assert (await post(there, "acme", spans(50, trace=2))).status == 503
        gate.rules = TenantLimitRules()
        assert (await post(there, "acme", spans(50, trace=2))).status == 200


async def test_open_tasks_go_on_and_others_wait() -> None:
    """Over its open tasks, a tenant's requests of other traces are refused whole, and those of its open tasks taken:
    with as many others beside them, for exporters mix ends and begins; from twice the limit on alone.
    """
    gate = TenantGate(TenantLimitRules(open_tasks=1))
    gate.full = {"acme": frozenset({(1).to_bytes(16, "big")})}
    async with opened(tokens=TOKENS, gate=gate) as there:
        assert (await post(there, "acme", spans(2))).status == 200
        for body in (spans(1, trace=2), spans(1, first=5) + spans(1, trace=2) + spans(1, trace=3)):
            refused = await post(there, "acme", body)
            assert (refused.status, b"limits.open_tasks" in refused.body) == (503, True)
        assert (await post(there, "globex", spans(1, trace=2))).status == 200
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": f"{2:032x}", "spanId": f"{1:016x}"}]}]}]}
        answer = await there.post(
            "/v1/traces", json.dumps(document).encode(), "application/json", authorization="Bearer acme"
        )
        assert answer.status == 503
        # A record without a trace does not say whether it begins a task.
        log = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "said"}}]}]}]}
        answer = await there.post("/v1/logs", json.dumps(log).encode(), "application/json", authorization="Bearer acme")
        assert answer.status == 200
        mixed = spans(1, first=6) + spans(1, trace=4)
        gate.full = {"acme": frozenset(n.to_bytes(16, "big") for n in (1, 9))}
        assert (await post(there, "acme", mixed)).status == 503
        gate.full = {"acme": frozenset({(1).to_bytes(16, "big")})}
        assert (await post(there, "acme", mixed)).status == 200
        assert recorded(there) == 6


async def test_a_full_storage_takes_nothing_more() -> None:
    """From the limit on, everything of the tenant is refused before it is read, for long."""
    gate = TenantGate(TenantLimitRules(stored_bytes=1_000))
    async with opened(tokens=TOKENS, gate=gate) as there:
        gate.stored = {"acme": 999}
        assert (await post(there, "acme", spans(1))).status == 200
        gate.stored = {"acme": 1_000}
        refused = await post(there, "acme", spans(1))
        assert (refused.status, refused.headers["retry-after"]) == (503, "300")
        assert b"limits.stored_bytes" in refused.body
        assert (await post(there, "globex", spans(1))).status == 200


async def test_many_tenants_are_not_remembered_for_ever() -> None:
    """Buckets of tenants that were quiet are dropped; one that sends too much stays over its rate."""
    clock = Clock()
    gate = TenantGate(TenantLimitRules(entries_per_second=10), clock=clock)
    assert await gate.enter("flooding", "traces", spans(3000), is_json=False) == 3000
    for number in range(10_050):
        clock.now += 0.001
        gate.check(f"quiet-{number}")
    assert len(gate._buckets) < 10_000
    with pytest.raises(OverLimit):
        gate.check("flooding")
