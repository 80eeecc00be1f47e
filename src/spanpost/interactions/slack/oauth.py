"""``/slack/install`` and ``/slack/oauth_redirect``: Bolt's OAuth flow over our stores, as pages.

Visitors of `install` are strangers: nothing is stored for them. The OAuth state is encrypted and holds its
own time, so it needs no row; its use is remembered for all processes, for longer than it is valid.
"""

from __future__ import annotations

import html
import logging
import re
import secrets
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urljoin

import aiohttp
from slack_bolt.error import BoltError
from slack_bolt.oauth.async_callback_options import AsyncCallbackOptions, AsyncFailureArgs, AsyncSuccessArgs
from slack_bolt.oauth.async_oauth_flow import AsyncOAuthFlow
from slack_bolt.oauth.async_oauth_settings import AsyncOAuthSettings
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.oauth import OAuthStateUtils
from slack_sdk.oauth.installation_store import Installation as BoltInstallation
from slack_sdk.oauth.installation_store.async_installation_store import AsyncInstallationStore
from slack_sdk.oauth.state_store.async_state_store import AsyncOAuthStateStore
from slack_sdk.web.async_client import AsyncWebClient
from starlette.requests import Request
from starlette.responses import Response

from spanpost.encryption import Broken, Encryption
from spanpost.http.asgi import Scope
from spanpost.http.errors import HttpError, note_outcome
from spanpost.http.routing import HttpRoute
from spanpost.interactions.protocols import NO_KEY, InteractionMetrics, NotTaken
from spanpost.interactions.slack.web import silent
from spanpost.model.errors import StoreUnavailable
from spanpost.model.installations import Installed, InstallTerms
from spanpost.sinks.slack.transport import proxy_for
from spanpost.store.protocols import Interventions
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.interactions")

INSTALL: Final = "/slack/install"
REDIRECT: Final = "/slack/oauth_redirect"
#: Seconds for which a state is valid: the person reads what the app asks for, and agrees.
HOLDS: Final = 600
#: Seconds for Slack's answers.
_TIMEOUT: Final = 8.0
#: Characters of a query: a state and a code.
_MOST_QUERY: Final = 4_096
_ID: Final = re.compile(r"^[TE][A-Z0-9]{2,30}\Z")
_WORD: Final = re.compile(r"^[a-z_]{1,60}\Z")
_STATE: Final = "slack\0state"
#: ``__Host-``: this host alone, over HTTPS. Browsers also trust their own machine.
_COOKIE: Final = "__Host-spanpost-slack-state"
_BEGIN_AGAIN: Final = "Begin again, and finish within ten minutes in the same browser."
_WHY: Final = {
    "access_denied": "The installation was cancelled in Slack. Nothing was installed.",
    "invalid_browser": f"This installation was not begun in this browser, or too long ago. {_BEGIN_AGAIN}",
    "invalid_state": f"This installation is finished already, or was begun too long ago. {_BEGIN_AGAIN}",
    "missing_code": f"Slack sent no code. {_BEGIN_AGAIN}",
    "invalid_code": f"Slack does not accept the code. {_BEGIN_AGAIN}",
}


class Keeps(Protocol):
    """**Protocol:** stores installations. `encryption` is None without a key."""

    encryption: Encryption | None

    async def install(self, installed: Installed, tokens: dict[str, str]) -> Installed:
        """Store an installation. Raises `NotTaken` and `StoreUnavailable`."""
        ...

    def name_of(self, team: str) -> str:
        """Return the name of a workspace in routes."""
        ...


class _InstallRefused(BoltError):
    """A refusal that Bolt passes to the failure handler."""


class _Cookies(OAuthStateUtils):
    def build_set_cookie_for_new_state(self, state: str) -> str:
        return f"{super().build_set_cookie_for_new_state(state)}; SameSite=Lax"


class States(AsyncOAuthStateStore):
    """Encrypted states: each is valid once, for ten minutes, in any process."""

    def __init__(self, encryption: Encryption, interventions: Interventions) -> None:
        self._encryption = encryption
        self._interventions = interventions

    async def async_issue(self, *args: Any, **kwargs: Any) -> str:
        """Return a new state."""
        return self._encryption.encrypt(_STATE, {"n": secrets.token_hex(16)}).decode().rstrip("=")

    async def async_consume(self, state: str) -> bool:
        """Tell whether a state is ours, still valid and unused. Raises `StoreUnavailable`."""
        try:
            found = self._encryption.open(_STATE, (state + "=" * (-len(state) % 4)).encode(), within=HOLDS)
        except (Broken, ValueError):
            return False
        return await self._interventions.is_first(f"slack:state:{found.get('n')}")


class SlackInstallations(AsyncInstallationStore):
    """Bolt's installation store over ours. The flow uses only `async_save`."""

    def __init__(self, keeps: Keeps, client_id: str, app_id: str) -> None:
        self._keeps = keeps
        self._client_id = client_id
        self._app_id = app_id

    async def async_save(self, installation: BoltInstallation) -> None:
        """Store an installation. Raises `BoltError` with a text that may be shown, and `StoreUnavailable`."""
        if installation.is_enterprise_install or not installation.team_id:
            raise _InstallRefused(
                "This app is installed in single workspaces, not in an organisation as a whole. "
                "Install it in one of them."
            )
        if not installation.bot_token or not _ID.match(installation.team_id):
            raise _InstallRefused("Slack gave no bot token. Nothing was installed.")
        if self._app_id and installation.app_id != self._app_id:
            raise _InstallRefused("This is another app than the one that is set up here. Nothing was installed.")
        ends = installation.bot_token_expires_at
        if (ends is not None) is not bool(installation.bot_refresh_token):
            raise _InstallRefused("Slack gave a token that expires and no refresh token. Nothing was installed.")
        given = Installed(
            client=self._client_id,
            team=installation.team_id,
            enterprise=installation.enterprise_id or "",
            team_name=line(installation.team_name or "", 200),
            app_id=installation.app_id or "",
            bot=installation.bot_id or "",
            bot_user=installation.bot_user_id or "",
            scopes=tuple(installation.bot_scopes or ()),
            by=installation.user_id or "",
            expires_at=datetime.fromtimestamp(ends, UTC) if ends is not None else None,
        )
        tokens = {"token": installation.bot_token} | (
            {"refresh": installation.bot_refresh_token} if installation.bot_refresh_token else {}
        )
        try:
            await self._keeps.install(given, tokens)
        except NotTaken as refusal:
            raise _InstallRefused(str(refusal)) from None


class OauthHttp:
    """The endpoints of both paths. `app_id`: an installation of another app is refused."""

    def __init__(
        self,
        terms: InstallTerms,
        client_secret: str,
        keeps: Keeps,
        interventions: Interventions,
        *,
        app_id: str = "",
        base_url: str = "https://slack.com/api/",
        watch: InteractionMetrics | None = None,
    ) -> None:
        self._terms = terms
        #: The app's client secret.
        self.client_secret = client_secret
        self._app_id = app_id
        self._base_url = base_url
        self._keeps = keeps
        self._interventions = interventions
        self._watch = watch

    @property
    def routes(self) -> list[HttpRoute]:
        """The routes of these endpoints."""
        return [HttpRoute(path, self._show, ["GET"], count=self._count) for path in (INSTALL, REDIRECT)]

    def _count(self, status: int, outcome: str) -> None:
        if self._watch is not None:
            self._watch.knocked("slack_oauth", outcome)

    async def _show(self, request: Request) -> Response:
        try:
            response, word = await self._answer(request.scope)
        except StoreUnavailable:
            response, word = (
                _page(503, "Not now", f"The database does not answer. Nothing was installed. {_BEGIN_AGAIN}"),
                "unavailable",
            )
        except (aiohttp.ClientError, TimeoutError, OSError):
            response, word = (
                _page(502, "Not now", f"Slack does not answer. Nothing was installed. {_BEGIN_AGAIN}"),
                "slack",
            )
        except Exception as error:
            log.error("an installation could not be finished: %s", type(error).__name__)
            response, word = _page(502, "Not installed", f"Slack's answer could not be read. {_BEGIN_AGAIN}"), "fault"
        if response.status >= 400 and "text/html" not in request.headers.get("accept", ""):
            raise HttpError(response.status, word, " ".join(response.headers.get(_TEXT, ())))
        note_outcome(request.scope, word)
        answer = Response((response.body or "").encode("utf-8", "replace"), response.status, dict(_HEADERS))
        for name, values in response.headers.items():
            if name.lower() in _FORWARDED_HEADERS:
                for value in values:
                    answer.headers.append(name, value.encode("latin-1", "replace").decode("latin-1"))
        return answer

    async def _answer(self, scope: Scope) -> tuple[BoltResponse, str]:
        if self._keeps.encryption is None:
            return _page(503, "Not installed", NO_KEY), "no_key"
        query = bytes(scope["query_string"])
        if len(query) > _MOST_QUERY:
            return _page(400, "Not installed", f"The address is too long. {_BEGIN_AGAIN}"), "query"
        asked = parse_qs(query.decode("latin-1"))
        cookies = [
            bytes(value).decode("latin-1") for name, value in scope["headers"] if bytes(name).lower() == b"cookie"
        ]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session:
            flow = self._flow(session, self._keeps.encryption)
            if scope["path"] == INSTALL:
                # Only a workspace's id, because it is written into a header.
                team = next((team for team in asked.get("team", ()) if _ID.match(team)), "")
                begin = AsyncBoltRequest(body="", query={"team": team} if team else {})
                return await flow.handle_installation(begin), "install"
            query_of = {name: values[0] for name, values in asked.items()}
            request = AsyncBoltRequest(body="", query=query_of, headers={"cookie": cookies} if cookies else {})
            response = await flow.handle_callback(request)
        return response, (response.headers.pop("x-spanpost", None) or ["callback"])[0]

    def _flow(self, session: aiohttp.ClientSession, encryption: Encryption) -> AsyncOAuthFlow:
        terms = self._terms
        client = AsyncWebClient(base_url=self._base_url, session=session, retry_handlers=[], logger=silent())
        client.proxy = proxy_for(self._base_url)
        settings = AsyncOAuthSettings(
            client_id=terms.client_id,
            client_secret=self.client_secret,
            scopes=list(terms.scopes),
            user_scopes=[],
            redirect_uri=terms.public_url + REDIRECT,
            install_path=INSTALL,
            install_page_rendering_enabled=False,
            redirect_uri_path=REDIRECT,
            callback_options=AsyncCallbackOptions(self._succeeded, self._failed),
            authorization_url=urljoin(self._base_url, "/oauth/v2/authorize"),
            installation_store=SlackInstallations(self._keeps, terms.client_id, self._app_id),
            installation_store_bot_only=True,
            state_store=States(encryption, self._interventions),
            state_cookie_name=_COOKIE,
            state_expiration_seconds=HOLDS,
            logger=silent(),
        )
        settings.state_utils = _Cookies(cookie_name=_COOKIE, expiration_seconds=HOLDS)
        return AsyncOAuthFlow(client=client, logger=silent(), settings=settings)

    async def _succeeded(self, done: AsyncSuccessArgs) -> BoltResponse:
        team = done.installation.team_id or ""
        name = self._keeps.name_of(team)
        text = (
            f"The app is installed in {line(done.installation.team_name or team, 200)}. "
            f"Invite it to a channel, and set a route to that channel: routes call this workspace {name}."
        )
        return self._ended(200, "Installed", text, "installed")

    async def _failed(self, failure: AsyncFailureArgs) -> BoltResponse:
        if isinstance(failure.error, _InstallRefused):
            log.warning("the Slack app was not installed: %s", failure.error)
            return self._ended(403, "Not installed", str(failure.error), "refused")
        reason = failure.reason if _WORD.match(failure.reason or "") else "an error"
        text = _WHY.get(reason, f"Slack answers {reason}. Nothing was installed. {_BEGIN_AGAIN}")
        return self._ended(
            max(failure.suggested_status_code, 400), "Not installed", text, reason if reason in _WHY else "slack"
        )

    @staticmethod
    def _ended(status: int, title: str, text: str, word: str) -> BoltResponse:
        response = _page(status, title, text)
        response.headers["set-cookie"] = [_Cookies(cookie_name=_COOKIE).build_set_cookie_for_deletion()]
        response.headers["x-spanpost"] = [word]
        return response


#: Header with a page's text, for clients that do not accept HTML.
_TEXT: Final = "x-spanpost-text"
#: Headers of Bolt's response that are passed on.
_FORWARDED_HEADERS: Final = frozenset({"location", "set-cookie"})
_HEADERS: Final = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
}


def _page(status: int, title: str, text: str) -> BoltResponse:
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title>"
        "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;"
        "padding:0 1rem;color-scheme:light dark}</style>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
        f'<p><a href="{INSTALL}">Begin the installation</a></p></html>'
    )
    return BoltResponse(status=status, body=page, headers={_TEXT: text})
