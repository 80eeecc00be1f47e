"""Terminal sink: live cards for people, plain lines for logs, JSON lines for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from threading import Lock
from time import monotonic
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, RateLimit, Receipt, SinkCall
from spanpost.model.errors import Unavailable
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route, came_by
from spanpost.sinks import labels
from spanpost.sinks.console import render
from spanpost.text.locales import ENGLISH, Locale
from spanpost.text.locales import locale as language

#: Columns without a terminal: logs are read in wider windows than a terminal's default of 80.
WIDTH = 120


class ConsoleForm(StrEnum):
    """Form of the output. AUTO: live on a terminal, plain elsewhere."""

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSON = "json"


class _Card:
    """One root task with its thread."""

    __slots__ = ("children", "has_checkpoint", "hidden", "is_printed", "keys", "locale", "task", "thread")

    def __init__(self, task: Task) -> None:
        self.task: Task | None = task
        self.children: tuple[Task, ...] = ()
        self.thread: list[render.CheckpointLine] = []
        self.keys: set[str] = set()
        self.hidden = 0
        self.is_printed = False
        self.has_checkpoint = False
        self.locale = ENGLISH

    @property
    def is_open(self) -> bool:
        """Tell whether to show the card. False for a task that ended in another process, whose terminal showed it."""
        return not self.is_printed and self.task is not None and (self.has_checkpoint or not labels.is_final(self.task))


def _now() -> datetime:
    return datetime.now(UTC)


class ConsoleSink:
    """Shows what Slack would show: one card per root task, edited in place, with its checkpoints below.

    Live cards stay at the bottom of the terminal. A card whose task has ended is printed once and scrolls
    away. At most `KEPT` ended cards are remembered, so that a long-lived process does not grow.
    """

    name = "console"
    KEPT = 200

    def __init__(
        self,
        *,
        form: ConsoleForm = ConsoleForm.AUTO,
        file: TextIO | None = None,
        console: Console | None = None,
        clock: Callable[[], datetime] = _now,
        zone: tzinfo | None = None,
        locale: Locale = ENGLISH,
    ) -> None:
        file = file or sys.stdout
        width = None if file.isatty() or "COLUMNS" in os.environ else WIDTH
        self._console = console or Console(file=file, width=width, highlight=False, markup=False, emoji=False)
        watched = self._console.is_terminal and not self._console.is_dumb_terminal
        self.form = (ConsoleForm.LIVE if watched else ConsoleForm.PLAIN) if form is ConsoleForm.AUTO else form
        self._clock = clock
        self._locale = locale
        self._routes: list[Route] = []
        self._zone = zone or datetime.now().astimezone().tzinfo or UTC
        self._cards: dict[str, _Card] = {}
        self._lock = Lock()
        self._out: list[RenderableType] = []
        self._live: Live | None = None
        self._closed = False
        self._shown_at = float("-inf")

    def routed(self, routes: Sequence[Route]) -> None:
        """Set the routes that lead here: each may have its language."""
        self._routes = list(routes)

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Show a delivery. A closed terminal is `Unavailable`."""
        try:
            with self._lock:
                self._take(delivery)
            self._write_out()
            if self.form is ConsoleForm.LIVE:
                self._show()
        except (OSError, ValueError) as error:  # a pipe that was closed; a file that was closed
            raise Unavailable(f"cannot write to the terminal: {error}", reason="closed") from error
        return Receipt(ref={"ordering_key": delivery.ordering_key})

    async def reconcile(self, deliveries: Sequence[Delivery]) -> dict[int, Receipt | None]:
        """Answer from what this process has shown. Deliveries of another process's terminal are shown again."""
        with self._lock:
            return {
                d.id: Receipt(ref={"ordering_key": d.ordering_key})
                if (card := self._cards.get(d.ordering_key)) and d.key in card.keys
                else None
                for d in deliveries
            }

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        return ()

    async def close(self) -> None:
        """Print the open cards and leave the terminal as it was."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._live is not None:
                self._live.stop()
                self._live = None
            with self._lock:
                for card in self._cards.values():
                    if card.is_open:
                        self._print(card)
            self._write_out()
        except (OSError, ValueError):
            pass  # the terminal closed first

    # --- what is shown ------------------------------------------------------------------------------------------
    def _take(self, delivery: Delivery) -> None:
        """Put a delivery on its card, and write what the form writes at once."""
        if self.form is ConsoleForm.JSON:
            # ASCII only: no character may control the terminal.
            self._out.append(json.dumps(render.record(delivery)))
        card = self._cards.get(delivery.ordering_key)
        if card is None:
            card = self._cards[delivery.ordering_key] = _Card(delivery.task)
            route = came_by(self._routes, delivery.address, delivery.task)
            card.locale = language(route.language) if route is not None and route.language else self._locale
            card.task = None
            self._forget()
        if delivery.key in card.keys and delivery.mode is Mode.CHECKPOINT:
            return
        card.keys.add(delivery.key)
        is_root = delivery.mode is Mode.STATE or _is_root(delivery)
        if is_root:
            if card.is_printed and card.task is not None and _run(card.task) != _run(delivery.task):
                card.is_printed = False  # resumed, or ended with another status
            card.task = delivery.task
            card.children = delivery.children or card.children
            if delivery.has_moved and not card.is_printed:  # no checkpoint of its end follows
                self._print(card)
        checkpoint = delivery.checkpoint
        if delivery.mode is Mode.CHECKPOINT and checkpoint is not None:
            card.has_checkpoint = True
            self._append(
                card,
                delivery,
                render.CheckpointLine(checkpoint, "" if is_root else labels.title(delivery.task, 40, card.locale)),
            )
            if is_root and checkpoint.kind is Kind.END and not card.is_printed:
                self._print(card)

    def _append(self, card: _Card, delivery: Delivery, entry: render.CheckpointLine) -> None:
        if self.form is ConsoleForm.PLAIN:
            title = labels.title(card.task or delivery.task, 60, card.locale)
            self._out.append(render.plain(entry, title, self._zone, card.locale))
        elif card.is_printed:
            text = Text(f"  {labels.title(card.task or delivery.task, 40, card.locale)}  ", style="dim")
            self._out.append(text + render.checkpoint_line(entry, self._zone, card.locale))
        else:
            card.thread.append(entry)
            if len(card.thread) > 40:  # more than a live card ever shows
                del card.thread[0]
                card.hidden += 1

    def _print(self, card: _Card) -> None:
        """Print a card for the last time."""
        card.is_printed = True
        if self.form is ConsoleForm.JSON or card.task is None:
            return
        thread = card.thread if self.form is ConsoleForm.LIVE else ()
        now = None if labels.is_final(card.task) else self._clock()
        drawn = render.card(
            card.task, card.children, thread, now=now, hidden=card.hidden, zone=self._zone, locale=card.locale
        )
        self._out.append(Group(drawn, Text("")))
        card.thread, card.hidden = [], 0

    def _write_out(self) -> None:
        # Not under this lock: printing takes the lock of `Live`, whose thread takes this one when it draws.
        out, self._out = self._out, []
        if out and self._live is not None:
            self._live.refresh()  # otherwise the printed card would briefly stand beside its live copy
        for each in out:
            if isinstance(each, str):
                self._console.file.write(each + "\n")
            else:
                self._console.print(each, no_wrap=True, overflow="ellipsis")
        if out:
            self._console.file.flush()

    def _show(self) -> None:
        if self._closed:
            return
        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self._open_cards,
                auto_refresh=self._console.is_terminal,
                refresh_per_second=4,
                transient=True,
                vertical_overflow="ellipsis",
            )
            self._live.start()
        # Between these calls, the thread of `Live` draws four times a second.
        if (now := monotonic()) - self._shown_at >= 0.08:
            self._shown_at = now
            self._live.refresh()

    def _open_cards(self) -> RenderableType:
        """Draw the open cards, newest last, as far as the terminal's height allows."""
        with self._lock:
            cards = [c for c in self._cards.values() if c.is_open]
            height = max(self._console.height - 2, 8)
            left_out = max(len(cards) - height // 2, 0)
            cards = cards[left_out:]
            # Shorten threads first, then cards; then only count the oldest.
            for most, roomy in ((render.CHECKPOINT, True), (3, True), (1, False), (0, False)):
                drawn = [self._draw(c, most, roomy) for c in cards]
                heights = [len(self._console.render_lines(d, pad=False)) for d in drawn]
                if not left_out and sum(heights) <= height:
                    return Group(*drawn)
            while drawn and sum(heights) + 1 > height:
                drawn.pop(0)
                heights.pop(0)
                left_out += 1
            return Group(Text(self._locale.say("console.under_way", n=left_out), style="dim"), *drawn)

    def _draw(self, card: _Card, most: int, roomy: bool) -> RenderableType:
        assert card.task is not None
        thread = card.thread[-most:] if most else []
        hidden = card.hidden + len(card.thread) - len(thread) if thread else 0
        now, locale = self._clock(), card.locale
        drawn = render.card(
            card.task, card.children, thread, now=now, hidden=hidden, zone=self._zone, roomy=roomy, locale=locale
        )
        return Group(drawn, Text("")) if roomy else drawn

    def _forget(self) -> None:
        if len(self._cards) > self.KEPT:
            for ordering_key in [ordering_key for ordering_key, card in self._cards.items() if card.is_printed][
                : len(self._cards) - self.KEPT
            ]:
                del self._cards[ordering_key]


def _is_root(delivery: Delivery) -> bool:
    return delivery.task.root_uid is None or delivery.task.root_uid == delivery.task.uid


def _run(task: Task) -> tuple[str, int]:
    return task.status, task.runs
