"""The routes of logins: to the provider and back, and the end of a session."""

from __future__ import annotations

from html import escape
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from spanpost.http.authentication import require_own_page
from spanpost.http.errors import HttpError
from spanpost.http.guard import client_address
from spanpost.interactions.api.oidc import LOGIN, LOGIN_TIME, NotAdmitted, Oidc
from spanpost.interactions.api.parts import TheParts
from spanpost.interactions.api.people import actor_of_caller, note_session
from spanpost.interactions.api.sessions import COOKIE
from spanpost.model.acts import Operation
from spanpost.model.interventions import Actor
from spanpost.store.system_user import system_user

router = APIRouter(include_in_schema=False)

#: Page of a failed login, in the style of the board.
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not signed in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/board/static/now/board.css"></head>
<body><main><section class="empty failed"><h1>Not signed in</h1><p>{said}</p>
<p><a class="button" href="/">Try again</a></p></section></main></body></html>
"""
_POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _own(path: str | None) -> str:
    """Return a path of this host, never another address."""
    text = path or "/"
    is_own = text[:1] == "/" and text[1:2] != "/" and text.isascii() and text.isprintable() and "\\" not in text
    return text if is_own else "/"


@router.get("/api/login")
async def login(request: Request, parts: TheParts, next: str | None = None) -> Response:
    """Send a person to the provider."""
    try:
        oidc = _oidc(parts, request)
        url, cookie = await oidc.begin(_own(next))
    except HttpError as error:
        return _page(request, error)
    answer = RedirectResponse(url, 303, {"cache-control": "no-store"})
    answer.set_cookie(
        LOGIN,
        cookie,
        max_age=int(LOGIN_TIME),
        path="/api/login",
        secure=oidc.is_secure,
        httponly=True,
        samesite="lax",
    )
    return answer


@router.get("/api/login/callback")
async def callback(
    request: Request, parts: TheParts, code: str = "", state: str = "", error: str = "", iss: str = ""
) -> Response:
    """Receive a person who comes back from the provider."""
    try:
        oidc = _oidc(parts, request)
        if error or not code or not state:
            said = error[:100] if error.isascii() and error.isprintable() else ""
            raise HttpError(403, "login_failed", f"the provider let nobody in ({said or 'no code'})")
        if iss and iss.rstrip("/") != oidc.terms.issuer:  # RFC 9207
            raise HttpError(403, "login_failed", "the answer is of another provider than oidc.issuer")
        person, then = await oidc.finish(code, state, request.cookies.get(LOGIN))
    except HttpError as refused:
        if refused.status_code == 403:
            await parts.refused_logins.note(_refused(parts.oidc, request, refused))
        return _page(request, refused)
    answer = RedirectResponse(then, 303, {"cache-control": "no-store"})
    answer.delete_cookie(LOGIN, path="/api/login")
    session = await oidc.sessions.begin(person)
    await note_session(parts.acts, "log_in", await oidc.sessions.find(session))
    seconds = int(oidc.sessions.seconds)
    answer.set_cookie(COOKIE, session, max_age=seconds, path="/", secure=oidc.is_secure, httponly=True, samesite="lax")
    return answer


@router.post("/api/logout", status_code=204)
async def logout(request: Request, parts: TheParts) -> Response:
    """End a person's session, and delete its cookie."""
    require_own_page(request)
    if parts.oidc is not None:
        await note_session(parts.acts, "log_out", await parts.oidc.sessions.end(request.cookies.get(COOKIE)))
    answer = Response(status_code=204, headers={"cache-control": "no-store"})
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _refused(oidc: Oidc | None, request: Request, error: HttpError) -> Operation:
    """Return the act of a refused login: of the person whom the provider named, else of the client's address."""
    if isinstance(error, NotAdmitted):
        by, tenant = actor_of_caller(error.person), error.person.tenant
    else:
        by = Actor(provider="address", id=client_address(request.scope))
        tenant = oidc.tenant if oidc is not None else ""
    by = msgspec.structs.replace(by, credential="login")
    return Operation("log_in", system_user(), "", tenant, "oidc", "refused", error.message, by)


def _page(request: Request, error: HttpError) -> Response:
    """Show a failed login as a page. Raises the error for clients that accept no pages."""
    if "text/html" not in request.headers.get("accept", ""):
        raise error
    said = escape(f"{error.message[:1].upper()}{error.message[1:]}.")
    body = _PAGE.replace("{said}", said).encode("ascii", "xmlcharrefreplace")
    headers = {
        "cache-control": "no-store",
        "content-security-policy": _POLICY,
        "x-content-type-options": "nosniff",
        **(error.headers or {}),
    }
    return Response(body, error.status_code, headers, "text/html; charset=utf-8")


def _oidc(parts: TheParts, request: Request) -> Oidc:
    require_own_page(request)
    oidc: Oidc | None = parts.oidc
    if oidc is None:
        raise HttpError(404, "not_found", "there is no login here: set [oidc], or use a token")
    return oidc
