"""Limits of tenants at a real gateway: who is refused, what its exporter does, and that nobody else notices."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanpost.http.tokens import hash_of
from tests.acceptance.gateway_process import Gateway, Start, query, request, spans
from tests.eventually import eventually
from tests.receivers.endpoints import traces

pytestmark = pytest.mark.acceptance

TOKENS = "\n".join(
    f'[[gateway.tokens]]\ntenant = "{tenant}"\nsha256 = ["{hash_of(f"spt_{tenant}")}"]' for tenant in ("acme", "globex")
)
OPERATOR = {"SPANPOST_GATEWAY__OPERATOR_TOKENS": json.dumps([hash_of("spt_operator")])}


def send(gateway: Gateway, tenant: str, body: bytes) -> tuple[int, Any]:
    """Send a traces request with a tenant's token."""
    sent = {"content_type": "application/x-protobuf", "authorization": f"Bearer spt_{tenant}"}
    return request(f"{gateway.http}/v1/traces", body, **sent)


def count(dsn: str, tenant: str) -> tuple[int, int]:
    """Return the number of a tenant's rows of spans, and of different ones."""
    sql = "SELECT count(*), count(DISTINCT span_id) FROM agent_events WHERE part = 0 AND tenant = "
    [row] = query(dsn, f"{sql}'{tenant}'")
    return int(row[0]), int(row[1])


def metric(gateway: Gateway, name: str) -> dict[str, float]:
    """Return the series of a metric by their labels."""
    asked = urllib.request.Request(f"{gateway.http}/metrics", headers={"authorization": "Bearer spt_operator"})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    found = [line[len(name) :].rpartition(" ") for line in lines if line.startswith(name + "{")]
    return {labels: float(value) for labels, _, value in found}


@pytest.mark.proves("never-500")
def test_an_exporter_over_its_rate_loses_nothing_and_another_notices_nothing(
    start: Start, dsn: str, needs: Callable[[str], str]
) -> None:
    """The Python exporter repeats what is answered 503 until all is recorded once; the other tenant has 200s only."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    gateway = start(f'[limits.tenants."acme"]\nentries_per_second = 60\nburst = 60\n{TOKENS}', **OPERATOR).ready()
    exporter = OTLPSpanExporter(f"{gateway.http}/v1/traces", headers={"authorization": "Bearer spt_acme"}, timeout=30)
    statuses: list[int] = []
    began = time.monotonic()
    for batch in range(4):
        assert exporter.export(spans(batch * 150, 150)) is SpanExportResult.SUCCESS
        statuses.append(send(gateway, "globex", traces(batch + 1))[0])
    elapsed = time.monotonic() - began
    assert statuses == [200] * 4
    assert count(dsn, "acme") == (600, 600)
    assert count(dsn, "globex") == (4, 4)
    refused = metric(gateway, "spanpost_tenant_refused_total")
    assert set(refused) == {'{limit="rate",tenant="acme"}'}
    assert refused['{limit="rate",tenant="acme"}'] >= 2
    assert elapsed >= (450 - 60) / 60  # what came before the last batch, less the burst
    assert gateway.end() == 0


def test_grpc_has_a_time_to_come_back(start: Start, dsn: str) -> None:
    """Over the rate, gRPC answers UNAVAILABLE with RetryInfo, by which exporters and the Collector repeat it."""
    import grpc
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    gateway = start(f"[limits]\nentries_per_second = 1\nburst = 1\n{TOKENS}").ready()
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    metadata = (("authorization", "Bearer spt_acme"),)
    with grpc.insecure_channel(gateway.grpc.removeprefix("http://")) as channel:
        channel.unary_unary(method)(traces(*range(1, 21)), metadata=metadata, timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(traces(30), metadata=metadata, timeout=30)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "tenant acme sends more than 1" in error.details()
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = RetryInfo()
    assert Status.FromString(details).details[0].Unpack(info)
    assert 1 <= info.retry_delay.seconds <= 31


def test_a_new_limit_holds_without_a_restart(start: Start, dsn: str, tmp_path: Path) -> None:
    """SIGHUP brings a limit, and takes it away again; the row of the reload names what changed."""
    gateway = start(TOKENS).ready()
    assert [send(gateway, "acme", traces(n))[0] for n in (1, 2)] == [200, 200]

    def reload(toml: str) -> None:
        lines = len(gateway.lines)
        (tmp_path / "spanpost.toml").write_text(toml)
        gateway.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("settings read again" in line for line in gateway.lines[lines:]))

    reload(f"[limits]\nentries_per_second = 1\nburst = 1\n{TOKENS}")
    eventually(lambda: send(gateway, "acme", traces(*range(1, 100)))[0], lambda status: status == 503)
    status, body = send(gateway, "acme", traces(3))
    assert (status, b"limits.entries_per_second" in body) == (503, True)
    reload(TOKENS)
    eventually(lambda: send(gateway, "acme", traces(3))[0], lambda status: status == 200)
    acts = "SELECT detail FROM human_interventions WHERE action = 'reload_settings' ORDER BY number"
    found = eventually(lambda: query(dsn, acts), lambda rows: len(rows) == 2)
    assert ["limits.entries_per_second" in row[0] for row in found] == [True, True]


def a_task(trace: int, *, ends: bool = False) -> bytes:
    """Return a request with the root span of a task, which is under way or has ended."""
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a", "agent.task.id": f"job-{trace}"}
    now = time.time_ns()
    root = {
        "traceId": f"{trace:032x}", "spanId": f"{trace:016x}", "name": "invoke_agent a", "startTimeUnixNano": str(now),
        "endTimeUnixNano": str(now + 1 if ends else 0), "status": {"code": 1 if ends else 0},
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in said.items()],
    }  # fmt: skip
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [root]}]}]}).encode()


def test_over_its_open_tasks_a_tenant_ends_some_first(start: Start, dsn: str) -> None:
    """New traces are answered 503, the open ones are taken; when one of them has ended, the next may begin."""
    gateway = start(f"[limits]\nopen_tasks = 2\n{TOKENS}").ready()

    def post(trace: int, *, ends: bool = False, tenant: str = "acme") -> tuple[int, Any]:
        headers = {"content_type": "application/json", "authorization": f"Bearer spt_{tenant}"}
        return request(f"{gateway.http}/v1/traces", a_task(trace, ends=ends), **headers)

    assert [post(1)[0], post(2)[0]] == [200, 200]
    [opened] = query(dsn, "SELECT count(*) FROM agent_tasks WHERE tenant = 'acme' AND ended_at IS NULL")
    assert opened == (2,)
    number = iter(range(3, 10_000))
    _, body = eventually(lambda: post(next(number)), lambda answer: answer[0] == 503)
    assert b"limits.open_tasks" in body
    assert [post(1)[0], post(1, tenant="globex")[0]] == [200, 200]
    for (trace,) in query(dsn, "SELECT DISTINCT ltrim(task_id, 'job-')::int FROM agent_tasks WHERE tenant = 'acme'"):
        # A task that began while the others were counted is known at the next look.
        eventually(lambda trace=trace: post(trace, ends=True)[0], lambda status: status == 200)  # type: ignore[misc]
    eventually(lambda: post(20_000)[0], lambda status: status == 200)


def test_a_tenant_that_stored_too_much_stores_nothing_more(start: Start, dsn: str) -> None:
    """Over its bytes a tenant is answered 503 for long, the metrics say so, and after erasing it is let in again."""
    toml = f'[limits]\nmeasure_interval = 1\n[limits.tenants."acme"]\nstored_bytes = 10_000_000\n{TOKENS}'
    gateway = start(toml, **OPERATOR).ready()
    assert send(gateway, "acme", traces(1))[0] == 200
    assert send(gateway, "globex", traces(1))[0] == 200
    used = eventually(
        lambda: metric(gateway, "spanpost_tenant_storage_used_ratio").get('{tenant="acme"}', 0.0),
        lambda ratio: ratio > 0,
    )
    assert used < 1
    # 12 MB in a table with a column `tenant`, which all count.
    noise = "SELECT string_agg(decode(md5(random()::text || n || c), 'hex'), '') FROM generate_series(1, 2000) AS n"
    rows = f"SELECT 'acme', 'x', 'x', 'x', int4send(c), ({noise}) FROM generate_series(1, 400) AS c"
    query(dsn, f"INSERT INTO quarantine (tenant, source, reason, error, key, bytes) {rows}")
    _, body = eventually(lambda: send(gateway, "acme", traces(2)), lambda answer: answer[0] == 503)
    assert b"limits.stored_bytes" in body
    assert send(gateway, "globex", traces(2))[0] == 200
    assert metric(gateway, "spanpost_tenant_storage_used_ratio")['{tenant="acme"}'] > 1
    assert metric(gateway, "spanpost_tenant_stored_bytes")['{tenant="acme"}'] > 10_000_000
    query(dsn, "DELETE FROM quarantine")
    eventually(lambda: send(gateway, "acme", traces(2))[0], lambda status: status == 200)
