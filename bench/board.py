"""What the board costs a browser while very many tasks run: frames, work, bytes.

    python bench/board.py [--tasks 1000] [--rate 50] [--seconds 10] [--system]

A gateway with a real PostgreSQL records so many tasks, and then so many changes a second. Chromium
(headless, drawing in software) opens the page, and is watched for so many seconds, first at rest, then while
the page scrolls. Frames are what requestAnimationFrame sees; work is the time of the page's own thread, as
the browser counts it; bytes are what came over the wire.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import threading
import time
from typing import Any

from options import parse, postgres
from playwright.sync_api import CDPSession, Page, sync_playwright

from spanpost.cli.preview import BROWSERS
from spanpost.runtime.gateway import Gateway
from spanpost.runtime.local_token import link
from spanpost.settings import load
from spanpost.store.sql.schema import upgrade
from spanpost.testing.live_tasks import LiveTasks

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
_FRAMES = """
seconds => new Promise(done => {
  const gaps = []; let last = performance.now(); const until = last + seconds * 1000;
  const frame = now => { gaps.push(now - last); last = now; now < until ? requestAnimationFrame(frame) : done(gaps); };
  requestAnimationFrame(frame);
})"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=50, help="changes a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    parser.add_argument(
        "--settle", type=float, default=25.0, help="seconds between the tasks' begin and the look at the page"
    )
    asked = parse(parser, {"tasks": 50, "rate": 10, "seconds": 0.5, "settle": 0.0})
    with postgres(asked) as dsn, tempfile.TemporaryDirectory() as home:
        asyncio.run(upgrade(dsn))
        gateway = Gateway(
            load(database={"url": dsn, "data_dir": f"{home}/data"}, gateway={"http_port": 0, "grpc_port": -1})
        )
        gateway.start()
        stop = threading.Event()
        try:
            tasks = LiveTasks(gateway.http_url)
            for first in range(0, asked.tasks, 50):
                tasks.begin(
                    range(first, min(first + 50, asked.tasks)), name="Upgrade service {n}", agent__repo="acme/shop"
                )
            sending = threading.Thread(target=_change, args=(tasks, asked.tasks, asked.rate, stop), daemon=True)
            sending.start()
            # A stream that begins also receives recent changes: without the wait these would be all tasks,
            # twice.
            time.sleep(asked.settle)
            _read_board(link(gateway.http_url, gateway.local_token), asked.tasks, asked.seconds)
        finally:
            stop.set()
            gateway.stop()


def _change(tasks: LiveTasks, count: int, rate: int, stop: threading.Event) -> None:
    done = 0.0
    while not stop.wait(0.1):
        done += 0.1
        events = [
            tasks.event(
                random.randrange(count),
                agent__progress=min(done, 99.0),
                agent__action=f"Reading part {random.randrange(99)}",
            )
            for _ in range(rate // 10)
        ]
        tasks.send_all(events)


def _read_board(url: str, count: int, seconds: float) -> None:
    browser_path = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        devtools = page.context.new_cdp_session(page)
        received = [0]
        devtools.on(
            "Network.dataReceived",
            lambda event: received.__setitem__(0, received[0] + max(event["encodedDataLength"], 0)),
        )
        devtools.send("Network.enable")
        devtools.send("Performance.enable")
        began = time.monotonic()
        page.goto(url)
        page.locator("a.row").first.wait_for()
        first = time.monotonic() - began
        page.wait_for_function(
            "count => document.querySelectorAll('a.row').length >= count", arg=count, timeout=120_000
        )
        whole = time.monotonic() - began
        rows = [
            ("first row, s", f"{first:.2f}"),
            (f"all {count} rows, s", f"{whole:.2f}"),
            ("until then, kB", f"{received[0] / 1e3:.0f}"),
        ]
        rows.append(("elements", str(page.evaluate("document.querySelectorAll('*').length"))))
        for what in ("at rest", "scrolling"):
            received[0] = 0
            rows += [
                (f"{what}: {name}", said)
                for name, said in _watch(page, devtools, seconds, is_scrolling=what == "scrolling")
            ]
            rows.append((f"{what}: kB a second", f"{received[0] / 1e3 / seconds:.1f}"))
        metrics = _metrics(devtools)
        page.goto("about:blank")
        page.set_content("<body style='height: 60000px; background: linear-gradient(red, blue)'>")
        rows += [
            (f"an empty page, scrolling: {name}", said)
            for name, said in _watch(page, devtools, seconds, is_scrolling=True)[:4]
        ]
        rows.append(("script's memory, MB", f"{metrics['JSHeapUsedSize'] / 1e6:.1f}"))
        browser.close()
    print("| what | measured |\n|---|---|")
    for what, said in rows:
        print(f"| {what} | {said} |")


def _watch(page: Page, devtools: CDPSession, seconds: float, *, is_scrolling: bool) -> list[tuple[str, str]]:
    before = _metrics(devtools)
    if is_scrolling:
        page.evaluate(
            "seconds => { const until = performance.now() + seconds * 1000; let way = 40;"
            " const step = () => { scrollBy(0, way); if (scrollY <= 0 || scrollY + innerHeight >= "
            "document.documentElement.scrollHeight - 1)"
            " way = -way; if (performance.now() < until) requestAnimationFrame(step); }; "
            "requestAnimationFrame(step); }",
            seconds,
        )
    gaps: list[float] = page.evaluate(_FRAMES, seconds)
    after = _metrics(devtools)
    share = {
        name: (after[name] - before[name]) / seconds
        for name in ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
    }
    ordered = sorted(gaps)
    return [
        ("frames a second", f"{len(gaps) / seconds:.0f}"),
        (
            "between frames, median / 95 % / 99 %, ms",
            " / ".join(f"{ordered[int(len(ordered) * q)]:.0f}" for q in (0.5, 0.95, 0.99)),
        ),
        ("frames later than 50 ms", f"{sum(gap > 50 for gap in gaps)} of {len(gaps)}"),
        ("page's thread at work, %", f"{share['TaskDuration'] * 100:.1f}"),
        (
            "of it script / style / layout, %",
            f"{share['ScriptDuration'] * 100:.1f} / {share['RecalcStyleDuration'] * 100:.1f} / "
            f"{share['LayoutDuration'] * 100:.1f}",
        ),
        ("mean of frames, ms", f"{statistics.mean(gaps):.1f}"),
    ]


def _metrics(devtools: CDPSession) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}


if __name__ == "__main__":
    main()
