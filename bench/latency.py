"""How long it takes from a span event to the call of Slack, in process, unthrottled: with each store.

    python bench/latency.py [--events 400] [--pace 20] [--store memory embedded system]

An agent reports a checkpoint at a steady pace, on a span that stays open; each is posted in the task's
thread. Slack is a server in a process of its own that notes when a request has arrived, by the clock that
all processes of the machine share. Verbosity is `live`: with less, progress is shown by edits alone. Rate
limits are so high that they never delay a call. Edits of the task's message go out beside, as they do.
PostgreSQL commits to disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from options import parse, postgres
from table import tell

from spanpost.receivers.attachment import join
from spanpost.runtime.pipeline import Pipeline
from spanpost.settings import load
from spanpost.store.sql.schema import upgrade
from spanpost.testing.postgres import system_binaries

ATTRIBUTES = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bench", "agent.task.name": "bench"}
#: Seconds that the last call may take after the last event.
_LATEST = 30.0
FREE = {"edits_per_minute": 1e6, "posts_per_minute": 1e6, "posts_per_channel_per_minute": 1e6}

_SLACK = r"""
import http.server, re, sys, time, urllib.parse
seen = {}
_ANSWER = (
    '{"ok":true,"ts":"1.%06d","channel":"C1","messages":[],"team_id":"T1","team":"t","user_id":"U1",'
    '"bot_id":"B1"}'
)


class Slack(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0
    def do_POST(self):
        said = urllib.parse.unquote_plus(self.rfile.read(int(self.headers.get("content-length") or 0)).decode())
        at = time.monotonic_ns()
        if "chat.postMessage" in self.path:
            for number in set(re.findall(r"step (\d+) of the bench", said)):
                if number not in seen:
                    seen[number] = at
                    print(number, at, flush=True)
        Slack.count += 1
        body = (_ANSWER % Slack.count).encode()
        self.send_response(200); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_GET = do_POST
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slack)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def database(store: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lend the settings of a store."""
    if store == "memory":
        yield {}
        return
    asked.system = store == "system"
    with postgres(asked) as dsn:
        asyncio.run(upgrade(dsn))
        yield {"database": {"url": dsn}}


def measure(sections: dict[str, Any], events: int, pace: float) -> list[float]:
    """Return the milliseconds from each event to the arrival of its call, sorted."""
    slack = subprocess.Popen([sys.executable, "-c", _SLACK], stdout=subprocess.PIPE, text=True)
    assert slack.stdout is not None
    said: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda out=slack.stdout: [said.put(line) for line in out], daemon=True).start()
    try:
        url = f"http://127.0.0.1:{said.get(timeout=_LATEST).strip()}/api/"
        settings = load(
            slack={"token": "xoxb-0-0-bench", "channel": "C1", "base_url": url, "verbosity": "live", **FREE}, **sections
        )
        pipeline = Pipeline(settings)
        pipeline.start()
        provider = TracerProvider(shutdown_on_exit=False)
        join(pipeline.feed, tracer_provider=provider)
        span = provider.get_tracer("bench").start_span("invoke_agent bench", attributes=ATTRIBUTES)
        pipeline.force_flush(10)
        sent: dict[int, int] = {}
        due = time.perf_counter()
        for number in range(events):
            due += 1 / pace
            time.sleep(max(0.0, due - time.perf_counter()))
            sent[number] = time.monotonic_ns()
            span.add_event("agent.checkpoint", {"agent.checkpoint.message": f"step {number} of the bench"})
        arrived: dict[int, int] = {}
        until = time.monotonic() + _LATEST
        while len(arrived) < events:
            try:
                number, at = map(int, said.get(timeout=max(0.0, until - time.monotonic())).split())
            except queue.Empty:
                missing = (
                    f"{events - len(arrived)} of {events} events reached no call of Slack within {_LATEST:g} seconds"
                )
                raise SystemExit(missing) from None
            arrived[number] = at
        span.end()
        pipeline.shutdown(5)
    finally:
        slack.kill()
        slack.wait()
    # The first ones include connecting, compiling and preparing.
    return sorted((arrived[n] - sent[n]) / 1e6 for n in range(events // 20, events))


def main() -> None:
    """Measure and print each store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--pace", type=float, default=20.0, help="events a second")
    parser.add_argument(
        "--store", nargs="+", choices=("memory", "embedded", "system"), default=["memory", "embedded", "system"]
    )
    parser.add_argument("--json", action="store_true")
    asked = parse(parser, {"events": 20, "pace": 10.0, "store": ["memory", "system"]})
    logging.disable()
    rows = []
    for store in asked.store:
        if store == "system" and system_binaries() is None:
            print("no PostgreSQL of the system is here", file=sys.stderr)
            continue
        with database(store, asked) as sections:
            found = measure(sections, asked.events, asked.pace)
        p99 = found[len(found) * 99 // 100]
        rows.append({"store": store, "median_ms": statistics.median(found), "p99_ms": p99, "most_ms": found[-1]})
    headings = {"store": "store", "median_ms": "median, ms", "p99_ms": "99th percentile, ms", "most_ms": "most, ms"}
    tell(rows, headings, as_json=asked.json, form=".1f")


if __name__ == "__main__":
    main()
