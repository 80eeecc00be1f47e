"""The screen of ``spanpost top``: what keys do, and what is drawn. It neither reads nor acts: it returns orders.

Three views: the list; a whole task, scrolled; a question, answered by a key and confirmed by another.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rich.console import Console, Group
from rich.text import Text

from spanpost.cli import columns as c
from spanpost.cli import keys, whole_task
from spanpost.cli.columns import Column
from spanpost.cli.looking import WholeTask
from spanpost.cli.task_lines import COLUMNS, row_of
from spanpost.model.tasks import RESTING, Task
from spanpost.semconv import CONTEXT_WARNING, ERROR, STALLED, WAITING
from spanpost.sinks import labels
from spanpost.text.legible import legible
from spanpost.text.sanitise import line

_LIST_KEYS: Final = "↑↓ move · enter show · a answer · c cancel · q quit"
_SHOW_KEYS: Final = "↑↓ scroll · a answer · c cancel · esc back · q quit"
_PAGE: Final = 10
#: Columns of `spanpost tasks`, with the time without activity before the age.
_QUIET_AT: Final = next(n for n, column in enumerate(COLUMNS) if column.title == "age")
_COLUMNS: Final = (*COLUMNS[:_QUIET_AT], Column("quiet", is_right=True), *COLUMNS[_QUIET_AT:])


class ScreenOrder(NamedTuple):
    """What the screen asks for: `whole`, `decide`, `cancel` or `quit`."""

    verb: str
    uid: str = ""
    key: str = ""
    decision: str = ""


def urgency(task: Task) -> tuple[int, datetime]:
    """Return the place of a task: waiting, failing, at work, between prompts; each with the quietest first."""
    is_failing = task.status in (ERROR, STALLED, CONTEXT_WARNING) or task.child_failed > 0
    place = 0 if task.waits_for_person else 1 if is_failing else 3 if task.shown_status == RESTING else 2
    return place, task.last_activity_at or task.started_at or datetime.max.replace(tzinfo=UTC)


class TopScreen:
    """The state of the screen."""

    def __init__(self, *, is_ascii: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._is_ascii, self._clock = is_ascii, clock
        self._tasks: list[Task] = []
        self._chosen = ""  # the uid of the marked task: it stays marked when the order changes
        self._first = 0
        self._whole: WholeTask | None = None
        self._scroll = 0
        self._is_asking = self._wants_answer = False
        self._order: ScreenOrder | None = None  # waits to be confirmed
        self._said = "reading …"

    # --- what was read ------------------------------------------------------------------------------------------------

    def take_tasks(self, tasks: Sequence[Task]) -> ScreenOrder | None:
        """Take newly read tasks."""
        self._tasks = sorted(tasks, key=urgency)
        if self._said == "reading …":
            self._said = ""
        if self._place() is None:
            self._chosen = str(self._tasks[0].uid) if self._tasks else ""
        return None

    def take_whole(self, whole: WholeTask) -> ScreenOrder | None:
        """Take a whole task that was asked for; return an order for the task below it whose question is answered."""
        if self._whole is None or self._whole.task["uid"] != whole.task["uid"]:
            self._scroll = 0
            self._said = ""
        self._whole = whole
        return self._begin_answer() if self._wants_answer else None

    def say(self, text: str) -> None:
        """Say what came of an order, or what failed."""
        self._said = line(text, 300)
        self._wants_answer = False

    @property
    def shown_uid(self) -> str:
        """The task that is shown whole; empty in the list."""
        return self._whole.task["uid"] if self._whole is not None else ""

    # --- keys ---------------------------------------------------------------------------------------------------------

    def press(self, key: str) -> ScreenOrder | None:
        """React to a key; return an order to carry out."""
        if key == keys.END_OF_INPUT:
            return ScreenOrder("quit")
        if self._order is not None:
            order, self._order = self._order, None
            self._said = "" if key == "y" else "nothing was done"
            if key == "y":
                self._is_asking = False
                return order
            return None
        if self._is_asking:
            self._answer(key)
            return None
        if key == "q":
            return ScreenOrder("quit")
        return self._press_whole(key) if self._whole is not None else self._press_list(key)

    def _press_list(self, key: str) -> ScreenOrder | None:
        place = self._place()
        if place is None:
            return None
        moves = {
            keys.UP: -1, "k": -1, keys.DOWN: 1, "j": 1, keys.PAGE_UP: -_PAGE, keys.PAGE_DOWN: _PAGE,
            keys.HOME: -len(self._tasks), "g": -len(self._tasks), keys.END: len(self._tasks), "G": len(self._tasks),
        }  # fmt: skip
        if key in moves:
            place = min(max(place + moves[key], 0), len(self._tasks) - 1)
            self._chosen, self._said = str(self._tasks[place].uid), ""
        elif key in (keys.ENTER, "s", "a"):
            self._wants_answer = key == "a"
            self._said = "reading …"
            return ScreenOrder("whole", uid=self._chosen)
        elif key == "c":
            self._confirm_cancel(self._chosen, labels.title(self._tasks[place], 60))
        return None

    def _press_whole(self, key: str) -> ScreenOrder | None:
        assert self._whole is not None
        moves = {keys.UP: -1, "k": -1, keys.DOWN: 1, "j": 1, keys.PAGE_UP: -_PAGE, keys.PAGE_DOWN: _PAGE, " ": _PAGE}
        if key in moves:
            self._scroll = max(self._scroll + moves[key], 0)
        elif key == keys.HOME:
            self._scroll = 0
        elif key in (keys.ESCAPE, keys.ENTER):
            self._whole, self._said = None, ""
        elif key == "a":
            return self._begin_answer()
        elif key == "c":
            self._confirm_cancel(self.shown_uid, self._whole.task["name"] or self._whole.task["task_id"])
        return None

    def _begin_answer(self) -> ScreenOrder | None:
        """Show the open question; of a task without one the first question below it."""
        self._is_asking, self._wants_answer = self._question() is not None, False
        if self._is_asking or self._whole is None:
            return None
        below = next(
            (one["uid"] for one in self._whole.below if one["open_approvals"] and one["status"] == WAITING), ""
        )
        self._wants_answer = bool(below)
        self._said = "reading …" if below else "neither it nor a task below it has an open question"
        return ScreenOrder("whole", uid=below) if below else None

    def _question(self) -> dict[str, Any] | None:
        asked = self._whole.task["approvals"] if self._whole is not None else ()
        return next((one for one in asked if one["state"] == "open"), None)

    def _answer(self, key: str) -> None:
        question = self._question()
        if question is None or key in (keys.ESCAPE, "q"):
            self._is_asking, self._said = False, ""
            return
        options = question["options"]
        decision = {"a": "" if options else "approve", "d": "deny"}.get(key, "")
        if not question["is_whole"]:
            options, decision = [], "deny" if key == "d" else ""
        if options and key.isdecimal() and 0 < int(key) <= len(options):
            decision = options[int(key) - 1]
        if decision:
            self._order = ScreenOrder("decide", uid=self.shown_uid, key=question["key"], decision=decision)
            self._said = f"Answer “{line(decision, 60)}”? y: yes, any other key: no"

    def _confirm_cancel(self, uid: str, name: str) -> None:
        self._order = ScreenOrder("cancel", uid=uid)
        self._said = f"Ask “{line(name, 60)}” to stop? y: yes, any other key: no"

    def _place(self) -> int | None:
        return next((n for n, task in enumerate(self._tasks) if str(task.uid) == self._chosen), None)

    # --- what is drawn ------------------------------------------------------------------------------------------------

    def draw(self, width: int, height: int) -> Group:
        """Return the screen for a terminal of that size: never more lines than it has."""
        room = max(height - 4, 1)
        if self._is_asking:
            body, below = self._draw_question(width), self._question_keys()
        elif self._whole is not None:
            body, below = self._draw_whole(width), _SHOW_KEYS
            self._scroll = min(self._scroll, max(len(body) - room, 0))
        else:
            body, below = self._draw_list(width, room), _LIST_KEYS
        if self._is_asking or self._whole is not None:
            body = body[0 if self._is_asking else self._scroll :][:room]
        body += [Text("")] * (room - len(body))
        lines = [self._header(), Text(""), *body, Text(self._said, style="yellow"), Text(below, style="dim")]
        for one in lines:
            one.no_wrap, one.overflow = True, "ellipsis"
        return Group(*(c.in_ascii(one) if self._is_ascii else one for one in lines[:height]))

    def _header(self) -> Text:
        places = [urgency(task)[0] for task in self._tasks]
        said = Text("spanpost", style="bold")
        for n, word, style in ((0, "waiting", "yellow"), (1, "failing", "red"), (2, "at work", "green")):
            said.append(f"  {places.count(n)} {word}", style=style if places.count(n) else "dim")
        if resting := places.count(3):
            said.append(f"  {resting} between prompts", style="dim")
        return said.append(f"  {self._clock().strftime('%H:%M:%SZ')}", style="dim")

    def _draw_list(self, width: int, room: int) -> list[Text]:
        if not self._tasks:
            return [Text("no open tasks" if not self._said else "")]
        now, place = self._clock(), self._place() or 0
        rows = room - 1
        self._first = max(min(self._first, place, len(self._tasks) - rows), place - rows + 1, 0)
        shown = self._tasks[self._first : self._first + rows]
        cells = []
        for task in shown:
            row = row_of(task, 0, now, task.cost_usd)
            quiet = "" if labels.is_final(task) else c.ago(task.last_activity_at, now)
            cells.append([*row[:_QUIET_AT], quiet, *row[_QUIET_AT:]])
        table = c.fitted(_COLUMNS, cells, width, is_ascii=self._is_ascii, expand=True)
        lines = _lines(table, width)
        lines[1 + place - self._first].stylize("reverse")
        return lines

    def _draw_whole(self, width: int) -> list[Text]:
        assert self._whole is not None
        file = io.StringIO()
        console = Console(file=file, width=width, highlight=False, force_terminal=True, color_system="standard")
        whole_task.print_whole(self._whole, is_ascii=self._is_ascii, console=console)
        return [part for row in file.getvalue().splitlines() for part in _folded(Text.from_ansi(row), width)]

    def _draw_question(self, width: int) -> list[Text]:
        question = self._question()
        if question is None:
            return [Text("the question is no longer open")]
        lines = [Text(f"✋ {line(question['agent_name'] or 'an agent', 60)} asks:", style="bold")]
        for name in ("question", "detail", "tool", "risk"):
            if question[name]:
                lines.append(Text(name, style="dim"))
                lines += [Text(f"  │ {row}") for row in legible(question[name]).split("\n")]
        if not question["is_whole"]:
            lines.append(Text("a part of it cannot be read: it can only be denied", style="red"))
        lines += [Text(f"  {n}. {line(option, 200)}") for n, option in enumerate(question["options"], 1)]
        return [part for one in lines for part in _folded(one, width)]

    def _question_keys(self) -> str:
        question = self._question()
        options = question["options"] if question is not None else []
        if question is None or not question["is_whole"]:
            return "d deny · esc back"
        return f"1–{len(options)} choose · d deny · esc back" if options else "a approve · d deny · esc back"


def _lines(table: Any, width: int) -> list[Text]:
    """Return a table as lines that can be marked."""
    file = io.StringIO()
    Console(file=file, width=width, highlight=False, force_terminal=True, color_system="standard").print(table)
    return [Text.from_ansi(row) for row in file.getvalue().splitlines()]


def _folded(text: Text, width: int) -> list[Text]:
    return list(text.wrap(Console(width=width, file=io.StringIO()), width)) or [text]
