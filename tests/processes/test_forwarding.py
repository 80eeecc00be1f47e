"""Processes that forward to a gateway: start, fork and end, with a real receiver."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanpost.model.observations import Part
from spanpost.testing.gateway import GrpcGateway, RunningGateway
from tests.eventually import free_port
from tests.processes.conftest import Run, Start, needs_package
from tests.processes.test_zero_code import QUIET, SPAN, zero_code

pytestmark = pytest.mark.slow


@pytest.fixture
def gateway() -> Iterator[RunningGateway]:
    with RunningGateway() as gateway:
        yield gateway


def test_the_process_stays_light(run: Run, gateway: RunningGateway) -> None:
    """One variable makes the process forward; it opens no database, runs no dispatcher and serves no
    metrics.
    """
    code = """
        spanpost.attach()
        agent("light").end()
        heavy = {"spanpost.store", "asyncpg", "sqlalchemy", "alembic", "spanpost.metrics.recorder", "prometheus_client"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    environment = {"SPANPOST_FORWARD__ENDPOINT": gateway.url, "DATABASE_URL": "postgresql://nowhere/none"}
    assert run(code, **environment) == ""
    assert gateway.names(Part.ENDED) == ["invoke_agent light"]


def test_zero_code(run: Run, tmp_path: Path, gateway: RunningGateway) -> None:
    """`opentelemetry-instrument` makes an unprepared program forward spans, span events and log events live."""
    assert run(zero_code(tmp_path, SPAN), SPANPOST_FORWARD__ENDPOINT=gateway.url, **QUIET) == ""
    assert gateway.names(Part.ENDED) == ["invoke_agent gardener"]
    assert gateway.names(Part.EVENT) == ["agent.checkpoint"]
    assert gateway.names(Part.LOG).count("agent.checkpoint") == 2


def test_zero_code_under_a_sampler_that_drops(run: Run, tmp_path: Path, gateway: RunningGateway) -> None:
    """With OTEL_TRACES_SAMPLER=always_off an unprepared program's task arrives whole, and it says nothing of it."""
    assert (
        run(
            zero_code(tmp_path, SPAN), SPANPOST_FORWARD__ENDPOINT=gateway.url, OTEL_TRACES_SAMPLER="always_off", **QUIET
        )
        == ""
    )
    assert gateway.names(Part.ENDED) == ["invoke_agent gardener"]
    assert gateway.names(Part.EVENT) == ["agent.checkpoint"]


def test_zero_code_beside_the_stock_exporter(run: Run, tmp_path: Path, gateway: RunningGateway) -> None:
    """With a stock OTLP exporter to the same place, it sends finished spans and the forwarder the rest."""
    needs_package("opentelemetry.exporter.otlp.proto.http")
    stock = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.url,
    }
    assert run(zero_code(tmp_path, SPAN), SPANPOST_FORWARD__ENDPOINT=gateway.url, **stock) == ""
    assert gateway.names(Part.ENDED) == ["invoke_agent gardener"]
    assert gateway.names(Part.LOG).count("agent.checkpoint") == 2


@pytest.mark.proves("forks", "fork")
def test_fork_with_an_open_span(run: Run, gateway: RunningGateway) -> None:
    """Each process is a separate producer with its own connections, and an open span stays the parent's."""
    code = """
        spanpost.attach()
        shared = agent("shared")
        assert spanpost.flush(20)
        pid = os.fork()
        if pid == 0:
            shared.end()
            one = agent("child"); one.add_event("agent.checkpoint"); one.end()
            sys.exit(0 if spanpost.flush(20) else 3)
        agent("parent").end()
        assert os.waitpid(pid, 0)[1] == 0
        assert spanpost.flush(20)
        shared.end()
    """
    assert run(code, SPANPOST_FORWARD__ENDPOINT=gateway.url) == ""
    assert sorted(gateway.names(Part.ENDED)) == ["invoke_agent child", "invoke_agent parent", "invoke_agent shared"]
    [start] = gateway.of(Part.STARTED, "invoke_agent shared")
    [event] = gateway.of(Part.LOG, "agent.checkpoint")
    assert start.producer
    assert event.producer
    assert start.producer != event.producer


def test_grpc_survives_a_fork(run: Run) -> None:
    """Over gRPC, too, parent and child each send their own spans."""
    with GrpcGateway() as gateway:
        run(GRPC_FORK, SPANPOST_FORWARD__ENDPOINT=gateway.url, SPANPOST_FORWARD__PROTOCOL="grpc")
        ended = [name for name, _ in gateway.spans]
    assert sorted(ended) == ["invoke_agent after", "invoke_agent before", "invoke_agent child"]


GRPC_FORK = """
    spanpost.attach()
    agent("before").end()
    assert spanpost.flush(20)
    pid = os.fork()
    if pid == 0:
        agent("child").end()
        os._exit(0 if spanpost.flush(20) else 3)
    assert os.waitpid(pid, 0)[1] == 0
    agent("after").end()
    assert spanpost.flush(20)
"""


def test_the_exit_sends_what_is_left(run: Run, gateway: RunningGateway) -> None:
    """A regular exit sends the queue, and reports open spans as interrupted."""
    assert (
        run('spanpost.attach(); agent("open").add_event("agent.checkpoint")', SPANPOST_FORWARD__ENDPOINT=gateway.url)
        == ""
    )
    assert {"agent.checkpoint", "agent.span.interrupted"} <= set(gateway.names(Part.LOG))


@pytest.mark.proves("bounded-end", "gateway-down")
def test_a_gateway_that_is_away_delays_the_exit_a_little(run: Run) -> None:
    """Without a gateway, the program does its work and ends by itself, with a line that says what was not
    sent.
    """
    url = f"http://127.0.0.1:{free_port()}"
    said = run('spanpost.attach(); agent("lost").end()', SPANPOST_FORWARD__ENDPOINT=url)
    assert "not everything was" in said


def test_sigterm_flushes(start: Start, gateway: RunningGateway) -> None:
    """With the setting, SIGTERM sends the queue, and the process dies of the signal."""
    code = """
        spanpost.attach(flush_on_sigterm=True)
        one = agent("job")
        say("ready")
        pause()
    """
    child = start(code, SPANPOST_FORWARD__ENDPOINT=gateway.url)
    child.hear("ready")
    child.send(signal.SIGTERM)
    child.end(-signal.SIGTERM)
    assert "agent.span.interrupted" in gateway.names(Part.LOG)


@pytest.mark.proves("settings", "settings-values")
def test_wrong_settings_keep_it_out(run: Run, tmp_path: Path) -> None:
    """With zero-code, a wrong endpoint is one line on stderr, and the program runs as without spanpost."""
    said = run(zero_code(tmp_path, SPAN), SPANPOST_FORWARD__ENDPOINT="collector:4318", **QUIET)
    assert said.count("\n") == 1
    assert "spanpost stays out: forward.endpoint" in said
