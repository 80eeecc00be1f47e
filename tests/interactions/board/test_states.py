"""What the board says of tasks that wait, are quiet, or failed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from spanpost.model.observations import Status
from spanpost.testing.live_tasks import LiveTasks
from spanpost.testing.observed import an_event, ended, started
from tests.interactions.api.served import Served
from tests.interactions.board.test_in_chromium import _page_of
from tests.pipeline.test_coding_sessions import Session

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


def test_a_family_says_who_is_at_work_and_who_failed(open_page: OpenPage, board: Served) -> None:
    """From the agents' telemetry to the line of their task on Now: those at work and failed are counted, live,
    and a question of one of them stands first.
    """
    trace = 900_001
    root = {"agent.task.name": "Lead the band", "gen_ai.operation.name": "invoke_agent"}
    board.record(started(trace=trace, span=1, name="agent", attributes=root))
    page = open_page("/")
    row = page.locator("a.row", has_text="Lead the band")
    row.wait_for()
    for n in range(2, 6):
        said = {"agent.task.name": f"player {n}", "gen_ai.operation.name": "invoke_agent", "agent.task.id": f"p{n}"}
        board.record(started(trace=trace, span=n, parent=1, name="agent", attributes=said, at=1.0))
        if n < 4:
            end = ended(trace=trace, span=n, parent=1, name="agent", attributes=said, at=1.0, status=Status.ERROR)
            board.record(end)
    row.get_by_text("2 agents at work, 2 failed").wait_for()
    asks = {"agent.approval.id": "encore", "agent.approval.question": "Play an encore?"}
    board.record(an_event(trace=trace, span=4, name="agent.approval.requested", attributes=asks, index=0, at=7.0))
    page.locator(".waiting a.row", has_text="Lead the band").get_by_text("Play an encore?").wait_for()


def test_a_session_between_prompts_waits_for_nobody(open_page: OpenPage, board: Served) -> None:
    """A coding session that answered stands in a block of its own, and is not counted among those that wait."""
    page = open_page("/")
    page.locator("h1", has_text="Now").wait_for()
    board.record(*Session("rests-on-the-board").prompt(0).call(1).answer(3).records)
    row = page.locator(".resting a.row").first
    row.get_by_text("waiting for its next prompt").wait_for()
    page.locator(".counts", has_text=re.compile(r"\d+ between prompts")).wait_for()
    row.click()
    page.locator(".state.grey", has_text="waiting for its next prompt").wait_for()


def test_now_shows_what_is_asked_for(open_page: OpenPage, tasks: LiveTasks) -> None:
    """Filters by person, repository and session hold for the list and for what begins later, and stand in the address;
    a task's page leads to those of the same person and session.
    """
    mine = {"agent__requested_by": "mina", "agent__repo": "kitchen", "gen_ai__conversation__id": "chat-7"}
    tasks.begin([740], name="Bake bread", **mine)
    tasks.begin([741], name="Mow the meadow", agent__requested_by="omar")
    page = open_page("/")
    page.locator("a.row", has_text="Mow the meadow").wait_for()
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Asked by").fill("mina")
    page.get_by_label("Repository").fill("kitchen")
    page.keyboard.press("Enter")
    page.locator("#link.live").wait_for()
    page.locator("a.row", has_text="Bake bread").wait_for()
    assert page.locator("a.row", has_text="Mow the meadow").count() == 0
    assert page.url.endswith("/?person=mina&repo=kitchen")
    tasks.begin([742], name="Sow the field", agent__requested_by="omar")
    tasks.begin([743], name="Bake rolls", **mine, agent__name="oven")  # another agent's: not the same task
    page.locator("a.row", has_text="Bake rolls").wait_for()
    assert page.locator("a.row", has_text="Sow the field").count() == 0
    page.locator("a.row", has_text="Bake bread").click()
    page.get_by_role("link", name="chat-7").click()
    page.locator("a.row", has_text="Bake rolls").wait_for()
    page.go_back()
    page.get_by_role("link", name="mina").click()
    page.locator("a.row", has_text="Bake rolls").wait_for()
    assert page.url.endswith("/board/history?person=mina")


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


class Clicked:
    """A page of the board whose clicks are counted from its beginning on."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    def on(self, role: Any, name: str | re.Pattern[str]) -> Clicked:
        """Click on something."""
        self.page.get_by_role(role, name=name, exact=isinstance(name, str)).first.click()
        self.count += 1
        return self

    def sees(self, text: str | re.Pattern[str]) -> Clicked:
        """Wait until a text is shown."""
        self.page.get_by_text(text).filter(visible=True).first.wait_for()
        return self


def test_questions_are_answered_in_two_clicks(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """From *Now* on, what people ask of a board is answered after two clicks at most: what runs, waits or is quiet,
    what it did at a time, its context, its calls and trace, what it costs, who decided, what waits to be sent.
    """
    tasks.begin([750], name="Answer everything", agent__requested_by="ida", agent__repo="acme/all")
    tasks.call(750, 64_000)
    tasks.tool(750, "run_tests")
    tasks.send(750, "The first thing")
    asks = {"agent__approval__id": "go-750", "agent__approval__question": "Shall all be answered?"}
    tasks.send(750, name="agent.approval.requested", **asks)
    [row] = board.here().get("/api/approvals", params={"begins": "go-750"}).json()["items"]
    clicks, page = {}, open_page("/")

    def ask(question: str) -> Clicked:
        page.goto("/")
        clicks[question] = Clicked(page)
        return clicks[question]

    task = re.compile("Answer everything")
    ask("what runs, what waits").sees("Shall all be answered?")
    one = ask("what is stuck")
    one.page.get_by_label("Order").select_option("quiet")
    one.count += 1
    one.sees("Answer everything")
    one = ask("what did it do then").on("link", task).sees("The first thing")
    one.page.get_by_label("Jump to a time").fill(one.page.locator(".timeline time").last.inner_text())
    one.count += 1
    one.page.locator(".until").get_by_text("Until").wait_for()
    ask("how full is its context").on("link", task).sees(re.compile("50 %"))
    one = ask("which calls, which trace").on("link", task)
    one.page.locator(".tracks .bar-of").first.click(force=True)
    one.count += 1
    one.sees(f"{751:032x}").sees(re.compile("64k in"))
    ask("what does it cost").on("link", task).sees("Model calls")
    ask("what costs by whom").on("link", "Cost").on("link", "Person").sees("Tasks by agent")
    ask("what of that repository").on("link", task).on("link", "acme/all").sees("Answer everything")
    said = {"keys": [row["key"]], "decision": "approve", "comment": "as ever"}
    board.here().post("/api/approvals/decide", json=said).raise_for_status()
    ask("who decided what").on("link", re.compile("Questions")).sees("as ever")
    ask("what waits to be sent, what works").on("link", "System").sees("Components")
    ask("what can a program ask").on("link", "System").on("link", "API").sees("/api/tasks/{id}/waterfall")
    assert {question: one.count for question, one in clicks.items() if one.count > 2} == {}
