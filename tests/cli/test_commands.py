"""The commands: their help in sections, the completion of ids, the version without loading them, and sums."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from spanpost.cli import completion, options, stats
from spanpost.cli.program import program
from spanpost.cli.sections import SECTIONS
from spanpost.model.observations import Status
from spanpost.settings import URL_VARIABLE
from spanpost.store.memory import MemoryStore
from spanpost.tasks.api_json import stats_json
from spanpost.testing.exercise_people import asking, at_work
from spanpost.testing.observed import ended
from tests.cli.test_remote import Gateway
from tests.eventually import free_port


def test_help_lists_what_a_newcomer_needs_first() -> None:
    """Each command stands in one section; run, demo, check, tasks, show and top come first."""
    shown = CliRunner().invoke(program, ["--help"]).stdout
    listed = [line.split()[0] for line in shown.partition("Begin:")[2].splitlines() if line.startswith("  ")]
    names = [name for section in SECTIONS.values() for name in section]
    assert names[:6] == ["run", "demo", "check", "tasks", "show", "top"]
    assert len(set(names)) == len(names)
    assert [name for name in listed if name in names] == names
    assert "Other:" not in shown


def test_the_version_loads_no_commands() -> None:
    """`--version` answers without the packages of the commands."""
    code = (
        "import sys; sys.argv = ['spanpost', '--version']; from spanpost.cli import main\n"
        "try: main()\nexcept SystemExit: print({'typer', 'pydantic', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("spanpost ")
    assert done.stdout.endswith("\nset()\n")


@pytest.fixture
def gateway(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    made = Gateway()
    monkeypatch.setenv(URL_VARIABLE, made.url)
    yield made
    made.close()


def test_short_ids_are_completed(gateway: Gateway) -> None:
    """A shell is offered the short ids of tasks and of open questions that begin so, with names of one line."""
    tasks = [{"uid": f"{n}b000000-0000-5000-8000-000000000000", "name": f"task\n{n}"} for n in "ab"]
    gateway.answers.append((200, {"items": tasks, "next": None}))
    assert completion.tasks("ab") == [("ab000000", "task a")]
    questions = [{"key": "cd000000-0000-5000-8000-000000000000", "question": "Deploy?"}]
    gateway.answers.append((200, {"items": questions, "next": None}))
    assert completion.questions("") == [("cd000000", "Deploy?")]
    assert "state=open" in gateway.seen[-1].path


def test_a_completion_shows_no_error_and_starts_no_server(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a gateway or database nothing is offered, nothing is raised, and no database is made."""
    monkeypatch.setenv("SPANPOST_DATABASE__DATA_DIR", str(clean_environment / "data"))
    assert completion.tasks("") == []
    assert not (clean_environment / "data").exists()
    monkeypatch.setenv(URL_VARIABLE, f"http://127.0.0.1:{free_port()}")
    assert completion.questions("") == []


@pytest.mark.parametrize("log_reads", ["false", "true"])
def test_a_completion_shows_no_question_whose_readers_are_logged(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, log_reads: str
) -> None:
    """Where who reads a question is logged, a shell is not offered the questions of the database: it logs nothing."""

    @asynccontextmanager
    async def opened(settings: object) -> AsyncIterator[MemoryStore]:
        store = MemoryStore()
        await store.open()
        await store.record([at_work(), asking()])
        yield store

    monkeypatch.setattr(options, "opened", opened)
    monkeypatch.setattr(completion, "_is_there", lambda settings: True)
    monkeypatch.setenv("SPANPOST_INTERACTIONS__LOG_READS", log_reads)
    assert bool(completion.questions("")) == (log_reads == "false")
    assert completion.tasks("") != []


async def test_sums_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, failures and durations are listed by agent, with all of them last, and by day."""
    store = MemoryStore()
    await store.open()
    for n in range(4):
        said = {"agent.name": "coder", "agent.task.id": f"t{n}", "agent.task.name": f"task {n}"}
        status = Status.ERROR if n == 0 else Status.OK
        await store.record([ended(trace=n + 1, span=1, name="agent", attributes=said, seconds=2.0, status=status)])
    since, until = (datetime.now(UTC) + timedelta(days=n) for n in (-1, 1))
    found = stats_json(await store.reader.stats("default", since, until), since, until)
    console = Console(file=io.StringIO(), width=80, highlight=False)
    monkeypatch.setattr("spanpost.cli.columns.out", lambda: console)
    stats._print(found)
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[1] == ["coder", "4", "1", "(25%)", "2.0", "s", "2.0", "s", "–", "–", "–"]
    assert lines[2][:2] == ["all", "4"]
    assert lines[4][:2] == ["day", "runs"]
