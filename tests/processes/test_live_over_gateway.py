"""Agents that forward to a real gateway: followed while they work, and detected when they are killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gateways import Gateway
from tests.conftest import Database
from tests.eventually import eventually
from tests.processes.conftest import Start

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

QUICK = {"SPANPOST_STALL__INTERRUPT_AFTER": "1", "SPANPOST_INTAKE__HEARTBEAT_INTERVAL": "1"}
WORK = """
    spanpost.attach()
    one = agent("gardener")
    one.add_event("agent.checkpoint", {"agent.checkpoint.message": "half way"})
    assert spanpost.flush(20)
    say("half way")
    pause()
    one.end()
    assert spanpost.flush(20)
"""


@pytest.fixture
def gateway(database: Database, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(database.dsn, tmp_path, **QUICK)
    try:
        yield gateway
    finally:
        gateway.kill()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_agent_is_followed_while_it_works(gateway: Gateway, database: Database, start: Start, protocol: str) -> None:
    """An agent's checkpoints are audited before its span ends, and the result is one task without repeats."""
    endpoint = gateway.url if protocol == "http" else f"http://127.0.0.1:{gateway.grpc}"
    child = start(WORK, SPANPOST_FORWARD__ENDPOINT=endpoint, SPANPOST_FORWARD__PROTOCOL=protocol, **QUICK)
    child.hear("half way")
    assert database.tasks == [("gardener", "working")]
    child.go_on()
    child.end()
    assert database.tasks == [("gardener", "complete")]
    checkpoints = database.fetch("SELECT kind, text FROM agent_checkpoints ORDER BY at")
    assert [kind for kind, _ in checkpoints] == ["start", "checkpoint", "end"]
    assert database.fetch("SELECT count(*) FROM agent_events WHERE name = 'agent.heartbeat'") == [(0,)]


@pytest.mark.proves("ends", "agent-killed")
def test_a_killed_agent_is_detected(gateway: Gateway, database: Database, start: Start) -> None:
    """After kill -9 an agent's heartbeats stop, and the gateway ends its task as interrupted."""
    child = start(WORK, SPANPOST_FORWARD__ENDPOINT=gateway.url, **QUICK)
    child.hear("half way")
    eventually(lambda: database.fetch("SELECT 1 FROM processes"))
    child.send(signal.SIGKILL)
    eventually(lambda: database.tasks == [("gardener", "error")])
    assert database.fetch("SELECT end_reason, inferred FROM agent_tasks") == [("interrupted", True)]
