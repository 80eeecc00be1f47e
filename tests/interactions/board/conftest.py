"""A gateway for a browser of this machine, and the browser: one of each for all tests here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spanpost.testing.live_tasks import LiveTasks
from tests.conftest import find, fresh_database
from tests.interactions.api.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: Options that a browser needs in a container, and no more.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


#: `release` declares parameters, `fix` accepts any.
LAUNCHERS: dict[str, Any] = {
    "named": {
        "fix": {"kind": "command", "command": ["/bin/true"]},
        "release": {
            "kind": "command",
            "command": ["/bin/true"],
            "parameters": [
                {"name": "version", "label": "Version", "required": True, "hint": "As it is tagged."},
                {"name": "where", "label": "Where", "kind": "choice", "choices": ["staging", "production"]},
                {"name": "percent", "label": "Percent", "kind": "number", "minimum": 1, "maximum": 100},
            ],
        },
    },
    "retries": [{"launcher": "fix", "agent": "again"}],
}


@pytest.fixture(scope="module")
def board(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway whose board this machine can read without a token, and may decide at."""
    with fresh_database(server) as dsn, pytest.MonkeyPatch.context() as patch:
        home: Path = tmp_path_factory.mktemp("home")
        for name in list(os.environ):
            if name.upper().startswith("SPANPOST_") or name in ("DATABASE_URL", "OTEL_SDK_DISABLED"):
                patch.delenv(name)
        patch.chdir(home)
        about = {"interactions": {}, "api": {"heartbeat": 1, "local_roles": ["operator", "approver"]}}
        with Served(dsn, **about, launchers=LAUNCHERS) as served:
            yield served


@pytest.fixture(scope="module")
def tasks(board: Served) -> LiveTasks:
    """Tasks of another process, sent to that gateway. Each test has numbers of its own."""
    return LiveTasks(board.url)


@pytest.fixture(scope="module")
def browser(board: Served) -> Iterator[Browser]:
    """The system's Chromium, after the gateway: while its player is there, no other loop runs in this
    thread.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=find("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, board: Served) -> Iterator[Callable[..., Page]]:
    """Open a page of the board; an exception, a foreign request or a policy violation fails the test."""
    contexts, wrong = [], list[str]()

    def open_page(path: str = "/", *, is_phone: bool = False, **about: Any) -> Page:
        size = {"width": 375, "height": 812} if is_phone else {"width": 1280, "height": 800}
        context = browser.new_context(viewport=size, has_touch=is_phone, base_url=board.url, timezone_id="UTC", **about)
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(board.opens(path))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
