"""Foreign pages in a real browser: their requests to a gateway of this machine have no effect."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.gateway_process import query
from tests.interactions.api.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres", "chromium")]

#: Sends in every way that needs no permission of the gateway, and reports the answers.
ATTACK = """async (gateway) => {
  const fired = {status: "firing", labels: {alertname: "Your password ended"}, startsAt: "2026-03-01T12:00:00Z"};
  const alert = JSON.stringify({alerts: [fired]});
  const tell = (path, more) => fetch(gateway + path, more).then((answer) => answer.type, () => "refused");
  const simple = {method: "POST", mode: "no-cors", body: alert, headers: {"content-type": "text/plain"}};
  return [
    await tell("/alerts/grafana", simple),
    await tell("/v1/logs", simple),
    await tell("/control/v1/budget", simple),
    await tell("/alerts/grafana", {method: "POST", body: alert, headers: {"content-type": "application/json"}}),
    await tell("/control/v1/approvals/x", {}),
    await tell("/metrics", {mode: "no-cors"}),
    await new Promise((done) => {
      const image = new Image();
      image.onerror = image.onload = () => done("opaque");
      image.src = gateway + "/health/detailed";
    }),
    await new Promise((done) => {
      const script = document.createElement("script");
      script.onload = () => done("ran");
      script.onerror = () => done("refused");
      script.src = gateway + "/board/static/now/main.js";
      document.body.append(script);
    }),
  ];
}"""


class _InstalledApps(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(
            b'<!doctype html><body><form method="post" enctype="text/plain"></form><a id="board" href="/">board</a>'
        )

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def installed_apps() -> Iterator[int]:
    """Return the port of a foreign web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _InstalledApps) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    contexts: list[Any] = []

    def open_page(url: str) -> Page:
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()


def rows(dsn: str) -> list[Any]:
    """Count the rows, in a thread: the browser's player has this one's loop."""
    counts = (
        "SELECT (SELECT count(*) FROM alerts), (SELECT count(*) FROM quarantine), (SELECT count(*) FROM agent_events)"
    )
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(query, dsn, counts).result()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"], ids=["same site", "cross site"])
def test_what_a_page_of_elsewhere_sends_comes_to_nothing(
    board: Served, installed_apps: int, open_page: Callable[[str], Page], name: str
) -> None:
    """M1: fetch, form, image and script of another site or port make no row and no message."""
    before = rows(str(board.gateway.settings.dsn))
    page = open_page(f"http://{name}:{installed_apps}/")
    answers = page.evaluate(ATTACK, board.url)
    assert answers == ["opaque", "opaque", "opaque", "refused", "refused", "opaque", "opaque", "refused"]
    page.evaluate(
        "url => { const form = document.forms[0]; form.action = url; form.submit(); }", f"{board.url}/alerts/grafana"
    )
    page.get_by_text('"code": 7').wait_for()
    assert rows(str(board.gateway.settings.dsn)) == before


def test_a_link_from_elsewhere_opens_the_board(
    board: Served, installed_apps: int, open_page: Callable[[str], Page]
) -> None:
    """After the board was opened once, a link in any page, a chat or a dashboard opens it again."""
    page = open_page(board.opens(board.url + "/"))
    page.locator("#link.live").wait_for()
    assert "token" not in page.url
    page.goto(f"http://localhost:{installed_apps}/")
    page.evaluate("url => { document.getElementById('board').href = url }", f"{board.url}/board/history")
    page.locator("#board").click()
    page.locator("h1", has_text="History").wait_for()


def test_without_a_token_the_page_says_where_it_is(board: Served, open_page: Callable[[str], Page]) -> None:
    """Without the token the page says what to open; opened in one tab, the token works in others too."""
    page = open_page(board.url)
    page.get_by_text("spanpost token local").wait_for()
    page.goto(board.opens(board.url + "/"))
    page.locator("h1", has_text="Now").wait_for()
    other = page.context.new_page()
    other.goto(board.url)
    other.locator("#link.live").wait_for()
    assert other.locator("#me").inner_text() == "this machine"
    assert other.context.cookies() == []
