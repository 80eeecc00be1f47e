"""A live forwarder before a real gateway that is killed and comes back: every span is one row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider

import spanpost
from tests.acceptance.gateways import run_gateway
from tests.conftest import Database
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres")]

CALL = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "x" * 60_000}
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coder"}


@pytest.mark.proves("outage", "gateway-down")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_waits_through_an_outage_arrives(
    protocol: str, database: Database, open_dir: Callable[[], Path], clean_environment: Path
) -> None:
    """200 model calls of 60 kB, most of them made while the gateway is dead, arrive after its restart, each once."""
    with ExitStack() as stack:
        gateway = stack.enter_context(run_gateway(database.dsn, open_dir()))
        port = gateway.http if protocol == "http" else gateway.grpc
        provider = TracerProvider(shutdown_on_exit=False)
        pipeline = spanpost.attach(
            forward={"endpoint": f"http://127.0.0.1:{port}", "protocol": protocol},
            tracer_provider=provider,
            logger_provider=LoggerProvider(shutdown_on_exit=False),
        )
        stack.callback(pipeline.shutdown)
        tracer = provider.get_tracer("tests")
        ids = set()
        with tracer.start_as_current_span("invoke_agent coder", attributes=AGENT) as root:
            ids.add(f"{root.get_span_context().span_id:016x}")
            for number in range(200):
                if number == 20:
                    gateway.kill()
                with tracer.start_as_current_span("chat gpt-4o", attributes=CALL) as span:
                    ids.add(f"{span.get_span_context().span_id:016x}")
        assert not pipeline.force_flush(0.2)
        gateway.start()
        eventually(pipeline.force_flush, bool, 60)
        assert pipeline.dropped == {}
        query = "SELECT encode(span_id, 'hex') FROM agent_events WHERE part = 0"
        # In a burst the gateway acknowledges from its journal, and records later.
        rows = eventually(lambda: [row[0] for row in database.fetch(query)], lambda rows: len(rows) >= len(ids), 60)
        assert sorted(rows) == sorted(ids)
