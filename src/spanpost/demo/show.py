"""The command ``spanpost demo``: follow the agent live, then print what to see next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from spanpost.model.errors import SpanpostError

if TYPE_CHECKING:
    from spanpost.runtime.pipeline import Pipeline
    from spanpost.settings import Settings

#: Seconds that the last messages and rows may take.
LAST_WAIT = 20.0

#: Example queries, with their titles.
QUERIES = (
    ("what it cost", "SELECT name, status, llm_calls, input_tokens, cost_usd FROM agent_tasks ORDER BY started_at"),
    ("checkpoints", "SELECT at, kind, text FROM agent_checkpoints ORDER BY at"),
)


def show(settings: Settings, *, fast: bool = False, again: Sequence[str] = ()) -> None:
    """Run the agent, followed by a pipeline of these settings; serve until Ctrl-C where a person is watching.

    `again` are the options by which later commands find the same data. Ctrl-C is how the demo is left, at
    any time.
    """
    import spanpost
    from spanpost.demo.board import DemoBoard
    from spanpost.sinks.console.settings import ConsoleSettings

    watched = sys.stdout.isatty()
    if "console" not in settings.sinks:
        settings = settings.model_copy(update={"console": ConsoleSettings()})
    if not settings.dsn:
        # Its database is its own, so its board needs no roles: everyone who opens it may press the buttons.
        settings = settings.model_copy(
            update={"api": settings.api.model_copy(update={"local_roles": ("operator", "approver")})}
        )
    where = "your PostgreSQL" if settings.dsn else f"the embedded PostgreSQL in {settings.database.data_dir}"
    _say(f"starting {where} ...")
    try:
        pipeline = spanpost.attach(settings=settings)
        board = DemoBoard(pipeline, settings)
        try:
            if url := board.open():
                _say(f"\nwatch it in your browser, too: {url}\n")
            _follow(pipeline, pace=1.0 if watched and not fast else 0.05)
            _say_next(pipeline.metrics_url, again, url)
            if watched:
                _say("\nserving until Ctrl-C")
                threading.Event().wait()
            elif pipeline.metrics_url:
                _scrape(pipeline.metrics_url)
        finally:
            board.close()
            pipeline.shutdown()
    except KeyboardInterrupt:
        _say("\nstopped; the records are kept")


def _follow(pipeline: Pipeline, pace: float) -> None:
    from spanpost.demo.first_agent import run

    _say("an agent is at work; it emits OpenTelemetry and nothing else. This is what Slack would show:\n")
    run(pace=pace)
    until = time.monotonic() + LAST_WAIT
    # A flush may give up early, on what it takes to be due later; only time says that it is too late.
    while not pipeline.force_flush(max(0.0, until - time.monotonic())):
        if time.monotonic() >= until:
            raise SpanpostError(f"not everything was recorded within {LAST_WAIT:.0f} s; see the messages above")
        time.sleep(0.1)


def command() -> str:
    """Return the command that starts spanpost from the current directory."""
    path = Path(sys.argv[0])
    if path.name != "spanpost":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m spanpost"
    found = shutil.which("spanpost")
    if found is not None and Path(found).samefile(path):
        return "spanpost"
    near = os.path.relpath(path)
    return shlex.quote(str(path) if near.startswith("..") else near)


def _say_next(metrics_url: str | None, again: Sequence[str], board_url: str) -> None:
    start, options = command(), "".join(f" {shlex.quote(one)}" for one in again)
    _say("Next steps\n")
    if board_url:
        _say(f"  {'the board':<15}{board_url}")
    _say(f"  {'the tasks':<15}{start} tasks{options}")
    for what, sql in QUERIES:
        _say(f'  {what:<15}{start} db query{options} "{sql}"')
    if metrics_url:
        _say(f"  {'the metrics':<15}{metrics_url}")
    _say(f"  {'your own agent':<15}import spanpost")
    _say(f"  {'':<15}spanpost.attach()")


def _scrape(url: str) -> None:
    with urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = [one for one in lines if one.startswith("spanpost_")]
    _say(f"\nscraped {url}: {len(samples)} samples, among them")
    shown = (
        "spanpost_tasks_ended_total{",
        "spanpost_checkpoints_total{",
        "spanpost_tokens_total{",
        "spanpost_cost_usd_total{",
    )
    for one in samples:
        if one.startswith(shown) and not one.endswith(" 0.0"):
            _say(f"  {one}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
