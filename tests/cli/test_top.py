"""`spanpost top`: what its keys do, what it draws, and a session in a terminal against a database."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from rich.cells import cell_len
from rich.console import Console

from spanpost.cli import keys
from spanpost.cli.keys import Keys
from spanpost.cli.looking import WholeTask, read_in
from spanpost.cli.top_screen import ScreenOrder, TopScreen
from spanpost.model.queries import ApprovalFilter, TaskFilter
from spanpost.model.tasks import BETWEEN_PROMPTS, Task
from spanpost.runtime.assembly import open_store
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from spanpost.testing.exercise_people import asking, at_work

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def a_task(number: int, status: str = "working", quiet: int = 0, **known: Any) -> Task:
    """Return a task that did something `quiet` minutes ago."""
    given = {"tenant": "default", "task_id": f"t{number}", "name": f"task {number}", "agent_name": "coder"}
    at = NOW - timedelta(minutes=quiet)
    return Task(uid=UUID(int=number << 96), status=status, started_at=NOW, last_activity_at=at, **{**given, **known})


def a_screen(tasks: list[Task], *, is_ascii: bool = False) -> TopScreen:
    screen = TopScreen(is_ascii=is_ascii, clock=lambda: NOW)
    screen.take_tasks(tasks)
    return screen


def drawn(screen: TopScreen, width: int = 80, height: int = 24) -> list[str]:
    """Return the lines of a screen of that size."""
    console = Console(file=io.StringIO(), width=width, height=height, highlight=False)
    console.print(screen.draw(width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


async def a_whole(**question: Any) -> WholeTask:
    """Return a whole task that asks."""
    store = MemoryStore()
    await store.open()
    await store.record([at_work(), asking(**question)])
    [task] = (await store.reader.tasks(TaskFilter(shows_all=True), None, 9)).items
    return await read_in(store, "default", task, 9)


def test_the_order_is_by_urgency() -> None:
    """What waits stands first, then what fails, then what works; in each the longest quiet first."""
    tasks = [a_task(1), a_task(2, quiet=9), a_task(3, "error"), a_task(4, "waiting"), a_task(5, "stalled", quiet=8)]
    lines = drawn(a_screen(tasks))
    assert lines[0].startswith("spanpost  1 waiting  2 failing  2 at work  12:00:00Z")
    assert [line.split("task ")[1][0] for line in lines[3:8]] == ["4", "5", "3", "2", "1"]
    assert "9m" in lines[6]


def test_a_session_between_prompts_stands_last() -> None:
    """A session that asked nobody anything is not among those that wait for a person, and is counted by itself."""
    tasks = [a_task(1, "waiting", rule=BETWEEN_PROMPTS, is_inferred=True), a_task(2), a_task(3, "waiting")]
    lines = drawn(a_screen(tasks))
    assert lines[0].startswith("spanpost  1 waiting  0 failing  1 at work  1 between prompts  12:00:00Z")
    assert [line.split("task ")[1][0] for line in lines[3:6]] == ["3", "2", "1"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (120, 50), (20, 3), (80, 1)])
@pytest.mark.parametrize("number", [0, 1, 100])
def test_any_size_is_filled_and_never_exceeded(width: int, height: int, number: int) -> None:
    """The screen never has more lines or cells than the terminal, which would scroll it."""
    screen = a_screen([a_task(n) for n in range(1, number + 1)])
    for key in ("", keys.END, keys.HOME, "c"):
        screen.press(key)
        lines = drawn(screen, width, height)
        assert len(lines) <= height
        assert max(map(cell_len, lines)) <= width


def test_the_marked_task_stays_marked_when_the_order_changes() -> None:
    """The mark follows its task, is always on the screen, and moves to another when its task is gone."""
    screen = a_screen([a_task(n, quiet=100 - n) for n in range(1, 51)])
    for _ in range(3):
        screen.press(keys.DOWN)
    screen.take_tasks([a_task(4), *(a_task(n, quiet=100 - n) for n in range(1, 51) if n != 4)])
    assert screen.press(keys.ENTER) == ScreenOrder("whole", uid=str(UUID(int=4 << 96)))
    assert any("task 4 " in line for line in drawn(screen))
    screen.take_tasks([a_task(7)])
    assert screen.press("s") == ScreenOrder("whole", uid=str(UUID(int=7 << 96)))


def test_cancel_asks_first() -> None:
    """A cancel is confirmed by y alone; any other key does nothing."""
    screen = a_screen([a_task(1)])
    for key in ("n", keys.ENTER, keys.ESCAPE, "c", " "):
        assert screen.press("c") is None
        assert "Ask “task 1” to stop?" in drawn(screen)[-2]
        assert screen.press(key) is None
        assert "nothing was done" in drawn(screen)[-2]
    screen.press("c")
    assert screen.press("y") == ScreenOrder("cancel", uid=str(UUID(int=1 << 96)))


@pytest.mark.parametrize(
    ("question", "key", "decision"),
    [
        ({}, "a", "approve"),
        ({}, "d", "deny"),
        ({"options": ["eu", "us"]}, "2", "us"),
        ({"options": ["eu", "us"]}, "d", "deny"),
        ({"options": ["eu", "us"]}, "3", ""),
        ({"options": ["eu", "us"]}, "a", ""),
        ({}, "1", ""),
    ],
)
async def test_a_question_is_read_whole_and_answered(question: dict[str, Any], key: str, decision: str) -> None:
    """A question is shown with its detail; a key answers it, after another confirmed it."""
    whole = await a_whole(detail="one\ntwo", risk="high", **question)
    screen = a_screen([a_task(1)])
    assert screen.press("a") == ScreenOrder("whole", uid=str(UUID(int=1 << 96)))
    assert screen.take_whole(whole) is None
    shown = "\n".join(drawn(screen))
    assert all(word in shown for word in ("Deploy?", "  │ one", "  │ two", "high", *question.get("options", ())))
    assert screen.press(key) is None
    answer = screen.press("y")
    if decision:
        asked = whole.task["approvals"][0]["key"]
        assert answer == ScreenOrder("decide", uid=whole.task["uid"], key=asked, decision=decision)
    else:
        assert answer is None


async def test_a_question_below_is_answered_from_above() -> None:
    """The answer to a task without a question goes to the first one below it; without one the screen says so."""
    whole = await a_whole()
    below = {**whole.task, "uid": "b" * 32, "open_approvals": 1, "status": "waiting"}
    above = whole._replace(task={**whole.task, "approvals": []}, below=[below])
    screen = a_screen([a_task(1)])
    screen.press("a")
    assert screen.take_whole(above) == ScreenOrder("whole", uid="b" * 32)
    assert screen.take_whole(whole) is None
    assert "Deploy?" in "\n".join(drawn(screen))
    screen.press(keys.ESCAPE)
    screen.take_whole(above._replace(below=[]))
    assert screen.press("a") is None
    assert "has an open question" in drawn(screen)[-2]


async def test_ascii_is_ascii() -> None:
    """With `--ascii` every view is ASCII."""
    screen = a_screen([a_task(1, "waiting", name="답변")], is_ascii=True)
    assert all(line.isascii() for line in drawn(screen))
    screen.press("a")
    screen.take_whole(await a_whole(options=["eu", "us"]))
    assert all(line.isascii() for line in drawn(screen))
    screen.press(keys.ESCAPE)
    assert all(line.isascii() for line in drawn(screen))


def test_keys_are_read_whole() -> None:
    """Sequences of keys are one key each, unknown ones none, and the end of input is a key."""
    reader, writer = os.pipe()
    os.write(writer, b"j\x1b[A\x1bOB\rq\x1b[5~")
    typed = Keys(reader)
    assert [typed.next(5) for _ in range(6)] == ["j", keys.UP, keys.DOWN, keys.ENTER, "q", keys.PAGE_UP]
    os.write(writer, b"\x1b[99;1X")
    assert typed.next(5) == ""
    os.write(writer, b"\x1b")
    assert typed.next(5) == keys.ESCAPE
    assert typed.next(0.01) == ""
    os.close(writer)
    assert typed.next(5) == keys.END_OF_INPUT
    os.close(reader)


# --- in a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A terminal of 80x24 with a program in it."""

    def __init__(self, pid: int, master: int) -> None:
        self.pid, self._master, self.output = pid, master, b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str) -> str:
        """Read until the program has written a text after what was read before; return what it wrote."""
        deadline, start = time.monotonic() + 60, len(self.output)
        while time.monotonic() < deadline:
            said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output[start:].decode(errors="replace"))
            if text in said:
                return said
            if select.select([self._master], [], [], 1.0)[0]:
                try:
                    self.output += os.read(self._master, 65536)
                except OSError:  # the program has ended
                    break
        raise AssertionError(f"{text!r} was not written: {self.output[start:][-3000:]!r}")

    def ended(self) -> int:
        """Return the exit code of the program; what it wrote at the end is in `output`."""
        while True:
            try:
                if not (more := os.read(self._master, 65536)):
                    break
                self.output += more
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def terminal(home: Path, *arguments: str, **environment: str) -> Iterator[Terminal]:
    """Run the command in a terminal."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(home)
        given = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "LANG": "C.UTF-8"}
        os.execve(
            sys.executable, [sys.executable, "-m", "spanpost", *arguments], {**given, "TERM": "xterm", **environment}
        )
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    made = Terminal(pid, master)
    try:
        yield made
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(master)


@pytest.mark.slow
@pytest.mark.needs("postgres")
def test_a_question_is_answered_in_a_terminal(dsn: str, tmp_path: Path) -> None:
    """In a terminal of 80x24 the question of a database is seen, read and approved; the screen is then as before."""

    async def ask() -> None:
        async with asyncio.timeout(60):
            store = open_store(load(database={"url": dsn}))
            await store.open()
            await store.record([at_work(), asking(detail="to the shop", is_marked=True)])
            await store.close()

    async def answer() -> tuple[str, str]:
        store = open_store(load(database={"url": dsn}))
        await store.open()
        [one] = (await store.reader.approvals(ApprovalFilter(tenant="default"), None, 9)).items
        await store.close()
        return one.row.decision, one.row.by

    asyncio.run(ask())
    with terminal(tmp_path, "top", "--as", "mina", SPANPOST_DATABASE__URL=dsn) as top:
        assert "1 waiting" in top.until("Deploy?")
        top.type("a")
        top.until("to the shop")
        top.type("a")
        top.until("Answer “approve”?")
        top.type("y")
        top.until("Decided")
        top.type("q")
        assert top.ended() == 0
        assert top.output.count(b"\x1b[?1049h") == top.output.count(b"\x1b[?1049l") == 1
        assert b"Traceback" not in top.output
    assert asyncio.run(answer()) == ("approve", "mina")


@pytest.mark.slow
@pytest.mark.needs("postgres")
@pytest.mark.parametrize("end", ["\x03", "SIGTERM"])
def test_it_ends_cleanly(dsn: str, tmp_path: Path, end: str) -> None:
    """Ctrl-C and SIGTERM leave the other screen, without a traceback; an act without --as says what is missing."""
    asyncio.run(_at_work(dsn))
    with terminal(tmp_path, "top", SPANPOST_DATABASE__URL=dsn) as top:
        top.until("1 at work")
        top.type("c")
        top.until("to stop?")
        top.type("y")
        top.until("--as is missing")
        if end == "SIGTERM":
            os.kill(top.pid, signal.SIGTERM)
        else:
            top.type(end)
        assert top.ended() == 0
        assert b"\x1b[?1049l" in top.output
        assert b"Traceback" not in top.output


async def _at_work(dsn: str) -> None:
    store = open_store(load(database={"url": dsn}))
    await store.open()
    await store.record([at_work()])
    await store.close()


@pytest.mark.slow
def test_without_a_terminal_it_is_refused(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal the command names what prints a list instead."""
    from spanpost.cli.top import top
    from spanpost.model.errors import ConfigError

    with pytest.raises(ConfigError, match="spanpost tasks"):
        top()
