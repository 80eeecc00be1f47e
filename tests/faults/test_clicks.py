"""Many people answer one question at once, at three gateways of which one is killed: one decision, one effect."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from spanpost.model.interventions import InterventionState
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_standing import a_task, a_tool_question, asked
from spanpost.testing.exercise_store import ROUTED_RULES
from tests.conftest import ROOT

GATEWAYS = 3
PEOPLE = int(os.environ.get("SPANPOST_TEST_CLICKS", "40"))

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(300)]


def gateway(dsn: str, key: UUID, mine: int, dies_after: int = 0) -> subprocess.Popen[str]:
    """Start one gateway; it waits for the moment."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.clicks", *map(str, (key, mine, GATEWAYS, PEOPLE, dies_after))],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


async def ask(dsn: str) -> UUID:
    """Record a question for a tool; return its key."""
    store = PostgresStore(dsn, rules=ROUTED_RULES)
    await store.open()
    row = await asked(store, a_tool_question("q1"), a_task())
    await store.close()
    return row.key


async def effects(dsn: str, key: UUID) -> dict[str, Any]:
    """Return what the database holds of the question, and what the next question of the tool comes to."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    found = {
        "done": await connection.fetchval("SELECT count(*) FROM human_interventions WHERE result = 'done'"),
        "acts": await connection.fetchval("SELECT count(*) FROM human_interventions"),
        "records": await connection.fetchval(
            "SELECT count(*) FROM agent_events WHERE name = 'agent.approval.resolved'"
        ),
        "checkpoints": await connection.fetchval(
            "SELECT count(*) FROM agent_checkpoints WHERE kind = 'approval_resolved'"
        ),
        "by": await connection.fetchval("SELECT by FROM approvals WHERE key = $1", key),
        "owners": [row[0] for row in await connection.fetch("SELECT granted_by FROM standing_approvals")],
    }
    await connection.close()
    store = PostgresStore(dsn, rules=ROUTED_RULES)
    await store.open()
    row = await asked(store, a_tool_question("q2", at=5.0))
    await store.close()
    return found | {"next": row.state}


@pytest.mark.proves("first-stands", "approval-storm")
def test_one_decision_has_one_effect(
    dsn: str, needs: Callable[[str], str], record_property: Callable[[str, object], None]
) -> None:
    """All press at the same moment, and the gateway that is killed after a commit is pressed again: every person
    learns the same decision, and it is recorded, shown and granted once.
    """
    key = asyncio.run(ask(dsn))
    children = [gateway(dsn, key, mine, dies_after=1 if mine == 0 else 0) for mine in range(GATEWAYS)]
    began = time.monotonic()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    said = [child.communicate()[0] for child in children]
    took = time.monotonic() - began
    assert [child.returncode for child in children] == [-9, 0, 0]
    # Slack sends the presses of the killed gateway again: they reach another.
    again = gateway(dsn, key, 0)
    said.append(again.communicate("\n")[0])
    assert again.returncode == 0
    results = [line.split("\t") for part in said for line in part.splitlines()]
    assert sorted(int(person) for person, *_ in results) == list(range(PEOPLE))
    came = asyncio.run(effects(dsn, key))
    counts = Counter(result for _, result, _, _ in results)
    assert counts == {"done": 1, "decided": PEOPLE - 1}
    assert {by for *_, by in results} == {came["by"]}
    winner = int(came["by"].split()[1])
    is_granted = bool(winner % 2)
    assert came == {
        "done": 1,
        "acts": PEOPLE,
        "records": 1,
        "checkpoints": 1,
        "by": came["by"],
        "owners": [came["by"]] * is_granted,
        "next": InterventionState.DECIDED if is_granted else InterventionState.OPEN,
    }
    record_property("size", f"{PEOPLE} people at {GATEWAYS} gateways in {took:.2f} s, one killed")
