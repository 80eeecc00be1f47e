"""``spanpost top``: open tasks live, with keys to look at one, answer its question or cancel it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from spanpost.cli.acts import TaskTenant
from spanpost.cli.approvals import By
from spanpost.cli.options import Ascii, DatabaseUrl, DataDir, settings_of
from spanpost.cli.remote import Url
from spanpost.model.errors import ConfigError, SpanpostError

if TYPE_CHECKING:
    from spanpost.cli.top_screen import ScreenOrder, TopScreen
    from spanpost.cli.top_source import TopSource

#: Seconds between two reads, between two drawings without a change, and until a key is looked for again.
_POLL: Final = 2.0
_DRAW: Final = 1.0
_KEY: Final = 0.1


def top(
    by: By = None,
    tenant: TaskTenant = None,
    is_ascii: Ascii = False,
    url: Url = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show open tasks live: those that wait for a person first, then failing ones, then the quietest. Keys show a
    task, answer its question and cancel it. A gateway applies its rules; in the database acts need --as.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("top: there is no terminal; `spanpost tasks` prints a list, `spanpost watch` a log")
    from spanpost.cli import columns, top_screen, top_source

    source: TopSource
    if url is not None:
        if tenant is not None:
            raise ConfigError("--tenant: at a gateway the token determines the tenant; leave it out")
        source = top_source.GatewaySource(url, data_dir)
    else:
        settings = settings_of(database_url, data_dir)
        whose = tenant if tenant is not None else settings.intake.tenant
        source = top_source.StoreSource(settings, whose, (by or "").strip())
    run(top_screen.TopScreen(is_ascii=is_ascii or columns.speaks_ascii()), source)


def run(screen: TopScreen, source: TopSource) -> None:
    """Run until the person quits. The terminal is afterwards as it was."""
    from rich.console import Console
    from rich.live import Live

    from spanpost.cli.keys import keys_of

    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with (
        ThreadPoolExecutor(1, "spanpost-top") as reader,
        keys_of(sys.stdin.fileno()) as typed,
        Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live,
    ):
        loop = _Loop(screen, source, reader)
        drawn, size, has_changed = 0.0, console.size, True
        try:
            while not loop.is_over:
                has_changed |= loop.step(typed.next(_KEY))
                if has_changed or console.size != size or time.monotonic() - drawn >= _DRAW:
                    size = console.size
                    live.update(screen.draw(size.width, size.height), refresh=True)
                    drawn, has_changed = time.monotonic(), False
        except KeyboardInterrupt:
            pass
        finally:
            reader.submit(source.close)


class _Loop:
    """Keys and reads in turn. Reads and acts are done one after the other in the reader's thread."""

    def __init__(self, screen: TopScreen, source: TopSource, reader: ThreadPoolExecutor) -> None:
        self._screen, self._source, self._reader = screen, source, reader
        self._running: list[tuple[Future[Any], Callable[[Any], ScreenOrder | None]]] = []
        self._read_at = 0.0
        self.is_over = False

    def step(self, key: str) -> bool:
        """React to a key and to what was read; return whether there is something to draw."""
        if key and (order := self._screen.press(key)) is not None:
            self._carry_out(order)
        done = [one for one in self._running if one[0].done()]
        self._running = [one for one in self._running if not one[0].done()]
        for future, take in done:
            try:
                if (order := take(future.result())) is not None:
                    self._carry_out(order)
            except SpanpostError as error:
                self._screen.say(str(error))
        if not self._running and time.monotonic() >= self._read_at:
            self._read_at = time.monotonic() + _POLL
            self._do(self._source.tasks, self._screen.take_tasks)
            if uid := self._screen.shown_uid:
                self._show(uid)
        return bool(key or done)

    def _carry_out(self, order: ScreenOrder) -> None:
        if order.verb == "quit":
            self.is_over = True
        elif order.verb == "whole":
            self._show(order.uid)
        else:
            act = (
                (lambda: self._source.decide(order.key, order.decision))
                if order.verb == "decide"
                else (lambda: self._source.cancel(order.uid))
            )
            self._do(act, self._screen.say)
            self._read_at = 0.0

    def _show(self, uid: str) -> None:
        self._do(lambda: self._source.whole(uid), self._screen.take_whole)

    def _do(self, work: Callable[[], Any], take: Callable[[Any], ScreenOrder | None]) -> None:
        self._running.append((self._reader.submit(work), take))
