"""Installing the app in further workspaces: permission, single use, storage of the token, removal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from spanpost.encryption import Broken, Encryption, new_key
from spanpost.http.routing import HttpRouter
from spanpost.interactions.slack.oauth import INSTALL, REDIRECT, OauthHttp
from spanpost.model.errors import StoreUnavailable
from spanpost.runtime.installed_apps import InstalledApps
from spanpost.runtime.interactions import InteractionsRuntime
from spanpost.runtime.workspaces import AHEAD, Workspaces, workspaces_of
from spanpost.settings import Settings, load
from spanpost.sinks.base import NoToken
from spanpost.store.memory import MemoryStore
from spanpost.testing.fake_slack import FakeSlack, Fault

pytestmark = pytest.mark.usefixtures("clean_environment")

KEY, URL, TEAM = new_key(), "https://agents.example.com", "T0222BBBB"
ACME = {"acme": {"team": TEAM, "tenant": "acme", "channel": "#agents"}}


class App:
    """A gateway's Slack endpoints, with a Slack of ours. `said` has the counted words."""

    def __init__(self, slack: FakeSlack, store: MemoryStore | None = None, /, **oauth: Any) -> None:
        self.slack = slack
        self.store = store or MemoryStore()
        given = {
            "client_id": "11.22",
            "client_secret": slack.workspace.oauth.client_secret,
            "public_url": URL,
            "key": KEY,
        }
        self.settings: Settings = load(
            slack={"base_url": slack.url, "workspaces": ACME},
            slack_oauth=given | oauth,
            interactions={"signing_secret": "s"},
        )
        self.woken = 0
        found = workspaces_of(self.settings, self.store, wake=self.wake)
        assert found is not None
        self.workspaces: Workspaces = found
        self.said: list[str] = []
        secret = found.section.client_secret.get_secret_value() if found.section.client_secret else ""
        oauth_http = OauthHttp(found.section, secret, found, self.store.interventions, base_url=slack.url, watch=self)
        self.http = HttpRouter(oauth_http.routes)

    def wake(self) -> None:
        self.woken += 1

    def knocked(self, endpoint: str, answer: str) -> None:
        self.said.append(answer)

    def intervened(self, verb: str, result: str, source: str) -> None: ...

    async def get(
        self, path: str, query: str = "", cookie: str = "", method: str = "GET"
    ) -> tuple[int, dict[str, str], str]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            raise AssertionError("nothing is read")

        headers = [(b"accept", b"text/html"), *([(b"cookie", cookie.encode())] if cookie else [])]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        await self.http(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, sent[1]["body"].decode()

    async def begin(self) -> tuple[str, str]:
        """Begin an installation; return the state, and the cookie of that browser."""
        status, headers, _ = await self.get(INSTALL)
        assert status == 302
        asked = parse_qs(urlsplit(headers["location"]).query)
        assert asked["redirect_uri"] == [URL + REDIRECT]
        return asked["state"][0], headers["set-cookie"].partition(";")[0]

    async def finish(self, code: str, state: str, cookie: str, **more: str) -> tuple[int, dict[str, str], str]:
        return await self.get(REDIRECT, urlencode({"code": code, "state": state} | more), cookie)

    async def install(self, team: str = TEAM, enterprise: str = "", *, is_org: bool = False) -> tuple[int, str]:
        """Install the app, as a person does who consents; return the status and the page."""
        state, cookie = await self.begin()
        status, _, page = await self.finish(
            self.slack.workspace.oauth.code(team, enterprise, is_org=is_org), state, cookie
        )
        return status, page

    async def tokens(self) -> list[str]:
        return [one.team for one in await self.workspaces.listed() if one.is_there]


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as slack:
        yield slack


async def test_an_installation_gives_a_token_and_keeps_it_encrypted(
    slack: FakeSlack, caplog: pytest.LogCaptureFixture
) -> None:
    """The token opens for its workspace only and is in no row, page, header or log line; the page names routes."""
    app = App(slack)
    with caplog.at_level(logging.DEBUG):
        state, cookie = await app.begin()
        status, headers, page = await app.finish(slack.workspace.oauth.code(), state, cookie)
    assert status == 200, page
    assert "call this workspace acme" in page
    assert "Workspace &lt;T0222BBBB&gt;" in page
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "Secure; HttpOnly" in headers["set-cookie"]
    token = await app.workspaces.token(TEAM)
    assert token in slack.workspace.tokens
    (row,) = await app.workspaces.listed()
    assert (row.team, row.by, row.bot_user, row.app_id) == (TEAM, "U0INSTALLER", "U0SPANPOST", "A0SPANPOST")
    everything = f"{row} {page} {headers} {caplog.text}"
    for secret in (token, token.rpartition("-")[2], app.slack.workspace.oauth.client_secret, KEY):
        assert secret not in everything
    assert (app.woken, app.said) == (1, ["install", "installed"])


async def test_a_state_holds_once_in_its_browser_and_not_for_long(
    slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing, forged, used, old or another browser's state is refused, and its code is not redeemed."""
    app = App(slack)
    other = App(slack, app.store)
    code = slack.workspace.oauth.code()
    state, cookie = await app.begin()
    stranger, theirs = await app.begin()
    for a_state, a_cookie in ((state, ""), (state, theirs), (stranger, cookie), ("", cookie), ("None", "x=None")):
        assert (await app.finish(code, a_state, a_cookie))[0] == 400
    name = cookie.partition("=")[0]
    for forged in ("x" * 200, state[:-4] + "AAAA", "\udcff", "é"):
        query = urlencode({"code": code, "state": forged.encode("utf-8", "replace")})
        assert (await app.get(REDIRECT, query, f"{name}={forged.encode('utf-8', 'replace').decode()}"))[0] in (400, 401)
    assert slack.calls("oauth.v2.access") == []
    assert (await other.finish(code, state, cookie))[0] == 200
    assert (await app.finish(slack.workspace.oauth.code(), state, cookie))[0] == 401
    late, of_late = await app.begin()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 660)
    assert (await app.finish(slack.workspace.oauth.code(), late, of_late))[0] == 401
    assert app.said[-1] == "invalid_state"
    assert len(slack.calls("oauth.v2.access")) == 1


async def test_who_may_install(slack: FakeSlack) -> None:
    """An unlisted workspace is refused and its token dropped; a listed organisation or `any` makes a tenant."""
    app = App(slack)
    status, page = await app.install("T0STRANGER")
    assert status == 403
    assert "not among those" in page
    assert await app.tokens() == []
    by_org = App(slack, enterprises=["E0ORG"])
    assert (await by_org.install("T0OTHER", "E0ELSE"))[0] == 403
    assert (await by_org.install("T0OTHER", "E0ORG"))[0] == 200
    assert (by_org.workspaces.name_of("T0OTHER"), by_org.workspaces.tenant_of("T0OTHER")) == ("T0OTHER", "T0OTHER")
    anybody = App(slack, by_org.store, allow="any")
    assert (await anybody.install("T0ANY"))[0] == 200
    assert (await anybody.install("T0ANY", "E0ORG", is_org=True))[0] == 403
    # A workspace that is no longer allowed is no longer used, either.
    assert await anybody.workspaces.find("T0OTHER") is not None
    narrower = App(slack, anybody.store)
    assert await narrower.workspaces.find("T0OTHER") is None
    with pytest.raises(NoToken, match="not installed"):
        await narrower.workspaces.token("T0ANY")


async def test_without_a_key_nothing_is_installed(slack: FakeSlack) -> None:
    """Without a key the page says what the operator must do, at either path, and Slack is not called."""
    app = App(slack, key=None)
    for path in (INSTALL, REDIRECT):
        status, _, page = await app.get(path, "code=x&state=y")
        assert status == 503
        assert "slack_oauth.key" in page
    assert app.said == ["no_key", "no_key"]
    assert slack.asked == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.RESET_BEFORE, 502),
        (Fault.ERROR_AFTER, 401),
        (Fault.HTML_AFTER, 401),
        (Fault.LIST_AFTER, 502),
        (Fault.THROTTLE, 401),
    ],
)
async def test_whatever_slack_answers_is_a_page(
    slack: FakeSlack, fault: Fault, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid or lost answer gives a page that says to begin again; nothing is kept, and no code is
    logged.
    """
    app = App(slack)
    slack.faults.script("oauth.v2.access", [fault])
    state, cookie = await app.begin()
    code = slack.workspace.oauth.code()
    with caplog.at_level(logging.DEBUG, "spanpost"):
        found, _, page = await app.finish(code, state, cookie)
    assert found in (status, 401, 502), page
    assert "Begin" in page
    assert code not in caplog.text
    assert await app.tokens() == []


async def test_a_database_that_is_away_installs_nothing(slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the database it is unknown whether a state was used: it is refused, and no code is spent."""
    app = App(slack)

    async def away(key: str) -> bool:
        raise StoreUnavailable("away")

    monkeypatch.setattr(app.store.interventions, "is_first", away)
    assert (await app.install())[0] == 503
    assert slack.calls("oauth.v2.access") == []


async def test_other_methods_queries_and_words(slack: FakeSlack) -> None:
    """Foreign input is refused in words of ours; an invalid team does not reach the header."""
    app = App(slack)
    assert (await app.get(INSTALL, method="POST"))[0] == 405
    assert (await app.get(REDIRECT, "x" * 5000))[0] == 400
    _, headers, _ = await app.get(INSTALL, "team=T1%0d%0aSet-Cookie:+a%3Db&team=T0222BBBB")
    assert headers["location"].endswith("&team=T0222BBBB")
    for said in ("access_denied", "<script>", "", "x" * 99):
        status, _, page = await app.get(REDIRECT, urlencode({"error": said}))
        assert status == 400
        assert "<script>" not in page
    state, cookie = await app.begin()
    assert (await app.get(REDIRECT, urlencode({"state": state}), cookie))[0] == 401


async def test_keys_are_replaced(slack: FakeSlack) -> None:
    """A new key beside the old one reads its tokens; after re-encryption the old one is not needed."""
    app, key = App(slack), new_key()
    await app.install()
    token = await app.workspaces.token(TEAM)
    both = App(slack, app.store, key=key, old_keys=[KEY])
    assert await both.workspaces.token(TEAM) == token
    assert (await both.workspaces.reencrypt(), await both.workspaces.reencrypt()) == (1, 0)
    assert await App(slack, app.store, key=key).workspaces.token(TEAM) == token
    with pytest.raises(NoToken, match="another key"):
        await App(slack, app.store).workspaces.token(TEAM)
    # A row copied over another workspace's decrypts nothing there.
    (row,) = await app.workspaces.listed()
    encryption = both.workspaces.encryption
    assert encryption is not None
    with pytest.raises(Broken, match="another owner"):
        encryption.open("slack\0" + "11.22\0T0OTHER", row.encrypted)


async def test_a_token_that_ends_is_renewed_by_one_process(slack: FakeSlack) -> None:
    """One of several processes renews a token two hours early, and all use it; on failure the old one stays."""
    slack.workspace.oauth.rotates = True
    app = App(slack)
    await app.install()
    first = await app.workspaces.token(TEAM)
    assert len(slack.calls("oauth.v2.access")) == 1
    later = time.time() + 43_200 - AHEAD.total_seconds() + 60
    replicas = [
        Workspaces(app.workspaces.section, app.settings.sinks["slack"], app.store, clock=lambda: later)  # type: ignore[arg-type]
        for _ in range(3)
    ]
    await asyncio.gather(*(one.token(TEAM) for one in replicas))
    assert len(slack.calls("oauth.v2.access")) == 2
    for one in replicas:
        one._known.clear()
    (second,) = {await one.token(TEAM) for one in replicas}
    assert second != first
    slack.workspace.oauth.refreshes.clear()
    much_later = Workspaces(
        app.workspaces.section, app.settings.sinks["slack"], app.store, clock=lambda: later + 43_200
    )  # type: ignore[arg-type]
    assert await much_later.token(TEAM) == second


def departure(kind: str, at: float | None, team: str = TEAM, **event: Any) -> dict[str, Any]:
    body = {"type": "event_callback", "team_id": team, "api_app_id": "A0SPANPOST", "event": {"type": kind} | event}
    return body | ({} if at is None else {"event_time": int(at)})


async def test_an_app_that_leaves_is_let_go(slack: FakeSlack) -> None:
    """A removal deletes the token; an event from before a later installation deletes nothing."""
    app = App(slack)
    interactions_runtime = InteractionsRuntime(app.settings, app.store, lambda _: None, workspaces=app.workspaces)
    assert interactions_runtime.app.everywhere is not None

    async def hear(body: dict[str, Any]) -> tuple[int, str]:
        answered = await interactions_runtime.app.handle(interactions_runtime.app.apps, body)
        return answered.status, answered.word

    await app.install()
    assert await hear(departure("app_uninstalled", time.time() + 5)) == (200, "departure")
    assert await app.tokens() == []
    assert (await app.workspaces.listed())[0].why == "uninstalled"
    assert await hear(departure("app_uninstalled", time.time() + 5)) == (200, "ignored")

    await app.install()
    token = await app.workspaces.token(TEAM)
    late = departure("app_uninstalled", time.time() - 100)
    revoked = departure("tokens_revoked", time.time() + 5, tokens={"oauth": ["U1"], "bot": ["U0SPANPOST"]})
    for body in (late, revoked, departure("tokens_revoked", time.time(), tokens={"oauth": ["U1"]})):
        assert (await hear(body))[0] in (200, 401)
        assert await app.tokens() == [TEAM]
    slack.faults.script("auth.test", [Fault.RESET_BEFORE])
    assert await hear(revoked) == (503, "slack")
    assert await app.tokens() == [TEAM]
    slack.workspace.tokens[token].refused = "account_inactive"
    assert await hear(revoked) == (200, "departure")
    assert await app.tokens() == []
    assert (await hear(departure("app_uninstalled", time.time(), "T0NOBODY")))[0] == 200
    await interactions_runtime.close()


async def test_a_workspace_is_accepted_as_soon_as_it_is_installed(slack: FakeSlack) -> None:
    """Requests of a workspace are refused before its installation; then they are its tenant's alone."""
    app = App(slack)
    settings = app.settings.model_copy(
        update={
            "interactions": app.settings.interactions.model_copy(  # type: ignore[union-attr]
                update={
                    "rules": load(
                        interactions={
                            "rules": [
                                {"actions": ["cancel"], "users": ["UALICE"]},
                                {"actions": ["cancel"], "users": ["UBOB"], "tenant": "acme"},
                            ]
                        }
                    ).interactions.rules
                }  # type: ignore[union-attr]
            )
        }
    )
    interactions_runtime = InteractionsRuntime(settings, app.store, lambda _: None, workspaces=app.workspaces)
    body = {
        "type": "event_callback",
        "team_id": TEAM,
        "event": {"type": "message", "channel": "C1", "user": "UALICE", "ts": "1.1"},
    }
    assert (await interactions_runtime.app.handle(interactions_runtime.app.apps, body)).status == 401
    await app.install()
    assert (await interactions_runtime.app.handle(interactions_runtime.app.apps, body)).status == 200
    finds = interactions_runtime.app.everywhere.finds  # type: ignore[union-attr]
    assert isinstance(finds, InstalledApps)
    one = await finds.find(TEAM)
    assert one is not None
    assert one is await finds.find(TEAM)
    assert (one.interactions.tenant, one.interactions._is_bound) == ("acme", True)
    assert [rule.users for rule in one.interactions.rules.rules] == [("UBOB",)]
    assert (await one.whoami()).bot_user == "U0SPANPOST"
    await app.install()
    assert await finds.find(TEAM) is not one
    await interactions_runtime.close()


def test_encryption_binds_owner_and_time() -> None:
    """A value encrypted for one owner cannot be decrypted for another, with another key, damaged, or too
    late.
    """
    encryption = Encryption([KEY])
    encrypted = encryption.encrypt("a", {"token": "x"})
    assert encryption.open("a", encrypted) == {"token": "x"}
    for bad in (b"", b"x", encrypted[:-3], encrypted[:20] + b"A" + encrypted[21:]):
        with pytest.raises(Broken):
            encryption.open("a", bad)
    with pytest.raises(Broken):
        Encryption([new_key()]).open("a", encrypted)
    with pytest.raises(Broken):
        encryption.open("b", encrypted)
