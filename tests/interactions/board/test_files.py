"""The board's files: their headers, and forbidden content."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from spanpost.http.routing import HttpRouter
from spanpost.interactions import board
from spanpost.interactions.board import board_routes
from spanpost.interactions.board.serving import parts

STATIC = Path(board.__file__).parent / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))


async def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request to the application; return status, headers and body."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("it needs no body")

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await HttpRouter(board_routes())({"type": "http", "method": method, "path": path, "headers": named}, receive, send)
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, sent[1]["body"]


def static(name: str) -> str:
    return f"/board/static/{parts().digest}/{name}"


@pytest.mark.parametrize("path", ["/", "/board/approvals", "/board/history", "/board/tasks/a%2Fb", "/board/tasks/../x"])
async def test_every_page_is_the_one_page(path: str) -> None:
    """Any path of the board that is no file is the page, which finds out itself what to show."""
    status, headers, body = await ask(path)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == parts().page.body
    assert headers["cache-control"] == "no-cache"


async def test_the_page_names_files_that_there_are() -> None:
    """Each script, style and picture that the page names is served, and the page names each script."""
    _, _, body = await ask("/")
    named = re.findall(r'(?:href|src)="(/board/static/[^"]+)"', body.decode())
    assert {(await ask(path))[0] for path in named} == {200}
    assert {path.rpartition("/")[2] for path in named} >= {script.name for script in SCRIPTS}


async def test_files_are_kept_for_ever_and_pages_asked_for() -> None:
    """A file's address contains its hash and is cached for ever; an older address gives the new file."""
    _, kept, body = await ask(static("main.js"))
    assert "immutable" in kept["cache-control"]
    status, fresh, same = await ask("/board/static/0123456789abcdef/main.js")
    assert (status, fresh["cache-control"], same) == (200, "no-cache", body)


@pytest.mark.parametrize("coding", ["", "gzip", "br, gzip;q=0.5"])
async def test_what_is_known_is_not_sent_again(coding: str) -> None:
    """A request with the current tag gets an empty 304, compressed or not; the tags of both differ."""
    status, first, body = await ask("/", accept_encoding=coding)
    assert (status, bool(first.get("content-encoding"))) == (200, "gzip" in coding)
    assert (gzip.decompress(body) if coding else body) == parts().page.body
    assert (await ask("/", accept_encoding=coding, if_none_match=f'"other", W/{first["etag"]}'))[::2] == (304, b"")
    other = "" if coding else "gzip"
    assert (await ask("/", accept_encoding=other, if_none_match=first["etag"]))[0] == 200


async def test_a_client_without_gzip_gets_none() -> None:
    """`gzip;q=0` is a refusal."""
    _, headers, body = await ask("/", accept_encoding="gzip;q=0, br")
    assert "content-encoding" not in headers
    assert body == parts().page.body


@pytest.mark.parametrize("path", ["/", "/board/static/x/none.js"])
async def test_every_answer_is_guarded(path: str) -> None:
    """No answer loads foreign content, holds inline script, can be framed or turns text into HTML."""
    _, headers, _ = await ask(path)
    policy = dict(one.strip().partition(" ")[::2] for one in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        f"/board/static/{'0' * 16}/../serving.py",
        "/board/static/",
        "/board/static/main.js/",
        "/board/static/x/index.html",
    ],
)
async def test_nothing_else_is_served(path: str) -> None:
    """A path that is no file of the board is 404."""
    assert (await ask(path))[0] == 404


async def test_it_is_read_and_nothing_more() -> None:
    """HEAD is answered like GET; any other method is refused with the allowed ones."""
    status, headers, _ = await ask("/", "HEAD")
    assert (status, int(headers["content-length"])) == (200, len(parts().page.body))
    status, headers, _ = await ask("/", "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_nothing_stands_in_the_page() -> None:
    """The page has no script, style or handler of its own, and names no other host."""
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<style|<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|https?:|//", page) == []


@pytest.mark.proves("literal", "html")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_text_becomes_html(script: Path) -> None:
    """No script reads text as HTML or code, and none names another host."""
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser|setHTML"
        r"|importScripts",
        script.read_text(),
    )
    assert found == []
    hosts = set(re.findall(r"https?://[^\s\"'`$]+", script.read_text()))
    assert hosts <= {"http://www.w3.org/2000/svg"}


def test_files_are_small() -> None:
    """All of the board is smaller than a picture: 80 kB compressed."""
    packed = len(parts().page.packed) + sum(len(part.packed) for part in parts().parts.values())
    assert 5_000 < packed < 80_000
