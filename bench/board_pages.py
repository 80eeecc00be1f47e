"""What large pages of the board cost: the waterfall of a long task, and History of very many tasks.

    python bench/board_pages.py [--calls 10000] [--tasks 100000] [--system]

A gateway with a real PostgreSQL records a task of so many calls. Then that many ended tasks are written as a
gateway writes them, without their telemetry. Chromium (headless, drawing in software) opens both pages. A
zoom step is from the click to the frame that shows it, the median and the worst of ten.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import asyncpg
from board import ARGUMENTS
from options import parse, postgres
from playwright.sync_api import Page, sync_playwright

from spanpost.cli.preview import BROWSERS
from spanpost.model.tasks import Task
from spanpost.runtime.gateway import Gateway
from spanpost.runtime.local_token import link
from spanpost.settings import load
from spanpost.store.rows import ready_tasks, write_tasks
from spanpost.store.sql.schema import upgrade
from spanpost.testing.live_tasks import LiveTasks

_NAME = "Migrate everything"
_BATCH = 1000
_STEPS = 10
#: Clicks on the buttons in turn, and the time of each until the second frame begins: the first one has been drawn then.
_ZOOM = """
steps => new Promise(async done => {
  const took = []; const frame = () => new Promise(requestAnimationFrame);
  const ways = ["in", "out"].map(way => document.querySelector(`button[aria-label='Zoom ${way}']`));
  for (let n = 0; n < steps; n += 1) {
    const began = performance.now(); ways[n % 2].click(); await frame(); await frame();
    took.push(performance.now() - began);
  }
  done(took);
})"""
#: The same once, and the time until the calls of that window, which the gateway then reads, are drawn.
_DETAIL = """
() => new Promise(done => {
  const began = performance.now();
  document.querySelector("button[aria-label='Zoom in']").click();
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const seen = new MutationObserver(() => requestAnimationFrame(() => { seen.disconnect();
      done(performance.now() - began); }));
    seen.observe(document.querySelector("svg.tracks"), { childList: true, subtree: true });
    setTimeout(() => done(null), 30000);
  }));
})"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--system", action="store_true", help="the system's PostgreSQL instead of the embedded one")
    asked = parse(parser, {"calls": 900, "tasks": 1000})
    with postgres(asked) as dsn, tempfile.TemporaryDirectory() as home:
        asyncio.run(upgrade(dsn))
        gateway = Gateway(
            load(database={"url": dsn, "data_dir": f"{home}/data"}, gateway={"http_port": 0, "grpc_port": -1})
        )
        gateway.start()
        try:
            tasks = LiveTasks(gateway.http_url)
            tasks.begin([0], seconds_ago=asked.calls + 1, name=_NAME, agent__repo="acme/shop")
            tasks.calls(0, asked.calls)
            tasks.end(0)
            rows = _measured(gateway, dsn, asked.calls, asked.tasks)
        finally:
            gateway.stop()
    print(f"load {os.getloadavg()[0]:.0f}\n\n| what | measured |\n|---|---|")
    for what, said in rows:
        print(f"| {what} | {said} |")


def _measured(gateway: Gateway, dsn: str, calls: int, tasks: int) -> list[tuple[str, str]]:
    browser_path = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        # The token is kept, and the scripts are in the cache, as for anybody who looks a second time.
        page.goto(link(gateway.http_url, gateway.local_token))
        page.get_by_role("heading", name="Now").wait_for()
        rows = _waterfall(page, gateway.http_url, calls)
        # In a thread: a loop runs in this one as long as the player does.
        _in_thread(_fill, dsn, tasks)
        rows += _history(page, gateway.http_url, tasks)
        browser.close()
    return rows


def _waterfall(page: Page, url: str, calls: int) -> list[tuple[str, str]]:
    began = time.monotonic()
    page.goto(f"{url}/board/tasks/{1:032x}")
    page.locator(".tracks .bar-of").first.wait_for(state="attached")
    first = time.monotonic() - began
    bars = page.locator(".tracks .bar-of").count()
    detail = page.evaluate(_DETAIL)
    steps: list[float] = page.evaluate(_ZOOM, _STEPS)
    said = f"{detail:.0f}" if detail is not None else "it was not folded"
    return [
        (f"waterfall of {calls} calls: first picture, s", f"{first:.2f}"),
        ("its bars", str(bars)),
        ("zoom step until its frame, median / worst, ms", f"{statistics.median(steps):.0f} / {max(steps):.0f}"),
        ("zoom step until each call of it is drawn, ms", said),
    ]


def _history(page: Page, url: str, tasks: int) -> list[tuple[str, str]]:
    rows = page.locator("a.row")
    began = time.monotonic()
    page.goto(f"{url}/board/history")
    rows.first.wait_for()
    first = time.monotonic() - began
    page.locator("button.facet").first.wait_for()
    facets = time.monotonic() - began
    sorted_by = {}
    for order in ("cost", "duration"):
        began = time.monotonic()
        with page.expect_response(re.compile(rf"/api/tasks\?.*sort={order}")):
            page.get_by_label("Sort by").select_option(order)
        rows.first.wait_for()
        sorted_by[order] = time.monotonic() - began
    page.goto(f"{url}/board/history")
    rows.first.wait_for()
    page.locator("button.facet").first.wait_for()
    lines, took = _exported(page)
    page.goto(f"{url}/board/history?sort=cost")
    rows.first.wait_for()
    page.locator("button.facet").first.wait_for()
    _, took_sorted = _exported(page)
    return [
        (f"History of {tasks} tasks: first row, s", f"{first:.2f}"),
        ("its filters with counts, s", f"{facets:.2f}"),
        ("sorted by cost / by duration, s", " / ".join(f"{one:.2f}" for one in sorted_by.values())),
        (f"CSV of {lines - 1} tasks, newest / by cost, s", f"{took:.2f} / {took_sorted:.2f}"),
    ]


def _exported(page: Page) -> tuple[int, float]:
    began = time.monotonic()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Export CSV").click()
    lines = Path(caught.value.path()).read_text().count("\n")
    return lines, time.monotonic() - began


def _in_thread(work: object, *given: object) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work, *given).result()  # type: ignore[arg-type]


def _fill(dsn: str, count: int) -> None:
    asyncio.run(_write(dsn, count))


async def _write(dsn: str, count: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for first in range(0, count, _BATCH):
            made, given = ready_tasks([_task(n) for n in range(first, min(first + _BATCH, count))])
            async with connection.transaction():
                await write_tasks(connection, made, given, has_moved=False)
        await connection.execute("ANALYZE agent_tasks")
    finally:
        await connection.close()


def _task(n: int) -> Task:
    some = random.Random(n)
    began = datetime.now(UTC) - timedelta(seconds=3600 + n * 26)
    ended = began + timedelta(seconds=some.randrange(5, 3000))
    return Task(
        uid=UUID(int=some.getrandbits(128)),
        tenant="default",
        task_id=f"history-{n}",
        name=f"Upgrade service {n}",
        agent_name=f"agent-{some.randrange(30)}",
        model=some.choice(("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro")),
        repo=f"acme/shop-{some.randrange(80)}",
        environment=some.choice(("prod", "staging")),
        requested_by=f"U{some.randrange(200)}",
        status="error" if some.random() < 0.1 else "complete",
        started_at=began,
        ended_at=ended,
        last_event_at=ended,
        cost_usd=Decimal(some.randrange(1, 900_000)) / 100_000,
        input_tokens=some.randrange(1, 900_000),
        output_tokens=some.randrange(1, 90_000),
        llm_calls=some.randrange(1, 90),
        tool_calls=some.randrange(1, 90),
    )


if __name__ == "__main__":
    main()
