"""What the board says of tasks that wait, are quiet, or failed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from spanpost.testing.live_tasks import LiveTasks
from tests.interactions.api.served import Served
from tests.interactions.board.test_in_chromium import _page_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres", "chromium")]
OpenPage = Callable[..., "Page"]


def test_the_badge_is_the_same_on_every_page(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """The number beside Questions counts all open questions, on each page."""
    tasks.begin([500], name="Ask twice")
    for id in ("one", "two"):
        said = {"agent__approval__id": f"twice-{id}", "agent__approval__question": f"{id}?"}
        tasks.send(500, name="agent.approval.requested", **said)
    open_now = len(board.here().get("/api/approvals", params={"state": "open", "limit": 100}).json()["items"])
    for path in ("/", "/board/approvals", "/board/history"):
        page = open_page(path)
        page.locator("#open-questions", has_text=re.compile(rf"^{open_now}$")).wait_for()


def test_a_quiet_task_says_so(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """A task without activity for minutes says for how long, in its row and on its page, whatever its process does."""
    tasks.begin([510], name="Sleep on it")
    later = datetime.now(UTC) + timedelta(minutes=14, seconds=20)
    page = open_page("/board/history")
    page.clock.set_fixed_time(later)
    page.get_by_role("link", name="Now", exact=True).click()
    page.locator("a.row", has_text="Sleep on it").get_by_text("quiet for 14m").wait_for()
    page.get_by_label("Order").select_option("quiet")
    page.locator("a.row", has_text="Sleep on it").click()
    page.get_by_text("Quiet for 14m").wait_for()


def test_a_search_leaves_no_empty_blocks(open_page: OpenPage, tasks: LiveTasks) -> None:
    """Blocks whose rows are all hidden by a search take no place."""
    tasks.begin(range(520, 600), name="Stack brick {n}")
    page = open_page("/")
    page.locator("a.row", has_text="Stack brick 599").wait_for()
    page.locator("#sought").fill("brick 521")
    page.locator("a.row", has_text="Stack brick 599").wait_for(state="hidden")
    page.locator("a.row", has_text="Stack brick 521").wait_for()
    heights = page.locator(".block").evaluate_all("all => all.map(one => one.getBoundingClientRect().height > 0)")
    assert sum(heights) == 1


def test_why_it_failed_is_short_first(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """Of an error of many lines the first is read at once; the whole is folded, and its end is kept."""
    tasks.begin([610], name="Fail at length")
    tasks.end(
        610, error="RolloutFailed: 40 hosts\n" + "\n".join(f"host-{n}: down" for n in range(40)) + "\nassert 3 == 4"
    )
    page = open_page(_page_of(board, "Fail at length"))
    why = page.locator("section.error")
    why.get_by_text("RolloutFailed: 40 hosts").first.wait_for()
    assert not why.get_by_text("assert 3 == 4").is_visible()
    why.locator("summary").first.click()
    assert why.locator("pre").first.inner_text().endswith("assert 3 == 4")


def test_a_family_says_who_waits_and_who_failed(open_page: OpenPage) -> None:
    """The line of a task counts the agents below it that are at work, wait and failed, not only those at work."""
    page = open_page("/")
    said = page.evaluate(
        "async task => (await import('/board/static/now/words.js')).doing(task)",
        {"status": "working", "working_children": 3, "waiting_children": 1, "failed_children": 2},
    )
    assert said == "3 agents at work, 1 waiting, 2 failed"


def test_costs_count_failures(open_page: OpenPage, tasks: LiveTasks) -> None:
    """The sums of an agent have a column with its failed tasks."""
    tasks.begin(range(620, 623), name="Count {n}", gen_ai__agent__name="counted")
    tasks.end(620, error="Oh: no")
    tasks.end(621)
    page = open_page("/board/costs")
    table = page.get_by_role("region", name="Tasks by agent")
    table.get_by_role("row", name="counted").wait_for()
    heads = table.get_by_role("columnheader").all_inner_texts()
    cells = table.get_by_role("row", name="counted").get_by_role("cell").all_inner_texts()
    assert cells[heads.index("Failed") - 1] == "1"
