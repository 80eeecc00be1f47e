"""A word that a rule hides: a spool that is replayed after a kill leaves it in no row, and its files are gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import Database
from tests.processes.conftest import Run, Start
from tests.processes.test_durable import LOCKED, NEXT, killed
from tests.store.contents import columns

pytestmark = pytest.mark.slow

WORD = "wombatmarker"
AGENT = f"""
{LOCKED}
lock(); spanpost.attach()
span = agent("{WORD} agent")
span.set_attributes({{"own.note": "{WORD}", "own.{WORD}": "x", "agent.task.name": "work on {WORD}"}})
span.add_event("agent.checkpoint", {{"agent.checkpoint.message": "saw {WORD}"}})
span.record_exception(ValueError("no {WORD}"))
span.end()
say("sent"); pause()
"""


async def _where(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [column async for column, text in columns(connection) if WORD in text]
    finally:
        await connection.close()


@pytest.mark.proves("redacted", "agent-killed")
@pytest.mark.parametrize("action", ["hash", "drop"])
def test_a_replayed_spool_leaves_no_hidden_word(
    start: Start, run: Run, database: Database, tmp_path: Path, action: str
) -> None:
    """What a killed process left in its spool is recorded by the next one under its rules."""
    (tmp_path / "spanpost.toml").write_text(f'[[redaction.rules]]\naction = "{action}"\npattern = "{WORD}"\n')
    spool = tmp_path / "spool"
    durable = {"DATABASE_URL": database.dsn, "SPANPOST_INTAKE__SPOOL_DIR": str(spool)}
    killed(start, AGENT, **durable)
    assert any(WORD.encode() in file.read_bytes() for file in spool.glob("*.spool"))
    run(NEXT, **durable)
    assert database.fetch("SELECT count(*) FROM agent_events")[0][0] >= 2
    assert asyncio.run(_where(database.dsn)) == []
    assert [path for path in spool.rglob("*") if path.is_file() and WORD.encode() in path.read_bytes()] == []
