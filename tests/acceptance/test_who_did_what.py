"""Who did what: each way to change something is in the table of the page, and leaves a row."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from spanpost import cli
from spanpost.cli.program import program
from spanpost.model.interventions import Verb
from spanpost.model.task_acts import TASK_ACTS
from spanpost.store.embedded_roles import READER, USER
from spanpost.store.postgres import PostgresStore
from spanpost.store.system_user import system_user
from spanpost.testing.exercise_people import asking, at_work
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import a_run
from spanpost.testing.postgres import as_role
from tests.conftest import ROOT, WRITER, Database
from tests.store.archiving.aged import age, back, deliver

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

SRC = ROOT / "src" / "spanpost"
PAGE = (ROOT / "docs" / "how-to" / "who-did-what.md").read_text()
#: Commands that change nothing in the database, by reason.
NO_ACTS = {
    "it reads": {
        "alerts list", "approvals list", "approvals rules list", "approvals show", "archive list", "archive query",
        "audit checkpoints", "audit consistency", "audit export", "audit keys", "audit logs", "audit prove",
        "audit verify", "audit who", "check", "db query", "deliveries limits", "deliveries list", "mcp", "preview",
        "quarantine list", "show", "slack installations", "spending", "stats", "tasks", "token list",
        "token local", "watch",
    },
    "it needs no database": {"audit check-proof", "db schema", "demo", "redact", "slack key"},
    "it sends telemetry, which names no actor": {
        "emit approval", "emit artifact", "emit checkpoint", "emit end", "emit error", "emit start",
    },
    "it asks a gateway, and people's answers are acts": {"hook claude-code", "hook codex", "hook gemini-cli"},
    "it changes settings of a coding agent": {"hook install", "hook uninstall"},
}  # fmt: skip
#: Files with routes that take a body, by reason; those of the API are in `tests/interactions/api/test_audit.py`.
ROUTES = {
    "the API: each of its routes is in that test": {"runtime/endpoints/api.py"},
    "Slack: each press, reply, command and event is an act or none": {"interactions/slack/http.py"},
    "a webhook starts work: an act with the source hook": {"interactions/webhooks/http.py"},
    "telemetry, which names no actor": {"receivers/otlp_http.py", "receivers/cells/http.py"},
    "an alert of Alertmanager or Grafana: telemetry": {"receivers/alerts_http.py"},
    "agents ask for budgets; what a budget does then is an act with the source budget": {"interactions/control.py"},
    "a coding agent asks; people's answers and standing approvals are acts": {"interactions/hooks/http.py"},
}
#: The listeners of the Slack app, and what comes of each.
LISTENERS = {
    "_on_click": "acts, and reads of content",
    "_on_submission": "acts",
    "_on_message": "message",
    "_on_stop": "cancel",
    "_on_links": "nothing: cards without content, which everybody there may see",
    "_on_home": "reads of content; it changes nothing",
    "_on_mention": "the acts of commands",
    "_on_command": "acts of a task, and start",
    "_on_more": "nothing: the next page of a list",
    "_on_other": "nothing: a link was pressed",
}


def commands() -> Iterator[str]:
    """Yield the name of each command."""

    def walk(name: str, command: Any) -> Iterator[str]:
        below = getattr(command, "commands", None)
        if below is None:
            yield name
            return
        for word, one in below.items():
            yield from walk(f"{name} {word}".strip(), one)

    yield from walk("", typer.main.get_command(program))


def table() -> dict[str, str]:
    """Return the verbs of the page's table by command."""
    found: dict[str, str] = {}
    for words, verbs in re.findall(r"^\| `spanpost ([^|]+)` \| ([^|]+) \|", PAGE, re.MULTILINE):
        for word in words.split("`, `spanpost "):
            found[word] = verbs.replace("`", "").strip()
    return found


@pytest.mark.proves("every-act")
def test_each_command_is_an_act_or_changes_nothing() -> None:
    """A new command fails here until the page's table has its verb, or `NO_ACTS` a reason."""
    harmless = {name for names in NO_ACTS.values() for name in names}
    assert set(commands()) == {*table(), *harmless}
    assert not harmless & set(table())
    assert {name: verb for name, verb in table().items() if name in set(map(str, TASK_ACTS))} == {
        str(verb): str(verb) for verb in TASK_ACTS
    }
    of_people = {verb for verbs in table().values() for verb in verbs.split(", ")} & set(map(str, Verb))
    assert of_people == set(map(str, Verb))


def test_each_route_that_takes_a_body_has_its_reason() -> None:
    """A new endpoint with POST, PUT, PATCH or DELETE fails here until it leaves rows, or has a reason not to."""
    found = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "HttpRoute":
                methods = ast.unparse(node.args[2]) if len(node.args) > 2 else "all"
                if methods != "['GET']":
                    found.add(str(path.relative_to(SRC)))
    assert found == {name for names in ROUTES.values() for name in names}


def test_each_listener_of_slack_has_its_acts() -> None:
    """A new kind of event from Slack fails here until somebody says what acts it can be."""
    tree = ast.parse((SRC / "interactions" / "slack" / "app.py").read_text())
    found = {
        node.args[0].attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "_listener"
        and isinstance(node.args[0], ast.Attribute)
    }
    assert found == set(LISTENERS)


@pytest.fixture
def said(
    dsn: str, clean_environment: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run a command with the role that owns the tables; return its JSON, or None if it ended with an error."""
    monkeypatch.setenv("SPANPOST_RETENTION__DIRECTORY", str(clean_environment / "archive"))
    monkeypatch.setenv("SPANPOST_RETENTION__TASKS", "P200D")
    monkeypatch.setenv("SPANPOST_INTERACTIONS__LOG_READS", "true")

    def run(*words: str, role: str = USER, fails: bool = False) -> Any:
        monkeypatch.setenv("DATABASE_URL", as_role(dsn, role))
        monkeypatch.setattr(sys, "argv", ["spanpost", *words, "--json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        assert bool(end.value.code) == fails, err
        return json.loads(out) if out else None

    return run


async def fill(dsn: str) -> None:
    """Record a task of long ago, and one that asks."""
    store = PostgresStore(dsn, rules=ROUTED_RULES)
    await store.open()
    await store.record([*back(a_run("old")), at_work("asks", trace=7), asking("may-i", "may I?", trace=7)])
    await deliver(store)
    await store.close()
    import asyncpg

    connection = await asyncpg.connect(dsn)
    await age(connection)
    await connection.close()


@pytest.mark.proves("every-act")
def test_each_operation_leaves_its_row(dsn: str, database: Database, said: Callable[..., Any], tmp_path: Path) -> None:
    """Each command of the table that is an operation leaves rows of its verb with the system's user and host."""
    asyncio.run(fill(dsn))
    recording = next((ROOT / "tests" / "captures" / "anthropic-openinference" / "ok").glob("*"))
    month = "2000-01"
    made = {
        "archive run": ["archive", "run"],
        "archive restore": ["archive", "restore", "--month"],
        "archive allow": ["archive", "allow", "183d"],
        "deliveries reopen": ["deliveries", "reopen", "slack:x"],
        "deliveries retry": ["deliveries", "retry", "--sink", "nothing"],
        "deliveries discard": ["deliveries", "discard", "1"],
        "quarantine retry": ["quarantine", "retry", "1"],
        "quarantine discard": ["quarantine", "discard", "1"],
        "db upgrade": ["db", "upgrade"],
        "db grant": ["db", "grant", "--writer", WRITER, "--reader", READER],
        "db end-sessions": ["db", "end-sessions"],
        "replay": ["replay", str(recording), "--into", "settings"],
        "erase": ["erase", "--task", f"{7:032x}", "--yes", "--reason", "ticket 12", "--wait", "0"],
        "token new": ["token", "new", "--name", "ci"],
        "token rotate": ["token", "rotate", "ci"],
        "token revoke": ["token", "revoke", "ci"],
    }
    # Those of a workspace are in test_slack_command.py, of a gateway in test_gateway_acts.py; a reset, which would take
    # the other rows with it, in test_schema_text.py.
    operations = {name for name, verb in table().items() if not set(verb.split(", ")) <= set(map(str, Verb))}
    assert operations == {*made, "db reset", "run", "slack remove", "slack reencrypt"}
    for name, words in made.items():
        verb, before = table()[name], database.fetch("SELECT coalesce(max(number), 0) FROM human_interventions")[0][0]
        if name == "archive restore":
            month = said("archive", "list")["archives"][0]["month"][:7]
        said(*words, *([month] if name == "archive restore" else []))
        rows = database.fetch(
            f"SELECT verb, result, actor_id, via, credential, os_user FROM human_interventions WHERE number > {before}"
        )
        assert {(row[0], *row[2:]) for row in rows} == {
            (verb, f"cli:{system_user()}", "cli", "system user", system_user())
        }, name
        assert {row[1] for row in rows} <= {"started", "done"}, name
    shown = said("audit", "who", "--source", "cli")["acts"]
    assert {one["verb"] for one in shown} == {table()[name] for name in made}


@pytest.mark.proves("every-act")
def test_tries_that_fail_leave_rows(dsn: str, database: Database, said: Callable[..., Any]) -> None:
    """An operation that fails has a row with the reason, and an act on an unknown id one with the id."""
    asyncio.run(fill(dsn))
    said("archive", "allow", "1d", role=WRITER, fails=True)
    said("cancel", "nothing-like-it", "--as", "Mallory", "--yes", fails=True)
    said("decide", "no-question", "deny", "--as", "Mallory", "--yes", fails=True)
    found = database.fetch(
        "SELECT verb, result, actor, refusal <> '', parameters::text FROM human_interventions ORDER BY number"
    )
    assert found == [
        ("allow_archive", "started", system_user(), False, "{}"),
        ("allow_archive", "failed", system_user(), True, "{}"),
        ("cancel", "unknown", "Mallory", False, '{"id": "nothing-like-it"}'),
        ("deny", "unknown", "Mallory", False, '{"id": "no-question"}'),
    ]


def test_reading_at_the_command_line_is_logged(
    dsn: str, said: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `interactions.log_reads` is set, questions, acts and queries leave rows of who read them; a role that
    cannot write the row reads nothing.
    """
    asyncio.run(fill(dsn))
    monkeypatch.setenv("SPANPOST_DATABASE__READ_URL", as_role(dsn, READER))
    assert said("approvals", "list", role=WRITER)["approvals"]
    said("approvals", "show", "may-i", role=WRITER)
    assert said("db", "query", "SELECT 1 AS one", role=WRITER)["rows"] == [{"one": 1}]
    reads = said("audit", "who", role=WRITER)["reads"]
    assert {(one["content"], one["reads"], one["task_name"], one["detail"]) for one in reads} == {
        ("question", 2, "asks", None), ("query", 1, None, "SELECT 1 AS one"), ("acts", 1, None, None),
    }  # fmt: skip
    assert {(one["actor_id"], one["credential"]) for one in reads} == {(f"cli:{system_user()}", "system user")}
    assert said("approvals", "list", role=READER, fails=True) is None
