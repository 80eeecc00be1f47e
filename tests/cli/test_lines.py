"""Lists in a terminal: one line a row at any width, families together, signs that align, words in ASCII."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from rich.cells import cell_len
from rich.console import Console

from spanpost.cli import tables, task_lines
from spanpost.cli.columns import short, span
from spanpost.cli.erasure_tables import print_erasure
from spanpost.cli.listing import ListRequest
from spanpost.model.deliveries import DeliveryRow
from spanpost.model.queries import TaskFilter
from spanpost.model.readings import Approval, Failure
from spanpost.model.tasks import BETWEEN_PROMPTS, Task
from spanpost.semconv import STATUSES
from spanpost.store.erasing.run import Report
from spanpost.store.erasing.spellings import Found
from spanpost.store.memory import MemoryStore
from spanpost.testing.exercise_browse import at_work_on

BEGAN = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tasks begin 5 h 20 min before each test, however long the tests before it took."""
    monkeypatch.setattr(f"{__name__}.BEGAN", datetime.now(UTC) - timedelta(hours=5, minutes=20))


def a_task(number: int, **known: Any) -> Task:
    """Return a task with an id as long as those of traces."""
    given = {"uid": UUID(int=number << 96), "tenant": "default", "task_id": f"{number:032x}-{number:016x}"}
    return Task(**{**given, "name": f"task {number}", "agent_name": "coder", "started_at": BEGAN, **known})


def family() -> list[Task]:
    """Return a family whose sub-agent waits, and one that failed in another."""
    root = a_task(
        1,
        name="Migrate the monorepo to Python 3.14 and its many services",
        agent_name="orchestrator",
        progress=12,
        cost_usd=Decimal("0.68"),
        context_used_tokens=6_000,
        context_window_tokens=200_000,
    )
    asked = (Approval(id="q", question="May I drop Python 3.9?"),)
    done = a_task(2, parent_uid=root.uid, status="complete", progress=60, ended_at=BEGAN + timedelta(minutes=3))
    waits = a_task(
        3, parent_uid=root.uid, name="Migrate mailer", status="waiting", approvals=asked, cost_usd=Decimal("0.11")
    )
    failed = a_task(4, parent_uid=root.uid, status="error", error=Failure(message="pytest exited 1\nline 2"))
    return [root, done, failed, waits]


def printed(width: int, tasks: list[Task], *, is_ascii: bool = False) -> list[str]:
    """Return the lines of a list in a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    task_lines.print_tasks(tasks, is_ascii=is_ascii, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_task_is_one_line(width: int) -> None:
    """Each task takes one line that fits the terminal, with the whole short id; no text is folded."""
    lines = printed(width, family())
    assert len(lines) == 5
    assert max(map(cell_len, lines)) <= width
    ids = [short(task.uid) for _, task in task_lines.as_tree(family())]
    assert [id in line for id, line in zip(ids, lines[1:], strict=True)] == [True] * 4


def test_what_a_person_must_see_is_first_and_said() -> None:
    """Below its parent, a waiting task with its question comes first, then a failed one with its first line."""
    _, root, waits, failed, done = printed(120, family())
    assert root.startswith("⚙  ")
    assert "$0.79" in root  # with what is below it
    assert "5h" in root
    assert "└ Migrate mailer  May I drop Python 3.9?" in waits
    assert "└ task 4  pytest exited 1" in failed
    assert "line 2" not in failed
    assert "100 %" in done
    assert "60 %" not in done


def test_a_question_below_is_said_above() -> None:
    """A working task shows the question of a task below it, also where that task is not listed."""
    [_, line] = printed(120, [a_task(1, child_question="May I drop Python 3.9?", last_checkpoint="Split")])
    assert "task 1  below: May I drop Python 3.9?" in line


def test_unknown_figures_are_a_dash() -> None:
    """A task without progress, cost and context shows dashes, never a question mark or zero."""
    [_, line] = printed(80, [a_task(1)])
    assert line.split()[-5:] == ["–", "–", "–", "5h", "00000001"]


def test_signs_take_two_cells_and_ascii_has_words() -> None:
    """The name begins in the same column for every status; in ASCII every character is ASCII, with the word."""
    tasks = [a_task(n, status=status, name="Name") for n, status in enumerate(STATUSES, 11)]
    lines = printed(80, tasks)[1:]
    assert {cell_len(line[: line.index("Name")]) for line in lines} == {3}
    assert not any("\N{VARIATION SELECTOR-16}" in line for line in lines)
    words = printed(80, [*tasks, *family()], is_ascii=True)
    assert all(line.isascii() for line in words)
    assert [line.split()[0] for line in words[1:10]] == list(STATUSES)


def test_a_wide_terminal_shows_more() -> None:
    """Wider terminals add columns; a pipe has all of them, with the whole id."""
    headers = {width: printed(width, family())[0].split() for width in (80, 120, 4000)}
    assert headers[80] == ["task", "agent", "done", "cost", "ctx", "age", "id"]
    assert {"status", "took"} <= set(headers[120])
    assert headers[4000][-2:] == ["task", "id"]
    assert family()[0].task_id in printed(4000, family())[1]


def test_a_cycle_of_parents_is_listed() -> None:
    """Tasks that are each other's parents are listed once each."""
    one, two = UUID(int=1 << 96), UUID(int=2 << 96)
    assert len(printed(80, [a_task(1, parent_uid=two), a_task(2, parent_uid=one)])) == 3


def test_deliveries_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery with a long error takes one line at 80 columns, with its number, state and the error's start."""
    console = Console(file=io.StringIO(), width=80, highlight=False)
    monkeypatch.setattr("spanpost.cli.columns.out", lambda: console)
    row = DeliveryRow(
        id=12, sink="slack", address="default", ordering_key="k", mode="news", state="dead", task_id="t" * 48,
        kind="approval_requested", attempt=3, born_at=BEGAN, reason="channel_not_found", error="no such channel " * 9,
    )  # fmt: skip
    tables.print_deliveries([row, row], datetime.now(UTC))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert all(word in lines[1] for word in ("12", "slack", "dead", "5h", "channel_not_found"))


def test_a_session_between_prompts_is_not_said_to_wait_for_a_person() -> None:
    """Its word is its own, and among siblings it stands behind those at work."""
    tasks = [
        a_task(1),
        a_task(2, parent_uid=UUID(int=1 << 96), status="waiting", rule=BETWEEN_PROMPTS, is_inferred=True),
        a_task(3, parent_uid=UUID(int=1 << 96)),
    ]
    _, _, below, rests = printed(120, tasks)
    assert "task 3" in below
    assert "between prompts" in rests
    assert "waiting" not in rests


async def test_tasks_of_a_person_a_repository_and_a_session() -> None:
    """`--person`, `--repo` and `--session` leave only tasks of those, and narrow each other."""
    store = MemoryStore()
    await store.open()
    said = {"agent__requested_by": "mina", "agent__repo": "shop", "session__id": "s1"}
    others = said | {"agent__repo": "web", "agent__name": "b"}
    await store.record([at_work_on(1, **said), at_work_on(2, **others), at_work_on(3)])
    found = (await store.reader.tasks(TaskFilter(shows_all=True), None, 9)).items
    none = dict.fromkeys(("status", "agent", "topic", "type", "environment", "person", "repo", "session"), ())
    for words, names in (
        ({"person": ("mina",)}, {"job 1", "job 2"}),
        ({"person": ("mina",), "repo": ("web", "api")}, {"job 2"}),
        ({"session": ("s1",), "repo": ("shop",)}, {"job 1"}),
        ({"person": ("jo",)}, set()),
    ):
        asked = ListRequest(words={**none, **words}, q="", since=None, roots=False, tenant=None, task_id=None, limit=9)
        assert {task.name for task in found if asked._filter.takes(task)} == names
        assert asked.is_narrow


@pytest.mark.parametrize(("seconds", "said"), [(1.6, "2s"), (59.4, "59s"), (61, "1m"), (7_300, "2h"), (-3, "0s")])
def test_a_short_duration_rounds_as_a_sentence_does(seconds: float, said: str) -> None:
    """Seconds are rounded as in messages: what took 1.6 s there is no 1s in a list."""
    assert span(timedelta(seconds=seconds)) == said


def test_an_erasure_prints_each_spelling_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The address that was asked for and the same address in the rows are one spelling."""
    print_erasure(Report(is_done=False, found=Found(ids=("alice@a.example",), also=("alice@a.example", "Al"))))
    assert "looked for: alice@a.example, Al\n" in capsys.readouterr().err
