"""The board over HTTP: its page at ``/`` and below ``/board/``, its files below a digest of their content.

A file's address holds a digest of all files (``/board/static/<digest>/main.js``), so browsers keep it for a
year and never ask again; after an upgrade the page names another digest. A page of an older version gets
the current files. Nothing here is secret: the API decides who may see what.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spanpost.http.errors import HttpError
from spanpost.http.routing import HttpRoute
from spanpost.http.tags import is_known, tag_of

PREFIX: Final = "/board/"
#: The page that describes the API.
DOCS: Final = "/docs"
_STATIC: Final = f"{PREFIX}static/"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK: Final = "no-cache"
#: Only our own scripts and styles, none inline; nothing is loaded from elsewhere, and no site may frame it.
#: With trusted types the browser itself refuses to parse text as HTML.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
#: Headers of every answer.
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    # The targets of a task's links must not learn the task's address.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class BoardPart(msgspec.Struct, frozen=True):
    """A file as it is sent."""

    media_type: str
    body: bytes
    packed: bytes
    tag: str


class BoardParts(msgspec.Struct, frozen=True):
    """All files of the board. `digest` changes with any of them."""

    page: BoardPart
    parts: Mapping[str, BoardPart]
    digest: str


def _part(name: str, body: bytes) -> BoardPart:
    kind = name.rpartition(".")[2]
    return BoardPart(_TYPES[kind], body, gzip.compress(body, 9, mtime=0), tag_of(body))


@cache
def parts() -> BoardParts:
    """Read the files, once for the process."""
    directory = resources.files("spanpost.interactions.board") / "static"
    found = {one.name: one.read_bytes() for one in directory.iterdir() if one.name.rpartition(".")[2] in _TYPES}
    page = found.pop("index.html")
    whole = sha256(page)
    for name in sorted(found):
        whole.update(name.encode() + b"\0" + sha256(found[name]).digest())
    digest = whole.hexdigest()[:16]
    # Modules are preloaded, so that the browser fetches them at once, not one after another.
    preloads = "\n".join(
        f'<link rel="modulepreload" href="{_STATIC}{digest}/{name}">' for name in sorted(found) if name.endswith(".js")
    )
    made = page.replace(b"{{static}}", f"{_STATIC}{digest}".encode()).replace(b"{{preloads}}", preloads.encode())
    return BoardParts(_part("index.html", made), {name: _part(name, body) for name, body in found.items()}, digest)


async def show(request: Request) -> Response:
    """Answer a path of the board: a file, or the page for any path that is no file."""
    path = request.scope["path"]
    is_static = path.startswith(_STATIC)
    digest, _, name = path.removeprefix(_STATIC).partition("/") if is_static else ("", "", "")
    part = parts().parts.get(name) if is_static else parts().page
    if part is None:
        raise HttpError(404, "not_found", "there is no such file; the board is at /", headers=HEADERS)
    is_packed = _takes_gzip(request.headers.get("accept-encoding", ""))
    tag = part.tag[:-1] + '-gz"' if is_packed else part.tag
    kept = _FOR_EVER if digest == parts().digest else _ASK
    headers = {**HEADERS, "etag": tag, "cache-control": kept, "vary": "accept-encoding"}
    if is_known(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    headers |= {"content-type": part.media_type} | ({"content-encoding": "gzip"} if is_packed else {})
    return Response(part.packed if is_packed else part.body, headers=headers)


def board_routes() -> list[HttpRoute]:
    """Return the routes of the board: ``/``, the API's description, and all below `PREFIX`."""
    return [HttpRoute(path, show, ["GET"]) for path in ("/", DOCS, PREFIX)]


def _takes_gzip(accept: str) -> bool:
    for one in accept.lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
