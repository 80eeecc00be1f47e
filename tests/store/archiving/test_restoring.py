"""Archives are restored into a schema of their own, and queried."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spanpost.model.errors import ConfigError
from spanpost.model.observations import Observation
from spanpost.store.archiving import listing, querying
from spanpost.store.archiving.restoring import restore
from spanpost.store.postgres import PostgresStore
from spanpost.testing.observed import a_run, ended
from tests.store.archiving.aged import KEEP, LONG_AGO, age, back, contents, deliver, retain, rules

pytestmark = pytest.mark.acceptance
pytest.importorskip("pyarrow")
#: Texts that are hard to copy: quotes, lines, an empty one, what CSV uses, and a long one.
HARD = ('"quoted", and \\escaped', "line\r\nline\n\\.", "", "\\N", "\u001f\u001e", "ä 😀 \u2028", "x" * 300_000)


def hard() -> list[Observation]:
    """Return a run with texts that are hard to copy."""
    attributes = {f"note.{number}": text for number, text in enumerate(HARD)}
    return [*a_run("hard"), ended(trace=1, span=50, parent=1, name=HARD[0], attributes=attributes)]


async def test_hard_texts_are_restored_into_a_schema_as_they_were(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """Quotes, line ends, empty and very long texts survive file and restoration; the tables themselves stay empty."""
    await store.record(back(hard()))
    await deliver(store)
    await age(database)
    columns = "occurred_at, event_id, content_hash, task_uid, name, attributes, resource, scope, links, body, idx, role"
    before = await database.fetch(f"SELECT {columns} FROM agent_events ORDER BY 1, 2, 3")
    await retain(database, rules(tmp_path / "archive"))
    for archive in await listing.archives(database):
        for expected in (archive.rows, 0):  # the second time, all rows are there
            done = await restore(database, tmp_path / "archive", archive, keep=KEEP, schema="scratch")
            assert done == expected
    assert await database.fetch(f"SELECT {columns} FROM scratch.audit_rows ORDER BY 1, 2, 3") == before
    assert all(not rows for rows in (await contents(database)).values())
    assert {archive.state for archive in await listing.archives(database)} == {"removed"}


async def test_archives_are_queried_and_nothing_else_is_read(
    store: PostgresStore, database: Any, tmp_path: Path
) -> None:
    """DuckDB joins archived tables by their names. A query reads no file, writes none and loads no extension."""
    pytest.importorskip("duckdb")
    directory = tmp_path / "archive"
    await store.record(back(a_run("old")))
    await deliver(store)
    await age(database)
    await retain(database, rules(directory))
    listed = await listing.archives(database)
    columns, rows = querying.query(
        directory,
        listed,
        "SELECT t.name, t.cost_usd, count(*) AS spans FROM agent_tasks t JOIN audit_rows r ON r.task_uid = t.uid"
        " WHERE r.part = 0 GROUP BY ALL",
    )
    assert columns == ["name", "cost_usd", "spans"]
    assert [row[0] for row in rows] == ["old"]
    _, [[oldest]] = querying.query(directory, listed, "SELECT min(occurred_at) FROM audit_rows")
    assert abs(datetime.now(UTC) - LONG_AGO - oldest) < timedelta(days=2)
    secret = tmp_path / "secret.csv"
    secret.write_text("secret\n")
    for attack in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM read_parquet('{directory / listed[0].path}')",
        f"COPY (SELECT 1) TO '{directory}/x.csv'",
        f"ATTACH '{tmp_path}/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "",
    ):
        with pytest.raises(ConfigError, match="the query is refused"):
            querying.query(directory, listed, attack)
    assert sorted(os.listdir(tmp_path)) == ["archive", "secret.csv"]


def test_a_query_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A query without end is ended, and one with too many rows is refused: neither fills the memory."""
    pytest.importorskip("duckdb")
    with pytest.raises(ConfigError, match="more than 1,000,000 rows"):
        querying.query(tmp_path, [], "SELECT * FROM range(100000000000)")
    monkeypatch.setattr(querying, "LONGEST", 0.2)
    with pytest.raises(ConfigError, match="took longer than 0 s"):
        querying.query(tmp_path, [], "SELECT sum(a.range * b.range) FROM range(100000000) a, range(100000000) b")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT " + "(" * 50_000 + "1" + ")" * 50_000, "it has 100,008 characters, and 65,536 are the most"),
        ("SELECT " + "(" * 30_000 + "1" + ")" * 30_000, "it is nested deeper than 200 levels"),
        ("SELECT " + "[" * 900 + "]" * 900, "it is nested deeper than 200 levels"),
        ("SELECT * FROM " + "(SELECT * FROM " * 2_000 + "x" + ")" * 2_000, "it is nested deeper than 200 levels"),
        ("SELECT " + "NOT " * 10_000 + "true", "it is nested deeper than 200 levels"),
        ("(" * 60_000, "syntax error"),
    ],
)
def test_a_query_that_is_nested_deeply_is_refused(tmp_path: Path, sql: str, message: str) -> None:
    """Thousands of parentheses, lists and queries within each other are one message, and end no process."""
    pytest.importorskip("duckdb")
    with pytest.raises(ConfigError, match=f"the query is refused: .*{message}"):
        querying.query(tmp_path, [], sql)


def test_a_query_may_be_nested(tmp_path: Path) -> None:
    """A hundred levels are fine."""
    pytest.importorskip("duckdb")
    assert querying.query(tmp_path, [], f"SELECT {'(' * 100}1{')' * 100} AS n") == (["n"], [(1,)])
