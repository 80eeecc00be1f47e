"""The board in a real browser, with a real gateway and a real PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spanpost.demo.gallery import gallery
from spanpost.model.launch_orders import OrderQuery
from spanpost.sinks.slack.picture import ShownImage, page
from spanpost.sinks.slack.render import SlackMessage, root
from spanpost.sinks.slack.replies import reply
from spanpost.sinks.slack.style import SlackStyle
from spanpost.testing.live_tasks import LiveTasks
from tests.conftest import find
from tests.interactions.api.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres", "chromium")]

OpenPage = Callable[..., "Page"]
EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script> javascript:alert(3)'


def _page_of(board: Served, name: str) -> str:
    client = board.here()
    [task] = client.get("/api/tasks", params={"q": name}).raise_for_status().json()["items"]
    return f"/board/tasks/{task['uid']}"


def test_what_runs_is_live(open_page: OpenPage, tasks: LiveTasks) -> None:
    """A task is on the page as soon as it begins, moves on, and goes to the ended ones, without a reload."""
    page = open_page()
    page.locator("#link.live").wait_for()
    page.locator("h1", has_text="Now").wait_for()
    tasks.begin([10], name="Paint the fence")
    row = page.locator("a.row", has_text="Paint the fence")
    row.wait_for()
    tasks.send(10, agent__progress=40.0, agent__action="The third board")
    row.get_by_text("The third board").wait_for()
    assert row.locator(".done").inner_text() == "40 %"
    tasks.end(10)
    page.locator(".ended a.row", has_text="Paint the fence").get_by_text("complete").wait_for()


def test_a_question_is_answered(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """A person approves with a comment on a task's page; the row has it, and the page shows it."""
    tasks.begin([20], name="Deploy the shop")
    asked = {
        "agent__approval__id": "deploy",
        "agent__approval__question": "Deploy 1.8.2?",
        "agent__approval__risk": "high",
    }
    tasks.send(20, name="agent.approval.requested", **asked)
    page = open_page(_page_of(board, "Deploy the shop"))
    page.get_by_label("Comment").fill("after the freeze")
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("✅ approved by this machine").first.wait_for()
    [row] = board.here().get("/api/approvals", params={"task": f"{21:032x}"}).json()["items"]
    assert (row["state"], row["decision"], row["comment"]) == ("decided", "approve", "after the freeze")


def test_a_row_says_why(open_page: OpenPage, tasks: LiveTasks) -> None:
    """A waiting task in the list shows its question, and a failed one its error, without opening it."""
    tasks.begin([21, 22], name="Say why {n}")
    tasks.send(
        21, name="agent.approval.requested", agent__approval__id="q21", agent__approval__question="Burn the\nletters?"
    )
    tasks.end(22, error="the oven is cold")
    page = open_page()
    page.locator(".waiting a.row", has_text="Say why 21").get_by_text("Burn the letters?").wait_for()
    page.locator(".ended a.row", has_text="Say why 22").get_by_text("the oven is cold").wait_for()


def test_what_failed_is_tried_again(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """Retry is offered only if it would start something; its result and successors are linked both ways."""
    tasks.begin([23], name="Nobody tries this again")
    tasks.begin([24], name="Fix the lamp", agent__name="again", agent__task__id="lamp-1")
    for number in (23, 24):
        tasks.end(number, error="no bulb")
    page = open_page(_page_of(board, "Nobody tries this"))
    page.get_by_role("heading", name="Why it failed").wait_for()
    page.locator(".timeline li").first.wait_for()
    assert page.get_by_role("button", name="Retry").count() == 0
    page.goto("/board/tasks/lamp-1")
    page.get_by_role("button", name="Retry").click()
    page.get_by_text("Asked to start again: Fix the lamp.").wait_for()
    tasks.begin([26], name="Fix the lamp once more", agent__retry_of="lamp-1")
    tasks.begin([28], name="Sweep up", agent__caused_by="lamp-1")
    page.locator("section.after a.row", has_text="Sweep up").wait_for()
    page.locator("section.after a.row", has_text="Fix the lamp once more").click()
    page.get_by_role("link", name="lamp-1").click()
    page.locator("h1", has_text="Fix the lamp").wait_for()


def test_work_is_started(open_page: OpenPage, board: Served) -> None:
    """An authorized person starts a launcher from the page: parameters are checked, and the order has the
    name.
    """
    page = open_page()
    page.get_by_role("button", name="Start work").click()
    page.get_by_label("The work to do").fill("Mow the lawn")
    page.get_by_label("Parameters").fill("where")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("write it as name=value").wait_for()
    page.get_by_label("Parameters").fill("where=behind the house\nhow = short")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("fix was asked to start it").wait_for()
    pipeline = board.gateway.pipeline
    found = [row.order for row in pipeline.ask(pipeline.store.launch_orders.listed(OrderQuery(carrier="launch:fix")))]
    assert [(one.parameters, one.by) for one in found if one.text == "Mow the lawn"] == [
        ({"where": "behind the house", "how": "short"}, "this machine")
    ]


def test_a_form_has_the_declared_parameters(open_page: OpenPage, board: Served) -> None:
    """The form of a launcher has a field for each parameter that it declares; faults stand at their fields, and a
    right one is an order.
    """
    page = open_page()
    page.get_by_role("button", name="Start work").click()
    page.get_by_label("Launcher").select_option("release")
    page.get_by_label("The work to do").fill("Release the shop")
    page.get_by_label("Version").fill("x" * 1000)
    page.get_by_label("Percent").fill("200")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("Must be at most 100.").wait_for()
    page.get_by_text("Nothing was started.").wait_for()
    assert page.get_by_label("Percent").get_attribute("aria-invalid") == "true"
    page.get_by_label("Version").fill("1.8.2")
    page.get_by_label("Where").select_option("production")
    page.get_by_label("Percent").fill("50")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("release was asked to start it").wait_for()
    pipeline = board.gateway.pipeline
    [row] = pipeline.ask(pipeline.store.launch_orders.listed(OrderQuery(carrier="launch:release")))
    assert row.order.parameters == {"version": "1.8.2", "where": "production", "percent": "50"}


def test_a_task_is_stopped_and_gets_a_message(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """Cancel asks for confirmation and shows the reason; a message reaches the agent; both are in the task's
    history.
    """
    tasks.begin([25], name="Sort the archive")
    page = open_page(_page_of(board, "Sort the archive"))
    page.get_by_label("Message to the agent").fill("leave the deliveries")
    page.get_by_role("button", name="Send").click()
    page.locator(".timeline").get_by_text("leave the deliveries").wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_label("Comment for the agent").fill("wrong shelf")
    page.get_by_role("button", name="Cancel it").click()
    page.locator(".chip", has_text="stopping, asked by this machine").wait_for()
    page.locator(".timeline").get_by_text("wrong shelf").first.wait_for()


def test_a_task_is_rated(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """A finished task is rated down with a comment, and the page shows the rating; a running one offers none."""
    tasks.begin([45], name="Rename the module")
    page = open_page(_page_of(board, "Rename the module"))
    page.get_by_role("button", name="Cancel", exact=True).wait_for()
    assert page.get_by_role("button", name="Not good").count() == 0
    tasks.end(45)
    page.get_by_role("button", name="Not good").click()
    page.get_by_label("What was wrong").fill("the wrong <b>module</b>")
    page.get_by_role("button", name="Rate", exact=True).click()
    page.get_by_role("heading", name="Ratings and evaluations").wait_for()
    page.get_by_text("the wrong <b>module</b>").first.wait_for()


def test_the_context_is_drawn(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """The curve has a point for each call, and a text says the same."""
    tasks.begin([27], name="Read everything")
    for tokens in (10_000, 30_000, 50_000):
        tasks.call(27, tokens)
    page = open_page(_page_of(board, "Read everything"))
    drawing = page.get_by_role("img", name="Context use")
    drawing.wait_for()
    assert drawing.get_attribute("aria-label") == "Context use: 3 calls from 10k to 50k tokens, at most 50k"
    assert drawing.locator("circle").count() == 3


@pytest.mark.proves("literal", "html", "urls")
def test_words_of_agents_stay_words(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """Names, links, errors and questions that are HTML are shown literally; only http and https are links."""
    tasks.begin([30], name=f"{EVIL} in a name", gen_ai__agent__name=EVIL)
    tasks.send(30, EVIL, agent__action=EVIL, agent__step__name=EVIL)
    tasks.send(30, name="agent.approval.requested", agent__approval__id="x", agent__approval__question=EVIL)
    for number, address in enumerate(
        ("javascript:alert(4)", "data:text/html,<script>alert(5)</script>", "https://good.example/x")
    ):
        artifact = {"agent__artifact__name": f"{EVIL} {number}", "agent__artifact__uri": address}
        tasks.send(30, name="agent.artifact", **artifact)
    tasks.end(30, error=EVIL, agent__link__run="javascript:alert(6)", agent__result__x=EVIL)
    page = open_page(_page_of(board, "in a name"))
    page.locator("h1", has_text=EVIL).wait_for()
    page.locator("summary", has_text="As Slack shows it").click()
    page.locator(".slack .message").first.wait_for()
    assert page.locator("main img, main script, main iframe").count() == 0
    addresses = page.locator("a:not(svg *)").evaluate_all("all => all.map(one => [one.protocol, one.target, one.rel])")
    assert {protocol for protocol, _, _ in addresses} <= {"http:", "https:"}
    assert {rel for _, target, rel in addresses if target == "_blank"} == {"noopener noreferrer"}


def test_a_lost_connection_is_shown(open_page: OpenPage) -> None:
    """While the gateway is down the page says that its data may be old; after that it is live again."""
    page = open_page("/board/history")
    page.route("**/api/events*", lambda route: route.abort())
    page.get_by_role("link", name="Now", exact=True).click()
    page.get_by_role("alert").get_by_text("Connection lost").wait_for()
    page.unroute("**/api/events*")
    page.locator("#link.live").wait_for()
    assert page.get_by_role("alert").inner_text() == ""
    page.context.set_offline(True)
    page.get_by_role("alert").get_by_text("this device is offline").wait_for()
    page.context.set_offline(False)
    page.locator("#link.live").wait_for()


def test_a_token_is_asked_for(open_page: OpenPage, board: Served) -> None:
    """An unknown visitor must enter a token, which is kept for the tab; a wrong one is refused."""

    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer spt_right":
            route.continue_(headers={**route.request.headers, "authorization": f"Bearer {board.gateway.local_token}"})
        else:
            route.fulfill(status=401, json={"code": 16, "message": "the token is not known here"})

    page = open_page("/board/static/none")
    page.route("**/api/**", guard)
    page.goto("/board/costs")
    page.get_by_label("Token").fill("spt_wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("the token is not known here").wait_for()
    page.get_by_label("Token").fill("spt_right")
    page.get_by_role("button", name="Sign in").click()
    page.locator("h1", has_text="Cost").wait_for()
    assert page.evaluate("localStorage.length + document.cookie.length") == 0


def test_the_keyboard_suffices(open_page: OpenPage, tasks: LiveTasks) -> None:
    """Slash searches, j goes to a row, Enter opens it, u goes back: no pointer is needed."""
    tasks.begin([41, 42], name="Tune the piano {n}")
    page = open_page()
    page.locator("a.row", has_text="Tune the piano 41").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("piano 42")
    page.locator("a.row", has_text="Tune the piano 41").wait_for(state="hidden")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator("h1", has_text="Tune the piano 42").wait_for()
    page.keyboard.press("u")
    page.locator("a.row", has_text="Tune the piano 42").wait_for()


@pytest.mark.needs("axe")
@pytest.mark.parametrize(("scheme", "is_phone"), [("light", False), ("dark", True)])
def test_every_page_is_accessible(
    open_page: OpenPage, tasks: LiveTasks, board: Served, scheme: str, is_phone: bool
) -> None:
    """axe finds no fault in any page or dialogue, theme or screen, and none is wider than a telephone."""
    number = 50 + is_phone
    tasks.begin([number], name=f"Look at everything in {scheme}", agent__repo="acme/shop")
    tasks.send(
        number, "Half", agent__progress=50.0, agent__step__name="read", agent__step__index=1, agent__step__count=2
    )
    tasks.call(number, 20_000)
    tasks.call(number, 120_000)
    tasks.send(
        number, name="agent.approval.requested", agent__approval__id=f"q{number}", agent__approval__question="Go on?"
    )
    tasks.begin([number + 2], name="Fail", agent__name="again", agent__task__id=f"kept-{number}")
    tasks.end(number + 2, error="Oh: no", agent__link__log="https://logs.example/1", agent__result__n=1)
    tasks.begin([number + 4], name="Try again", agent__retry_of=f"kept-{number}")
    axe = Path(find("axe")).read_text()
    page = open_page("/", is_phone=is_phone, color_scheme=scheme, bypass_csp=True)
    paths = {
        "/": "a.row",
        "/board/approvals": ".question",
        "/board/history": "a.row",
        "/board/history?agent=again&min_cost=0": ".facet",
        "/board/costs": "table",
        "/board/system": ".facts",
        "/docs": ".api details",
        "/?person=nobody": ".empty a",
        "/board/nowhere": "h1",
        _page_of(board, f"in {scheme}"): ".timeline li",
        f"/board/tasks/kept-{number}": "section.after a.row",
    }
    found = []

    def judge(place: str) -> None:
        page.evaluate(axe)
        report = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found.extend((place, one["id"], [node["html"] for node in one["nodes"][:2]]) for one in report["violations"])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place

    for path, selector in paths.items():
        page.goto(path)
        page.locator(selector).first.wait_for()
        if summary := page.query_selector("section.message summary"):
            summary.click()
        if path == "/docs":
            page.locator(".api summary", has_text="/api/approvals/decide").click()
        judge(path)
    for path, button in (("/", "Start work"), (_page_of(board, f"in {scheme}"), "Cancel")):
        page.goto(path)
        page.get_by_role("button", name=button, exact=True).click()
        page.get_by_role("dialog").wait_for()
        judge(f"{button} at {path}")
    page.keyboard.press("Escape")
    page.route("**/api/events*", lambda route: route.abort())
    page.goto("/")
    page.get_by_role("alert").get_by_text("Connection lost").wait_for()
    page.locator("a.row").first.wait_for()
    judge("while the connection is lost")
    page.route("**/api/me", lambda route: route.fulfill(status=401, json={"code": 16, "message": "a token"}))
    page.goto("/")
    page.get_by_label("Token").wait_for()
    judge("signed out")
    assert found == []


def test_a_message_equals_the_preview(open_page: OpenPage, board: Served, tasks: LiveTasks) -> None:
    """The board draws a message's blocks with the words of `spanpost preview`, for each status."""
    tasks.begin([60], name="A frame for messages")
    path = _page_of(board, "A frame for messages")
    slack_style = SlackStyle(is_interactive=True)
    messages = []
    for piece in gallery():
        messages.append(root(piece.task, piece.children, key="", slack_style=slack_style))
        messages += [
            reply(piece.task, one, key="", slack_style=slack_style, figures=piece.figures) for one in piece.checkpoints
        ]
    answer = {"message": _parts(messages[0]), "replies": [_parts(one) for one in messages[1:]]}
    shown = open_page("/board/static/none")
    shown.route("**/message", lambda route: route.fulfill(status=200, json=answer))
    shown.goto(board.opens(path))
    shown.locator("section.message summary").click()
    preview = shown.context.new_page()
    preview.set_content(page([ShownImage(message=messages[0], replies=messages[1:])]))
    assert _words(shown.locator(".slack").inner_text()) == _words(preview.locator("main").inner_text())


def _parts(message: SlackMessage) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(
        json.dumps({name: getattr(message, name) for name in ("text", "blocks", "attachments")})
    )
    return said


def _words(text: str) -> list[str]:
    """Return the words; how long ago a time was depends on the reader's clock, which a picture lacks."""
    return re.sub(r"\(\d+ \w+ ago\)", "(ago)", re.sub(r"\s+", " ", text)).split()


def _ask(tasks: LiveTasks, number: int, task: str, **said: Any) -> None:
    tasks.begin([number], name=task)
    tasks.send(
        number, name="agent.approval.requested", **{f"agent__approval__{name}": value for name, value in said.items()}
    )


def test_a_long_question_stands_whole_above_its_buttons(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """Every line of a question is drawn without folding or scrolling, and Approve stands below the last."""
    plan = "\n".join(f"{n}. drain host-{n}" for n in range(120)) + "\nand DROP-ALL-DATABASES"
    _ask(tasks, 150, "Roll it out", id="long", question="Roll it out?\n\n✅ approved by Mina", detail=plan)
    page = open_page(_page_of(board, "Roll it out"))
    approve = page.get_by_role("button", name="Approve")
    approve.wait_for()
    assert page.locator(".question .asked").inner_text() == "Roll it out?\n\n✅ approved by Mina"
    detail = page.locator(".question .detail")
    assert detail.inner_text() == plan
    assert detail.evaluate("one => one.scrollHeight <= one.clientHeight + 1")
    below, above = approve.bounding_box(), detail.bounding_box()
    assert below is not None
    assert above is not None
    assert below["y"] >= above["y"] + above["height"]
    approve.click()
    page.get_by_text("✅ approved by this machine").first.wait_for()


def test_what_is_hidden_has_no_approve(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """A question with an unreadable part, or with options that look the same, says so and can only be
    denied.
    """
    key = "-----BEGIN PRIVATE KEY----- DROP-ALL-TABLES -----END PRIVATE KEY-----"
    _ask(tasks, 151, "Replace the key", id="hidden", question="Replace it?", detail=key)
    _ask(tasks, 152, "Choose alike", id="alike", question="Which?", options=["yes", "y\u200bes"])
    for name, what in (("Replace the key", "looks like a secret"), ("Choose alike", "look the same")):
        page = open_page(_page_of(board, name))
        page.locator(".hidden-part", has_text=what).wait_for()
        assert page.locator(".question .answers button").all_inner_texts() == ["Deny"]
        assert "DROP-ALL" not in page.locator(".question").inner_text()


def test_names_have_no_invisible_characters(open_page: OpenPage, tasks: LiveTasks, board: Served) -> None:
    """Zero-width characters and the like are in no name, title or id that the board draws; an emoji stays
    whole.
    """
    odd = "De\u200bploy\u2060 \u202eit\ufeff\U000e0041\u00ad 👩\u200d💻"
    tasks.begin([153], name=odd, agent__name=odd, agent__action=odd, agent__task__id="id-\u200b153")
    tasks.send(153, odd)
    _ask(tasks, 154, odd + " 2", id="odd", question=odd, options=[odd, "no"])
    for path in ("/", "/board/approvals", _page_of(board, "id-\u200b153"), "/board/costs"):
        page = open_page(path)
        page.get_by_text("Deploy it 👩\u200d💻").first.wait_for()
        shown = page.inner_text("body")
        assert not set(shown) & set("\u200b\u2060\u202e\ufeff\u00ad\U000e0041")
