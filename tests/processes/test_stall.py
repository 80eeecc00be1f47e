"""Killed processes: they report nothing, and their tasks end as interrupted."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest

from spanpost.model.observations import Part
from spanpost.model.queries import TaskQuery
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.gateway import RunningGateway
from tests.conftest import Database
from tests.eventually import eventually
from tests.processes.conftest import Start

pytestmark = pytest.mark.slow

QUICK = {"SPANPOST_INTAKE__HEARTBEAT_INTERVAL": "1", "SPANPOST_STALL__INTERRUPT_AFTER": "1"}
WORK = """
    spanpost.attach()
    one = agent("victim")
    assert spanpost.flush(20)
    say("working")
    pause()
"""


@pytest.mark.proves("ends", "agent-killed")
def test_a_killed_agent_has_interrupted_its_task(start: Start, database: Database) -> None:
    """After kill -9 another process on the same database detects the missing heartbeats; its own task goes
    on.
    """
    victim = start(WORK, DATABASE_URL=database.dsn, **QUICK)
    victim.hear("working")
    eventually(lambda: database.fetch("SELECT 1 FROM processes"))
    victim.send(signal.SIGKILL)
    witness = start(WORK.replace("victim", "witness"), DATABASE_URL=database.dsn, **QUICK)
    witness.hear("working")
    eventually(lambda: database.tasks, lambda tasks: tasks == [("victim", "error"), ("witness", "starting")])
    assert database.fetch("SELECT end_reason, inferred FROM agent_tasks WHERE name = 'victim'") == [
        ("interrupted", True)
    ]
    assert database.fetch("SELECT count(*) FROM agent_events WHERE name = 'agent.heartbeat'") == [(0,)]
    witness.go_on()
    witness.end()


@pytest.mark.proves("ends", "agent-killed")
def test_a_killed_forwarder_has_interrupted_its_task(start: Start) -> None:
    """The observations that a forwarder sent before kill -9 are enough for the gateway to detect its end."""
    with RunningGateway() as gateway:
        victim = start(WORK, SPANPOST_FORWARD__ENDPOINT=gateway.url, **QUICK)
        victim.hear("working")
        assert gateway.wait_for(lambda seen: any(o.name == "agent.heartbeat" for o in seen), 90)
        victim.send(signal.SIGKILL)
        seen = list(gateway.observations)
    assert not [o for o in seen if o.part is Part.ENDED]
    now = datetime.now(UTC)
    store = MemoryStore(FoldRules(outage=timedelta(hours=1)), clock=lambda: now)
    store.record_now(seen)
    assert [t.status for t in store.tasks_now(TaskQuery())] == ["starting"]
    now += timedelta(seconds=61)
    store.elapse_now(now)
    assert [(t.status, t.end_reason) for t in store.tasks_now(TaskQuery())] == [("error", "interrupted")]
