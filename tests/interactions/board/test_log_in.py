"""Logins to the board: Chromium, a gateway, and a third-party OpenID Connect provider as a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from spanpost.testing.exercise_people import asking, at_work
from tests.conftest import find
from tests.eventually import free_port
from tests.interactions.api.served import Served
from tests.interactions.board.conftest import ARGUMENTS
from tests.interactions.genuine_provider import GenuineProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("chromium", "oidc-provider", "node")]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway, in memory, with logins: members of the group sre may decide."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with GenuineProvider(url) as issuer, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("house"))
        oidc = {
            "issuer": issuer.url,
            "client_id": "spanpost",
            "client_secret": "s3cret-of-the-client",
            "public_url": url,
            "scopes": ["openid", "email", "profile", "groups"],
            "roles": {"sre": ["viewer", "approver"]},
        }
        with Served(None, gateway={"http_port": port, "grpc_port": -1}, oidc=oidc) as made:
            yield made


@pytest.fixture(scope="module")
def browser(app: Served) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=find("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, app: Served) -> Iterator[Callable[[str], Page]]:
    """Open a page in a new browser profile; nothing outside this machine is requested."""
    contexts: list[Any] = []

    def open_page(path: str) -> Page:
        context = browser.new_context(base_url=app.url)
        contexts.append(context)
        context.set_default_timeout(60_000)
        context.route(lambda url: "//127.0.0.1" not in url, lambda route: route.abort())
        page = context.new_page()
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


def log_in(page: Page, name: str) -> None:
    """Log in at the provider, and consent."""
    page.get_by_role("link", name="Sign in with your organisation").click()
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def ask(app: Served, id: str) -> str:
    """Let a task ask something; return its page."""
    trace = app.trace()
    app.record(at_work(f"asks {id}", trace=trace), asking(id, f"{id}?", trace=trace))
    return f"/board/tasks/{trace:032x}"


def test_somebody_logs_in_decides_and_goes(app: Served, open_page: Callable[[str], Page]) -> None:
    """A login returns to the wanted page, the decision has the user's name, and logout ends the session."""
    path = ask(app, "Log-in")
    page = open_page(path)
    log_in(page, "ann")
    page.locator("#me", has_text="Ann").wait_for()
    assert page.url == f"{app.url}{path}"
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("✅ approved by Ann").first.wait_for()
    [approval] = app.as_of("viewer").get("/api/approvals", params={"state": "decided"}).json()["items"]
    assert (approval["by"], approval["source"]) == ("Ann", "oidc")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    assert page.locator("#me").inner_text() == ""
    assert [cookie["name"] for cookie in page.context.cookies() if cookie["name"].startswith("spanpost")] == []


def test_a_session_that_is_over(app: Served, open_page: Callable[[str], Page], monkeypatch: pytest.MonkeyPatch) -> None:
    """An act after the session's end says so, loses nothing, and the page returns after the login."""
    path = ask(app, "Expired")
    page = open_page(path)
    log_in(page, "ann")
    page.get_by_role("list").get_by_text(
        "Started: asks Expired"
    ).wait_for()  # all of the page is there: nothing of it is requested anew
    page.locator("#me").get_by_text("Ann").wait_for()
    page.get_by_label("Comment").fill("at last")
    endpoint = next(endpoint for endpoint in app.gateway._endpoints._endpoints if endpoint.routes[0].path == "/api/")
    sessions: Any = endpoint.routes[0].app._application._app.state.parts.oidc.sessions
    monkeypatch.setattr(sessions, "_clock", lambda: time.time() + 9 * 3600)
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("You are signed out.").wait_for()
    assert page.get_by_label("Comment").input_value() == "at last"
    monkeypatch.undo()
    page.context.clear_cookies(name="spanpost_session")
    page.get_by_role("link", name="Sign in again").click()
    page.get_by_role("link", name="Sign in with your organisation").click()  # the provider still knows the person
    page.get_by_role("button", name="Approve").wait_for()
    assert page.url == f"{app.url}{path}"


def test_a_refused_person_reads_the_reason_in_a_page(open_page: Callable[[str], Page]) -> None:
    """A person without a role here, or who cancels at the provider, reads why in a page with a link back."""
    from playwright.sync_api import expect

    page = open_page("/")
    log_in(page, "bob")
    page.get_by_role("heading", name="Not signed in").wait_for()
    page.get_by_text("Bob has no role here").wait_for()
    expect(page.locator(".button")).to_have_css("border-radius", "6px")
    page.goto("/api/login/callback?error=access_denied&state=x")
    page.get_by_text("access_denied").wait_for()
    page.get_by_role("link", name="Try again").click()
    page.get_by_role("heading", name="Sign in").wait_for()
