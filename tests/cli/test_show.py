"""`spanpost show`: a whole task on one screen, from a store."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from spanpost.cli import looking, whole_task
from spanpost.model.observations import Status
from spanpost.model.queries import TaskFilter
from spanpost.store.memory import MemoryStore
from spanpost.store.memory_reader import MemoryReader
from spanpost.testing.exercise_people import asking, at_work
from spanpost.testing.observed import ended, started


async def whole(name: str, entries: int = 20) -> looking.WholeTask:
    """Return a task of a family: one asks, one failed."""
    store = MemoryStore()
    await store.open()
    child = {"agent.task.name": "Migrate mailer", "agent.task.id": "mailer", "agent.name": "coder"}
    root = {"agent.task.name": "deploy", "agent.task.link.run": "https://ci.example/7", "agent.requested_by": "mina"}
    await store.record([at_work(attributes=root), asking(detail="one\ntwo", risk="high", at=1.0)])
    await store.record([started(trace=1, span=2, parent=1, name="agent", attributes=child, at=2.0)])
    end = ended(
        trace=1,
        span=2,
        parent=1,
        name="agent",
        attributes=child,
        at=2.0,
        status=Status.ERROR,
    )
    await store.record([end])
    tasks = (await store.reader.tasks(TaskFilter(shows_all=True), None, 9)).items
    [task] = [one for one in tasks if one.name == name]
    return await looking.read_in(store, "default", task, entries)


def printed(found: looking.WholeTask, width: int, *, is_ascii: bool = False) -> str:
    """Return what is printed in a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    whole_task.print_whole(found, is_ascii=is_ascii, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_a_question_says_how_to_answer_it() -> None:
    """An open question is shown whole, with its risk and the command that answers it."""
    found = await whole("deploy")
    text = printed(found, 100)
    key = found.task["approvals"][0]["key"]
    assert text.startswith("✋ deploy  waiting\n   Deploy?\n")
    assert "│ Deploy? · " in text
    assert "risk high" in text
    assert "          │ two\n" in text
    assert f"spanpost decide {key[:8]} <approve, deny>" in text
    assert "for       mina\n" in text


async def test_the_family_stands_below() -> None:
    """Tasks below the task are listed with their status, each with its short id."""
    found = await whole("deploy")
    [child] = found.below
    [row] = [row for row in printed(found, 80).splitlines() if "└ Migrate mailer" in row]
    assert row.startswith("❌")
    assert child["uid"].replace("-", "")[:8] in row


async def test_an_error_is_shown_with_the_end_of_its_log() -> None:
    """A failed task shows its reason and the last lines of its log, each behind a bar, and no more."""
    found = await whole("Migrate mailer")
    log = "\n".join(f"line {n}" for n in range(50)) + "\n    raise ValueError"
    error = {"type": "RolloutFailed", "message": "3 of 8 pods never became ready", "log_tail": log}
    text = printed(found._replace(task={**found.task, "error": error}), 80)
    assert "│ RolloutFailed: 3 of 8 pods never became ready\n" in text
    assert "│ line 49\n" in text
    assert "│     raise ValueError\n" in text
    assert "│ line 5\n" not in text


@pytest.mark.parametrize("entries", [0, 1, 20])
async def test_the_newest_entries_of_the_timeline(entries: int) -> None:
    """As many of the newest entries are read as were asked for, oldest first."""
    some, all_of_them = await whole("deploy", entries), await whole("deploy", 10_000)
    assert [one["id"] for one in some.timeline] == [one["id"] for one in all_of_them.timeline[-entries or 10_000 :]]


async def test_the_end_of_a_long_timeline_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeline is read from its end: however long it is, no more entries are read than are shown."""
    monkeypatch.setattr(looking, "_PAGE", 1)
    asked: list[int] = []
    timeline = MemoryReader.timeline

    async def counted(*given: Any, **more: Any) -> Any:
        asked.append(given[3])
        return await timeline(*given, **more)

    monkeypatch.setattr(MemoryReader, "timeline", counted)
    assert len((await whole("deploy", 2)).timeline) == sum(asked) == 2


async def test_tables_fit_and_ascii_is_ascii() -> None:
    """No line of a table is folded at 80 columns, and `--ascii` writes nothing else."""
    found = await whole("deploy")
    assert max(map(cell_len, printed(found, 80).splitlines())) <= 80
    assert printed(found, 80, is_ascii=True).isascii()
