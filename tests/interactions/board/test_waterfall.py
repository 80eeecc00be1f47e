"""The waterfall and the timeline of a task, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from spanpost.testing.live_tasks import LiveTasks
from tests.interactions.api.served import Served
from tests.interactions.board.test_in_chromium import _page_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres", "chromium")]
OpenPage = Callable[..., "Page"]


def test_a_task_is_drawn_on_an_axis(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """Each call is a bar; the cursor reads what ran then, the context and the cost; a click names tokens and trace."""
    tasks.begin([400], name="Draw the owl")
    for tokens in (20_000, 64_000):
        tasks.call(400, tokens)
    tasks.tool(400, "run_tests")
    page = open_page(_page_of(board, "Draw the owl"))
    bars = page.locator(".tracks .bar-of")
    bars.nth(2).wait_for()
    assert bars.count() == 3
    bars.nth(1).click(force=True)
    page.locator(".about").get_by_text("64k in").wait_for()
    page.locator(".about").get_by_text(f"{401:032x}").wait_for()
    moment = page.get_by_role("slider", name="Moment")
    moment.focus()
    page.keyboard.press("End")
    said = moment.get_attribute("aria-valuetext") or ""
    assert "50 % context" in said
    assert "$0.21" in said
    assert page.locator(".readout").inner_text() == said


def test_what_it_did_at_a_time(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """A time typed in shows that moment in the waterfall, and the timeline from there back; one click leads back."""
    tasks.begin([410], name="Remember when")
    tasks.send(410, "The first thing")
    page = open_page(_page_of(board, "Remember when"))
    page.locator(".timeline").get_by_text("The first thing").wait_for()
    at = page.locator(".timeline time").first.inner_text()
    page.get_by_label("Jump to a time").fill(at)
    page.locator(".until").get_by_text("Until").wait_for()
    page.locator(".timeline").get_by_text("The first thing").wait_for()
    page.get_by_role("button", name="Back to the newest").click()
    page.locator(".until").get_by_text("Until").wait_for(state="detached")
    tasks.send(410, "The second thing")
    page.locator(".timeline li").first.get_by_text("The second thing").wait_for()


def test_a_long_timeline_stays_live(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """A task with more entries than a page shows the newest first, and new ones at once; calls of a tool are folded."""
    tasks.begin([420], name="Talk a lot")
    tasks.send_all([tasks.event(420, f"word {n}") for n in range(130)])
    for _ in range(4):
        tasks.tool(420, "grep")
    page = open_page(_page_of(board, "Talk a lot"))
    page.locator(".timeline").get_by_text("grep ×4").wait_for()
    tasks.send(420, "the very last word")
    page.locator(".timeline > li").first.get_by_text("the very last word").wait_for()
    page.get_by_role("button", name="Checkpoints").click()
    page.locator(".timeline").get_by_text("grep ×4").wait_for(state="detached")
    page.get_by_role("button", name="Calls", exact=True).click()
    page.locator(".timeline").get_by_text("grep ×4").wait_for()
    assert page.locator(".timeline").get_by_text("the very last word").count() == 0
