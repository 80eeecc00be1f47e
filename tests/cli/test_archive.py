"""`spanpost archive`: run, list, query, restore and allow, as a person types them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from spanpost import cli
from spanpost.store.embedded_roles import USER
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from spanpost.testing.postgres import as_role
from tests.conftest import ROOT, WRITER
from tests.store.archiving.aged import age, back, deliver

pytestmark = pytest.mark.acceptance
PAGE = (ROOT / "docs" / "how-to" / "keep-and-archive.md").read_text()
#: Statements of the page, as the shell hands them over.
STATEMENTS = [sql.replace('\\"', '"') for sql in re.findall(r'spanpost archive query "(.*?)(?<!\\)"', PAGE, re.DOTALL)]


async def fill(dsn: str) -> None:
    store = PostgresStore(dsn, rules=ROUTED_RULES)
    await store.open()
    await store.record(back(a_run("old")))
    await deliver(store)
    await store.close()
    connection = await asyncpg.connect(dsn)
    await age(connection)
    await connection.close()


def test_a_month_is_archived_listed_queried_and_restored(
    dsn: str,
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The commands work with a writer's role, the page's queries have rows, and a restored month is there again."""
    asyncio.run(fill(dsn))
    monkeypatch.setenv("SPANPOST_RETENTION__DIRECTORY", str(tmp_path / "archive"))
    monkeypatch.setenv("SPANPOST_RETENTION__TASKS", "P200D")

    def said(*arguments: str, role: str = WRITER) -> Any:
        monkeypatch.setenv("DATABASE_URL", as_role(dsn, role))
        monkeypatch.setattr(sys, "argv", ["spanpost", *arguments, "--json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        assert not end.value.code, err
        return json.loads(out)

    would = said("archive", "run", "--dry-run")
    done = said("archive", "run")
    assert [m["rows"] for m in done["months"]] == [m["rows"] for m in would["months"]] != []
    listed = said("archive", "list")["archives"]
    assert {archive["state"] for archive in listed} == {"removed"}
    assert len(STATEMENTS) == 3
    for statement in STATEMENTS:
        assert said("archive", "query", statement)["rows"]
    [month] = {archive["month"] for archive in listed if archive["table"] == "agent_tasks"}
    assert said("db", "query", "SELECT count(*) AS n FROM agent_tasks")["rows"] == [{"n": 0}]
    assert said("archive", "restore", "--month", month, "--table", "agent_tasks") == {"archives": 1, "rows": 1}
    assert said("db", "query", "SELECT name FROM agent_tasks")["rows"] == [{"name": "old"}]
    assert said("archive", "allow", "90d", "--table", "audit_rows", role=USER) == {"allowed": "90d"}
    changed = "SELECT source FROM retention_floors WHERE shortest = interval '90 days'"
    assert said("db", "query", changed)["rows"] == [{"source": "audit_rows"}]
    verbs = said("db", "query", "SELECT DISTINCT verb FROM human_interventions ORDER BY 1")["rows"]
    assert [row["verb"] for row in verbs] == ["allow_archive", "archive", "restore"]
