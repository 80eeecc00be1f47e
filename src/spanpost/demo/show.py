"""What ``spanpost demo`` does: follow the agent live, then say what to look at next."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.request import urlopen

from spanpost.domain.errors import SpanpostError

if TYPE_CHECKING:
    from spanpost.settings import Settings

#: Seconds that the last messages and rows may take.
PATIENCE = 20.0

SQL = "SELECT name, status, llm_calls, tool_errors, input_tokens, cost_usd FROM agent_tasks ORDER BY started_at"


def show(settings: Settings, *, fast: bool = False) -> None:
    """Run the agent, followed by a pipeline of these settings; serve until Ctrl-C where a person is watching."""
    import spanpost
    from spanpost.demo.first_agent import run
    from spanpost.sinks.console.settings import ConsoleSettings

    watched = sys.stdout.isatty()
    if "console" not in settings.sinks:
        settings = settings.model_copy(update={"console": ConsoleSettings()})
    where = "your PostgreSQL" if settings.dsn else f"the embedded PostgreSQL in {settings.database.data_dir}"
    _say(f"starting {where} ...")
    pipeline = spanpost.attach(settings=settings)
    try:
        _say("an agent is at work; it emits OpenTelemetry and nothing else. This is what Slack would show:\n")
        run(pace=1.0 if watched and not fast else 0.05)
        until = time.monotonic() + PATIENCE
        # A flush may give up early, on what it takes to be due later; only time says that it is too late.
        while not pipeline.force_flush(max(0.0, until - time.monotonic())):
            if time.monotonic() < until:
                time.sleep(0.1)
                continue
            raise SpanpostError(f"not everything was recorded within {PATIENCE:.0f} s; see the messages above")
        _say_next(pipeline.metrics_url)
        if pipeline.metrics_url and not watched:
            _scrape(pipeline.metrics_url)
        if watched:
            with suppress(KeyboardInterrupt):
                _say("\nserving until Ctrl-C")
                threading.Event().wait()
    finally:
        pipeline.shutdown()


def _say_next(metrics_url: str | None) -> None:
    _say("\nWhat to look at next")
    _say("  the tasks           spanpost tasks")
    _say(f'  the audit rows      spanpost db query "{SQL}"')
    _say('                      spanpost db query "SELECT * FROM agent_checkpoints ORDER BY at"')
    if metrics_url:
        _say(f"  the metrics         {metrics_url}")
    _say("  your own agent      import spanpost")
    _say("                      spanpost.attach()")


def _scrape(url: str) -> None:
    with urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = [one for one in lines if one.startswith("spanpost_")]
    _say(f"\nscraped {url}: {len(samples)} samples, among them")
    for one in samples:
        if one.startswith(("spanpost_tasks_ended_total", "spanpost_checkpoints_total", "spanpost_tokens_total")):
            _say(f"  {one}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
